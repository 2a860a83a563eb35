"""Parts that stand still in a stage of a run, and learn in the next."""

import shutil

import numpy as np
import pytest

from common.errors import UserError
from models.errors import ModelError
from models.parts import part_of_variable
from tests.support.runs import experiment_of
from tests.train.test_run import assert_same_variables, variables
from train import run, stages, state
from train.checkpoints import directory
from train.stage_rows import Stage

# The second has a block that training may drop; what learns lies around it.
FROZEN = ("stem", "stage_2")
# An epoch has 200 steps, and the run 12: the first 4 with frozen parts.
ROWS = [
    {"until_epoch": 0.02, "frozen": FROZEN, "dropout_rate": 0.1},
    {"until_epoch": 0.06, "warmup_epochs": 0.01},
]
RECIPE = {
    "experiment.Experiment.checkpoint_every_steps": 2,
    "experiment.Experiment.keep_checkpoints": 9,
    "experiment.Experiment.weight_decay": 0.1,
    "experiment.Experiment.ema_decay": 0.5,
    "optimizer.rmsprop.epsilon": 1e-3,
}


def experiment_in(digits, **changes):
    settings = {"experiment.Experiment.progressive": ROWS}
    return experiment_of(digits, **RECIPE, **(settings | changes))


def train(experiment, model_dir):
    run.train_and_evaluate(experiment, str(model_dir), with_evaluation=False)


@pytest.fixture(scope="module")
def thawed(digits, tmp_path_factory):
    """The folder of a whole run of two stages."""
    model_dir = tmp_path_factory.mktemp("thawed")
    train(experiment_in(digits), model_dir)
    return model_dir


def at(folder, step, tmp_path):
    """The variables of one checkpoint of a run."""
    alone = tmp_path / f"at-{step}"
    alone.mkdir()
    for file in folder.glob(f"ckpt-{step}.*"):
        shutil.copy(file, alone)
    return variables(alone)


def parts_that_moved(before, after, part_of):
    """Parts by what of them another checkpoint has otherwise."""
    moved = {}
    for name, old in before.items():
        owner, _, path = name.partition("/")
        if owner in ("model", "ema") and (old != after[name]).any():
            kind = "statistics" if "moving" in path else "weights"
            moved.setdefault((owner, kind), set()).add(part_of[path])
    return moved


@pytest.mark.long
def test_what_is_frozen_stands_still_bit_for_bit_and_then_learns(
    digits, thawed, tmp_path
):
    part_of = part_of_variable(experiment_of(digits).build_model())
    start, middle, end = (at(thawed, step, tmp_path) for step in (0, 4, 12))
    rest = {"stage_1", "head", "classifier"}
    kinds = {
        (owner, kind): rest - {"classifier"} if kind == "statistics" else rest
        for owner in ("model", "ema")
        for kind in ("weights", "statistics")
    }
    assert parts_that_moved(start, middle, part_of) == kinds
    assert parts_that_moved(middle, end, part_of) == {
        key: parts | set(FROZEN) for key, parts in kinds.items()
    }
    slots = [name for name in start if name.startswith("optimizer/")]
    still = [n for n in slots if (start[n] == middle[n]).all()]
    assert len(still) == sum("stem" in n or "block_1" in n for n in slots) > 0


@pytest.mark.long
def test_a_stage_trains_as_a_run_whose_model_is_frozen(digits, thawed, tmp_path):
    """Its gradients, decay, statistics, average and masks: the variables after it."""
    never = {
        "experiment.Experiment.progressive": [ROWS[0] | {"frozen": ()}],
        "efficientnet_x.build_model.frozen": FROZEN,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "evaluation_steps", lambda *_: iter([4]))
        train(experiment_in(digits, **never), tmp_path / "frozen")
    found = variables(tmp_path / "frozen")
    middle = at(thawed, 4, tmp_path)
    assert found.keys() < middle.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, middle[name], err_msg=name)


@pytest.mark.long
def test_parts_that_learn_with_a_batch_norm_that_stands_still(digits, thawed, tmp_path):
    """Their blocks are as in inference, which gradients go through."""
    rows = [{"until_epoch": 0.06, "frozen_batch_norm": FROZEN}]
    settings = {"experiment.Experiment.progressive": rows}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "evaluation_steps", lambda *_: iter([2]))
        train(experiment_in(digits, **settings), tmp_path / "run")
    start, end = at(thawed, 0, tmp_path), variables(tmp_path / "run")
    part_of = part_of_variable(experiment_of(digits).build_model())
    every = {"stem", "stage_1", "stage_2", "head", "classifier"}
    moved = parts_that_moved(start, end, part_of)
    assert moved["model", "weights"] == every
    assert moved["model", "statistics"] == {"stage_1", "head"}


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 6])
def test_goes_on_exactly_before_at_and_behind_the_thaw(step, digits, thawed, tmp_path):
    for file in thawed.glob(f"ckpt-{step}.*"):
        shutil.copy(file, tmp_path)
    train(experiment_in(digits), tmp_path)
    assert_same_variables(thawed, tmp_path)


def test_what_a_stage_says_of_its_parts(digits):
    experiment = experiment_in(digits)
    strategy, info = run.prepare(experiment)
    with strategy.scope():
        train_state = state.create(experiment, info)
    training = stages.Stages(experiment, info, train_state, strategy)
    assert [training.describe(last - 1) for last in (4, 12)] == [
        "stage 1 of 2, to step 4: 32 px, dropout_rate 0.1, only stage_1, head, "
        "classifier learning",
        "stage 2 of 2, to step 12: 32 px, warmup_epochs 0.01, all learning",
    ]
    rate = experiment.make_learning_rate(info)
    plain = rate.schedule
    # Of 5.5 the float32 quotient; the rise of two steps begins with step 4.
    shares = [float(rate(step)) / float(plain(step)) for step in (3, 4, 5, 6, 7)]
    assert shares == [1.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.long
def test_a_warmup_alone_needs_no_other_trainer(digits):
    """Nor another program, which takes minutes to compile for a TPU."""
    rows = [
        {"until_epoch": 0.02},
        {"until_epoch": 0.04, "warmup_epochs": 0.01},
        {"until_epoch": 0.06, "warmup_epochs": 0.01, "frozen": ("stem",)},
    ]
    experiment = experiment_in(digits, **{"experiment.Experiment.progressive": rows})
    strategy, info = run.prepare(experiment)
    with strategy.scope():
        train_state = state.create(experiment, info)
    training = stages.Stages(experiment, info, train_state, strategy)
    found = []
    for step in (0, 4, 8):
        training.enter(step, step)
        found.append(training.trainer)
    assert found[0] is found[1]
    assert found[1] is not found[2]


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (("stage_7",), "frozen: tiny has no part 'stage_7', only stem, stage_1"),
        (
            ("stem", "stage_1", "stage_2", "head", "classifier"),
            "frozen: tiny has nothing to learn",
        ),
    ],
)
def test_what_cannot_stand_still_is_refused_before_the_first_step(
    frozen, message, digits, tmp_path
):
    rows = [{"until_epoch": 0.02}, {"until_epoch": 0.04, "frozen": frozen}]
    experiment = experiment_in(digits, **{"experiment.Experiment.progressive": rows})
    with pytest.raises(ModelError, match=message):
        run.train_and_evaluate(experiment, str(tmp_path))
    assert directory.list_checkpoints(str(tmp_path)) == []


def test_rows_of_parts_that_make_no_sense(digits):
    rows = [{"until_epoch": 0.02, "frozen": "stem"}]
    with pytest.raises(UserError, match=r"frozen = 'stem': .* a list of parts"):
        experiment_in(digits, **{"experiment.Experiment.progressive": rows})
    assert Stage(frozen=FROZEN).given() == {"frozen": FROZEN}
