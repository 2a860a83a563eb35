import json
import math
import os
import time

import numpy as np
import pytest
import tensorflow as tf

from common import gfiles
from common.errors import UserError

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
    gfiles.remove_stale_files(str(tmp_path))  # it is young
    assert len(names(tmp_path)) == 1
    gfiles.remove_stale_files(str(tmp_path), older_than_seconds=-1)
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
    gfiles.remove_stale_files(str(tmp_path))
    assert names(tmp_path) == before
    assert below.exists()
    gfiles.remove_stale_files(str(tmp_path), older_than_seconds=HOUR / 2)
    assert names(tmp_path) == [n for n in before if not n.startswith("young")]
    assert capsys.readouterr().err == ""


def test_of_some_files_alone(tmp_path):
    for name in ("mine", "mine.too", "another"):
        make(tmp_path / f"{name}.part-{HEX}", hours=0.01)
    gfiles.remove_stale_files(str(tmp_path), older_than_seconds=0, of=["mine", "x"])
    assert names(tmp_path) == [f"another.part-{HEX}", f"mine.too.part-{HEX}"]


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path, capsys):
    gfiles.remove_stale_files(str(tmp_path / "none"))
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
    gfiles.remove_stale_files(str(tmp_path))
    assert not other.exists()
    assert capsys.readouterr().err == ""


def test_leftovers_that_cannot_be_removed_are_one_warning(
    tmp_path, monkeypatch, capsys
):
    def refuse(path):
        raise tf.errors.PermissionDeniedError(None, None, f"{path}\nno")

    paths = [make(tmp_path / f"{name}.part-{HEX}", hours=2) for name in "ab"]
    monkeypatch.setattr(tf.io.gfile, "remove", refuse)
    gfiles.remove_stale_files(str(tmp_path))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: what was left aside in {tmp_path} stays: ")
    assert all(path.exists() for path in paths)
