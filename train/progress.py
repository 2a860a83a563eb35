"""What a person sees while a run goes on."""

import contextlib
import datetime
import io
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence


class Progress:
    """One live line on a terminal, plain lines elsewhere; all on standard error."""

    def __init__(self, step: int, train_steps: int, global_batch_size: int):
        self._train_steps = train_steps
        self._global_batch_size = global_batch_size
        self._step = step
        self._mark = time.monotonic()
        # Images and seconds of each loop, by stage: their sizes of images differ.
        self._stages: list[list[tuple[int, float]]] = [[]]
        self._skipped = 0

    def resume(self) -> None:
        """Starts the clock again after something that was not training."""
        self._mark = time.monotonic()

    def begin_stage(self, line: str) -> None:
        """Says that other images come now, with a rate of their own."""
        say(line)
        self._stages.append([])

    def update(self, step: int, output: Mapping[str, float]) -> None:
        """Shows the loop that has just ended at `step`."""
        seconds = max(time.monotonic() - self._mark, 1e-9)
        images = (step - self._step) * self._global_batch_size
        loops = self._stages[-1]
        loops.append((images, seconds))
        self._skipped += round(output["skipped_records"])
        self._step = step
        self.resume()
        parts = [
            f"step {step:,}/{self._train_steps:,} ({step / self._train_steps:.0%})",
            f"loss {output['loss']:.4f}",
            f"lr {output['learning_rate']:.6f}",
        ]
        if len(loops) > 1:  # the first loop traces and compiles
            left = (self._train_steps - step) * self._global_batch_size / _rate([loops])
            parts.append(f"{images / seconds:,.0f} images/s")
            parts.append(f"{datetime.timedelta(seconds=round(left))} left")
        if self._skipped:
            parts.append(f"{self._skipped:,} broken records skipped")
        say("  ".join(parts), stays=step == self._train_steps)

    def summary(self) -> dict[str, float]:
        """Returns what this process has to say of its training.

        Evaluations do not count as time, nor does a stage's first loop in the rate.
        """
        seconds = sum(seconds for loops in self._stages for _, seconds in loops)
        return {
            "seconds": round(seconds, 3),
            "images_per_second": round(_rate(self._stages), 1),
            "train_skipped_records": self._skipped,
        }


def _rate(stages: Sequence[Sequence[tuple[int, float]]]) -> float:
    """Returns images per second, without the loops that compile if there are others."""
    loops = [loop for loops in stages for loop in loops[1:]]
    loops = loops or [loop for loops in stages for loop in loops]
    return sum(images for images, _ in loops) / sum(seconds for _, seconds in loops)


def say(line: str, *, stays: bool = True) -> None:
    """Writes a line to standard error; on a terminal the next may take its place."""
    live = sys.stderr.isatty()
    if live and not stays:  # a line that wraps could not be taken back
        line = line[: shutil.get_terminal_size().columns - 1]
    sys.stderr.write("\r\x1b[K" * live + line + "\n" * (stays or not live))
    sys.stderr.flush()


@contextlib.contextmanager
def orbit_unheard() -> Iterator[None]:
    """Keeps Orbit's print() of every loop, checkpoint and score off the screen.

    It has no switch for them; Progress says the same, once.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        yield
