import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import batch_lookup, dataset, preprocess
from input_pipeline.dataset_info import load_info
from input_pipeline.errors import DataError
from tests.input_pipeline.builders import LABEL_NAMES, example, write_dataset

SEED = 3


def look_up(data_dir: str, batch: int, **options) -> list[batch_lookup.BatchRecord]:
    options = {"shuffle_buffer": 7, "batch_size": 4, **options}
    info = load_info(data_dir)
    return batch_lookup.records_of_batch(
        info, data_dir, "train", seed=SEED, batch=batch, **options
    )


def mark(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """In place of the pixels, the image's own seed."""
    drawn = tf.random.stateless_uniform([16, 16, 3], seed, 0, 256, tf.int32)
    return tf.cast(drawn, tf.uint8)


@pytest.mark.long
@pytest.mark.parametrize(
    ("hosts", "shuffle_buffer", "batch_size", "numbers"),
    [
        ((1, 2), 5, 12, (0, 2)),
        pytest.param((0, 1), 7, 4, (1, 5, 12), marks=pytest.mark.slow),
        pytest.param((0, 2), 1000, 3, (4,), marks=pytest.mark.slow),
    ],
)
def test_equals_what_training_read(tiny, hosts, shuffle_buffer, batch_size, numbers):
    """Of 23 records; some batches hold the end of a pass, some are of a later one."""
    options = dict(zip(("host", "num_hosts"), hosts, strict=True))
    options |= {"shuffle_buffer": shuffle_buffer, "batch_size": batch_size}
    batches = dataset.train_dataset(
        data_dir=tiny, resolution=16, seed=SEED, augment=mark, **options
    )
    batches = list(batches.take(max(numbers) + 1))
    for number in numbers:
        records = look_up(tiny, number, **options)
        labels = batches[number]["label"].numpy().tolist()
        assert [record.label for record in records] == labels
        check_seeds(records, batches[number]["image"])
        check_places(records, tiny)


def check_seeds(records, images) -> None:
    """Each index gives the seed that the image was augmented with."""
    for record, image in zip(records, images, strict=True):
        index = tf.constant(record.index, tf.int64)
        seeds = preprocess.image_seeds(SEED, index)
        np.testing.assert_array_equal(mark(image, seeds[preprocess.AUGMENT]), image)


def check_places(records, data_dir: str) -> None:
    """File and number lead to the same bytes, which say who they are."""
    first = {"train-0": 0, "train-1": 9, "train-2": 16}
    for record in records:
        folder, _, name = record.file.rpartition("/")
        assert folder == data_dir
        value = first[name] + record.number
        assert record.serialized == example(value)
        assert (record.label, record.label_name) == (value % 5, LABEL_NAMES[value % 5])
        assert record.fault is None


def test_dump_holds_the_records_in_order(tiny, tmp_path):
    records = look_up(tiny, 5, batch_size=9)
    folder = tmp_path / "new" / "host-0"
    rows = batch_lookup.dump(records, str(folder))
    assert [path.name for path in folder.iterdir()] == ["records.tfrecord"]
    written = tf.data.TFRecordDataset(str(folder / "records.tfrecord"))
    assert list(written.as_numpy_iterator()) == [r.serialized for r in records]
    assert json.loads(json.dumps(rows)) == rows
    for row, record in zip(rows, records, strict=True):
        assert {**row, "serialized": record.serialized} == vars(record)


@pytest.mark.long
def test_records_that_cannot_be_used_are_listed(tmp_path):
    """Of one shard: the second record is damaged; three others are no examples."""
    unusual = [example(4, label=6), b"\xff\xff", example(5, label=0)]
    contents = [*(example(i) for i in range(4)), *unusual]
    write_dataset(tmp_path, {"train-0": contents, "validation-0": contents})
    damage(tmp_path / "train-0", len(example(0)) + 16 + 30)
    records = look_up(str(tmp_path), 0, batch_size=7)
    by_number = {record.number: record for record in records}
    assert sorted(by_number) == list(range(7))
    faults = [by_number[number].fault for number in range(7)]
    no_label = "has no label that dataset_info.json knows"
    assert faults == [None, "cannot be read", None, None, *[no_label] * 3]
    assert {by_number[n].label for n in (1, 4, 5, 6)} == {None}
    rows = batch_lookup.dump(records, str(tmp_path / "dump"))
    assert [row["fault"] for row in rows] == [record.fault for record in records]
    written = tf.data.TFRecordDataset(str(tmp_path / "dump" / "records.tfrecord"))
    assert list(written.as_numpy_iterator()) == [r.serialized for r in records]


def test_a_file_that_goes_on_is_listed(tmp_path):
    contents = [example(i) for i in range(3)]
    write_dataset(tmp_path, {"train-0": contents, "validation-0": contents})
    shard = tmp_path / "train-0"
    shard.write_bytes(shard.read_bytes() * 2)
    faults = [record.fault for record in look_up(str(tmp_path), 0, batch_size=3)]
    assert faults.count(None) == 2
    assert "more records follow than dataset_info.json counts" in faults


def damage(path: pathlib.Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(bytes(content))


@pytest.mark.long
def test_a_folder_that_cannot_be_written_is_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write .*/file/records\.tfrecord: "):
        batch_lookup.dump(look_up(tiny, 0), str(tmp_path / "file"))
