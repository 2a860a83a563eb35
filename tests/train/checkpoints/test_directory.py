"""Which checkpoint is taken, and what is done in the background after a write."""

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from tests.support.runs import experiment_of
from tests.support.saved import assert_holds, flip, saves, set_to, variables
from train import evaluation, state
from train.checkpoints import bundle, directory
from train.checkpoints.bundle import CorruptCheckpoint
from train.checkpoints.manager import Checkpoints

DATA = "data-00000-of-00001"


@pytest.fixture
def folder(tmp_path):
    """Four checkpoints, two of them of round steps."""
    saves(tmp_path / "run", 10, 13, 20, 24)
    return tmp_path / "run"


def is_round(path):
    return bundle.step(path) % 10 == 0


# Which is taken


def test_load_newest(folder, capsys):
    tried = []

    def load(path):
        tried.append(bundle.step(path))
        if len(tried) < 3:
            raise CorruptCheckpoint(path, f"fault {len(tried)}")
        return len(tried)

    assert directory.load_newest(str(folder), load) == (f"{folder}/ckpt-13", 3)
    assert tried == [24, 20, 13]
    start = f"warning: the checkpoint {folder}/ckpt"
    assert capsys.readouterr().err.splitlines() == [
        f"{start}-24 is corrupt (fault 1); taking ckpt-20",
        f"{start}-20 is corrupt (fault 2); taking ckpt-13",
    ]
    with pytest.raises(UserError, match=r"no checkpoint in .*/none; train first"):
        directory.load_newest(f"{folder}/none", load)


def test_load_newest_where_all_are_corrupt(folder, capsys):
    def load(path):
        raise CorruptCheckpoint(path, f"fault of {bundle.step(path)}")

    for prefer in (None, is_round):
        with pytest.raises(UserError) as caught:
            directory.load_newest(str(folder), load, prefer=prefer)
        assert str(caught.value) == (
            f"no checkpoint in {folder} is intact; the newest, {folder}/ckpt-24: fault "
            "of 24; copy a good one there, or take another --model_dir to begin anew"
        )
        assert len(capsys.readouterr().err.splitlines()) == 3


def test_newest_by_its_manifest(folder, capsys):
    flip(folder / "ckpt-24.index", 9)
    assert directory.newest_intact(str(folder)) == f"{folder}/ckpt-20"
    assert capsys.readouterr().err == ""
    path, _ = directory.load_newest(str(folder), bundle.read_manifest)
    assert path == f"{folder}/ckpt-20"
    assert "ckpt-24 is corrupt (its index_sha256 is " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("corrupt", "taken"),
    [([], 20), ([20], 10), ([10, 20], 24), ([24], 20), ([10, 20, 24], 13)],
)
def test_some_are_preferred(folder, corrupt, taken):
    for step in corrupt:
        flip(folder / f"ckpt-{step}.{DATA}", 40)
    held = variables()
    with Checkpoints(held, str(folder), keep=9) as checkpoints:
        path = checkpoints.restore_newest(prefer=is_round)
        assert path == f"{folder}/ckpt-{taken}"
        assert checkpoints.saved_step == taken
    assert_holds(held, taken)


@pytest.mark.parametrize(
    ("keep", "taken"), [(9, 20), (3, 20), (2, 31)], ids=["all", "one", "none"]
)
def test_sigterms_are_passed_over_but_not_for_what_is_far_older(folder, keep, taken):
    held = variables()
    with Checkpoints(held, str(folder), keep=9) as checkpoints:
        for step in (24, 31):
            set_to(held, step)
            checkpoints.save(wait=True, preempted=True)
    # A checkpoint of every step that is there, 10 as the oldest of hours.
    with Checkpoints(held, str(folder), keep=keep, keep_every_hours=0) as checkpoints:
        path = checkpoints.restore_newest(prefer=bundle.is_undisturbed)
    assert path == f"{folder}/ckpt-{taken}"
    assert_holds(held, taken)


def test_processes_follow_what_the_chief_prefers(folder):
    shared, held = [], variables()
    Checkpoints(variables(), str(folder), keep=9).restore_newest(
        broadcast=lambda step: shared.append(step) or step, prefer=is_round
    )
    other = Checkpoints(held, str(folder), keep=9, writes=False)
    other.restore_newest(broadcast=lambda _: shared[0], is_chief=False, prefer=is_round)
    assert shared == [20]
    assert_holds(held, 20)


def test_models_to_score_come_from_the_newest_intact_one(tmp_path, capsys):
    experiment = experiment_of("unused")
    names = tuple("0123456789")
    info = DatasetInfo("digits", 1, names, {})
    models = evaluation.build_models(experiment, info)
    held = {"step": tf.Variable(tf.constant(0, tf.int64))}
    for part, model in (("model", models[""]), ("ema", models["ema_"])):
        held |= state.by_path(part, model.weights)
    with Checkpoints(held, str(tmp_path), keep=9) as checkpoints:
        for step in (1, 2):
            for variable in held.values():
                variable.assign(tf.cast(tf.fill(variable.shape, step), variable.dtype))
            checkpoints.save()
    flip(tmp_path / f"ckpt-2.{DATA}", 99)
    capsys.readouterr()
    loaded, path, step = evaluation.load_models(experiment, info, str(tmp_path))
    assert (path, step) == (f"{tmp_path}/ckpt-1", 1)
    for model in loaded.values():
        for weight in model.get_weights():
            np.testing.assert_array_equal(weight, np.ones_like(weight))
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: the checkpoint {tmp_path}/ckpt-2 is corrupt (")
    assert warning.endswith("); taking ckpt-1")
    flip(tmp_path / f"ckpt-1.{DATA}", 99)
    with pytest.raises(UserError, match=r"is intact; the newest, .*/ckpt-2: "):
        evaluation.load_models(experiment, info, str(tmp_path))
    with pytest.raises(UserError, match=r"no checkpoint in .*none; train first"):
        evaluation.load_models(experiment, info, f"{tmp_path}/none")
