"""What a person sees while a run goes on."""

import dataclasses
import datetime
import time
from collections.abc import Mapping, Sequence

from common.console import count, say
from train.telemetry.loop_row import LoopRow, Speed


@dataclasses.dataclass
class _Stage:
    """What the loops of a stage took, together.

    Attributes:
      images: of all loops.
      seconds: likewise.
      later_images: of all but the first, which compiles.
      later_seconds: likewise.
    """

    images: int = 0
    seconds: float = 0.0
    later_images: int = 0
    later_seconds: float = 0.0

    def add(self, images: int, seconds: float) -> None:
        """Count a loop."""
        if self.seconds:
            self.later_images += images
            self.later_seconds += seconds
        self.images += images
        self.seconds += seconds


class Progress:
    """One live line on a terminal, plain lines elsewhere; all on standard error."""

    def __init__(self, step: int, train_steps: int, global_batch_size: int):
        self._train_steps = train_steps
        self._global_batch_size = global_batch_size
        self._step = step
        self._mark = time.monotonic()
        self._stages = [_Stage()]  # their sizes of images differ
        self._skipped = 0

    def resume(self) -> None:
        """Start the clock again after something that was not training."""
        self._mark = time.monotonic()

    def begin_stage(self, line: str) -> None:
        """Say that other images come now, with a rate of their own."""
        say(line)
        self._stages.append(_Stage())

    def go_back(self, step: int) -> None:
        """Go on at an earlier step; the work on the undone ones stays counted."""
        self._step = step
        self.resume()

    def update(self, step: int, row: LoopRow) -> None:
        """Show the loop that has just ended at `step`.

        Args:
          step: updates so far.
          row: what `train.telemetry.telemetry.Telemetry.loop` returned of it.
        """
        seconds = max(time.monotonic() - self._mark, 1e-9)
        images = (step - self._step) * self._global_batch_size
        self._stages[-1].add(images, seconds)
        self._skipped += row.skipped_records
        self._step = step
        self.resume()
        parts = [
            f"step {step:,}/{self._train_steps:,} ({step / self._train_steps:.0%})",
            f"loss {row.loss:.4f}",
            f"lr {row.learning_rate:.6f}",
            *self._speed(row.speed),
        ]
        parts += _of_policy(row.policy)
        if row.skipped_steps:
            steps = count(row.skipped_steps, "step")
            parts.append(f"{steps} skipped (loss scale {row.loss_scale:,.0f})")
        if self._skipped:
            parts.append(f"{self._skipped:,} broken records skipped")
        say("  ".join(parts), stays=step == self._train_steps)

    def _speed(self, speed: Speed | None) -> list[str]:
        """Return what there is to say of it: nothing where a loop has compiled."""
        if speed is None:
            return []
        parts = [f"{speed.images_per_second:,.0f} images/s"]
        if speed.input_bound:
            parts.append(f"{speed.verdict} ({speed.input_wait:.0%} wait)")
        if speed.mfu is not None:
            parts.append(f"mfu {speed.mfu:.0%}")
        images = (self._train_steps - self._step) * self._global_batch_size
        left = round(images / _rate(self._stages[-1:]))
        return [*parts, f"{datetime.timedelta(seconds=left)} left"]

    def summary(self) -> dict[str, float]:
        """Return what this process has to say of its training.

        Evaluations do not count as time, nor does a stage's first loop in the rate.
        """
        seconds = sum(stage.seconds for stage in self._stages)
        return {
            "seconds": round(seconds, 3),
            "images_per_second": round(_rate(self._stages), 1),
            "train_skipped_records": self._skipped,
        }


def _of_policy(numbers: Mapping[str, float | list[float]]) -> list[str]:
    """Return the scalars of a run's policy."""
    return [
        f"{name} {value:.4g}"
        for name, value in numbers.items()
        if not isinstance(value, list)
    ]


def _rate(stages: Sequence[_Stage]) -> float:
    """Return images per second, without the loops that compile if there are others."""
    later = [stage for stage in stages if stage.later_seconds]
    if later:
        images = sum(stage.later_images for stage in later)
        return images / sum(stage.later_seconds for stage in later)
    return sum(s.images for s in stages) / sum(s.seconds for s in stages)
