import dataclasses
import hashlib
import json
import os
import pathlib

import pytest
import tensorflow as tf

from input_pipeline import dataset_info
from input_pipeline.errors import DataError
from tests.input_pipeline.builders import example, forget_identity, write_dataset


def test_the_info_survives_the_disk(tmp_path):
    info = write_dataset(
        tmp_path, {"train-0": [example(0), example(1)], "train-1": [example(2)]}
    )
    assert dataset_info.load_info(str(tmp_path)) == info
    assert info.split("train").total == 3
    content = json.loads((tmp_path / "dataset_info.json").read_text())
    assert content["splits"]["train"]["total"] == 3
    assert not list(tmp_path.glob("*.part-*"))


def ruin_nothing_there(folder: pathlib.Path) -> str:
    return f"there is no data folder {folder}: .*python -m input_pipeline"


def ruin_empty(folder: pathlib.Path) -> str:
    folder.mkdir()
    return (
        f"{folder} holds no finished dataset: no dataset_info.json .*prepare tfrecords"
    )


def ruin_json(folder: pathlib.Path) -> str:
    write_dataset(folder, {"train-0": [example(0)]})
    (folder / "dataset_info.json").write_text("{")
    return "dataset_info.json is not sound: line 1, .* prepare the dataset again, or"


def ruin_fields(folder: pathlib.Path) -> str:
    write_dataset(folder, {"train-0": [example(0)]})
    (folder / "dataset_info.json").write_text('{"name": "x"}')
    return r"dataset_info.json .*is not sound: label_offset is missing"


def ruin_splits(folder: pathlib.Path) -> str:
    write_dataset(folder, {"train-0": []})
    return r"dataset_info.json .*is not sound: splits.train.shards have no records"


def ruin_shard(folder: pathlib.Path) -> str:
    write_dataset(folder, {"train-0": [example(0)], "train-1": [example(0)]})
    (folder / "train-1").unlink()
    return f"{folder} lacks 1 of its 2 TFRecord files, the first is train-1: "


def ruin_offsets(folder: pathlib.Path) -> str:
    write_dataset(folder, {"train-0": [example(0)] * 20})
    path = folder / "dataset_info.json"
    content = json.loads(path.read_text())
    content["splits"]["train"]["shards"][0]["offsets"].pop()
    path.write_text(json.dumps(content))
    return r"dataset_info.json .*shards\[0\].offsets are 1 numbers: 20 records have 2"


@pytest.mark.parametrize(
    "ruin",
    [
        ruin_nothing_there,
        ruin_empty,
        ruin_json,
        ruin_fields,
        ruin_splits,
        ruin_shard,
        ruin_offsets,
    ],
)
def test_a_ruined_folder_is_explained_in_one_line(tmp_path, ruin):
    folder = tmp_path / "data"
    message = ruin(folder)
    with pytest.raises(DataError, match=message) as error:
        dataset_info.load_info(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "a named pipe, no file: move it away, or choose another folder"),
        (os.mkdir, "a folder, no file: move it away, or choose another folder"),
        (
            lambda path: path.symlink_to("/dev/zero"),
            "a device, no file: move it away, or choose another folder",
        ),
        (
            lambda path: path.symlink_to("disk/gone"),
            "a link to disk/gone, where nothing is: mount its disk, or remove the link",
        ),
    ],
)
@pytest.mark.parametrize("name", ["train-1", "dataset_info.json"])
def test_what_is_no_file_is_named(tmp_path, name, make, said):
    """To read a pipe or a device would never end."""
    write_dataset(tmp_path, {"train-0": [example(0)], "train-1": [example(0)]})
    path = tmp_path / name
    path.unlink()
    make(path)
    with pytest.raises(DataError) as refused:
        dataset_info.load_info(str(tmp_path))
    assert str(refused.value) == f"{path} is {said}"


def test_a_link_to_a_shard_is_one(tmp_path):
    info = write_dataset(tmp_path, {"train-0": [example(0)]})
    (tmp_path / "train-0").rename(tmp_path / "elsewhere")
    (tmp_path / "train-0").symlink_to("elsewhere")
    assert dataset_info.load_info(str(tmp_path)) == info


def test_a_bucket_that_cannot_be_reached(monkeypatch):
    path = "gs://bucket/imagenet/dataset_info.json"

    def exists(name):
        assert name == path
        raise tf.errors.PermissionDeniedError(None, None, "HTTP 403:\n no access")

    monkeypatch.setattr(tf.io.gfile, "exists", exists)
    with pytest.raises(DataError) as error:
        dataset_info.load_info("gs://bucket/imagenet")
    assert str(error.value) == (
        f"cannot read {path}: HTTP 403: no access; the bucket refuses this account: "
        "give it a role there, as roles/storage.objectUser on gs://bucket"
    )


@pytest.mark.parametrize(
    ("name", "shards"),
    [
        ("train", ["train-0", "train-1", "train-2"]),
        ("train[:1shard]", ["train-0"]),
        ("train[1shard:]", ["train-1", "train-2"]),
        ("train[1shard:2shard]", ["train-1"]),
    ],
)
def test_part_of_a_split(tmp_path, name, shards):
    info = write_dataset(tmp_path, {f"train-{i}": [example(i)] for i in range(3)})
    assert [shard.filename for shard in info.split(name).shards] == shards


@pytest.mark.parametrize(
    "name",
    ["train[:4shard]", "train[2shard:2shard]", "train[:10%]", "train[", "train[:1]"],
)
def test_an_impossible_part_of_a_split(tmp_path, name):
    info = write_dataset(tmp_path, {f"train-{i}": [example(i)] for i in range(3)})
    with pytest.raises(DataError, match=r"of 3 shards: write \[:20shard\]"):
        info.split(name)


def test_a_split_is_known_by_its_records_and_not_by_its_files_names(tmp_path):
    shards = {f"train-{i}": [example(i), example(i + 1)] for i in range(2)}
    split = write_dataset(tmp_path / "a", shards).split("train")
    lines = "".join(f"2 {shard.digest}\n" for shard in split.shards)
    assert split.digest == hashlib.sha256(lines.encode()).hexdigest()[:32]
    other = {name.replace("-", "-0"): of for name, of in shards.items()}
    assert write_dataset(tmp_path / "b", other).split("train").digest == split.digest
    turned = dict(zip(shards, reversed(shards.values()), strict=True))
    assert write_dataset(tmp_path / "c", turned).split("train").digest != split.digest


def test_numbers_of_images_survive_the_disk_and_are_of_whole_splits(tmp_path):
    info = write_dataset(tmp_path, {f"train-{i}": [example(i)] for i in range(2)})
    train = dataclasses.replace(info.split("train"), images=(1, 1, 0, 0, 0))
    info = dataclasses.replace(info, splits={"train": train})
    dataset_info.write_info(info, str(tmp_path))
    assert dataset_info.load_info(str(tmp_path)) == info
    assert info.split("train[0shard:2shard]") == train
    half = info.split("train[1shard:]")
    assert (half.images, half.total, half.shards) == (None, 1, train.shards[1:])
    assert half.digest not in ("", train.digest)


def test_an_older_description_is_read(tmp_path):
    shards = {"train-0": [example(0)], "train-1": [example(1)]}
    info = write_dataset(tmp_path, shards)
    forget_identity(tmp_path)
    there = dataset_info.load_info(str(tmp_path))
    assert there.split("train").digest == ""
    assert there.split("train").images is None
    some = dataclasses.replace(there.split("train").shards[0], digest="")
    split = dataset_info.SplitInfo((some, info.split("train").shards[1]))
    assert split.digest == ""
