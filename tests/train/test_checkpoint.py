"""What a folder of checkpoints may look like, and what is made of it."""

import pytest
import tensorflow as tf

from train import checkpoint
from train.errors import UserError


def vector(*values):
    return tf.Variable(tf.constant(values))


def variables(value=0.0):
    return {"step": tf.Variable(tf.constant(3)), "w/v": vector(value, value)}


def manager(folder, held):
    return checkpoint.CheckpointManager(
        held,
        str(folder),
        str(folder),
        max_to_keep=5,
        step_counter=held["step"],
        checkpoint_interval=10,
    )


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints: 10 holds ones, 20 twos."""
    held = variables()
    made = manager(tmp_path, held)
    for step in (10, 20):
        held["step"].assign(step)
        held["w/v"].assign([step / 10] * 2)
        made.save(step)
    return tmp_path


def restored(folder):
    held = variables()
    manager(folder, held).restore_newest(tf.distribute.get_strategy())
    return held["w/v"].numpy().tolist()


def test_newest_is_restored(folder):
    assert checkpoint.newest(str(folder)) == f"{folder}/ckpt-20"
    assert restored(folder) == [2, 2]
    assert checkpoint.step(checkpoint.latest(str(folder))) == 20


def test_interval_counts_from_zero(tmp_path):
    held = variables()
    made = manager(tmp_path, held)
    saved = []
    for step in range(4, 40, 4):
        held["step"].assign(step)
        saved += [step] if made.save(step) else []
    assert saved == [12, 20, 32]


def test_good_checkpoint_is_not_written_twice(folder):
    made = manager(folder, variables(9.0))
    assert made.save(30)
    assert made.save(30, check_interval=False) is None


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_list_of_checkpoints_is_not_needed(folder, damage):
    if damage == "missing":
        (folder / "checkpoint").unlink()
    else:
        (folder / "checkpoint").write_text("garbage")
    assert restored(folder) == [2, 2]


def test_newest_deleted_by_hand_leaves_the_one_before(folder):
    for path in folder.glob("ckpt-20.*"):
        path.unlink()
    assert restored(folder) == [1, 1]


def test_only_leftovers_are_removed(folder):
    (folder / "ckpt-30_temp").mkdir()
    (folder / "ckpt-30_temp" / "part").write_text("half")
    (folder / "ckpt-30.data-00000-of-00001").write_text("half")
    kept = {"ckpt-best.index", "ckpt-20-notes.txt", "mine"}
    for name in kept:
        (folder / name).write_text("mine")
    before = {path.name for path in folder.iterdir()}
    manager(folder, variables())
    gone = before - {path.name for path in folder.iterdir()}
    assert gone == {"ckpt-30_temp", "ckpt-30.data-00000-of-00001"}
    assert restored(folder) == [2, 2]


def test_none_there(tmp_path):
    assert checkpoint.newest(str(tmp_path)) is None
    with pytest.raises(UserError, match=r"train first"):
        checkpoint.latest(str(tmp_path))


def test_damaged_file_is_an_error_and_not_a_start_from_zero(folder):
    data = folder / "ckpt-20.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:5])
    with pytest.raises(UserError, match=r"cannot read the checkpoint .*ckpt-20"):
        restored(folder)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda h: h.update({"w/v": vector(1.0)}),
            r"w/v has the shape \[2\] th",
        ),
        (lambda h: h.update({"w/x": vector(1.0)}), r"w/x has the shape none th"),
        (lambda h: h.pop("w/v"), r"w/v has the shape \[2\] there, none here"),
    ],
)
def test_other_variables_are_named(folder, change, fault):
    held = variables()
    change(held)
    with pytest.raises(UserError, match=fault):
        checkpoint.restore(held, f"{folder}/ckpt-20")


def test_part_may_be_restored(folder):
    held = {"w/v": vector(0.0, 0.0)}
    checkpoint.restore(held, f"{folder}/ckpt-20", partly=True)
    assert held["w/v"].numpy().tolist() == [2, 2]
