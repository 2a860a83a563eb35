"""What a run is too short for."""

import keras
import pytest

from tests.support.runs import experiment_of
from tests.train.test_mixing import INFO
from train.small_data import short_runs

E = "experiment.Experiment"
MOMENTUM = "efficientnet_x.build_model.batch_norm_momentum"


def model_of(momentum, frozen=()):
    changes = {MOMENTUM: momentum, "efficientnet_x.build_model.frozen": frozen}
    return experiment_of("unused", **changes).build_model()


def test_batch_norm_of_80_steps():
    model = model_of(0.99)
    assert short_runs.batch_norm_advice(model, 80) == (
        "the run is short for batch norm's momentum of 0.99: after 80 steps its moving "
        "statistics are still 45% what they began with, and it is by them that "
        "validation and export normalise, so scores lag behind the training; set "
        "efficientnet_x.build_model.batch_norm_momentum = 0.93, or train for 498 steps"
    )
    assert short_runs.batch_norm_advice(model, 497)
    assert short_runs.batch_norm_advice(model, 498) is None
    assert short_runs.batch_norm_advice(model, 2000) is None


def test_frozen_layers_do_not_count():
    """All but the head's, which moves as the others do."""
    parts = ("stem", "stage_1", "stage_2")
    assert short_runs.batch_norm_advice(model_of(0.99, parts), 80)
    assert short_runs.batch_norm_advice(model_of(0.99, (*parts, "head")), 80) is None


def test_batch_norm_of_others():
    """Keras' own layer, in a network that has no such setting."""
    norm = keras.layers.BatchNormalization(momentum=0.9)
    model = keras.Sequential([keras.Input([4]), norm])
    line = short_runs.batch_norm_advice(model, 47)
    assert line
    assert "set the momentum of its batch norm to 0.89, or train for 48" in line
    assert short_runs.batch_norm_advice(model, 48) is None


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_nothing_lags_behind(momentum):
    """Neither where the last batch is all, nor where nothing is to move."""
    norm = keras.layers.BatchNormalization(momentum=momentum)
    model = keras.Sequential([keras.Input([4]), norm])
    assert short_runs.batch_norm_advice(model, 1) is None


def test_batch_norm_is_spoken_of_at_the_beginning(monkeypatch):
    """The model of a run that has begun is refused another momentum."""
    monkeypatch.setattr(short_runs, "batch_norm_advice", lambda *_: "it lags")
    experiment = experiment_of("unused", **{f"{E}.epochs": 60.0})
    for step, said in ((0, ["it lags"]), (4, [])):
        assert [*short_runs.remarks(experiment, INFO, keras.Model(), step)] == said


def test_what_comes_behind_the_end_of_the_run(monkeypatch):
    """An epoch of 400 images has 20 steps, and so has the warmup."""
    monkeypatch.setattr(short_runs, "batch_norm_advice", lambda *_: None)

    def said(epochs, profile, step=0):
        changes = {f"{E}.epochs": epochs, f"{E}.profile_steps": profile}
        experiment = experiment_of("unused", **changes)
        return [*short_runs.remarks(experiment, INFO, keras.Model(), step)]

    both = [
        "the learning rate still rises when the run ends: warmup_epochs are 20 steps, "
        "and the run has 20; set fewer warmup_epochs of its schedule, or more "
        "Experiment.epochs",
        "Experiment.profile_steps = (19, 21) lies behind the end of the run, step 20: "
        "less is profiled; choose earlier ones",
    ]
    assert said(1.0, (19, 21)) == said(1.0, (19, 21), step=19) == both
    assert said(1.0, (19, 21), step=20) == []  # there is nothing left to mend
    assert said(1.05, (21, 30)) == [
        "Experiment.profile_steps = (21, 30) lies behind the end of the run, step 21: "
        "nothing is profiled; choose earlier ones"
    ]
    assert said(1.05, (20, 21)) == []


@pytest.mark.parametrize("steps", [1, 5, 6, 12, 50, 80, 499, 10**6])
def test_what_is_advised_is_enough(steps):
    momentum = short_runs.fitting(steps)
    model = keras.Sequential(
        [keras.Input([4]), keras.layers.BatchNormalization(momentum=momentum)]
    )
    assert momentum < 1
    assert short_runs.batch_norm_advice(model, steps) is None
