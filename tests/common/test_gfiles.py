import json
import math
import os
import time

import numpy as np
import pytest
import tensorflow as tf

from common import gfiles
from common.errors import Restart, UserError

HEX = "0123456789abcdef" * 2
HOUR = 3600


def strict(path):
    """What a strict parser reads."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(path.read_text(), parse_constant=refuse)


def make(path, hours):
    """A file that was last written so long ago."""
    path.write_text("half a file")
    written = time.time() - hours * HOUR
    os.utime(path, (written, written))
    return path


def any_name(name):
    return True


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_of_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "summary.json"
    values = {
        "loss": math.nan,
        "worst": [math.inf, -math.inf, 1.5],
        "array": np.array([np.nan, 2.0], np.float32),
        "by_name": {"top1": np.float32("nan"), "images": np.int64(3)},
        "text": "NaN",
        "fine": True,
        "none": None,
    }
    returned = gfiles.write_json(str(path), values)
    assert strict(path) == {
        "loss": None,
        "worst": [None, None, 1.5],
        "array": [None, 2.0],
        "by_name": {"top1": None, "images": 3},
        "text": "NaN",
        "fine": True,
        "none": None,
    }
    assert math.isnan(returned["loss"])  # still a number for who goes on with it
    assert returned["worst"] == [math.inf, -math.inf, 1.5]
    assert gfiles.read_json(str(path))["loss"] is None


def test_what_json_keeps_of_the_file_before(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{"seconds": 5, "loss": NaN, "steps": 1, "gone": 2}')
    returned = gfiles.write_json(
        str(path), {"steps": 9}, keep=("seconds", "loss", "steps", "missing")
    )
    assert strict(path) == {"seconds": 5, "loss": None, "steps": 9}
    assert returned.keys() == {"seconds", "loss", "steps"}


def test_a_write_leaves_nothing_aside(tmp_path):
    gfiles.write_text(str(tmp_path / "a"), "1")
    gfiles.write_text(str(tmp_path / "a"), "2")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        gfiles.write_text(str(tmp_path / "folder"), "3")
    assert names(tmp_path) == ["a", "folder"]
    assert (tmp_path / "a").read_text() == "2"


def test_what_a_killed_write_leaves_is_recognised(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rename", killed)
        patch.setattr(tf.io.gfile, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            gfiles.write_text(str(tmp_path / "a.json"), "half")
    assert len(names(tmp_path)) == 1
    gfiles.remove_stale_files(str(tmp_path), of=any_name)  # it is young
    assert len(names(tmp_path)) == 1
    gfiles.remove_stale_files(str(tmp_path), of=any_name, older_than_seconds=-1)
    assert names(tmp_path) == []


def test_only_what_is_old_and_left_aside_is_removed(tmp_path, capsys):
    others = [
        "metrics.jsonl",
        f"part-{HEX}",
        f".part-{HEX}",  # of no file
        f"a.json.part-{HEX}0",
        f"a.json.part-{HEX[1:]}",
        f"a.json.part-{HEX.upper()}",
        f"a.json.part-{HEX}.txt",
        f"a.json.part-{HEX}\n",
        f"a.json.part_{HEX}",
        "ckpt-10.part",
    ]
    for name in others:
        make(tmp_path / name, hours=100)
    make(tmp_path / f"young.json.part-{HEX}", hours=0.9)
    make(tmp_path / f"ahead.json.part-{HEX}", hours=-5)
    folder = tmp_path / f"folder.part-{HEX}"
    folder.mkdir()
    below = make(folder / f"a.json.part-{HEX}", hours=100)
    os.utime(folder, (0, 0))
    before = names(tmp_path)
    make(tmp_path / f"old.json.part-{HEX}", hours=1.1)
    make(tmp_path / f"two\nlines.part-{HEX}", hours=1.1)
    gfiles.remove_stale_files(str(tmp_path), of=any_name)
    assert names(tmp_path) == before
    assert below.exists()
    gfiles.remove_stale_files(str(tmp_path), of=any_name, older_than_seconds=HOUR / 2)
    assert names(tmp_path) == [n for n in before if not n.startswith("young")]
    assert capsys.readouterr().err == ""


def test_of_some_files_alone(tmp_path):
    for name in ("mine", "mine.too", "another"):
        make(tmp_path / f"{name}.part-{HEX}", hours=0.01)
    gfiles.remove_stale_files(
        str(tmp_path), older_than_seconds=0, of={"mine", "x"}.__contains__
    )
    assert names(tmp_path) == [f"another.part-{HEX}", f"mine.too.part-{HEX}"]


def test_no_leftover_is_what_is_no_file(tmp_path):
    """Of a link, the file that it points to is old; it is not looked at."""
    old = make(tmp_path / "old", hours=100)
    (tmp_path / f"a.part-{HEX}").symlink_to("old")
    (tmp_path / f"b.part-{HEX}").symlink_to("nowhere")
    os.mkfifo(tmp_path / f"c.part-{HEX}")
    (tmp_path / f"d.part-{HEX}").mkdir()
    before = names(tmp_path)
    gfiles.remove_stale_files(str(tmp_path), of=any_name, older_than_seconds=-HOUR)
    assert names(tmp_path) == before
    assert old.read_text() == "half a file"


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UserError, match=r"cannot write .*: a named pipe is not repl"):
        gfiles.write_text(str(tmp_path / "a"), "text")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").is_fifo()


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "named pipe"), (os.mkdir, "folder")]
)
def test_what_is_no_file_is_not_read(tmp_path, make, what):
    """And so there is no waiting for what somebody might write into a pipe."""
    make(tmp_path / "a")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        path = str(tmp_path / name)
        with pytest.raises(UserError) as refused:
            gfiles.read_json(path)
        assert str(refused.value) == f"cannot read {path}: it is a {what}; move it away"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to("target")
    gfiles.write_text(str(tmp_path / "link"), "text")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "mine"


def ours(path):
    return path in ("a", "sub/", "sub/b")


@pytest.fixture
def bucket(request):
    """The folder of a file system that has no links, as a bucket has none."""
    folder = f"ram://{request.node.name}/folder"
    for name in ("sub/b", "a"):
        tf.io.gfile.makedirs(f"{folder}/sub")
        with tf.io.gfile.GFile(f"{folder}/{name}", "w") as file:
            file.write(name)
    return folder


def test_a_folder_of_ours_in_a_bucket(bucket):
    assert gfiles.tree(bucket) == {"a": "file", "sub/": "folder", "sub/b": "file"}
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert gfiles.sha256(f"{bucket}/a") == digest
    assert gfiles.kind(f"{bucket}/a") == "file"
    assert gfiles.remove_folder(bucket, ours) is None
    assert gfiles.kind(bucket) is None
    assert gfiles.remove_folder(bucket, ours) is None


def test_what_a_busy_bucket_keeps_goes_with_the_next_write(bucket, monkeypatch):
    def busy(*_, **__):
        raise tf.errors.UnavailableError(None, None, "try later")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rename", busy)
        patch.setattr(tf.io.gfile, "remove", busy)
        for _ in range(2):
            with pytest.raises(Restart):
                gfiles.write_text(f"{bucket}/a", "1")
    assert len(gfiles.names(bucket)) == 4
    gfiles.write_text(f"{bucket}/b", "another's")
    assert len(gfiles.names(bucket)) == 5
    gfiles.write_text(f"{bucket}/a", "2")
    assert sorted(gfiles.names(bucket)) == ["a", "b", "sub"]


@pytest.mark.parametrize("step", ["tree", "remove", "rmtree"])
def test_a_folder_that_another_process_removes_too(bucket, step, monkeypatch):
    module = gfiles if step == "tree" else tf.io.gfile
    ours_too, remove_all = getattr(module, step), tf.io.gfile.rmtree

    def after_the_other(path):
        if gfiles.kind(bucket):
            remove_all(bucket)
        return ours_too(path)

    monkeypatch.setattr(module, step, after_the_other)
    assert gfiles.remove_folder(bucket, ours) is None
    assert gfiles.kind(bucket) is None


def test_a_foreign_folder_in_a_bucket(bucket):
    with tf.io.gfile.GFile(f"{bucket}/sub/NOTES.md", "w") as file:
        file.write("mine")
    before = gfiles.tree(bucket)
    why = f"{bucket}/sub/NOTES.md was not written here"
    assert gfiles.remove_folder(bucket, ours) == why
    assert gfiles.remove_folder(f"{bucket}/a", ours) == f"{bucket}/a is a file"
    assert gfiles.tree(bucket) == before


def test_a_foreign_file_in_a_bucket(bucket):
    path = f"{bucket}/a"
    with pytest.raises(UserError, match="a exists, and is not what this command has"):
        gfiles.refuse_foreign(path, lambda head: head.startswith(b"b"))
    gfiles.refuse_foreign(path, lambda head: head == b"a")
    gfiles.refuse_foreign(f"{bucket}/nothing", lambda head: False)


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path, capsys):
    gfiles.remove_stale_files(str(tmp_path / "none"), of=any_name)
    assert names(tmp_path) == []
    assert capsys.readouterr().err == ""


def test_a_leftover_that_another_process_takes_away(tmp_path, monkeypatch, capsys):
    vanishing, other = (
        make(tmp_path / f"{name}.part-{HEX}", hours=2) for name in ("a", "b")
    )
    stat = tf.io.gfile.stat

    def late(path):
        vanishing.unlink(missing_ok=True)
        return stat(path)

    monkeypatch.setattr(tf.io.gfile, "stat", late)
    gfiles.remove_stale_files(str(tmp_path), of=any_name)
    assert not other.exists()
    assert capsys.readouterr().err == ""


def test_leftovers_that_cannot_be_removed_are_one_warning(
    tmp_path, monkeypatch, capsys
):
    def refuse(path):
        raise tf.errors.PermissionDeniedError(None, None, f"{path}\nno")

    paths = [make(tmp_path / f"{name}.part-{HEX}", hours=2) for name in "ab"]
    monkeypatch.setattr(tf.io.gfile, "remove", refuse)
    gfiles.remove_stale_files(str(tmp_path), of=any_name)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: what was left aside in {tmp_path} stays: ")
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 17])
def test_a_file_is_read_to_its_end_whatever_size_is_remembered(
    tmp_path, size, monkeypatch
):
    """As TensorFlow may do in a bucket, of a file that another one has replaced."""
    monkeypatch.setattr(gfiles, "_PART_BYTES", 8)
    monkeypatch.setattr(tf.io.gfile.GFile, "size", lambda self: 3)
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert gfiles.read_bytes(str(path)) == b"x" * size
    assert gfiles.read_text(str(path)) == "x" * size
