r"""Latency of inference on the device that JAX finds: one line of JSON.

    python -m benchmarks.device_latency --variants=efficientnet-b0,efficientnet-x-b0 \
      --batches=1,16,128 --dtype=bfloat16

Measures our models on Keras' JAX backend, compiled by XLA, and beside them timm's in
torch on the same device, where timm has the network and `make with-peers` installed it.
A GPU needs JAX's CUDA build: `pip install 'jax[cuda13]==0.10.2'`. The torch of `make
with-peers` is built for CUDA 13, too, so that the two share its wheels; this was not
tried on a GPU here. On a CPU it runs, too, and says so; --size and --repeats make that
short.

Each model and batch has a process of its own. One that fails costs its own row, which
says why, and makes the exit status 1; it is 2 when nothing can be measured.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.support import machine, results
from benchmarks.support.device.case import NUM_CLASSES, OURS, TIMMS, Case, Device, peer
from common import cli, extras, isolated
from common.cli import names, positive
from common.console import say
from common.errors import Status, UserError
from common.isolated import Failed
from models import complexity, scaling
from models.variants import Variant, get_variant

# No framework is imported up here, and none beside another: each takes memory of the
# device for itself.

_TIMM = "benchmarks.support.device.timm_calls"
_JAX = "pip install jax==0.10.2, for a GPU 'jax[cuda13]==0.10.2'"
_ENVIRONMENT = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_ON_CPU = "a CPU: these are no figures of an accelerator"

_CONDITIONS = {
    "all": "random weights in the dtype; batch norm not folded; float32 pixels 0..255 "
    "on the device already; a call normalises them, computes the logits and their sum, "
    "and is timed from its start until the sum is on the host; a process for each row",
    "ours, jax": "all of a call in one jax.jit, weights as arguments",
    "torch": "all of a call in one module; inference_mode, channels last, "
    'cudnn.benchmark, matmul precision "high" (TF32 for float32, as XLA has it); '
    'eager, and compiled by torch.compile in the mode "reduce-overhead", which uses '
    "CUDA graphs",
}

_isolated = functools.partial(isolated.call, environment=_ENVIRONMENT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """The command line's flags.

    Attributes:
      variants: names in our table.
      batches: images a call.
      dtype: of weights and arithmetic.
      size: in pixels, or None for each variant's own.
      repeats: timed calls.
      torch: forms of timm's models, some of TIMMS.
    """

    variants: Sequence[str]
    batches: Sequence[int]
    dtype: str
    size: int | None
    repeats: int
    torch: Sequence[str]

    def networks(self) -> list[Variant]:
        """Return the variants at the size asked for.

        Raises:
          ModelError: there is no such variant, or it cannot have this size.
        """
        rows = map(get_variant, self.variants)
        if self.size is not None:
            rows = (dataclasses.replace(row, resolution=self.size) for row in rows)
        networks = list(rows)
        for network in networks:
            scaling.block_specs(network)  # checks that it can be built
        return networks

    def cases(self, forms: Sequence[str]) -> Iterator[Case]:
        """Yield what is measured in these forms."""
        for variant in self.networks():
            for batch in self.batches:
                for form in forms:
                    yield Case(
                        variant=variant,
                        form=form,
                        batch=batch,
                        dtype=self.dtype,
                        repeats=self.repeats,
                    )


@dataclasses.dataclass(frozen=True)
class DeviceRow:
    """A case, and the seconds of each of its calls or why there are none."""

    case: Case
    outcome: list[float] | Failed

    @property
    def median(self) -> float | None:
        """Seconds of the median call; None if it failed."""
        return None if isinstance(self.outcome, Failed) else median(self.outcome)

    def describe(self) -> dict[str, Any]:
        """Return what was measured, or why nothing was."""
        case, outcome = self.case, self.outcome
        if isinstance(outcome, Failed):
            found: dict[str, Any] = {"failed": outcome.reason}
        else:
            found = _figures(case, outcome)
        return {
            "variant": case.variant.name,
            "library": case.library,
            "pixels": case.variant.resolution,
            "batch": case.batch,
            **found,
        }


def _figures(case: Case, seconds: list[float]) -> dict[str, Any]:
    flops = 2 * complexity.total(case.variant, NUM_CLASSES).macs * case.batch
    spread = {"min": min(seconds), "median": median(seconds), "max": max(seconds)}
    return {
        "milliseconds": {name: _significant(s * 1e3) for name, s in spread.items()},
        "images_per_second": _significant(case.batch / spread["median"]),
        "tflops_per_second": _significant(flops / spread["median"] / 1e12),
    }


def ratios(rows: Sequence[DeviceRow]) -> dict[str, float]:
    """Return the median times of ours over each other and over timm's, by batch."""
    found = {}
    ours = [row for row in rows if row.case.is_ours]
    theirs = [row for row in rows if not row.case.is_ours]
    for i, row in enumerate(ours):
        same = [one for one in theirs if one.case.variant == row.case.variant]
        for other in [*ours[i + 1 :], *same]:
            if other.case.batch == row.case.batch and row.median and other.median:
                beside = other.case
                name = beside.variant.name if beside.is_ours else beside.library
                key = f"{row.case.variant.name} / {name}, batch {row.case.batch}"
                found[key] = _significant(row.median / other.median)
    return found


def _significant(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")


def _measure(case: Case, *arguments: Any) -> DeviceRow:
    """Time a case in a process of its own, and say what came of it."""
    module = "performance.device_jax" if case.is_ours else _TIMM
    row = DeviceRow(case, _isolated(module, "seconds", case, *arguments))
    if isinstance(row.outcome, Failed):
        line = f"failed: {row.outcome.reason}"
    else:
        line = f"{median(row.outcome) * 1e3:.2f} ms"
    name = f"{case.variant.name}, {case.library}, batch {case.batch}"
    say(f"{name}: {line}")
    return row


def _measure_ours(settings: DeviceSettings) -> tuple[Device, list[DeviceRow]]:
    """Return the device that JAX finds, and our models' rows.

    Raises:
      UserError: JAX is not installed, or finds no device.
    """
    if not extras.installed("jax"):
        raise UserError(f"JAX is not installed: {_JAX}")
    device = _isolated("performance.device_jax", "device")
    if isinstance(device, Failed):
        asked = os.environ.get("JAX_PLATFORMS")
        raise UserError(
            f"JAX finds no device ({device.reason}): {_JAX}"
            + (f"; or change JAX_PLATFORMS, which is {asked!r}" if asked else "")
        )
    return device, [_measure(case) for case in settings.cases([OURS])]


def _measure_timm(
    settings: DeviceSettings, platform: str
) -> tuple[str, list[DeviceRow]]:
    """Return what there is to say of timm on a platform, and its models' rows."""
    if not extras.installed("timm", "torch"):
        return "not installed: make with-peers", []
    if platform == "tpu":
        return "not measured: its torch has no TPU", []
    cases = [c for c in settings.cases(settings.torch) if peer(c.variant.name)]
    if not cases:
        return "not measured: it has none of these networks", []
    device = _isolated(_TIMM, "device", platform)
    if isinstance(device, Failed):
        return f"failed: {device.reason}", []
    return f"measured on {device.name}", [_measure(case, platform) for case in cases]


def _batches(text: str) -> list[int]:
    return list(dict.fromkeys(map(positive, names(text))))


def _forms(text: str) -> list[str]:
    for form in (forms := names(text)):
        if form not in TIMMS:
            raise argparse.ArgumentTypeError(f"{form} is not {' or '.join(TIMMS)}")
    return forms


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.device_latency", __doc__)
    add = parser.add_argument
    add(
        "--variants",
        type=names,
        default=["efficientnet-b0", "efficientnet-x-b0"],
        help="names in our table, separated by commas",
    )
    add(
        "--batches",
        type=_batches,
        default=[1, 16, 128],
        help="images a call, separated by commas",
    )
    add("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    add("--size", type=positive, help="in pixels; default: each variant's own")
    add("--repeats", type=positive, default=30, help="timed calls")
    add(
        "--torch",
        type=_forms,
        default=list(TIMMS),
        help="forms of timm's models: eager, compiled or both",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    flags = dict(vars(arguments))
    output = flags.pop("output")
    settings = DeviceSettings(**flags)
    hardware = machine.describe()  # before this benchmark is part of the load
    settings.networks()  # to refuse all mistakes before anything is measured
    device, ours = _measure_ours(settings)
    timm, theirs = _measure_timm(settings, device.platform)
    rows = [*ours, *theirs]
    packages = ("jax", "keras", *(("torch", "timm") if theirs else ()))
    report = {
        "benchmark": "device_latency",
        "device": device.name,
        **({"note": _ON_CPU} if device.platform == "cpu" else {}),
        "timm": timm,
        "latency": [row.describe() for row in rows],
        "ratios_are": "median times, of the first over the second",
        "ratios": ratios(rows),
        "settings": dataclasses.asdict(settings),
        "conditions": _CONDITIONS,
        "environment": _ENVIRONMENT,
        "machine": hardware,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "does_not_show": "accuracy; training; the way of the pixels to the device; "
        "several devices; other compilers, such as TensorRT",
    }
    results.publish(report, output)
    failed = timm.startswith("failed") or any(row.median is None for row in rows)
    return Status.NO if failed else Status.OK


if __name__ == "__main__":
    sys.exit(main())
