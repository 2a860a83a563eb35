"""A run that ends early: by its scores alone, whatever was killed on the way."""

import functools
import json
import shutil
import signal
import subprocess

import numpy as np
import pytest

from common.errors import UserError
from tests.support import processes
from tests.support.runs import experiment_of, run_tiny
from tests.support.saved import newest
from train import evaluation, run
from train.checkpoints import bundle
from train.small_data import early_stopping
from train.small_data.early_stopping import EarlyStopping

PATIENCE = "experiment.Experiment.early_stopping_patience"
MIN_DELTA = "experiment.Experiment.early_stopping_min_delta"
EVERY = "experiment.Experiment.eval_every_epochs"
PICTURES = "experiment.Experiment.mistake_images"


def verdict(top1, step=None, patience=2, min_delta=0.0):
    scores = {s: {"ema_top1": value} for s, value in top1.items()}
    return early_stopping.verdict(
        scores,
        max(top1) if step is None else step,
        interval=10,
        patience=patience,
        min_delta=min_delta,
    )


@pytest.mark.parametrize(
    ("top1", "best_step"),
    [
        ({10: 0.5, 20: 0.4, 30: 0.3}, 10),
        ({10: 0.5, 20: 0.5, 30: 0.5}, 10),  # an equal one is no better
        ({10: 0.5, 20: 0.6, 30: 0.5, 40: 0.6}, 20),
        ({10: 0.5, 20: 0.4, 30: 0.51}, None),
        ({10: 0.5, 20: 0.4}, None),
        ({10: None, 20: None, 30: None}, 10),  # null in the file
        # Those of a continuous evaluation, of step 0 and between, do not count.
        ({0: 0.9, 10: 0.5, 15: 0.4, 20: 0.4}, None),
        ({0: 0.9, 10: 0.5, 15: 0.8, 20: 0.4, 30: 0.3}, 10),
        # A step that is not scored ends nothing.
        ({10: 0.5, 20: 0.4, 30: 0.3, 35: 0.3}, None),
        ({}, None),
    ],
)
def test_verdict(top1, best_step):
    found = verdict(top1 or {10: 0.1}, patience=2)
    assert (found and found.best_step) == best_step


def test_what_has_not_been_reached_again_does_not_count():
    """A process that goes on from an older checkpoint finds scores ahead of it."""
    ahead = {10: 0.5, 20: 0.4, 30: 0.3, 40: 0.2}
    assert verdict(ahead, step=20) is None
    at_30 = verdict(ahead, step=30)
    assert at_30
    assert (at_30.step, at_30.evaluations) == (30, 2)


def test_scores_of_other_images_do_not_count():
    """The data have changed behind step 10, and were accepted."""
    digests = {10: "old", 20: "new", 30: "new", 40: "new"}
    top1 = {10: 0.95, 20: 0.8, 30: 0.85, 40: 0.7}
    scores = {
        step: {"ema_top1": top1[step], "eval_split": "v", "eval_digest": digests[step]}
        for step in digests
    }
    ends = functools.partial(
        early_stopping.verdict, interval=10, patience=2, min_delta=0.0
    )
    assert ends(scores, 30) is None
    assert ends(scores, 40) is None
    found = ends(scores | {50: scores[40]}, 50)
    assert found is not None
    assert (found.best_step, found.best, found.evaluations) == (30, 0.85, 2)
    unknown = {step: {**one, "eval_digest": None} for step, one in scores.items()}
    found = ends(unknown, 30)
    assert found is not None
    assert found.best_step == 10


def test_min_delta():
    """Small gains add up: what counts is the gain over the last that counted."""
    top1 = {10: 0.5, 20: 0.505, 30: 0.509}
    found = verdict(top1, min_delta=0.01)
    assert str(found) == (
        "no better score by more than 0.01 in 2 evaluations: best was step 10 with "
        "50.00%"
    )
    assert verdict(top1 | {30: 0.511}, min_delta=0.01) is None
    assert str(verdict({10: 0.573, 20: 0.2}, patience=1)) == (
        "no better score in 1 evaluation: best was step 10 with 57.30%"
    )


class FakeProcesses:
    """Of which the chief has said `told`."""

    def __init__(self, is_chief, told):
        self.is_chief, self.told = is_chief, told

    def broadcast(self, value):
        self.told = value if self.is_chief else self.told
        return self.told


@pytest.mark.parametrize("is_chief", [True, False])
def test_the_chief_decides_and_what_it_scored_itself_counts(is_chief, capsys):
    """A disk may take the lines of eval.jsonl only later."""

    class Telemetry:
        def evaluations(self):
            return {4: {"ema_top1": 0.5 if is_chief else 0.1}}

    experiment = experiment_of("unused", **{PATIENCE: 1})
    told = FakeProcesses(is_chief, 0)
    stopping = EarlyStopping(
        experiment,
        interval=4,
        last=12,
        telemetry=Telemetry(),  # pyright: ignore[reportArgumentType]
        processes=told,  # pyright: ignore[reportArgumentType]
    )
    assert not stopping.ends(4)
    assert stopping.summary() == {"stopped_early": False, "best_step": None}
    stopping.note(8, {"ema_top1": 0.4})
    told.told = 4
    assert stopping.ends(8)
    assert stopping.summary() == {"stopped_early": True, "best_step": 4}
    said = "the run has ended early, at step 8 of 12: no better score in 1 evaluation"
    assert (said in capsys.readouterr().err) == is_chief
    # At its last step it has ended as it was to.
    stopping.note(12, {"ema_top1": 0.3})
    assert not stopping.ends(12)


def test_training_alone_is_not_scored(tmp_path):
    experiment = experiment_of("unused", **{PATIENCE: 3})
    with pytest.raises(UserError, match="patience = 3: --mode=train makes no eval"):
        run.train_and_evaluate(experiment, tmp_path, with_evaluation=False)


def test_too_few_evaluations():
    assert early_stopping.advice(100, 10, patience=8) is None
    assert early_stopping.advice(100, 10, patience=None) is None
    assert early_stopping.advice(100, 10, patience=9) == (
        "the run cannot end early: Experiment.early_stopping_patience = 9 takes 10 "
        "evaluations before the last step, and there are 9; lower "
        "Experiment.eval_every_epochs"
    )


@pytest.fixture
def stopped(finished, tmp_path):
    """A run killed right behind the evaluation of step 8 that ends it."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    for file in folder.glob("**/*ckpt-12*"):
        file.unlink()
    line = json.loads((folder / "eval.jsonl").read_text())
    rows = [
        line | {"step": step, "ema_top1": top1, "checkpoint": f"{folder}/ckpt-{step}"}
        for step, top1 in ((4, 0.5), (8, 0.4))
    ]
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.long
def test_a_run_that_has_ended_trains_nothing(digits, stopped, capsys):
    """It is said why; and who scores its checkpoints ends, too."""
    # Made up, the scores would be others when they are computed anew for the page.
    changes = {PATIENCE: 1, EVERY: 0.02, PICTURES: 0}
    summary = run_tiny(digits, stopped, **changes)
    assert (summary["steps"], summary["ema_top1"]) == (8, 0.4)
    assert (summary["stopped_early"], summary["best_step"]) == (True, 4)
    assert json.loads((stopped / "summary.json").read_text()) == summary
    assert (
        "the run has ended early, at step 8 of 12: no better score in 1 evaluation: "
        "best was step 4 with 50.00%. To train on, raise"
    ) in capsys.readouterr().err
    assert newest(stopped) == f"{stopped}/ckpt-8"
    scores = run.continuous_evaluate(
        experiment_of(digits, **changes), stopped, timeout_minutes=0
    )
    assert (scores["steps"], scores["ema_top1"]) == (8, 0.4)
    said = capsys.readouterr().err
    assert "by Experiment.early_stopping_patience the run ends at step 8: no" in said


def variables(model_dir):
    return bundle.read(newest(model_dir))


@pytest.mark.slow
def test_without_patience_it_goes_on_as_if_it_had_never_ended(
    digits, finished, stopped, monkeypatch
):
    monkeypatch.setattr(evaluation.Evaluator, "score", lambda *_: finished[1])
    summary = run_tiny(digits, stopped, **{EVERY: 0.02})
    assert (summary["steps"], summary["first_step"]) == (12, 8)
    assert (summary["stopped_early"], summary["best_step"]) == (False, None)
    assert_same(variables(stopped), variables(finished[0]))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.slow
def test_killed_before_in_and_after_the_deciding_evaluation(digits, tmp_path):
    """By SIGKILL each time: it ends where it would have, at the same bits."""
    changes = {
        PATIENCE: 2,
        MIN_DELTA: 0.99,  # nothing is better than the first
        EVERY: 0.02,
        "experiment.Experiment.epochs": 0.2,
    }
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    said = processes.run(processes.command(digits, whole, changes))
    why = "the run has ended early, at step 12 of 40: no better score by more than 0.99"
    assert why in said
    command = processes.command(digits, folder, changes)
    for line in ("step 10/40", f"{folder}/ckpt-12: top-1", why):
        with processes.started(command) as (process,):
            assert process.stderr is not None
            for found in process.stderr:
                if found.startswith(line):
                    process.kill()
        assert process.returncode == -signal.SIGKILL, line
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert why in done.stderr
    assert_same(variables(folder), variables(whole))
    summary, undisturbed = (
        json.loads((path / "summary.json").read_text()) for path in (folder, whole)
    )
    for name in ("steps", "stopped_early", "best_step", *evaluation.SCORES):
        assert summary[name] == undisturbed[name], name
