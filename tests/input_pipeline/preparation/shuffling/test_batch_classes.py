"""What a batch would see, against draws of whole batches, and training's own stream."""

import inspect

import numpy as np
import pytest

from input_pipeline import dataset, records, stream
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.preparation.shuffling import batch_classes

SORTED = np.repeat(np.arange(400), 16)


def test_the_buffer_is_that_of_training():
    parameters = inspect.signature(dataset.train_dataset).parameters
    assert parameters["shuffle_buffer"].default == stream.SHUFFLE_BUFFER


def test_an_average_without_replacement():
    """Two of a, two of b, one of c: of the ten pairs, two are of one class."""
    assert batch_classes._distinct(np.array([2, 2, 1]), 2) == pytest.approx(1.8)
    assert batch_classes._distinct(np.array([2, 2, 1]), 5) == 3
    assert batch_classes._distinct(np.array([2, 2, 1]), 1) == 1


def test_a_shuffled_order_is_as_it_should_be():
    found = batch_classes.of_split([np.random.RandomState(0).permutation(SORTED)])
    assert (found.batch, found.classes, found.is_sorted) == (256, 400, False)
    # A chunk of 16 labels is a fair sample: buffers differ by chance alone, by about
    # sqrt(400 * 1/4) / sqrt(32 buffers) = 2 classes.
    assert abs(found.seen - found.ideal) < 4 * 2


@pytest.mark.parametrize(
    ("shards", "in_a_chunk"),
    [([SORTED], 1), (np.split(SORTED, 100), 1), (np.split(SORTED, [3000]), 2)],
)
def test_a_sorted_one_is_noticed(shards, in_a_chunk):
    """A buffer has 64 chunks or 65, each of one class, or of two that meet in it."""
    found = batch_classes.of_split(shards)
    assert found.is_sorted
    assert 50 < found.seen <= 65 * in_a_chunk
    # 6,400 records, 16 of each class: 1 - C(6384, 256) / C(6400, 256) = 0.480.
    assert found.ideal == pytest.approx(400 * 0.4804, abs=0.5)


def test_few_classes_and_small_splits_are_mixed_well_enough():
    ten = batch_classes.of_split([np.repeat(np.arange(10), 400)])
    assert (ten.is_sorted, round(ten.seen), round(ten.ideal)) == (False, 10, 10)
    small = batch_classes.of_split([np.repeat(np.arange(50), 3)])
    assert (small.batch, small.seen, small.ideal) == (150, 50, 50)
    whole = batch_classes.of_split([np.repeat(np.arange(500), 2)])
    assert whole.seen == pytest.approx(whole.ideal)


@pytest.mark.slow
def test_it_is_what_trainings_stream_gives(tmp_path):
    """The labels as records, and batches of the first buffers."""
    shards = [
        records.write_shard(str(tmp_path / f"train-{i}"), [b"%d" % n for n in labels])
        for i, labels in enumerate(np.split(SORTED, 4))
    ]
    info = DatasetInfo("x", 0, ("a",), {"train": SplitInfo(tuple(shards))})
    found = stream.stream(stream.Records(info, str(tmp_path), "train"), seed=1)
    batches = found.batch(256).take(20).as_numpy_iterator()
    seen = np.mean([len(set(batch["serialized"])) for batch in batches])
    # Batches of five buffers: the average of one differs by a class or two.
    assert abs(seen - batch_classes.of_split(np.split(SORTED, 4)).seen) < 4
