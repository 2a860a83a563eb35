"""A storage that does not answer, or may not be read; and what is on the disk when."""

import errno
import os
from pathlib import Path

import pytest
import tensorflow as tf

from common.errors import Restart, UserError
from tests.support.saved import (
    all_files,
    assert_holds,
    files,
    flip,
    restored,
    saves,
    set_to,
    steps,
    variables,
)
from train.checkpoints import bundle, directory
from train.checkpoints.bundle import CorruptCheckpoint
from train.checkpoints.manager import Checkpoints

BUSY = [
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
]
DENIED = [tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError]
BROKEN = [
    tf.errors.NotFoundError,
    tf.errors.DataLossError,
    tf.errors.OutOfRangeError,
    tf.errors.InvalidArgumentError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
]


@pytest.fixture
def fails(monkeypatch):
    """Function: from now on the manifest, the index or a tensor of ckpt-20 fails."""

    def fail(part, error):
        def or_else(function):
            def call(*arguments, **options):
                path = options.get("prefix") or arguments[0]
                if Path(path).stem == "ckpt-20":
                    raise error
                return function(*arguments, **options)

            return call

        if part == "manifest":
            monkeypatch.setattr(bundle, "_content", or_else(bundle._content))
        elif part == "index":
            # TensorFlow's reader tells of every trouble with one class and no code.
            error = tf.errors.OpError(None, None, str(error), tf.errors.UNKNOWN)
            v1 = tf.compat.v1.train
            reader = or_else(v1.NewCheckpointReader)
            monkeypatch.setattr(v1, "NewCheckpointReader", reader)
        else:
            monkeypatch.setattr(tf.raw_ops, "RestoreV2", or_else(tf.raw_ops.RestoreV2))

    return fail


PARTS_BUSY = [(p, e) for p in ("manifest", "tensor") for e in BUSY]


@pytest.mark.parametrize(("part", "error"), [*PARTS_BUSY, ("index", BUSY[0])])
def test_no_answer_is_no_reason_to_take_an_older_one(
    folder, fails, part, error, capsys
):
    fails(part, error(None, None, "try again"))
    with pytest.raises(Restart) as caught:
        restored(folder)
    assert str(caught.value) == f"cannot read {folder}/ckpt-20 now: try again"
    assert capsys.readouterr().err == ""
    assert files(folder) == all_files(10, 20)
    with pytest.raises(Restart, match="ckpt-20 now: try again"):
        bundle.copy(f"{folder}/ckpt-20", f"{folder}/best")
    assert not (folder / "best" / "ckpt-20.index").exists()


@pytest.mark.parametrize("error", DENIED)
@pytest.mark.parametrize("part", ["manifest", "tensor"])
def test_permissions_are_for_a_person_to_mend(folder, fails, part, error, capsys):
    fails(part, error(None, None, "not yours"))
    with pytest.raises(UserError) as caught:
        restored(folder)
    assert type(caught.value) is UserError
    assert str(caught.value) == (
        f"cannot read {folder}/ckpt-20: not yours; mend the permissions"
    )
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", BROKEN)
@pytest.mark.parametrize("part", ["manifest", "tensor"])
def test_damage_is(folder, fails, part, error):
    fails(part, error(None, None, "broken"))
    with pytest.raises(CorruptCheckpoint, match="ckpt-20: broken; delete its files"):
        bundle.read(f"{folder}/ckpt-20")


def test_index_that_vanishes_while_it_is_opened(folder, monkeypatch):
    def vanish(path):
        Path(f"{path}.index").unlink()
        raise tf.errors.OpError(None, None, "what now", tf.errors.UNKNOWN)

    monkeypatch.setattr(tf.compat.v1.train, "NewCheckpointReader", vanish)
    with pytest.raises(CorruptCheckpoint, match=r"ckpt-20\.index; No such file"):
        bundle.read(f"{folder}/ckpt-20")


def test_folder_that_cannot_be_looked_into_now(folder, monkeypatch):
    def fail(_):
        raise tf.errors.UnavailableError(None, None, "try again")

    monkeypatch.setattr(bundle.gfile, "listdir", fail)
    with pytest.raises(Restart, match=f"^cannot read {folder} now: try again$"):
        directory.newest_intact(str(folder))


def test_processes_start_again_with_the_chief(folder, fails):
    fails("manifest", tf.errors.UnavailableError(None, None, "try again"))
    shared = []
    with pytest.raises(Restart):
        Checkpoints(variables(), str(folder), keep=9).restore_newest(
            broadcast=lambda step: shared.append(step) or step
        )
    held = variables(5)
    other = Checkpoints(held, str(folder), keep=9, writes=False)
    with pytest.raises(Restart, match=f"^the chief cannot read {folder} now"):
        other.restore_newest(broadcast=lambda _: shared[0], is_chief=False)
    assert_holds(held, 5)


# What is on the disk when


@pytest.fixture
def synced(folder, monkeypatch):
    """A list of what happens to ckpt-30 and its folder, in order."""
    done = []
    rename, fsync = bundle.gfile.rename, os.fsync

    def note_rename(source, target, overwrite):
        rename(source, target, overwrite)
        done.append(f"rename {Path(target).suffix}")

    def note_sync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append("sync folder" if path == folder else f"sync {path.suffix}")
        fsync(descriptor)

    monkeypatch.setattr(bundle.gfile, "rename", note_rename)
    monkeypatch.setattr(os, "fsync", note_sync)
    return done


def test_index_gets_its_name_when_all_else_is_on_the_disk(folder, synced):
    data, manifest, index = ".data-00000-of-00001", ".json", ".index"
    saves(folder, 30)
    expected = [f"sync {suffix}" for suffix in (manifest, data, index)]
    for suffix in (manifest, data, index):
        expected += [f"rename {suffix}", "sync folder"]
    assert synced == expected


def test_nothing_is_synced_where_there_is_no_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("called"))
    saves("ram://synced/run", 10)
    assert restored("ram://synced/run") == 10


@pytest.mark.parametrize("call", ["open", "fsync"])
@pytest.mark.parametrize(
    "number", [errno.EINVAL, errno.EACCES, errno.ENOTSUP, errno.EIO]
)
def test_file_system_that_cannot_sync_a_folder(folder, monkeypatch, call, number):
    """It may be so. That the disk is broken may not."""
    function = getattr(os, call)

    def refuse(what, *arguments):
        path = what if call == "open" else os.readlink(f"/proc/self/fd/{what}")
        if path == str(folder):
            raise OSError(number, os.strerror(number))
        return function(what, *arguments)

    monkeypatch.setattr(os, call, refuse)
    if number == errno.EIO:
        with pytest.raises(UserError, match=r"cannot write a checkpoint.*Input/output"):
            saves(folder, 30)
    else:
        saves(folder, 30)
        assert steps(folder) == [30, 20, 10]
    monkeypatch.undo()
    assert restored(folder) == (20 if number == errno.EIO else 30)


def test_file_that_does_not_reach_the_disk_gets_no_name(folder, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    held = variables(20)
    with Checkpoints(held, str(folder), keep=2) as checkpoints:
        checkpoints.restore_newest()
        set_to(held, 30)
        with pytest.raises(UserError, match="Input/output error; look at the disk"):
            checkpoints.save(wait=True)
    assert files(folder) == all_files(10, 20)


def test_copy_is_verified_tensor_by_tensor(folder, monkeypatch):
    """And no more than one of them is held."""
    flip(folder / "ckpt-20.data-00000-of-00001", 153)
    monkeypatch.setattr(bundle, "read", lambda *_: pytest.fail("reads all of it"))
    assert bundle.copy(f"{folder}/ckpt-10", f"{folder}/best")
    assert bundle.copy(f"{folder}/ckpt-10", f"{folder}/best")
    with pytest.raises(CorruptCheckpoint, match=r"ckpt-20: .*Checksum does not match"):
        bundle.copy(f"{folder}/ckpt-20", f"{folder}/best")
    assert files(folder / "best") == all_files(10)
