import math

import numpy as np
import pytest

from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from tests.support.runs import TINY
from train import config
from train.settings import rate_change

E = "experiment.Experiment"
# 200 steps an epoch of the tiny run's batches of 20.
INFO = DatasetInfo("x", 0, ("a",), {"train": SplitInfo((ShardInfo("a", 4000, (0,)),))})
# 12 steps.
WARM = ("schedule.cosine.warmup_epochs = 0", "schedule.cosine.peak_per_256 = 0.256")


def bindings(more):
    """Those of the cosine, unless another schedule takes its place."""
    return [*more] if any("constant" in one for one in more) else [*WARM, *more]


def said(old, new, step):
    before = config.resolve([TINY], bindings(old)).text
    now = config.resolve([TINY], bindings(new)).experiment
    return rate_change.describe(before, now, INFO, step)


def cosine(step, steps, peak=0.256 * 20 / 256):
    return peak * (1 + math.cos(math.pi * step / steps)) / 2


def numbers(line):
    _, _, _, _, step, before, _, now, _ = line.split()
    return int(step.rstrip(":")), float(before), float(now)


@pytest.mark.parametrize("step", [6, 12])
def test_more_epochs_stretch_a_cosine(step):
    found = numbers(said([], [f"{E}.epochs = 0.12"], step))
    expected = cosine(step, 12), cosine(step, 24)
    # Six digits are shown; float32's cosine errs by 2^-24 of the peak near its zero.
    np.testing.assert_allclose(found[1:], expected, rtol=5e-6, atol=0.02 * 2**-23)
    assert found[0] == step


def test_another_peak_and_another_schedule():
    assert said([], ["schedule.cosine.peak_per_256 = 0.512"], 0) == (
        "learning rate at step 0: 0.02 before, 0.04 now"
    )
    constant = (
        f"{E}.learning_rate = @schedule.constant",
        "schedule.constant.warmup_epochs = 0",
        "schedule.constant.peak_per_256 = 0.128",
    )
    assert said([], constant, 0) == "learning rate at step 0: 0.02 before, 0.01 now"
    assert said(constant, [], 0) == "learning rate at step 0: 0.01 before, 0.02 now"


def test_what_differs_later_only():
    """A warmup is the same, whatever comes behind it."""
    warmup = "schedule.cosine.warmup_epochs = 0.03"
    found = numbers(said([warmup], [warmup, f"{E}.epochs = 0.12"], 2))
    assert found[0] == 11
    np.testing.assert_allclose(found[1:], (cosine(11, 12), cosine(11, 24)), rtol=1e-5)


def test_what_is_the_same_still():
    """In a warmup, which is as long in steps, whatever comes behind it."""
    line = said(
        ["schedule.cosine.warmup_epochs = 1"],
        ["schedule.cosine.warmup_epochs = 1", f"{E}.epochs = 0.12"],
        12,
    )
    assert line == "learning rate at step 12: 0.0012, as before"


def test_what_leaves_the_rate_alone():
    assert said([], [], 6) is None
    assert said([], [f"{E}.weight_decay = 0.5", f"{E}.label_smoothing = 0"], 6) is None
    scope = (f"{E}.learning_rate = @own/schedule.cosine",)
    assert said(scope, scope, 6) is None


def test_scopes_and_what_is_not_known():
    own = (
        f"{E}.learning_rate = @own/schedule.cosine",
        "own/schedule.cosine.final_fraction = 1",
    )
    assert said(own, own, 6) is None
    assert numbers(said(own, [], 6))[1:] == (0.02, 0.01)
    now = config.resolve([TINY], WARM).experiment
    for text in (
        "",
        f"{E}.learning_rate = @mine.schedule\n",
        f"{E}.learning_rate = @schedule.cosine\nschedule.cosine.peak_per_256 = -1\n",
        *(
            f"{E}.learning_rate = @schedule.cosine\n{E}.progressive = {rows}\n"
            for rows in ("5", "[5]", "[{'warmup_epochs': 1}]")
        ),
    ):
        assert rate_change.describe(text, now, INFO, 6) is None


def test_progressive_stages_of_a_longer_run():
    stages = f"{E}.progressive = [{{'until_epoch': 0.1, 'resolution': 16}}]"
    line = said([], [f"{E}.epochs = 0.12", stages], 12)
    assert numbers(line)[0] == 12


def test_the_warmup_of_a_stage():
    """From zero again where the stage begins, and gone where the stage has none."""

    def stages(first, second):
        rows = [{"until_epoch": 0.03}, {"until_epoch": 0.06}]
        for row, warmup in zip(rows, (first, second), strict=True):
            row |= {"warmup_epochs": warmup} if warmup else {}
        return [f"{E}.progressive = {rows}"]

    flat = ("schedule.cosine.final_fraction = 1",)
    old, new = [*flat, *stages(0, 0.02)], [*flat, *stages(0, 0.01)]
    assert said(old, new, 7) == "learning rate at step 7: 0.005 before, 0.01 now"
    assert said(new, [*flat, *stages(0, 0)], 6) == (
        "learning rate at step 6: 0 before, 0.02 now"
    )
    assert said(old, old, 7) is None
    assert said([*flat, *stages(0.01, 0.02)], old, 8) == (
        "learning rate at step 8: 0.01, as before"
    )


def test_what_else_a_stage_sets_is_none_of_its_business():
    stage = f"{E}.progressive = [{{'until_epoch': 0.03, 'resolution': %s}}]"
    assert said([stage % 16], [stage % 24], 6) is None
