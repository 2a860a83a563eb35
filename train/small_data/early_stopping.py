"""When a run ends early: what its evaluations so far, and they alone, decide."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from common.console import say
from common.errors import UserError
from train import run_data
from train.distribution.processes import Processes
from train.experiment import Experiment
from train.telemetry.telemetry import Telemetry

SCORE = "ema_top1"  # as the best checkpoint is chosen by


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Why a run ends before its last step.

    Attributes:
      step: at which.
      best_step: of the evaluation that none after it has surpassed.
      best: its score, in [0, 1].
      evaluations: how many came after it.
      min_delta: by how much none was better.
    """

    step: int
    best_step: int
    best: float
    evaluations: int
    min_delta: float

    def __str__(self) -> str:
        more = f" by more than {self.min_delta:g}" if self.min_delta else ""
        times = f"{self.evaluations} evaluation" + "s" * (self.evaluations > 1)
        return (
            f"no better score{more} in {times}: best was step {self.best_step:,} with "
            f"{self.best:.2%}"
        )


def verdict(
    evaluations: Mapping[int, Mapping[str, Any]],
    step: int,
    *,
    interval: int,
    patience: int | None,
    min_delta: float,
) -> Verdict | None:
    """Return why a run ends at a step, None where it goes on.

    A process that is killed changes nothing: what it would have decided, the next one
    decides from the same scores.

    Args:
      evaluations: scores by step, of any process. Those of a continuous evaluation
        between the run's own, of steps that it has not reached again, and of other
        images than the last one's, do not count.
      step: that is scored last.
      interval: steps between two evaluations of the run.
      patience: evaluations in a row that may be no better; None never ends a run.
      min_delta: of the score, in [0, 1]; what is better by no more is no better.
    """
    own = [s for s in sorted(evaluations) if 0 < s <= step and s % interval == 0]
    if patience is None or own[-1:] != [step]:
        return None
    last = evaluations[step]
    own = [s for s in own if run_data.of_same_images(evaluations[s], last)]
    best_step, best = 0, -1.0
    for one in own:
        score = _score(evaluations[one])
        if not best_step or score > best + min_delta:
            best_step, best = one, score
    since = len([s for s in own if s > best_step])
    if since < patience:
        return None
    return Verdict(step, best_step, max(best, 0.0), since, min_delta)


def _score(scores: Mapping[str, Any]) -> float:
    """Return the score of an evaluation, -1 where it has none: null in a file."""
    score = scores.get(SCORE)
    return float(score) if isinstance(score, int | float) else -1.0


class EarlyStopping:
    """Ends a run where its recipe says so, in all its processes.

    Attributes:
      best_step: of the run that has ended early; None while it has not.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        interval: int,
        last: int,
        telemetry: Telemetry,
        processes: Processes,
    ):
        """Make it of a run.

        Args:
          experiment: the recipe.
          interval: steps from one evaluation to the next.
          last: step of the run.
          telemetry: knows the evaluations of the processes before this one.
          processes: of the run; the chief decides.
        """
        self._experiment = experiment
        self._interval = interval
        self._last = last
        self._telemetry = telemetry
        self._processes = processes
        # Of this process: a disk may take what telemetry writes of them only later.
        self._own: dict[int, Mapping[str, Any]] = {}
        self.best_step: int | None = None

    def note(self, step: int, scores: Mapping[str, Any]) -> None:
        """Take note of the evaluation of a step."""
        self._own[step] = scores

    def ends(self, step: int) -> bool:
        """Return whether the run ends at a step, and say why."""
        # At its last step it has ended as it was to, whatever the scores.
        if self._experiment.early_stopping_patience is None or step >= self._last:
            return False
        found = None
        if self._processes.is_chief:
            found = of_run(self._experiment, self._evaluations(), step, self._interval)
        best_step = self._processes.broadcast(0 if found is None else found.best_step)
        if found is not None:
            say(
                f"the run has ended early, at step {step:,} of {self._last:,}: "
                f"{found}. To train on, raise Experiment.early_stopping_patience or "
                "set it to None"
            )
        self.best_step = best_step or None
        return best_step > 0

    def scores(self, step: int) -> dict[str, Any]:
        """Return the scores of a step at which the run ends."""
        return dict(self._evaluations().get(step, {}))

    def _evaluations(self) -> dict[int, Mapping[str, Any]]:
        return {**self._telemetry.evaluations(), **self._own}

    def summary(self) -> dict[str, Any]:
        """Return what summary.json says of the end of a run."""
        return {
            "stopped_early": self.best_step is not None,
            "best_step": self.best_step,
        }


def of_run(
    experiment: Experiment,
    evaluations: Mapping[int, Mapping[str, Any]],
    step: int,
    interval: int,
) -> Verdict | None:
    """Return the `verdict` by the settings of a run."""
    return verdict(
        evaluations,
        step,
        interval=interval,
        patience=experiment.early_stopping_patience,
        min_delta=experiment.early_stopping_min_delta,
    )


def require_evaluations(experiment: Experiment, with_evaluation: bool) -> None:
    """Raise UserError where a run that nobody scores is to end by its scores."""
    patience = experiment.early_stopping_patience
    if patience is not None and not with_evaluation:
        raise UserError(
            f"Experiment.early_stopping_patience = {patience}: --mode=train makes no "
            "evaluations to end a run by; leave --mode out, or set it to None"
        )


def advice(last: int, interval: int, patience: int | None) -> str | None:
    """Return the line for a run that has too few evaluations to end early.

    Args:
      last: step of the run.
      interval: steps from one evaluation to the next.
      patience: see `verdict`.
    """
    before_the_end = (last - 1) // interval
    if patience is None or before_the_end > patience:
        return None
    return (
        f"the run cannot end early: Experiment.early_stopping_patience = {patience} "
        f"takes {patience + 1} evaluations before the last step, and there are "
        f"{before_the_end}; lower Experiment.eval_every_epochs"
    )
