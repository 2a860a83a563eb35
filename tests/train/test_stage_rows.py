import math

import pytest

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from tests.support.runs import experiment_of
from train import stage_rows
from train.stage_rows import Stage

ROWS = [
    {"until_epoch": 2, "resolution": 16, "magnitude": 5, "dropout_rate": 0.1},
    {"until_epoch": 3.5, "mixup_alpha": 0.0, "cutmix_alpha": 0.5},
]
FIRST = Stage(resolution=16, magnitude=5, dropout_rate=0.1)
SECOND = Stage(mixup_alpha=0.0, cutmix_alpha=0.5)


def test_rows():
    assert stage_rows.read(ROWS) == {2: FIRST, 3.5: SECOND}
    assert stage_rows.read(()) == {}
    assert FIRST.given() == {"resolution": 16, "magnitude": 5, "dropout_rate": 0.1}
    assert SECOND.given("mixup_alpha", "resolution") == {"mixup_alpha": 0.0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a text", "= 'a text': it has to be a list of mappings"),
        ([{"until_epoch": 1}, 5], ", stage 2: 5 is no mapping"),
        ([{"resolution": 16}], ", stage 1 does not say its until_epoch"),
        (
            [{"until_epoch": 1, "resolutoin": 16}],
            ", stage 1 has no 'resolutoin'; nearest: resolution$",
        ),
        ([{"until_epoch": 1, "x": 1}], "nearest: until_epoch, resolution, magnitude"),
        ([{"until_epoch": 0}], "stage 1: until_epoch = 0: .* a number above 0"),
        (
            [{"until_epoch": 2}, {"until_epoch": 2}],
            "stage 2: until_epoch 2 has to be above 2",
        ),
        ([{"until_epoch": math.nan}], "until_epoch = nan: it has to be a number above"),
        ([{"until_epoch": 1, "resolution": 16.0}], "= 16.0: .* a whole number"),
        ([{"until_epoch": 1, "resolution": 0}], "= 0: .* a whole number"),
        ([{"until_epoch": 1, "magnitude": True}], "= True: .* a number from 0 to 100"),
        (
            [{"until_epoch": 1, "dropout_rate": 1}],
            r"dropout_rate = 1: .* from 0 to below 1",
        ),
        (
            [{"until_epoch": 1, "mixup_alpha": -1}],
            "mixup_alpha = -1: .* from 0 to 1,000",
        ),
    ],
)
def test_rows_that_make_no_sense(rows, message):
    with pytest.raises(UserError, match=f"^Experiment.progressive.*{message}"):
        stage_rows.read(rows)


def test_ends_are_whole_steps_and_the_recipe_takes_the_rest():
    read = stage_rows.read(ROWS)
    assert stage_rows.by_last_step(read, 10.3, 50) == {
        21: FIRST,
        36: SECOND,
        50: Stage(),
    }
    assert stage_rows.by_last_step({}, 10.3, 50) == {50: Stage()}


def test_stages_up_to_the_end_of_the_run_leave_nothing():
    assert stage_rows.by_last_step(stage_rows.read(ROWS), 10.3, 36) == {
        21: FIRST,
        36: SECOND,
    }
    # 3.5 epochs are 36 steps, and a half that makes no step.
    assert list(stage_rows.by_last_step(stage_rows.read(ROWS), 10.4, 36)) == [21, 36]


def test_a_stage_without_a_step():
    with pytest.raises(UserError, match=r"stage 2 ends at epoch 3\.5, which is step 1"):
        stage_rows.by_last_step(stage_rows.read(ROWS), 0.3, 50)


def test_an_experiment_has_one_stage_unless_it_says_more():
    split = SplitInfo((ShardInfo("train-00000-of-00001", 400, (0,)),))
    info = DatasetInfo("some", 0, ("a",), {"train": split})
    epochs = {"experiment.Experiment.epochs": 4}
    assert experiment_of("unused", **epochs).stages(info) == {80: Stage()}
    rows = {"experiment.Experiment.progressive": ROWS}
    found = experiment_of("unused", **epochs, **rows).stages(info)
    assert found == {40: FIRST, 70: SECOND, 80: Stage()}


def test_stages_end_within_the_run():
    changes = {
        "experiment.Experiment.epochs": 3,
        "experiment.Experiment.progressive": ROWS,
    }
    with pytest.raises(UserError, match=r"ends at epoch 3\.5, behind .*epochs = 3"):
        experiment_of("unused", **changes)
