"""What is saved, what of it stays, and who gets it back."""

import collections
import contextlib
import hashlib
import json
import threading
import time

import pytest
import tensorflow as tf

from common.errors import UserError
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
from train.checkpoints import bundle, directory
from train.checkpoints.bundle import CorruptCheckpoint
from train.checkpoints.manager import Checkpoints

# What is written


def test_format(folder):
    before = time.time()
    saves(folder, 30, run="3f")
    assert files(folder) == all_files(10, 20, 30)
    reader = tf.train.load_checkpoint(f"{folder}/ckpt-30")
    expected = values_of(30)
    assert reader.get_variable_to_shape_map().keys() == expected.keys()
    for name, value in expected.items():
        assert reader.get_tensor(name).tobytes() == value.tobytes()
    index = (folder / "ckpt-30.index").read_bytes()
    manifest = json.loads((folder / "ckpt-30.json").read_text())
    assert before <= manifest.pop("time") <= time.time()
    assert manifest == {
        "step": 30,
        "tensors": 3,
        "data_bytes": 8 + 4 * 35 + 2 * 3,
        "index_bytes": len(index),
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "run": "3f",
    }


def test_newest_is_found_and_restored(folder):
    assert directory.list_checkpoints(str(folder)) == [
        f"{folder}/ckpt-20",
        f"{folder}/ckpt-10",
    ]
    assert directory.newest_intact(str(folder)) == f"{folder}/ckpt-20"
    assert directory.load_newest(str(folder), bundle.step) == (f"{folder}/ckpt-20", 20)
    assert restored(folder) == 20


def test_steps_are_numbers_and_not_words(tmp_path):
    saves(tmp_path, 9, 10, 100)
    assert steps(tmp_path) == [100, 10, 9]


def test_read(folder):
    path = f"{folder}/ckpt-10"
    values = bundle.read(path)
    assert values.keys() == values_of(10).keys()
    assert values["model/w"].tobytes() == values_of(10)["model/w"].tobytes()
    assert values["step"] == 10
    assert bundle.read(path, ["step"]) == {"step": 10}


def test_save_does_not_wait_and_takes_the_values_of_its_time(tmp_path, monkeypatch):
    go_on = threading.Event()
    write = bundle.write

    def write_later(*arguments, **options):
        assert go_on.wait(60)
        return write(*arguments, **options)

    monkeypatch.setattr(bundle, "write", write_later)
    held = variables(10)
    with Checkpoints(held, str(tmp_path), keep=2) as checkpoints:
        assert checkpoints.save() == f"{tmp_path}/ckpt-10"
        assert checkpoints.saved_step == 10
        set_to(held, 11)
        checkpoints.check()
        assert steps(tmp_path) == []
        go_on.set()
        checkpoints.wait()
        assert steps(tmp_path) == [10]
        assert restored(tmp_path) == 10
        assert checkpoints.save(wait=True) == f"{tmp_path}/ckpt-11"
        assert steps(tmp_path) == [11, 10]
    assert_holds(held, 11)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_later_update_reaches_what_was_saved(tmp_path, jit_compile):
    """In-place updates begin at once, and go on while the file is written."""
    held = {"step": tf.Variable(tf.constant(0, tf.int64))} | {
        f"w{i}": tf.Variable(tf.zeros([300_000])) for i in range(4)
    }

    @tf.function(jit_compile=jit_compile)
    def update():
        for variable in held.values():
            variable.assign_add(tf.ones_like(variable))
        for variable in held.values():
            variable.assign(variable * 2)
            variable.assign_sub(tf.cast(variable / 2, variable.dtype))

    update()
    with Checkpoints(held, str(tmp_path), keep=99) as checkpoints:
        for _ in range(15):
            checkpoints.save()
            for _ in range(5):
                update()
    assert steps(tmp_path) == list(range(71, 0, -5))
    for path in directory.list_checkpoints(str(tmp_path)):
        for name, value in bundle.read(path).items():
            assert (value == bundle.step(path)).all(), (path, name)


def test_nothing_is_written_twice(folder):
    held = variables(20)
    with Checkpoints(held, str(folder), keep=9) as checkpoints:
        checkpoints.restore_newest()
        before = (folder / "ckpt-20.json").stat().st_mtime_ns
        assert checkpoints.save(wait=True) == f"{folder}/ckpt-20"
    assert (folder / "ckpt-20.json").stat().st_mtime_ns == before


def test_others_than_the_chief_only_count(folder):
    held = variables(30)
    before = files(folder)
    with Checkpoints(held, str(folder), keep=1, writes=False) as checkpoints:
        assert checkpoints.save(wait=True) == f"{folder}/ckpt-30"
        assert checkpoints.saved_step == 30
    assert files(folder) == before


def test_two_replicas(tmp_path, logical_cpus):
    strategy = tf.distribute.MirroredStrategy(logical_cpus)
    with strategy.scope():
        held = variables(10)
        with Checkpoints(held, str(tmp_path), keep=2) as checkpoints:
            checkpoints.save()
            set_to(held, 11)
    with Checkpoints(held, str(tmp_path), keep=2) as checkpoints:
        checkpoints.save()
        with strategy.scope():
            set_to(held, 0)
            assert checkpoints.restore_newest() == f"{tmp_path}/ckpt-11"
            for name, value in values_of(11).items():
                for replica in strategy.experimental_local_results(held[name]):
                    assert replica.numpy().tobytes() == value.tobytes()
    assert bundle.read(f"{tmp_path}/ckpt-10")["model/w"].tobytes() == (
        values_of(10)["model/w"].tobytes()
    )


def test_file_system_that_is_no_disk():
    """TensorFlow's own in memory, as gs:// is one: nothing goes past tf.io.gfile."""
    folder = "ram://checkpoints/run"
    saves(folder, 10, 20, 30, keep=2)
    assert sorted(tf.io.gfile.listdir(folder)) == all_files(20, 30)
    assert restored(folder) == 30
    with tf.io.gfile.GFile(f"{folder}/ckpt-30.data-00000-of-00001", "w") as file:
        file.write("half")
    assert restored(folder) == 20
    assert bundle.copy(f"{folder}/ckpt-20", f"{folder}/best") == (
        f"{folder}/best/ckpt-20"
    )
    assert sorted(tf.io.gfile.listdir(f"{folder}/best")) == all_files(20)


def test_every_file_is_there_when_the_index_appears(folder, monkeypatch):
    """The order of all that happens under final names, over a corrupt checkpoint."""
    flip(folder / "ckpt-20.index", 9)
    done = []
    rename, remove = bundle.gfile.rename, bundle.gfile.remove

    def note_rename(source, target, overwrite):
        done.append(f"rename {target.rpartition('/')[2]}")
        rename(source, target, overwrite)

    def note_remove(path):
        done.append(f"remove {path.rpartition('/')[2]}")
        remove(path)

    monkeypatch.setattr(bundle.gfile, "rename", note_rename)
    monkeypatch.setattr(bundle.gfile, "remove", note_remove)
    saves(folder, 20, keep=1)
    assert done == [
        "remove ckpt-20.index",
        "rename ckpt-20.json",
        "rename ckpt-20.data-00000-of-00001",
        "rename ckpt-20.index",
        "remove ckpt-10.index",
        "remove ckpt-10.data-00000-of-00001",
        "remove ckpt-10.json",
    ]
    assert files(folder) == all_files(20)


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_cut_short_between_two_names(folder, monkeypatch, renames):
    """Then nothing is found of it, and the step may be written again."""
    rename = bundle.gfile.rename
    left = iter([rename] * renames)

    def rename_or_fail(*arguments, **options):
        next(left, fail)(*arguments, **options)

    def fail(*arguments, **options):
        raise tf.errors.AbortedError(None, None, "killed")

    monkeypatch.setattr(bundle.gfile, "rename", rename_or_fail)
    with pytest.raises(UserError, match="killed"):
        saves(folder, 30)
    monkeypatch.undo()
    beginning = [f"ckpt-30{suffix}" for suffix in FILES[:renames]]
    assert files(folder) == sorted([*all_files(10, 20), *beginning])
    assert restored(folder) == 20
    saves(folder, 30)
    assert files(folder) == all_files(10, 20, 30)
    assert restored(folder) == 30


def test_what_reads_back_otherwise_is_not_committed(folder, monkeypatch):
    """A disk that changes a bit on its way."""
    save = tf.raw_ops.SaveV2

    def save_other(prefix, tensors, **options):
        save(prefix=prefix, tensors=[tensors[0], tensors[1] + 1, tensors[2]], **options)

    monkeypatch.setattr(tf.raw_ops, "SaveV2", save_other)
    with pytest.raises(UserError) as caught:
        saves(folder, 30)
    assert str(caught.value) == (
        f"cannot write a checkpoint to {folder}: model/w reads back other than it was "
        "written; look at the disk or name another folder, then run the same command; "
        f"the last good one is {folder}/ckpt-20"
    )
    assert files(folder) == all_files(10, 20)


# What stays


def test_rotation(tmp_path):
    saves(tmp_path, 1, 2, 3, 4, keep=2)
    assert files(tmp_path) == all_files(3, 4)


def test_some_stay_for_their_age(tmp_path, monkeypatch):
    now = 1e9

    def later():
        nonlocal now
        now += 1800
        return now

    monkeypatch.setattr(bundle.time, "time", later)
    saves(tmp_path, *range(10), keep=1, keep_every_hours=2)
    assert steps(tmp_path) == [9, 8, 4, 0]


def test_what_stays_for_its_age_is_read_once(tmp_path, monkeypatch):
    now, read = [1e9], collections.Counter()

    def later():
        now[0] += 3600
        return now[0]

    def counting(path):
        read[bundle.step(path)] += 1
        return manifest(path)

    manifest = bundle.read_manifest
    monkeypatch.setattr(bundle.time, "time", later)
    monkeypatch.setattr(bundle, "read_manifest", counting)
    saves(tmp_path, *range(20), keep=2, keep_every_hours=1)
    assert steps(tmp_path) == [*reversed(range(20))]
    # When it is written, and twice as one of the newest two; the last of them once.
    assert [read[step] for step in range(20)] == [3] * 19 + [2]


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
def test_rotation_neither_counts_nor_deletes_corrupt_ones(folder, file):
    flip(folder / f"ckpt-20.{file}", 7)
    held = variables()
    with Checkpoints(held, str(folder), keep=2) as checkpoints:
        checkpoints.restore_newest()
        for step in (12, 14):
            set_to(held, step)
            checkpoints.save()
    assert steps(folder) == [20, 14, 12]


def test_mended_by_being_written_again(folder, capsys):
    flip(folder / "ckpt-20.data-00000-of-00001", 7)
    held = variables()
    with Checkpoints(held, str(folder), keep=1) as checkpoints:
        checkpoints.restore_newest()
        set_to(held, 20)
        checkpoints.save()
    assert files(folder) == all_files(20)
    capsys.readouterr()
    assert restored(folder) == 20
    assert capsys.readouterr().err == ""


def test_another_step_inside_than_in_the_name_is_corrupt(folder, capsys):
    for suffix in FILES:
        (folder / f"ckpt-20{suffix}").rename(folder / f"ckpt-21{suffix}")
    manifest = folder / "ckpt-21.json"
    manifest.write_text(manifest.read_text().replace('"step": 20', '"step": 21'))
    assert restored(folder) == 10
    assert "ckpt-21 is corrupt (it holds step 20); taking ckpt-10" in (
        capsys.readouterr().err
    )


def test_a_manifest_nested_too_deep_is_corrupt(folder):
    (folder / "ckpt-20.json").write_text("[" * 99_999)
    assert restored(folder) == 10


def test_deletion_that_was_cut_short_is_finished(folder):
    (folder / "ckpt-10.index").unlink()
    (folder / "ckpt-10.data-00000-of-00001").unlink()
    (folder / "ckpt-40.data-00000-of-00001").write_bytes(b"")  # to be written again
    saves(folder, 30)
    left = [*all_files(20, 30), "ckpt-40.data-00000-of-00001"]
    assert files(folder) == left


def test_a_run_that_was_killed_before_its_last_deletion_deletes(tmp_path):
    """It has nothing to write any more, behind which to delete."""
    saves(tmp_path, 10, 20, 30)
    with Checkpoints(variables(), str(tmp_path), keep=2, writes=False) as others:
        others.restore_newest()
    assert steps(tmp_path) == [30, 20, 10]
    with Checkpoints(variables(), str(tmp_path), keep=2) as checkpoints:
        checkpoints.restore_newest()
    assert steps(tmp_path) == [30, 20]


def test_what_was_just_written_stays(tmp_path):
    saves(tmp_path, 30)
    saves(tmp_path, 20, keep=1)
    assert steps(tmp_path) == [30, 20]


@pytest.mark.parametrize("prefix", [".staging", ".aside"])  # today's and yesterday's
def test_only_what_is_stale_is_removed(folder, prefix):
    stale = folder / f"{prefix}-{'0a' * 16}"
    mine = folder / f"{prefix}-mine"
    for made in (stale, mine):
        made.mkdir()
        (made / "ckpt-30.index").write_text("half")
    for name in ("ckpt-best.index", "ckpt-020.index", "ckpt-30.json", "notes"):
        (folder / name).write_text("mine")
    before = set(files(folder))
    bundle.remove_stale(str(folder))
    assert before - set(files(folder)) == {stale.name}
    assert (mine / "ckpt-30.index").exists()


def foreign_link(staging):
    staging.symlink_to("../theirs")
    return f"{staging} is a link"


def foreign_file(staging):
    staging.write_text("mine")
    return f"{staging} is a file"


def foreign_note(staging):
    staging.mkdir()
    for name in ("ckpt-30.index", "thesis.tex"):
        (staging / name).write_text("mine")
    return f"{staging}/thesis.tex was not written here"


def foreign_link_inside(staging):
    staging.mkdir()
    (staging / "ckpt-30.index").symlink_to("../../theirs/a")
    return f"{staging}/ckpt-30.index is a link"


def foreign_folder_inside(staging):
    (staging / "ckpt-30.json").mkdir(parents=True)
    return f"{staging}/ckpt-30.json/ was not written here"


@pytest.mark.parametrize("prefix", [".staging", ".aside"])
@pytest.mark.parametrize(
    "make",
    [
        foreign_link,
        foreign_file,
        foreign_note,
        foreign_link_inside,
        foreign_folder_inside,
    ],
)
def test_what_only_has_the_name_of_something_stale_stays(folder, prefix, make, capsys):
    theirs = folder.parent / "theirs"
    theirs.mkdir(exist_ok=True)
    (theirs / "a").write_text("mine")
    staging = folder / f"{prefix}-{'0a' * 16}"
    why = make(staging)
    before = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    bundle.remove_stale(str(folder))
    assert capsys.readouterr().err == f"warning: {staging} stays: {why}; move it away\n"
    after = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    assert {p: s.st_mtime_ns for p, s in after.items()} == {
        p: s.st_mtime_ns for p, s in before.items()
    }
    assert (theirs / "a").read_text() == "mine"


def test_what_a_killed_write_leaves_goes(folder):
    """Its names are those that SaveV2 writes to before it renames."""
    staging = folder / f".staging-{'0a' * 16}"
    staging.mkdir()
    for name in (
        "ckpt-30.data-00000-of-00001.tempstate14722995118718587050",
        "ckpt-30.index.tempstate1",
        *all_files(30),
    ):
        (staging / name).write_text("half")
    bundle.remove_stale(str(folder))
    assert files(folder) == all_files(10, 20)
    assert restored(folder) == 20


# Several processes


def test_processes_follow_the_chief(folder):
    shared = []
    flip(folder / "ckpt-20.data-00000-of-00001", 3)
    chief, other = variables(), variables()
    Checkpoints(chief, str(folder), keep=9).restore_newest(
        broadcast=lambda step: shared.append(step) or step
    )
    follower = Checkpoints(other, str(folder), keep=9, writes=False)
    asked = []
    follower.restore_newest(
        broadcast=lambda step: asked.append(step) or shared[0], is_chief=False
    )
    assert (shared, asked, follower.saved_step) == ([10], [-1], 10)
    assert_holds(chief, 10)
    assert_holds(other, 10)


def follow(folder, step):
    held = variables(5)
    path = Checkpoints(held, str(folder), keep=9, writes=False).restore_newest(
        broadcast=lambda _: step, is_chief=False
    )
    return held, path


def test_process_of_a_chief_that_begins(folder):
    held, path = follow(folder, -1)
    assert path is None
    assert_holds(held, 5)


def test_process_of_another_directory(tmp_path):
    with pytest.raises(UserError, match="all processes need the same directory"):
        follow(tmp_path, 20)


def test_processes_learn_that_the_chief_fails(folder):
    for step in (10, 20):
        flip(folder / f"ckpt-{step}.index", 3)
    shared = []
    with pytest.raises(UserError, match="is intact"):
        Checkpoints(variables(), str(folder), keep=9).restore_newest(
            broadcast=lambda step: shared.append(step) or step
        )
    with pytest.raises(UserError, match=r"the chief can restore no checkpoint"):
        follow(folder, *shared)


# Copies


def test_copy(folder, tmp_path):
    best = tmp_path / "best"
    assert bundle.copy(f"{folder}/ckpt-10", str(best)) == f"{best}/ckpt-10"
    assert files(best) == all_files(10)
    assert restored(best) == 10
    before = (best / "ckpt-10.index").stat().st_mtime_ns
    bundle.copy(f"{folder}/ckpt-10", str(best))
    assert (best / "ckpt-10.index").stat().st_mtime_ns == before
    flip(best / "ckpt-10.data-00000-of-00001", 3)
    bundle.copy(f"{folder}/ckpt-10", str(best))
    assert restored(best) == 10


def test_copy_of_what_is_corrupt(folder, tmp_path):
    flip(folder / "ckpt-10.data-00000-of-00001", 3)
    for path in (f"{folder}/ckpt-10", f"{folder}/ckpt-15"):
        with pytest.raises(CorruptCheckpoint, match=path):
            bundle.copy(path, str(tmp_path / "best"))
    assert steps(tmp_path / "best") == []


@pytest.mark.parametrize("copied", [0, 1, 2, 3])
def test_copy_of_what_vanishes(folder, tmp_path, monkeypatch, copied):
    copy = bundle.gfile.copy
    left = iter(range(copied))

    def copy_until(source, target):
        if next(left, None) is None:
            bundle.delete(f"{folder}/ckpt-10")
        copy(source, target)

    monkeypatch.setattr(bundle.gfile, "copy", copy_until)
    with contextlib.ExitStack() as stack:
        if copied < 3:
            stack.enter_context(pytest.raises(CorruptCheckpoint, match="ckpt-10: "))
        bundle.copy(f"{folder}/ckpt-10", str(tmp_path / "best"))
    assert files(tmp_path / "best") == (all_files(10) if copied == 3 else [])


# What belongs to a precision, which may change in the middle of a run


def scaled(scale):
    return variables() | {"loss_scale/scale": tf.Variable(tf.constant(float(scale)))}


def saved_with(folder, held, step):
    set_to(held, step)
    Checkpoints(held, str(folder), keep=9).save(wait=True)


def test_a_scale_begins_again_behind_a_checkpoint_without_one(tmp_path):
    saved_with(tmp_path, variables(), 10)
    held = scaled(8.0)
    checkpoints = Checkpoints(held, str(tmp_path), keep=9)
    held["loss_scale/scale"].assign(2.0)  # of the steps that a roll-back takes back
    assert checkpoints.restore_newest() == f"{tmp_path}/ckpt-10"
    assert_holds(held, 10)
    assert float(held["loss_scale/scale"].numpy()) == 8.0


def test_a_scale_is_restored_where_it_is_asked_for(tmp_path):
    saved_with(tmp_path, scaled(2.0), 10)
    held = scaled(8.0)
    assert Checkpoints(held, str(tmp_path), keep=9).restore_newest()
    assert float(held["loss_scale/scale"].numpy()) == 2.0
    assert restored(tmp_path) == 10  # where it is not, the rest is
