"""Checkpoints that are corrupt or cannot be written; processes that are killed."""

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from tests.support.disk import full_disk
from tests.support.saved import (
    FILES,
    all_files,
    assert_holds,
    files,
    flip,
    restored,
    saves,
    set_to,
    steps,
    values_of,
    variables,
)
from train.checkpoints import bundle, commit, directory, manager
from train.checkpoints.bundle import CorruptCheckpoint
from train.checkpoints.manager import Checkpoints


def vector(*values):
    return tf.Variable(tf.constant(values))


# What is not there, or not intact


def test_none_there(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert directory.list_checkpoints(str(folder)) == []
        assert directory.newest_intact(str(folder)) is None
        assert restored(folder) is None
        with pytest.raises(UserError, match=r"no checkpoint in .*; train first \(pyth"):
            directory.load_newest(str(folder), bundle.read)


@pytest.mark.parametrize("suffix", FILES)
def test_file_deleted_by_hand(folder, suffix, capsys):
    (folder / f"ckpt-20{suffix}").unlink()
    assert directory.newest_intact(str(folder)) == f"{folder}/ckpt-10"
    assert restored(folder) == 10
    warning = (
        f"warning: the checkpoint {folder}/ckpt-20 is corrupt ({folder}/ckpt-20{suffix}"
        "; No such file or directory); taking ckpt-10\n"
    )
    assert capsys.readouterr().err == ("" if suffix == ".index" else warning)


def test_reason_is_said(folder, capsys):
    flip(folder / "ckpt-20.data-00000-of-00001", 40)
    assert (
        directory.newest_intact(str(folder)) == f"{folder}/ckpt-20"
    )  # it only looks whole
    with pytest.raises(CorruptCheckpoint, match=r"^cannot read the checkpoint .*-20: "):
        manager.restore(variables(), f"{folder}/ckpt-20")
    assert restored(folder) == 10
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: the checkpoint {folder}/ckpt-20 is corrupt (")
    assert "Checksum does not match" in warning
    with open(folder / "ckpt-20.index", "ab") as file:
        file.write(b"\0")
    with pytest.raises(
        CorruptCheckpoint, match=r"its index_bytes is \d+, not \d+; del"
    ):
        bundle.read(f"{folder}/ckpt-20")
    manifest = json.loads((folder / "ckpt-10.json").read_text())
    (folder / "ckpt-10.json").write_text(json.dumps(manifest | {"tensors": 4}))
    with pytest.raises(CorruptCheckpoint, match="it holds 3 tensors, not 4; del"):
        bundle.read(f"{folder}/ckpt-10")
    (folder / "ckpt-20.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match=r"its manifest lacks 'tensors'; del"):
        bundle.read(f"{folder}/ckpt-20")
    (folder / "ckpt-20.json").write_text("[]")
    with pytest.raises(CorruptCheckpoint):
        bundle.read(f"{folder}/ckpt-20")


def test_manifest_is_of_this_step(folder):
    for suffix in FILES:
        shutil.copy(folder / f"ckpt-10{suffix}", folder / f"ckpt-30{suffix}")
    with pytest.raises(CorruptCheckpoint, match="its step is 30, not 10"):
        bundle.read(f"{folder}/ckpt-30")
    assert restored(folder) == 20


def test_all_corrupt_is_an_error_and_not_a_start_from_zero(folder):
    flip(folder / "ckpt-10.index", 3)
    (folder / "ckpt-20.data-00000-of-00001").write_bytes(b"12345")
    with pytest.raises(UserError, match=r"/ckpt-20: its data_bytes is 5, not 154;"):
        directory.load_newest(str(folder), bundle.read_manifest)
    with pytest.raises(UserError, match=r"/ckpt-20: its data_bytes .* to begin anew$"):
        restored(folder)
    assert directory.newest_intact(str(folder)) is None


def test_folder_that_may_not_be_looked_into(folder, monkeypatch):
    """It is not taken for an empty one."""
    denied = tf.errors.PermissionDeniedError(None, None, "permission denied")
    monkeypatch.setattr(bundle.gfile, "listdir", lambda _: raise_(denied))
    for call in (directory.list_checkpoints, directory.newest_intact, restored):
        with pytest.raises(UserError, match=r"cannot read .*/run: permission denied; "):
            call(str(folder))


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda h: h.update({"model/w": vector(1.0)}),
            r"model/w has the shape \[7, 5\] there, \[1\] here",
        ),
        (
            lambda h: h.update({"ema/w": vector(1.0, 2.0, 3.0)}),
            r"ema/w has the type bfloat16 there, float32 here; another",
        ),
        (
            lambda h: h.update({"w/x": vector(1.0)}),
            r"w/x has the shape none there, \[1\] here",
        ),
        (
            lambda h: h.pop("ema/w"),
            r"ema/w has the shape \[3\] there, none here \(and 1 more\)",
        ),
    ],
)
def test_other_variables_are_named(folder, change, fault):
    """And are no reason to take the checkpoint before; nothing is changed."""
    held = variables(5)
    change(held)
    before = {name: v.numpy() for name, v in held.items()}
    with pytest.raises(UserError, match=rf"{folder}/ckpt-20 does not fit.* {fault}"):
        manager.restore(held, f"{folder}/ckpt-20")
    with pytest.raises(UserError, match=fault):
        Checkpoints(held, str(folder), keep=9).restore_newest()
    for name, value in before.items():
        np.testing.assert_array_equal(held[name].numpy(), value)


def test_corrupt_changes_nothing(folder):
    flip(folder / "ckpt-20.data-00000-of-00001", 153)
    held = variables(5)
    with pytest.raises(CorruptCheckpoint):
        manager.restore(held, f"{folder}/ckpt-20")
    assert_holds(held, 5)


def test_part_may_be_restored(folder):
    held = {"ema/w": variables()["ema/w"]}
    manager.restore(held, f"{folder}/ckpt-20", partly=True)
    assert held["ema/w"].numpy().tobytes() == values_of(20)["ema/w"].tobytes()


# File systems that refuse


def test_full_disk(folder):
    held = variables(30)
    with Checkpoints(held, str(folder), keep=9) as checkpoints:
        checkpoints.restore_newest()
        set_to(held, 30)
        with full_disk():
            checkpoints.save()  # it fails when somebody looks
            assert checkpoints.saved_step == 30
            with pytest.raises(UserError) as caught:
                checkpoints.wait()
        text = str(caught.value)
        assert text == (
            f"cannot write a checkpoint to {folder}: File too large; free some space "
            "or name another folder, then run the same command; the last good one is "
            f"{folder}/ckpt-20"
        )
        assert files(folder) == all_files(10, 20)
        assert checkpoints.saved_step == 20
        checkpoints.check()  # it is said once
        checkpoints.save(wait=True)  # and there is space again
    assert restored(folder) == 30


@pytest.mark.parametrize("look", ["check", "save", "leave"])
def test_whoever_looks_first_says_that_a_write_has_failed(folder, look):
    held = variables(30)

    def run():
        with Checkpoints(held, str(folder), keep=9) as checkpoints:
            checkpoints.save()
            while look == "check":
                checkpoints.check()
            if look == "save":
                set_to(held, 31)
                checkpoints.save()

    with full_disk(), pytest.raises(UserError, match="File too large"):
        run()
    assert files(folder) == all_files(10, 20)


def save_and_fall(folder):
    with Checkpoints(variables(30), str(folder), keep=9) as checkpoints:
        checkpoints.save()
        raise ZeroDivisionError


def test_failed_write_does_not_hide_what_ended_the_run(folder, capsys):
    with full_disk(), pytest.raises(ZeroDivisionError):
        save_and_fall(folder)
    assert capsys.readouterr().err.startswith("warning: cannot write a checkpoint to ")


def test_leaving_waits_whatever_has_ended_the_run(folder):
    with pytest.raises(ZeroDivisionError):
        save_and_fall(folder)
    assert restored(folder) == 30


@pytest.fixture
def nobody():
    """Function: become somebody who owns nothing here, if root runs the tests."""
    before = os.geteuid()

    def become():
        if before == 0:
            os.seteuid(65534)

    yield become
    os.seteuid(before)


def test_read_only_folder(folder, nobody, monkeypatch):
    monkeypatch.chdir(folder)  # the way there is closed to nobody
    folder.chmod(0o555)
    held = variables()
    nobody()
    with Checkpoints(held, ".", keep=9) as checkpoints:
        assert checkpoints.restore_newest() == "./ckpt-20"
        set_to(held, 30)
        with pytest.raises(UserError) as caught:
            checkpoints.save(wait=True)
    assert "Permission denied; mend the permissions or name anot" in str(caught.value)
    assert str(caught.value).endswith("the last good one is ./ckpt-20")
    os.seteuid(os.getuid())
    assert files(folder) == all_files(10, 20)


def test_stale_files_that_cannot_be_removed(folder, nobody, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / f".staging-{'0a' * 16}").mkdir()
    folder.chmod(0o555)
    nobody()
    with pytest.raises(UserError, match=r"cannot remove what was left in \.: .* mend"):
        bundle.remove_stale(".")


def test_folder_that_vanishes(folder):
    """The next checkpoint makes it again: nothing else would be left of the run."""
    held = variables()
    with Checkpoints(held, str(folder), keep=9) as checkpoints:
        checkpoints.restore_newest()
        shutil.rmtree(folder)
        set_to(held, 30)
        checkpoints.save()
    assert files(folder) == all_files(30)
    assert restored(folder) == 30


def test_folder_that_vanishes_while_it_is_written_to(folder, monkeypatch):
    def vanish(path, directory, fence):
        shutil.rmtree(folder)
        return as_ever(path, directory, fence)

    as_ever = commit.commit
    monkeypatch.setattr(commit, "commit", vanish)
    with pytest.raises(UserError, match=r"No such file.*the last good one is none yet"):
        saves(folder, 30)


def test_folder_that_becomes_a_file(folder):
    held = variables(30)
    with Checkpoints(held, str(folder), keep=9) as checkpoints:
        shutil.rmtree(folder)
        folder.write_text("")
        with pytest.raises(UserError, match=str(folder)):
            checkpoints.save(wait=True)


# What somebody has made of the files


def put(name, content):
    def damage(folder):
        path = folder / name
        path.unlink(missing_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content)

    return damage


def swap(*suffixes):
    """Files of step 10 under the name of step 20."""

    def damage(folder):
        for suffix in suffixes:
            shutil.copy(folder / f"ckpt-10{suffix}", folder / f"ckpt-20{suffix}")

    return damage


def rename(before, after):
    def damage(folder):
        for suffix in FILES:
            (folder / f"ckpt-{before}{suffix}").rename(folder / f"ckpt-{after}{suffix}")

    return damage


def manifest(**changes):
    def damage(folder):
        path = folder / "ckpt-20.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def huge(path):
    with open(path, "wb") as file:
        file.truncate(2**40)


def link_to_itself(path):
    path.symlink_to(path.name)


HUGE = 10**30
INDEX, JSON, DATA = "ckpt-20.index", "ckpt-20.json", "ckpt-20.data-00000-of-00001"


@pytest.mark.parametrize(
    ("damage", "taken"),
    [
        (swap(".index"), 10),
        (swap(".json"), 10),
        (swap(".data-00000-of-00001"), 10),
        (swap(".index", ".json"), 10),
        (swap(".index", ".data-00000-of-00001"), 10),
        (swap(*FILES), 10),
        (rename(20, 40), 10),
        (rename(10, 40), 20),
        (rename(10, "0020"), 20),
        (rename(10, 10**25), 20),
        *((put(name, b""), 10) for name in (INDEX, JSON, DATA)),
        *((put(name, b"hello"), 10) for name in (INDEX, JSON, DATA)),
        *((put(name, huge), 10) for name in (INDEX, JSON, DATA)),
        (put(DATA, os.mkfifo), 10),
        (put(DATA, os.mkdir), 10),
        *(
            (put(JSON, content), 10)
            for content in (
                *(b"[]", b"null", b"5", b'"x"', b"{}", b'{"step": NaN}', b"\xe9"),
                *(b"[" * 200_000, b'{"a":' * 100_000, b'{"step": 1%s}' % (b"0" * 5000)),
            )
        ),
        *(
            (manifest(**{key: value}), 10)
            for key in ("step", "tensors", "data_bytes", "index_bytes", "index_sha256")
            for value in ("20", None, [], -1, HUGE, 1.5)
        ),
        *((manifest(time=value), 10) for value in ("x", None, [1], math.nan, 10**400)),
        (put("ckpt-30.index", os.mkdir), 20),
        (put("ckpt-30.index", os.mkfifo), 20),
        (put("ckpt-30.index", b"x"), 20),
        (put("ckpt-20.index.bak", b"x"), 20),
        (put("ckpt-\u0663.index", b"x"), 20),
        (put("checkpoint", b'model_checkpoint_path: "/theirs"'), 20),
        (put("\x1b[31mckpt-30.index", b"x"), 20),
        (put(os.fsdecode(b"caf\xe9"), b"x"), 20),
    ],
)
def test_the_newest_that_is_intact_is_taken(folder, damage, taken):
    """And nothing of what lies there goes."""
    damage(folder)
    before = files(folder)
    assert restored(folder) == taken  # compares every value
    assert files(folder) == before


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "it is a named pipe; move it away"),
        (os.mkdir, "it is a folder; move it away"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device; move it away"),
        (link_to_itself, "Too many levels of symbolic links"),
    ],
)
@pytest.mark.parametrize("name", [INDEX, JSON])
def test_what_is_no_file_is_named(folder, make, said, name):
    put(name, make)(folder)
    with pytest.raises(UserError) as error:
        restored(folder)
    assert str(error.value) == f"cannot read {folder}/{name}: {said}"


def test_a_ring_of_links_is_no_storage_that_is_busy(folder):
    """A supervisor would start the run again and again."""
    put(DATA, link_to_itself)(folder)
    with pytest.raises(UserError, match=rf"^cannot read {folder}/{DATA}: Too many le"):
        restored(folder)


# Long proofs


def damages(seed, count):
    """Yields what is done to one of the files: cut off, or one byte changed."""
    source = random.Random(seed)

    def cut(content):
        return content[: source.randrange(len(content))]

    def change(content):
        place = source.randrange(len(content))
        other = content[place] ^ source.randrange(1, 256)
        return content[:place] + bytes([other]) + content[place + 1 :]

    for kind in (cut, change):
        for _ in range(count):
            yield kind, source.choice(FILES)


@pytest.mark.slow
def test_damage_of_any_kind(folder, capsys):
    """The newest as it was, or the one before and a word about it; or an error."""
    taken = []
    for kind, suffix in damages(seed=1, count=100):
        path = folder / f"ckpt-20{suffix}"
        other = folder / f"ckpt-10{suffix}"
        good = path.read_bytes()
        path.write_bytes(kind(good))
        capsys.readouterr()
        step = restored(folder)  # compares every value
        taken.append((kind.__name__, suffix, step))
        warned = f"{folder}/ckpt-20 is corrupt" in capsys.readouterr().err
        assert warned == (step == 10), taken[-1]
        if step == 10:
            good_too = other.read_bytes()
            other.write_bytes(good_too[:-1])
            with pytest.raises(UserError, match=r"is intact; the newest, .*ckpt-20: "):
                restored(folder)
            other.write_bytes(good_too)
        path.write_bytes(good)
    assert {step for *_, step in taken} <= {10, 20}
    # Only the time in the manifest may differ and not matter.
    assert all(t[:2] == ("change", ".json") for t in taken if t[2] == 20)
    assert sum(t[2] == 10 for t in taken) > 180


SAVE_UNTIL_KILLED = """
import itertools, os, sys
from tests.support import saved
for _ in sys.stdin:
    if os.fork() == 0:
        held = saved.variables()
        checkpoints = saved.Checkpoints(held, sys.argv[1], keep=2)
        checkpoints.restore_newest()
        print(os.getpid(), flush=True)
        for step in itertools.count(int(held["step"].numpy()) + 1):
            saved.set_to(held, step)
            checkpoints.save()
    print(os.wait()[1], flush=True)
"""


@contextlib.contextmanager
def saving_processes(folder):
    """Lends a function that starts a process that saves, and one that kills it."""
    command = [sys.executable, "-c", SAVE_UNTIL_KILLED, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def start():
            asked.write("\n")
            return int(answers.readline())

        def kill(pid):
            os.kill(pid, signal.SIGKILL)
            assert int(answers.readline()) == signal.SIGKILL

        yield start, kill
        asked.close()


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    source = random.Random(1)
    before = cut_short = 0
    with saving_processes(tmp_path) as (start, kill):
        for _ in range(40):
            pid = start()
            time.sleep(source.uniform(0, 0.2))
            kill(pid)
            cut_short += any(name.startswith(".staging-") for name in files(tmp_path))
            bundle.remove_stale(str(tmp_path))  # as a run that goes on
            step = restored(tmp_path) or 0  # compares
            assert step >= before
            before = step
            for number in steps(tmp_path):
                held = variables()
                manager.restore(held, f"{tmp_path}/ckpt-{number}")
                assert_holds(held, number)
    assert cut_short >= 10
    assert before > 0  # how many depends on the machine
    saves(tmp_path, before + 1, keep=2)  # which removes what deletions left
    assert files(tmp_path) == all_files(before, before + 1)


SAVE_AND_END = """
import sys
from tests.support import saved
saved.Checkpoints(saved.variables(7), sys.argv[1], keep=2).save()
"""


@pytest.mark.slow
def test_end_of_the_interpreter_waits_for_a_write(tmp_path):
    command = [sys.executable, "-c", SAVE_AND_END, str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    assert files(tmp_path) == all_files(7)
    assert restored(tmp_path) == 7
