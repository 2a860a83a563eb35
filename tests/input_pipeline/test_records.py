import json
import os
import pathlib

import pytest
import tensorflow as tf

from input_pipeline import records
from input_pipeline.errors import DataError
from tests.input_pipeline.builders import example, jpeg, write_dataset


def test_an_example_has_imagenets_fields():
    features = tf.train.Example.FromString(example(3)).features.feature
    want = {
        "image/encoded": [jpeg(3)],
        "image/format": [b"JPEG"],
        "image/colorspace": [b"RGB"],
        "image/channels": [3],
        "image/height": [24],
        "image/width": [32],
        "image/filename": [b"3.JPEG"],
        "image/class/label": [4],
        "image/class/synset": [b"n01440764"],
        "image/class/text": [b"tench"],
    }
    got = {
        k: list(v.bytes_list.value) or list(v.int64_list.value)
        for k, v in features.items()
    }
    assert got == want


def test_parse_reads_bytes_and_label_and_marks_what_is_missing():
    got = records.parse(tf.constant(example(3)))
    assert got["encoded"].numpy() == jpeg(3)
    assert got["label"].numpy() == 4
    empty = records.parse(tf.constant(b""))
    assert empty["encoded"].numpy() == b""
    assert empty["label"].numpy() == records.MISSING_LABEL
    named = records.parse(tf.constant(example(3)), filename=True)
    assert (named["filename"].numpy(), named["label"].numpy()) == (b"3.JPEG", 4)
    with pytest.raises(tf.errors.InvalidArgumentError):
        records.parse(tf.constant(b""), image_required=True)


def test_the_info_survives_the_disk(tmp_path):
    info = write_dataset(
        tmp_path, {"train-0": [example(0), example(1)], "train-1": [example(2)]}
    )
    assert records.load_info(str(tmp_path)) == info
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
        records.load_info(str(folder))
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
        records.load_info(str(tmp_path))
    assert str(refused.value) == f"{path} is {said}"


def test_a_link_to_a_shard_is_one(tmp_path):
    info = write_dataset(tmp_path, {"train-0": [example(0)]})
    (tmp_path / "train-0").rename(tmp_path / "elsewhere")
    (tmp_path / "train-0").symlink_to("elsewhere")
    assert records.load_info(str(tmp_path)) == info


def test_a_bucket_that_cannot_be_reached(monkeypatch):
    path = "gs://bucket/imagenet/dataset_info.json"

    def exists(name):
        assert name == path
        raise tf.errors.PermissionDeniedError(None, None, "HTTP 403:\n no access")

    monkeypatch.setattr(tf.io.gfile, "exists", exists)
    with pytest.raises(DataError) as error:
        records.load_info("gs://bucket/imagenet")
    assert str(error.value).startswith(f"{path} cannot be read: HTTP 403: no access; ")
    assert "gcloud auth application-default login" in str(error.value)


def test_indexing_finds_what_writing_said_and_checks_every_byte(tmp_path):
    path = tmp_path / "train-0"
    contents = [bytes(n) for n in range(40)]
    shard = records.write_shard(str(path), contents)
    assert records.index_shard(str(path)) == shard
    assert (shard.filename, shard.records) == ("train-0", 40)
    whole = path.read_bytes()
    for place, offset in enumerate(shard.offsets):
        length = int.from_bytes(whole[offset : offset + 8], "little")
        assert length == place * records.CHUNK_RECORDS
    for cut in (1, 39 + 4):  # within the last record; behind its length
        path.write_bytes(whole[:-cut])
        with pytest.raises(DataError, match=r"train-0 is .* after 39 good records"):
            records.index_shard(str(path))


def test_a_shard_appears_whole_or_not_at_all(tmp_path):
    def examples():
        yield b"one"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        records.write_shard(str(tmp_path / "train-0"), examples())
    assert not list(tmp_path.iterdir())


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
