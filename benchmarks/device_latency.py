"""Latency of inference on the device that JAX finds: one line of JSON.

python -m benchmarks.device_latency --variants=efficientnet-b0,efficientnet-x-b0
    --batches=1,16,128 --dtype=bfloat16

Measures our models on Keras' JAX backend, compiled by XLA, and beside them timm's in
torch on the same device, where timm has the network and `make peers` has installed it.
A GPU needs JAX's CUDA build: `pip install 'jax[cuda12]==0.10.2'`. On a CPU it runs,
too, and says so; --size and --repeats make that short.
"""

import argparse
import concurrent.futures
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import machine
from models import complexity
from models.variants import VARIANTS, get_variant
from train import errors

# No framework is imported up here: each has a process of its own, which imports this
# file, too, and ends before the other one needs the device's memory.

_JAX = "jax==0.10.2, for a GPU 'jax[cuda12]==0.10.2'"
_NUM_CLASSES = 1000
_WARM_UP = 5  # calls, the one that compiles among them
_ENVIRONMENT = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_OURS = "ours, jax"
_ON_CPU = "a CPU: these are no figures of an accelerator"

_CONDITIONS = {
    "all": "random weights in the dtype; batch norm not folded; float32 pixels 0..255 "
    "on the device already, normalised inside the call; a call is timed from its start "
    "until the sum of the logits is on the host",
    _OURS: "jax.jit, weights as arguments",
    "torch": "inference_mode, channels last; eager, and compiled by torch.compile in "
    'the mode "reduce-overhead", which uses CUDA graphs',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The command line's flags.

    Attributes:
        variants: names in our table.
        batches: images a call.
        dtype: of weights and arithmetic.
        size: in pixels, or None for each variant's own.
        repeats: timed calls.
        torch: forms of timm's models, "eager" and "compiled".
    """

    variants: tuple[str, ...]
    batches: tuple[int, ...]
    dtype: str
    size: int | None
    repeats: int
    torch: tuple[str, ...]

    def pixels(self, variant: str, batch: int) -> np.ndarray:
        """Return images [batch, size, size, 3] in 0..255."""
        size = self.size_of(variant)
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (batch, size, size, 3)).astype("float32")

    def size_of(self, variant: str) -> int:
        """Return height and width of a variant's images."""
        return self.size or get_variant(variant).resolution

    def seconds(self, name: str, call: Callable[[], float]) -> list[float]:
        """Time a call, which returns the sum of the logits."""
        result = call()
        for _ in range(_WARM_UP - 1):
            call()
        if not math.isfinite(result):  # the speed of a computation that went wrong
            raise FloatingPointError(f"{name}: the sum of the logits is {result}")
        seconds = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        middle = statistics.median(seconds) * 1e3
        print(f"{name}: {middle:.2f} ms", file=sys.stderr, flush=True)
        return seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """A model's calls: its library, its name there, and seconds of every call."""

    variant: str
    library: str
    batch: int
    seconds: list[float]

    @property
    def median(self) -> float:
        """Seconds of the median call."""
        return statistics.median(self.seconds)

    def describe(self, size: int) -> dict[str, Any]:
        """Return the figures, for images of a size."""
        spread = {
            "min": min(self.seconds),
            "median": self.median,
            "max": max(self.seconds),
        }
        variant = dataclasses.replace(get_variant(self.variant), resolution=size)
        flops = 2 * complexity.total(variant, _NUM_CLASSES).macs * self.batch
        return {
            "variant": self.variant,
            "library": self.library,
            "pixels": size,
            "batch": self.batch,
            "milliseconds": {
                name: _rounded(seconds * 1e3) for name, seconds in spread.items()
            },
            "images_per_second": _rounded(self.batch / self.median),
            "tflops_per_second": _rounded(flops / self.median / 1e12),
        }


@dataclasses.dataclass(frozen=True)
class Found:
    """What a process has measured, and the device that it was on."""

    platform: str  # "cpu", "gpu" or "tpu"
    device: str
    timings: list[Timing]


def _measure_ours(settings: Settings) -> Found:
    """Time our models; in a process of its own."""
    os.environ.update(_ENVIRONMENT)
    import jax  # pyright: ignore[reportMissingImports]

    platform = jax.default_backend()
    timings = [
        _time_ours(settings, variant, batch)
        for variant in settings.variants
        for batch in settings.batches
    ]
    device = "cpu" if platform == "cpu" else jax.devices()[0].device_kind
    return Found(platform, device, timings)


def _time_ours(settings: Settings, variant: str, batch: int) -> Timing:
    import jax  # pyright: ignore[reportMissingImports]

    from models import build_model

    model = build_model(
        variant,
        num_classes=_NUM_CLASSES,
        resolution=settings.size_of(variant),
        dtype=settings.dtype,
    )
    weights = [
        [v.value for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    pixels = jax.device_put(settings.pixels(variant, batch))

    @jax.jit
    def forward(weights, pixels):
        return model.stateless_call(*weights, pixels, training=False)[0].sum()

    seconds = settings.seconds(
        f"{variant}, {_OURS}, batch {batch}",
        lambda: float(forward(weights, pixels)),  # waits for the device
    )
    return Timing(variant=variant, library=_OURS, batch=batch, seconds=seconds)


def peer(variant: str) -> str | None:
    """Return timm's name of the same network, or None if timm has none.

    timm's efficientnet_x_b3 and _b5 are our rows that end in -timm: they differ from
    the paper's.
    """
    plain = re.fullmatch(r"efficientnet-b\d", variant)
    if variant in VARIANTS and (plain or variant.endswith("-timm")):
        return variant.removesuffix("-timm").replace("-", "_")
    return None


def _measure_timm(settings: Settings, platform: str) -> Found | str:
    """Time timm's models, or say why not; in a process of its own."""
    import torch  # pyright: ignore[reportMissingImports]

    if platform == "gpu" and not torch.cuda.is_available():
        return "not measured: this torch sees no GPU"
    device = "cuda" if platform == "gpu" else "cpu"
    timings = [
        _time_timm(settings, variant, batch, form, device)
        for variant in filter(peer, settings.variants)
        for batch in settings.batches
        for form in settings.torch
    ]
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return Found(platform, name, timings)


def _time_timm(
    settings: Settings, variant: str, batch: int, form: str, device: str
) -> Timing:
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    name = peer(variant)
    dtype = getattr(torch, settings.dtype)
    model: Any = timm.create_model(name, num_classes=_NUM_CLASSES).eval()
    model = model.to(device, dtype, memory_format=torch.channels_last)
    if form == "compiled":
        torch.compiler.reset()  # it gives up compiling after some models
        model = torch.compile(model, mode="reduce-overhead", dynamic=False)
    # A view: to torch, this is channels first in the memory format channels last.
    pixels = torch.from_numpy(settings.pixels(variant, batch)).permute(0, 3, 1, 2)
    pixels = pixels.to(device)
    mean = torch.tensor((123.675, 116.28, 103.53), device=device).reshape(3, 1, 1)
    std = torch.tensor((58.395, 57.12, 57.375), device=device).reshape(3, 1, 1)

    @torch.inference_mode()
    def forward() -> float:
        return model(((pixels - mean) / std).to(dtype)).float().sum().item()

    library = f"timm {name}, {form}"
    seconds = settings.seconds(f"{library}, batch {batch}", forward)
    return Timing(variant=variant, library=library, batch=batch, seconds=seconds)


def _in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process that ends with it."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _peers(settings: Settings, platform: str) -> Found | str:
    """Return timm's figures, or why there are none."""
    if not all(importlib.util.find_spec(name) for name in ("timm", "torch")):
        return "not installed: make peers"
    if platform == "tpu":
        return "not measured: its torch has no TPU"
    if not any(map(peer, settings.variants)):
        return "not measured: it has none of these networks"
    return _in_process(_measure_timm, settings, platform)


def ratios(timings: list[Timing]) -> dict[str, float]:
    """Return the median times of ours over each other and over timm's, by batch."""
    found = {}
    ours = [one for one in timings if one.library == _OURS]
    for i, one in enumerate(ours):
        for other in [*ours[i + 1 :], *timings[len(ours) :]]:
            same = other.library == _OURS or other.variant == one.variant
            if same and other.batch == one.batch:
                theirs = other.variant if other.library == _OURS else other.library
                name = f"{one.variant} / {theirs}, batch {one.batch}"
                found[name] = _rounded(one.median / other.median)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _parse(argv: list[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def positive(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
        return int(text)

    def several(each: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
        return lambda text: tuple(dict.fromkeys(map(each, text.split(","))))

    def form(text: str) -> str:
        if text not in ("eager", "compiled"):
            raise argparse.ArgumentTypeError(f"{text} is not eager or compiled")
        return text

    parser.add_argument(
        "--variants",
        type=several(str.strip),
        default=("efficientnet-b0", "efficientnet-x-b0"),
        help="names in our table, separated by commas",
    )
    parser.add_argument(
        "--batches",
        type=several(positive),
        default=(1, 16, 128),
        help="images a call, separated by commas",
    )
    parser.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16"
    )
    parser.add_argument(
        "--size", type=positive, help="in pixels; default: each variant's own"
    )
    parser.add_argument("--repeats", type=positive, default=30, help="timed calls")
    parser.add_argument(
        "--torch",
        type=several(form),
        default=("eager", "compiled"),
        help="forms of timm's models: eager, compiled or both",
    )
    return Settings(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    settings = _parse(argv)
    hardware = machine.describe()  # before this benchmark is part of the load
    with errors.reported():
        if importlib.util.find_spec("jax") is None:
            raise errors.UserError(f"JAX is not installed: pip install {_JAX}")
        for variant in settings.variants:
            get_variant(variant)  # to refuse it before anything is measured
        ours: Found = _in_process(_measure_ours, settings)
        peers = _peers(settings, ours.platform)
    measured = isinstance(peers, Found)
    timings = [*ours.timings, *(peers.timings if measured else ())]
    packages = ("jax", "keras", *(("torch", "timm") if measured else ()))
    print(
        json.dumps(
            {
                "benchmark": "device_latency",
                "device": ours.device,
                **({"note": _ON_CPU} if ours.platform == "cpu" else {}),
                "timm": f"measured on {peers.device}" if measured else peers,
                "latency": [
                    one.describe(settings.size_of(one.variant)) for one in timings
                ],
                "ratios_are": "median times, of the first over the second",
                "ratios": ratios(timings),
                "settings": dataclasses.asdict(settings),
                "conditions": _CONDITIONS,
                "environment": _ENVIRONMENT,
                "machine": hardware,
                "versions": {p: importlib.metadata.version(p) for p in packages},
                "does_not_show": "accuracy; training; the way of the pixels to the "
                "device; several devices; other compilers, such as TensorRT",
            }
        )
    )


if __name__ == "__main__":
    main()
