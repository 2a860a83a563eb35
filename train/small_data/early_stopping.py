"""When a run ends early: what its evaluations so far, and they alone, decide."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
        between the run's own, and of steps that it has not reached again, do not count.
      step: that is scored last.
      interval: steps between two evaluations of the run.
      patience: evaluations in a row that may be no better; None never ends a run.
      min_delta: of the score, in [0, 1]; what is better by no more is no better.
    """
    own = [s for s in sorted(evaluations) if 0 < s <= step and s % interval == 0]
    if patience is None or own[-1:] != [step]:
        return None
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


def summary(found: Verdict | None) -> dict[str, Any]:
    """Return what summary.json says of the end of a run."""
    if found is None:
        return {"stopped_early": False, "best_step": None}
    return {"stopped_early": True, "best_step": found.best_step}
