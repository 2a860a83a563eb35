"""A data set without a split to score: which files to hold out, word for word."""

import pytest

from input_pipeline import dataset_info
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.errors import DataError
from input_pipeline.records import make_example, write_shard
from tests.support.runs import experiment_of
from train.small_data import held_out

NAMES = ("cat", "dog", "emu")
SPLIT = "experiment.Experiment.train_split"


def make(folder, shards, *, split="train", counted=True):
    """TFRecords of these labels, file by file; the images are never looked at."""
    image = {"height": 1, "width": 1, "filename": "", "synset": "", "text": ""}
    files = tuple(
        write_shard(
            f"{folder}/{split}-{number:05}-of-{len(shards):05}",
            [make_example(b"", label=label + 1, **image) for label in labels],
        )
        for number, labels in enumerate(shards)
    )
    every = [label for labels in shards for label in labels]
    images = tuple(map(every.count, range(len(NAMES)))) if counted else None
    info = DatasetInfo("pets", 1, NAMES, {split: SplitInfo(files, images)})
    dataset_info.write_info(info, str(folder))
    return dataset_info.load_info(str(folder))


def refusal(folder, info, **changes):
    with pytest.raises(DataError) as caught:
        held_out.require_split(experiment_of(folder, **changes), info)
    return str(caught.value)


def test_some_files_are_held_out(tmp_path):
    info = make(tmp_path, [[0, 1, 2, 0]] * 20)
    assert refusal(tmp_path, info) == (
        f"{tmp_path} has no split 'validation' to score (Experiment.eval_split), it "
        "has train. To score 8 of its images and to learn from the other 72, hold 2 of "
        "its 20 files out: "
        "--gin_param=\"experiment.Experiment.train_split = 'train[2shard:]'\" "
        "--gin_param=\"experiment.Experiment.eval_split = 'train[:2shard]'\" (all 3 "
        "classes are in them); or train without scores by --mode=train"
    )
    bound = {
        SPLIT: "train[2shard:]",
        "experiment.Experiment.eval_split": "train[:2shard]",
    }
    experiment = experiment_of(tmp_path, **bound)
    held_out.require_split(experiment, info)
    parts = experiment.train_split, experiment.eval_split
    assert [info.split(part).total for part in parts] == [72, 8]


def test_files_sorted_by_class(tmp_path):
    info = make(tmp_path, [[0, 0], [1, 1], [2, 2]])
    assert refusal(tmp_path, info, **{SPLIT: "train[1shard:]"}).endswith(
        "(but no image of 'dog', 'emu' would be scored and none of 'cat' would be "
        "learnt: the classes have to be mixed over the files); or train without scores "
        "by --mode=train"
    )
    info = make(tmp_path, [[0, 0], [1, 1], [2, 2]], counted=False)
    assert "(but no image of 'dog', 'emu' would be scored: the" in refusal(
        tmp_path, info
    )


def test_many_files_are_not_read(tmp_path, monkeypatch):
    info = make(tmp_path, [[0, 1], [2, 2]])
    monkeypatch.setattr(held_out, "_MOST_RECORDS", 1)
    monkeypatch.setattr(held_out, "read_labels", None)
    said = "(right where the images of all classes are mixed over the files); or train"
    assert said in refusal(tmp_path, info)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("x" * 100, "which classes these hold cannot be read: corrupted record"),
        ("short", "of these one is cut off: see input_pipeline.validate)"),
    ],
)
def test_a_damaged_file(tmp_path, content, why):
    info = make(tmp_path, [[0, 1], [2, 2]])
    (tmp_path / "train-00000-of-00002").write_text(content)
    assert f"mixed over the files; {why}" in refusal(tmp_path, info)


def test_one_file(tmp_path):
    info = make(tmp_path, [[0, 1, 2]])
    assert "it has train, whose one file cannot be divided; prepare" in refusal(
        tmp_path, info
    )


def test_another_split(tmp_path):
    info = make(tmp_path, [[0], [1]])
    splits = {**info.splits, "val": info.splits["train"]}
    info = DatasetInfo("pets", 1, NAMES, splits)
    assert refusal(tmp_path, info).endswith(
        "it has train, val; set Experiment.eval_split = 'val'"
    )
    experiment = experiment_of(tmp_path, **{"experiment.Experiment.eval_split": "val"})
    held_out.require_split(experiment, info)
