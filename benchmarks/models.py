"""What our models cost beside other people's: one line of JSON.

    python -m benchmarks.models --batch=8 --size=224 --repeats=10

Compares our x-b0 and our efficientnet-b0 with Keras' own EfficientNetB0 and timm's
efficientnet_b0 (`make with-peers` installs it) on this machine's CPU in float32:
seconds to build, of a forward pass, of a training step. Every repeat runs all of them
one after another and gives ratios of its own, so what else the machine does hits all
alike.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import statistics
import sys
from typing import Any

from benchmarks.support import framework_models, machine, results
from benchmarks.support.framework_models import (
    CALLS,
    DROP_RATE,
    NUM_CLASSES,
    CallSettings,
    ModelRow,
)
from common import cli, extras
from common.console import say
from common.isolated import IsolatedObject
from models import complexity, get_variant

# For all processes, before they load a framework.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
# torch's threads spin while they wait for one another. Where they have the cores to
# themselves that is faster by half, where they have not, many times slower. So timm is
# measured both ways, and the better one counts.
_PASSIVE = {"OMP_WAIT_POLICY": "passive"}
_MIN_BUILDS = 5

_CONDITIONS = {
    "build": "random weights; after a build that is not timed",
    "inference": "tf.function and torch.inference_mode, channels last, no XLA",
    "train_step": "forward in training mode with batch norm's moving averages, cross "
    "entropy, all gradients, plain SGD; dropout and stochastic depth "
    f"{DROP_RATE}, each library's own",
    "all": "pixels 0..255 are normalised inside the call; logits, no softmax; "
    f"per repeat the mean of {CALLS} calls (build: one) after one that is not timed",
}

_ROWS = (
    ModelRow(name="ours x-b0", variant="efficientnet-x-b0"),
    ModelRow(
        name="ours x-b0, folded batch norm",
        variant="efficientnet-x-b0",
        folded=True,
        measures=("inference",),
    ),
    ModelRow(name="ours efficientnet-b0", variant="efficientnet-b0"),
    ModelRow(
        name="keras.applications EfficientNetB0",
        variant="efficientnet-b0",
        library="keras.applications",
    ),
    ModelRow(name="timm efficientnet_b0", variant="efficientnet-b0", library="timm"),
    ModelRow(
        name="timm efficientnet_b0, passive threads",
        variant="efficientnet-b0",
        library="timm, passive",
        measures=("inference", "train_step"),
    ),
)
_LARGE = ModelRow(name="ours x-gpu-b7", variant="efficientnet-x-gpu-b7")


class Comparison:
    """Runs the rows of this machine's libraries in turns."""

    def __init__(self, settings: CallSettings, with_timm: bool):
        def side(name: str, **environment: str) -> IsolatedObject:
            module = framework_models.__name__
            return IsolatedObject(module, name, settings, environment=environment)

        self._settings = settings
        keras_side = side("keras_side")
        self._sides = {"ours": keras_side, "keras.applications": keras_side}
        if with_timm:
            self._sides["timm"] = side("timm_side")
            self._sides["timm, passive"] = side("timm_side", **_PASSIVE)

    def build(self) -> dict[str, Any]:
        """Return the seconds to build every model, and the ratios."""
        rows = self._rows("build")
        for row in rows:
            self._ask("build", row)
        repeats = max(_MIN_BUILDS, self._settings.repeats)
        seconds = self._in_turns("build", "build", rows, repeats)
        return {
            "seconds": {row.name: _spread(seconds[row]) for row in rows},
            "once": {_LARGE.name: round(self._ask("build", _LARGE), 3)},
            "ratios": _ratios(seconds),
        }

    def calls(self, measure: str) -> dict[str, Any]:
        """Return the speed of "inference" or "train_step", and the ratios."""
        rows = self._rows(measure)
        for row in rows:
            say(f"{measure}: compiling {row.name}")
            self._sides[row.library].ask("prepare", measure, row)
        seconds = self._in_turns(measure, "seconds", rows, self._settings.repeats)
        macs = {row: _macs(row, self._settings.size) for row in rows}
        speeds = {}
        for row in rows:
            rate = self._settings.batch / statistics.median(seconds[row])
            speeds[row.name] = {
                "seconds": _spread(seconds[row]),
                "images_per_second": round(rate, 2),
                "forward_gmacs_per_second": round(rate * macs[row] / 1e9, 2),
            }
        return {"speed": speeds, "ratios": _ratios(seconds, macs)}

    def _rows(self, measure: str) -> list[ModelRow]:
        """Return the rows of a measure whose libraries are here."""
        return [
            row
            for row in _ROWS
            if measure in row.measures and row.library in self._sides
        ]

    def _in_turns(
        self, measure: str, method: str, rows: list[ModelRow], repeats: int
    ) -> dict[ModelRow, list[float]]:
        """Return the seconds of each row in each repeat."""
        seconds: dict[ModelRow, list[float]] = {row: [] for row in rows}
        for i in range(repeats):
            for row in rows:
                seconds[row].append(self._ask(method, row))
            last = ", ".join(f"{row.name} {seconds[row][-1]:.3f}" for row in rows)
            say(f"{measure} {i + 1}/{repeats}: {last}")
        return seconds

    def _ask(self, method: str, row: ModelRow) -> float:
        return self._sides[row.library].ask(method, row)


def _ratios(
    seconds: dict[ModelRow, list[float]], macs: dict[ModelRow, int] | None = None
) -> dict[str, Any]:
    """Return the time of each of ours over that of each peer; lower is better.

    On a machine with other work, the fastest repeats say more than the median ones.
    """
    ratios: dict[str, Any] = {}
    for ours in filter(lambda row: row.is_ours, seconds):
        for peer in filter(lambda row: not row.is_ours, seconds):
            pairs = zip(seconds[ours], seconds[peer], strict=True)
            ratio = _spread([mine / theirs for mine, theirs in pairs])
            fastest = min(seconds[ours]) / min(seconds[peer])
            ratio["fastest_over_fastest"] = round(fastest, 4)
            if macs:
                per_mac = ratio["median"] * macs[peer] / macs[ours]
                ratio["median_per_mac"] = round(per_mac, 3)
            ratios[f"seconds of {ours.name} / seconds of {peer.name}"] = ratio
    return ratios


def _spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    spread = {"min": min(values), "median": middle, "max": max(values)}
    return {name: round(value, 4) for name, value in spread.items()}


def _macs(row: ModelRow, size: int) -> int:
    """Return the multiply-accumulates of one image, by arithmetic."""
    variant = dataclasses.replace(get_variant(row.variant), resolution=size)
    return complexity.total(variant, NUM_CLASSES).macs


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.models", __doc__)

    def add(flag: str, default: int | None, what: str) -> None:
        what = f"{what} (%(default)s)"
        parser.add_argument(flag, type=cli.positive, default=default, help=what)

    add("--batch", 8, "images a call")
    add("--size", 224, "of the images in pixels")
    add("--repeats", 10, "of everything")
    add("--threads", os.cpu_count(), "of each framework")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line."""
    flags = dict(vars(arguments))
    output = flags.pop("output")
    settings = CallSettings(**flags)
    os.environ.update({**_ENVIRONMENT, **os.environ})
    hardware = machine.describe()  # before this benchmark is part of the load
    with_timm = extras.installed("timm", "torch")
    comparison = Comparison(settings, with_timm)
    measured = {
        "build": comparison.build(),
        "inference": comparison.calls("inference"),
        "train_step": comparison.calls("train_step"),
    }
    packages = ("tensorflow", "keras", *(("torch", "timm") if with_timm else ()))
    report = {
        "benchmark": "models",
        "timm": "measured" if with_timm else "not installed: make with-peers",
        "ratios_are": "seconds of ours / seconds of theirs: lower is better",
        **measured,
        "gmacs_per_image": {
            row.name: round(_macs(row, settings.size) / 1e9, 4) for row in _ROWS
        },
        "settings": dataclasses.asdict(settings),
        "conditions": _CONDITIONS,
        "environment": {
            name: os.environ.get(name) for name in (*_ENVIRONMENT, *_PASSIVE)
        },
        "machine": hardware,
        "versions": {p: importlib.metadata.version(p) for p in packages},
        "does_not_show": "TPUs; GPUs; bfloat16; XLA; accuracy",
    }
    results.publish(report, output)


if __name__ == "__main__":
    sys.exit(main())
