"""The numbers of a run: TensorBoard's curves, and JSON lines for machines."""

import datetime
import numbers
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from common import console, storage_errors
from common.claims import Fence, Held, no_fence
from common.errors import Restart, UserError, first_line
from train.metrics import LoopOutput
from train.telemetry.loop_row import LoopRow, Speed, curves
from train.telemetry.writers import EventFile, JsonLines

TRAIN, EVAL = "train", "eval"  # folders of TensorBoard's, in that of a run

# What a kill may cost of the numbers; a checkpoint's interval is longer.
FLUSH_SECONDS = 30.0

# The part of a run's time that writing may take, however slow the disk.
FLUSH_SHARE = 0.01


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
        fence: Fence = no_fence,
    ):
        """Touch no file yet.

        Args:
          directory: of the run; local or gs://.
          global_batch_size: images per step, over all replicas.
          replicas: how many there are.
          peak_teraflops: of each; None is unknown.
          writes: whether this process keeps the run's files; the others only compute.
          fence: called before files are written; it raises when they are another
            process's now.
        """
        self._global_batch_size = global_batch_size
        self._peak = None if peak_teraflops is None else peak_teraflops * replicas
        self._writes = writes
        self._fence = fence
        self._metrics = JsonLines(f"{directory}/metrics.jsonl", fence)
        self._evaluations = JsonLines(f"{directory}/eval.jsonl", fence)
        self._train_events = EventFile(f"{directory}/{TRAIN}", fence)
        self._eval_events = EventFile(f"{directory}/{EVAL}", fence)
        self._files = (
            self._metrics,
            self._evaluations,
            self._train_events,
            self._eval_events,
        )
        self._due = 0.0  # a loop by itself is not written before
        self._failures: dict[JsonLines | EventFile, Exception] = {}

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self, step: int, config_text: str) -> None:
        """Begin a process's part of a run, at the step that it has restored.

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
        """Take back the training and the curves beyond `step`; events stay."""
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
    ) -> LoopRow:
        """Record a loop of training steps.

        Args:
          output: what the trainer measured.
          macs_per_image: multiply-accumulates of one forward pass, at the resolution
            that these images had; None if they are not known.
          is_first: the loop was the first of a process or of a stage. What it took is
            mostly tracing and compiling, so nothing is said of its speed.
          save_seconds: for which the training stood still before this loop, to take a
            checkpoint; 0 where it took none, of which nothing is written.

        Returns:
          What was written.
        """
        speed = None
        if not is_first:
            speed = Speed.of(
                output, peak_teraflops=self._peak, macs_per_image=macs_per_image
            )
        updates = output.steps > (output.skipped_steps or 0)
        row = LoopRow(
            loss=output.loss,
            top1=output.top1,
            learning_rate=output.learning_rate,
            gradient_norm=output.gradient_norm if updates else None,
            gradient_norm_max=output.gradient_norm_max if updates else None,
            weight_norm=output.weight_norm,
            ema_decay=output.ema_decay,
            skipped_records=output.skipped_records,
            steps=output.steps,
            images_seen=output.step * self._global_batch_size,
            save_seconds=save_seconds or None,
            speed=speed,
            loss_scale=output.loss_scale,
            skipped_steps=output.skipped_steps,
            policy=output.policy,
        )
        if self._writes:
            values = row.values()
            self._metrics.add(_line("train", output.step, values))
            self._train_events.scalars(output.step, curves(values))
            if time.monotonic() >= self._due:
                self.flush()
        return row

    def evaluation(self, step: int, scores: Mapping[str, Any]) -> None:
        """Record scores; those that the same step had before are replaced.

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
        """Return the scores by step that are in eval.jsonl, of any process.

        Raises:
          UserError, Restart: the file cannot be read.
        """
        own = _line("eval", 0, {})
        return {
            step: {k: v for k, v in line.items() if k not in own}
            for step, line in self._evaluations.evaluations().items()
        }

    def images(self, step: int, images: np.ndarray, captions: Sequence[str]) -> None:
        """Show uint8[N, H, W, 3] as the model is fed them, and say what they are."""
        if not self._writes:
            return
        self._train_events.images(step, "examples", images)
        listed = "\n".join(f"{n}. {text}" for n, text in enumerate(captions))
        self._train_events.text(step, "examples/captions", listed)

    def mistakes(
        self, step: int, pictures: Mapping[str, np.ndarray], classes: str
    ) -> None:
        """Show what an evaluation got wrong.

        Args:
          step: that was scored.
          pictures: uint8[H, W, 3] by their names.
          classes: the accuracy of each, as Markdown.
        """
        if not self._writes:
            return
        for name, picture in pictures.items():
            self._eval_events.images(step, f"mistakes/{name}", picture[None])
        self._eval_events.text(step, "mistakes/classes", classes)
        self.flush()

    def event(self, step: int, what: str, **details: Any) -> None:
        """Record what happened to the run.

        Args:
          step: at which.
          what: "resumed", "data_changed", "preempted", "rolled_back" or "non_finite".
          details: of it, as JSON can say them.
        """
        if not self._writes:
            return
        self._metrics.add(_line("event", step, {"event": what, **details}))
        self.flush()

    def close(self) -> None:
        """Write what is left; where that fails, say what is lost."""
        self.flush()
        for error in self._failures.values():
            console.warn(f"the newest numbers are lost: {first_line(error)}")
        self._train_events.close()
        self._eval_events.close()

    def flush(self) -> None:
        """Write what is new where that is possible; the rest is kept for later.

        To be called before a checkpoint is written: what a kill takes with it is then
        computed again.
        """
        if not self._writes:
            return
        began = time.monotonic()
        try:
            self._fence()
        except Restart:  # the disk does not answer: the numbers are kept
            return
        for file in self._files:
            if not self._try_to_flush(file) and storage_errors.is_remote(file.path):
                break  # each of the others would wait for as long
        now = time.monotonic()
        self._due = now + max(FLUSH_SECONDS, (now - began) / FLUSH_SHARE)

    def _try_to_flush(self, file: JsonLines | EventFile) -> bool:
        """Write what is new in a file; the first failure is worth a warning."""
        try:
            file.flush()
        except Held:
            raise
        except (UserError, Restart, tf.errors.OpError) as error:
            if file not in self._failures:
                said = first_line(error)
                if isinstance(error, tf.errors.OpError):
                    said = str(storage_errors.cannot_write(file.path, error))
                console.warn(
                    f"{said}. Training goes on; the numbers are kept, to be written as "
                    "soon as that works"
                )
            self._failures[file] = error
            return False
        if self._failures.pop(file, None):
            console.say(f"{file.path} is written again")
        return True


def _line(kind: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return {"kind": kind, "step": step, "time": now, **values}
