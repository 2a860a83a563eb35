"""What metrics.jsonl and TensorBoard say of one loop of training steps."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from train.metrics import LoopOutput

# The share of its time that an input bound loop waits for images. With images at once
# a run that waits for a tenth would be 11% faster: worth a person's work. What is less
# may be noise, and handing over a batch is never free.
INPUT_BOUND = 0.1

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
            "loss_scale",
            "skipped_steps",
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


def curves(values: Mapping[str, Any]) -> dict[str, float]:
    """Return TensorBoard's curves of what a row has, by their tags."""
    found = {TAGS[k]: float(v) for k, v in values.items() if k in TAGS}
    of_policy = (k for k in values if k.startswith("policy_"))
    found |= {
        f"policy/{name.removeprefix('policy_')}": float(values[name])
        for name in of_policy
        if not isinstance(values[name], list)
    }
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a loop was; the names are those of metrics.jsonl.

    Attributes:
      images_per_second: of all replicas.
      step_ms_p50: quantiles of the time of a step, in milliseconds, and the longest.
      step_ms_p90: likewise.
      step_ms_p99: likewise.
      step_ms_max: likewise.
      input_wait: share of the time that went by in waiting for images, in [0, 1].
      input_bound: 1 where that is more than INPUT_BOUND, else 0.
      verdict: "input bound" or "compute bound".
      mfu: of the peak's operations, the share that the model needs (no recomputation
        counted); None where either is not known.
    """

    images_per_second: float
    step_ms_p50: float
    step_ms_p90: float
    step_ms_p99: float
    step_ms_max: float
    input_wait: float
    input_bound: int
    verdict: str
    mfu: float | None

    @classmethod
    def of(
        cls,
        output: LoopOutput,
        *,
        peak_teraflops: float | None,
        macs_per_image: float | None,
    ) -> "Speed":
        """Return how fast a loop was.

        Args:
          output: of the loop.
          peak_teraflops: of all replicas together; None where it is not known.
          macs_per_image: multiply-accumulates of one forward pass; None likewise.
        """
        rate = output.images / output.seconds
        wait = output.wait_seconds / output.seconds
        p50, p90, p99 = np.percentile(output.step_seconds, (50, 90, 99)) * 1e3
        mfu = None
        if peak_teraflops is not None and macs_per_image is not None:
            mfu = rate * FLOPS_PER_MAC * macs_per_image / (peak_teraflops * 1e12)
        return cls(
            images_per_second=rate,
            step_ms_p50=float(p50),
            step_ms_p90=float(p90),
            step_ms_p99=float(p99),
            step_ms_max=float(np.max(output.step_seconds) * 1e3),
            input_wait=wait,
            input_bound=int(wait > INPUT_BOUND),
            verdict="input bound" if wait > INPUT_BOUND else "compute bound",
            mfu=mfu,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopRow:
    """A loop of training steps; the names are those of metrics.jsonl.

    Attributes:
      loss: this and the next seven are those of `LoopOutput`.
      top1: likewise.
      learning_rate: likewise.
      gradient_norm: likewise; None where no step of the loop has updated anything.
      gradient_norm_max: likewise.
      weight_norm: likewise.
      ema_decay: likewise.
      skipped_records: likewise.
      steps: in this loop.
      images_seen: of all loops so far.
      save_seconds: for which the training stood still before, to take a checkpoint;
        None where it took none.
      speed: None where most of the time went into compiling.
      loss_scale: this and the next are those of `LoopOutput`.
      skipped_steps: likewise.
      policy: likewise; here "policy_" is in front of the names.
    """

    loss: float
    top1: float
    learning_rate: float
    gradient_norm: float | None
    gradient_norm_max: float | None
    weight_norm: float
    ema_decay: float
    skipped_records: int
    steps: int
    images_seen: int
    save_seconds: float | None
    speed: Speed | None
    loss_scale: float | None = None
    skipped_steps: int | None = None
    policy: Mapping[str, float | list[float]] = dataclasses.field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return what is known, by the names of metrics.jsonl."""
        values = dataclasses.asdict(self)
        policy = values.pop("policy")
        values |= values.pop("speed") or {}
        values |= {f"policy_{name}": value for name, value in policy.items()}
        return {name: value for name, value in values.items() if value is not None}
