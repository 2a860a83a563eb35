"""What our models cost beside other people's: one line of JSON.

python -m benchmarks.models --batch=8 --size=224 --repeats=10

Compares our x-b0 and our efficientnet-b0 with Keras' own EfficientNetB0 and timm's
efficientnet_b0 (`make peers` installs it) on this machine's CPU in float32: seconds to
build, of a forward pass, of a training step. Every repeat runs all of them one after
another and gives ratios of its own, so what else the machine does hits all alike.
"""

import argparse
import concurrent.futures
import dataclasses
import gc
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.support import machine
from common import errors
from common.cli import positive
from models import complexity, get_variant
from models.imagenet import MEAN_RGB, STD_RGB

# No framework is imported up here: torch's compiler crashes in a process that has
# loaded TensorFlow, so each has a process of its own, which imports this file, too.

# For all processes, before they load a framework.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
# torch's threads spin while they wait for one another. Where they have the cores to
# themselves that is faster by half, where they have not, many times slower. So timm is
# measured both ways, and the better one counts.
_PASSIVE = {"OMP_WAIT_POLICY": "passive"}
_NUM_CLASSES = 1000
_LEARNING_RATE = 1e-3
_DROP_RATE = 0.2  # of dropout and of stochastic depth, the default of ours and Keras'
_MIN_BUILDS = 5
_CALLS = 3  # that are timed together

_CONDITIONS = {
    "build": "random weights; after a build that is not timed",
    "inference": "tf.function and torch.inference_mode, channels last, no XLA",
    "train_step": "forward in training mode with batch norm's moving averages, cross "
    "entropy, all gradients, plain SGD; dropout and stochastic depth "
    f"{_DROP_RATE}, each library's own",
    "all": "pixels 0..255 are normalised inside the call; logits, no softmax; "
    f"per repeat the mean of {_CALLS} calls (build: one) after one that is not timed",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A model to compare.

    Attributes:
        name: in the JSON.
        variant: whose multiply-accumulates it has: a name in our table.
        library: "ours", "keras.applications", "timm", or "timm, passive" for threads
            that do not spin.
        folded: ours with batch norm folded into the convolutions.
        measures: what it is measured in.
    """

    name: str
    variant: str
    library: str = "ours"
    folded: bool = False
    measures: tuple[str, ...] = ("build", "inference", "train_step")

    @property
    def is_ours(self) -> bool:
        """Whether it stands above the line of a ratio."""
        return self.library == "ours"


_ROWS = (
    Row(name="ours x-b0", variant="efficientnet-x-b0"),
    Row(
        name="ours x-b0, folded batch norm",
        variant="efficientnet-x-b0",
        folded=True,
        measures=("inference",),
    ),
    Row(name="ours efficientnet-b0", variant="efficientnet-b0"),
    Row(
        name="keras.applications EfficientNetB0",
        variant="efficientnet-b0",
        library="keras.applications",
    ),
    Row(name="timm efficientnet_b0", variant="efficientnet-b0", library="timm"),
    Row(
        name="timm efficientnet_b0, passive threads",
        variant="efficientnet-b0",
        library="timm, passive",
        measures=("inference", "train_step"),
    ),
)
_LARGE = Row(name="ours x-gpu-b7", variant="efficientnet-x-gpu-b7")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What all models are measured with; the command line's flags."""

    batch: int
    size: int
    repeats: int
    threads: int

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels [batch, size, size, 3] in 0..255 and labels [batch]."""
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (self.batch, self.size, self.size, 3))
        return pixels.astype("float32"), rng.integers(0, _NUM_CLASSES, self.batch)


class _Side:
    """Times the models of one framework, in a process of its own."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._calls: dict[str, Callable[[], float]] = {}

    def build(self, row: Row) -> float:
        """Return the seconds to construct a model."""
        gc.collect()  # else the end of the model before counts as this one's beginning
        start = time.perf_counter()
        self.model(row)
        return time.perf_counter() - start

    def prepare(self, measure: str, row: Row) -> None:
        """Make what `seconds` calls from now on, and call it until it is compiled."""
        self._calls[row.name] = getattr(self, measure)(self.model(row))
        for _ in range(2):
            self._call(row)

    def seconds(self, row: Row) -> float:
        """Return the mean seconds of a call."""
        self._call(row)  # the models before this one have filled the caches
        start = time.perf_counter()
        for _ in range(_CALLS):
            self._call(row)
        return (time.perf_counter() - start) / _CALLS

    def _call(self, row: Row) -> None:
        """Call it, and refuse the speed of a computation that went wrong."""
        result = self._calls[row.name]()
        if not math.isfinite(result):
            raise FloatingPointError(f"{row.name}: the result is {result}")

    def model(self, row: Row) -> Any:
        """Make a model with random weights."""
        raise NotImplementedError

    def inference(self, model: Any) -> Callable[[], float]:
        """Return a forward pass."""
        raise NotImplementedError

    def train_step(self, model: Any) -> Callable[[], float]:
        """Return a training step."""
        raise NotImplementedError


class _KerasSide(_Side):
    """Our models and keras.applications', on TensorFlow."""

    def __init__(self, settings: Settings):
        import tensorflow as tf

        super().__init__(settings)
        tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
        tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
        self.pixels, self.labels = map(tf.constant, settings.examples())

    def model(self, row: Row) -> Any:
        if not row.is_ours:
            return self._peer()
        if not row.folded:
            return self._ours(row)
        from models import stem_forms

        folded = self._ours(row, fold_batch_norm=True)
        stem_forms.copy_weights(self._ours(row), folded)
        return folded

    def _ours(self, row: Row, **arguments: Any) -> Any:
        from models import build_model

        return build_model(
            row.variant,
            num_classes=_NUM_CLASSES,
            resolution=self.settings.size,
            dropout_rate=_DROP_RATE,
            survival_prob=1 - _DROP_RATE,
            **arguments,
        )

    def _peer(self) -> Any:
        import keras

        # Its dropout and stochastic depth are 0.2 unless asked for.
        return keras.applications.EfficientNetB0(
            weights=None,
            input_shape=(self.settings.size, self.settings.size, 3),
            classes=_NUM_CLASSES,
            classifier_activation=None,
        )

    def inference(self, model: Any) -> Callable[[], float]:
        import tensorflow as tf

        @tf.function
        def forward(pixels):
            return model(pixels, training=False)

        return lambda: float(forward(self.pixels).numpy().sum())

    def train_step(self, model: Any) -> Callable[[], float]:
        import keras
        import tensorflow as tf

        variables = model.trainable_variables
        optimizer = keras.optimizers.SGD(_LEARNING_RATE)
        optimizer.build(variables)

        @tf.function
        def step(pixels, labels):
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, model(pixels, training=True)
                )
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(gradients, variables)
            return loss

        return lambda: float(step(self.pixels, self.labels).numpy())


class _TimmSide(_Side):
    """timm's models, on torch."""

    def __init__(self, settings: Settings):
        import torch  # pyright: ignore[reportMissingImports]

        super().__init__(settings)
        torch.set_num_threads(settings.threads)
        pixels, labels = map(torch.from_numpy, settings.examples())
        # A view: to torch, this is channels first in the memory format channels last.
        self.pixels, self.labels = pixels.permute(0, 3, 1, 2), labels
        # timm leaves this to its data loader; the others do it in the model.
        self.mean = torch.tensor(MEAN_RGB).reshape(3, 1, 1)
        self.std = torch.tensor(STD_RGB).reshape(3, 1, 1)

    def model(self, row: Row) -> Any:
        import timm  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]

        model: Any = timm.create_model(
            "efficientnet_b0",
            num_classes=_NUM_CLASSES,
            drop_rate=_DROP_RATE,
            drop_path_rate=_DROP_RATE,
        )
        return model.to(memory_format=torch.channels_last)

    def inference(self, model: Any) -> Callable[[], float]:
        import torch  # pyright: ignore[reportMissingImports]

        model.eval()

        @torch.inference_mode()
        def forward() -> float:
            return model(self._normalized()).sum().item()

        return forward

    def train_step(self, model: Any) -> Callable[[], float]:
        import torch  # pyright: ignore[reportMissingImports]

        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=_LEARNING_RATE)

        def step() -> float:
            optimizer.zero_grad()
            logits = model(self._normalized())
            loss = torch.nn.functional.cross_entropy(logits, self.labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def _normalized(self) -> Any:
        return (self.pixels - self.mean) / self.std


class _Process:
    """A side in a process of its own, which answers one request after another."""

    def __init__(
        self,
        side: type[_Side],
        settings: Settings,
        environment: dict[str, str] | None = None,
    ):
        self._pool = concurrent.futures.ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(side, settings, environment or {}),
        )

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the side returns."""
        return self._pool.submit(_answer, method, *arguments).result()


_side: _Side  # in a process that _Process has started


def _start(side: type[_Side], settings: Settings, environment: dict[str, str]) -> None:
    global _side
    os.environ.update(environment)  # before the side loads its framework
    _side = side(settings)


def _answer(method: str, *arguments: Any) -> Any:
    return getattr(_side, method)(*arguments)


class Comparison:
    """Runs the rows of this machine's libraries in turns."""

    def __init__(self, settings: Settings, with_timm: bool):
        self._settings = settings
        keras_side = _Process(_KerasSide, settings)
        self._process = {"ours": keras_side, "keras.applications": keras_side}
        if with_timm:
            self._process["timm"] = _Process(_TimmSide, settings)
            passive = _Process(_TimmSide, settings, _PASSIVE)
            self._process["timm, passive"] = passive

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
            _progress(f"{measure}: compiling {row.name}")
            self._process[row.library].ask("prepare", measure, row)
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

    def _rows(self, measure: str) -> list[Row]:
        """Return the rows of a measure whose libraries are here."""
        return [
            row
            for row in _ROWS
            if measure in row.measures and row.library in self._process
        ]

    def _in_turns(
        self, measure: str, method: str, rows: list[Row], repeats: int
    ) -> dict[Row, list[float]]:
        """Return the seconds of each row in each repeat."""
        seconds: dict[Row, list[float]] = {row: [] for row in rows}
        for i in range(repeats):
            for row in rows:
                seconds[row].append(self._ask(method, row))
            last = ", ".join(f"{row.name} {seconds[row][-1]:.3f}" for row in rows)
            _progress(f"{measure} {i + 1}/{repeats}: {last}")
        return seconds

    def _ask(self, method: str, row: Row) -> float:
        return self._process[row.library].ask(method, row)


def _ratios(
    seconds: dict[Row, list[float]], macs: dict[Row, int] | None = None
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


def _macs(row: Row, size: int) -> int:
    """Return the multiply-accumulates of one image, by arithmetic."""
    variant = dataclasses.replace(get_variant(row.variant), resolution=size)
    return complexity.total(variant, _NUM_CLASSES).macs


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse() -> Settings:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=positive, default=8, help="images a call")
    parser.add_argument("--size", type=positive, default=224, help="in pixels")
    parser.add_argument("--repeats", type=positive, default=10)
    parser.add_argument(
        "--threads", type=positive, default=os.cpu_count(), help="of each framework"
    )
    return Settings(**vars(parser.parse_args()))


def main() -> None:
    """The command line."""
    settings = _parse()
    os.environ.update({**_ENVIRONMENT, **os.environ})
    hardware = machine.describe()  # before this benchmark is part of the load
    with_timm = all(importlib.util.find_spec(name) for name in ("timm", "torch"))
    with errors.reported():
        comparison = Comparison(settings, with_timm)
        measured = {
            "build": comparison.build(),
            "inference": comparison.calls("inference"),
            "train_step": comparison.calls("train_step"),
        }
    packages = ("tensorflow", "keras", *(("torch", "timm") if with_timm else ()))
    print(
        json.dumps(
            {
                "benchmark": "models",
                "timm": "measured" if with_timm else "not installed: make peers",
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
        )
    )


if __name__ == "__main__":
    main()
