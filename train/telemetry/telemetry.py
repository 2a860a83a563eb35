"""The numbers of a run: TensorBoard's curves, and JSON lines for machines."""

import dataclasses
import datetime
import numbers
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from common import console
from common.errors import UserError
from train.telemetry.writers import EventFile, JsonLines, read_lines

# The share of its time that an input bound loop waits for images. With images at once
# a run that waits for a tenth would be 11% faster: worth a person's work. What is less
# may be noise, and handing over a batch is never free.
INPUT_BOUND = 0.1

# What a kill may cost of the numbers; a checkpoint's interval is longer.
FLUSH_SECONDS = 30.0

# The part of a run's time that writing may take, however slow the disk.
FLUSH_SHARE = 0.01

# Multiply-accumulates are two operations; backward costs twice what forward does.
FLOPS_PER_MAC = 2 * 3

# TensorBoard's groups, and what of a loop is in them.
TAGS = {
    **{name: f"scores/{name}" for name in ("loss", "top1")},
    **{
        name: f"optimizer/{name}"
        for name in (
            "learning_rate",
            "gradient_norm",
            "gradient_norm_max",
            "weight_norm",
            "ema_decay",
        )
    },
    "images_per_second": "speed/images_per_second",
    "mfu": "speed/mfu",
    "save_seconds": "speed/save_seconds",
    **{f"step_ms_{name}": f"step_ms/{name}" for name in ("p50", "p90", "p99", "max")},
    "input_wait": "input/wait",
    "input_bound": "input/bound",
    "skipped_records": "input/skipped_records",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOutput:
    """What the trainer measured over one loop of steps.

    Attributes:
      step: updates that the state has seen at the end of the loop.
      steps: updates in this loop.
      seconds: wall time of the loop.
      step_seconds: float[steps], from the moment at which the host asks for a batch to
        that at which it asks for the next. Where a device works asynchronously this is
        the pace of the host, which may run ahead of the device: it was seen on CPUs
        only.
      wait_seconds: what of `seconds` the host has waited for the input pipeline, by the
        same clock.
      loss: mean over the steps.
      top1: share of the loop's images, in [0, 1].
      learning_rate: of the schedule at `step`, that is, of the next update.
      gradient_norm: global norm before clipping, mean over the steps.
      gradient_norm_max: the largest of them.
      weight_norm: global norm of the weights that decay, at the end of the loop.
      ema_decay: of the moving average, at the end of the loop.
      skipped_records: places in the batches that no readable record filled.
      images: the others.
    """

    step: int
    steps: int
    seconds: float
    step_seconds: np.ndarray
    wait_seconds: float
    loss: float
    top1: float
    learning_rate: float
    gradient_norm: float
    gradient_norm_max: float
    weight_norm: float
    ema_decay: float
    skipped_records: int
    images: int


class Telemetry:
    """Writes what a run is doing; a disk that fails it does not stop the run.

    Under `directory`: train/ and eval/ for TensorBoard; metrics.jsonl, a line for
    every loop of training steps and every event; eval.jsonl, a line for every
    evaluation. A line has "kind" (train, event or eval), "step" and "time" (ISO 8601,
    UTC); a number that is not finite is null. To be used by one thread.
    """

    def __init__(
        self,
        directory: str,
        *,
        global_batch_size: int,
        replicas: int,
        peak_teraflops: float | None,
        writes: bool = True,
    ):
        """Touches no file yet.

        Args:
          directory: of the run; local or gs://.
          global_batch_size: images per step, over all replicas.
          replicas: how many there are.
          peak_teraflops: of each; None is unknown.
          writes: whether this process keeps the run's files; the others only compute.
        """
        self._global_batch_size = global_batch_size
        self._peak = None if peak_teraflops is None else peak_teraflops * replicas
        self._writes = writes
        self._metrics = JsonLines(f"{directory}/metrics.jsonl")
        self._evaluations = JsonLines(f"{directory}/eval.jsonl")
        self._train_events = EventFile(f"{directory}/train")
        self._eval_events = EventFile(f"{directory}/eval")
        self._files = (
            self._metrics,
            self._evaluations,
            self._train_events,
            self._eval_events,
        )
        self._due = 0.0  # a loop by itself is not written before
        self._failures: dict[JsonLines | EventFile, UserError | tf.errors.OpError] = {}

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self, step: int, config_text: str) -> None:
        """Begins a process's part of a run, at the step that it has restored.

        Args:
          step: what a killed process has written beyond it is taken back.
          config_text: the operative config.
        """
        if not self._writes:
            return
        self.go_back(step)
        # Markdown: what is indented stays as it is.
        code = "\n".join(f"    {line}" for line in config_text.splitlines())
        self._train_events.text(step, "config", code)
        self.flush()

    def go_back(self, step: int) -> None:
        """Takes back the training and the curves beyond `step`; events stay."""
        if not self._writes:
            return
        self._metrics.go_back(step)
        self._train_events.go_back(step)
        self._eval_events.go_back(step)
        self.flush()

    def loop(
        self,
        output: LoopOutput,
        *,
        macs_per_image: float | None,
        is_first: bool = False,
        save_seconds: float = 0.0,
    ) -> dict[str, float | str]:
        """Records a loop of training steps.

        Args:
          output: what the trainer measured.
          macs_per_image: multiply-accumulates of one forward pass, at the resolution
            that these images had; None if they are not known.
          is_first: the loop was the first of a process or of a stage. What it took is
            mostly tracing and compiling, so nothing is said of its speed.
          save_seconds: for which the training stood still before this loop, to take a
            checkpoint; 0 where it took none, of which nothing is written.

        Returns:
          By the names of metrics.jsonl, what was written. Of the speed:
          images_per_second, step_ms_p50, _p90, _p99 and _max, input_wait (the share of
          the time, in [0, 1]), input_bound (0 or 1), verdict ("input bound" or
          "compute bound"), and mfu where the peak is known: of the peak's operations,
          the share that the model needs (no recomputation counted).
        """
        values: dict[str, float | str] = {
            name: getattr(output, name) for name in TAGS if hasattr(output, name)
        }
        values["steps"] = output.steps
        values["images_seen"] = output.step * self._global_batch_size
        if save_seconds > 0:
            values["save_seconds"] = save_seconds
        if not is_first:
            values |= self._speed(output, macs_per_image)
        if self._writes:
            self._metrics.add(_line("train", output.step, values))
            points = {TAGS[k]: float(v) for k, v in values.items() if k in TAGS}
            self._train_events.scalars(output.step, points)
            if time.monotonic() >= self._due:
                self.flush()
        return values

    def evaluation(self, step: int, scores: Mapping[str, Any]) -> None:
        """Records scores; those that the same step had before are replaced.

        Args:
          step: of the checkpoint that was scored.
          scores: fractions become curves, all of them a line.
        """
        if not self._writes:
            return
        self._evaluations.add(_line("eval", step, scores))
        points = {
            f"scores/{name}": float(score)
            for name, score in scores.items()
            if isinstance(score, numbers.Real)
            and not isinstance(score, numbers.Integral)
        }
        self._eval_events.scalars(step, points)
        self.flush()

    def evaluations(self) -> dict[int, dict[str, Any]]:
        """Returns the scores by step that are in eval.jsonl, of any process.

        Raises:
          UserError: the file cannot be read.
        """
        try:
            lines = read_lines(self._evaluations.path)
        except tf.errors.OpError as error:
            raise UserError(
                f"cannot read {self._evaluations.path}: {_reason(error)}; mend the "
                "permissions"
            ) from error
        own = _line("eval", 0, {})
        return {
            line["step"]: {k: v for k, v in line.items() if k not in own}
            for line in lines
        }

    def images(self, step: int, images: np.ndarray, captions: Sequence[str]) -> None:
        """Shows uint8[N, H, W, 3] as the model is fed them, and says what they are."""
        if not self._writes:
            return
        self._train_events.images(step, "examples", images)
        listed = "\n".join(f"{n}. {text}" for n, text in enumerate(captions))
        self._train_events.text(step, "examples/captions", listed)

    def event(self, step: int, what: str, **details: Any) -> None:
        """Records what happened to the run.

        Args:
          step: at which.
          what: "resumed", "preempted", "rolled_back" or "non_finite".
          details: of it, as JSON can say them.
        """
        if not self._writes:
            return
        self._metrics.add(_line("event", step, {"event": what, **details}))
        self.flush()

    def close(self) -> None:
        """Writes what is left; where that fails, says what is lost."""
        self.flush()
        for error in self._failures.values():
            console.say(f"warning: the newest numbers are lost: {_reason(error)}")
        self._train_events.close()
        self._eval_events.close()

    def _speed(self, output: LoopOutput, macs_per_image: float | None) -> dict:
        rate = output.images / output.seconds
        wait = output.wait_seconds / output.seconds
        p50, p90, p99 = np.percentile(output.step_seconds, (50, 90, 99)) * 1e3
        speed = {
            "images_per_second": rate,
            "step_ms_p50": float(p50),
            "step_ms_p90": float(p90),
            "step_ms_p99": float(p99),
            "step_ms_max": float(np.max(output.step_seconds) * 1e3),
            "input_wait": wait,
            "input_bound": int(wait > INPUT_BOUND),
            "verdict": "input bound" if wait > INPUT_BOUND else "compute bound",
        }
        if self._peak is not None and macs_per_image is not None:
            needed = rate * FLOPS_PER_MAC * macs_per_image
            speed["mfu"] = needed / (self._peak * 1e12)
        return speed

    def flush(self) -> None:
        """Writes what is new where that is possible; the rest is kept for later.

        To be called before a checkpoint is written: what a kill takes with it is then
        computed again.
        """
        if not self._writes:
            return
        began = time.monotonic()
        for file in self._files:
            try:
                file.flush()
            except (UserError, tf.errors.OpError) as error:
                if file not in self._failures:
                    console.say(
                        f"warning: {_reason(error)}. Training goes on; the numbers are "
                        "kept, to be written as soon as that works"
                    )
                self._failures[file] = error
            else:
                if self._failures.pop(file, None):
                    console.say(f"{file.path} is written again")
        now = time.monotonic()
        self._due = now + max(FLUSH_SECONDS, (now - began) / FLUSH_SHARE)


def _line(kind: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return {"kind": kind, "step": step, "time": now, **values}


def _reason(error: UserError | tf.errors.OpError) -> str:
    """Returns one line; both kinds of error name the file."""
    text = str(error) if isinstance(error, UserError) else error.message
    return text.splitlines()[0]
