"""What exact rewrites save in the train step, by the TPU's compiler: a line of JSON.

python -m benchmarks.tpu_step

Compiles the trainer's own step for one device of a TPU, without one, in several forms
of the same network: with Keras' batch norm and the plain stem, with ours, and with the
stem on patches that the host has made. Cycles are the compiler's estimates; no TPU is
run. Ratios of forms of one network are what they are good for.

Keras' batch norm has two forms, whose variance is the mean of (x - mean)^2. TensorFlow
stops the gradient of that at the mean (tf.nn.moments), which makes keras_batch_norm
cheaper; on Keras' JAX backend it goes on through the mean, where it adds up to zero in
one more reading of the activations: keras_jax_batch_norm.

The exit status is 0 when every form compiles and fits, else 1.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import keras
from keras import ops

from benchmarks.support import machine
from common import errors
from common.cli import positive
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo
from models import blocks
from preflight.lowered_steps import Programs
from tpu_compiler import Compiler, CompilerReport, Topology
from train import config

_SPLIT = SplitInfo((ShardInfo("none", 1_281_167, ()),))
_IMAGENET = DatasetInfo("imagenet", 0, (), {"train": _SPLIT, "validation": _SPLIT})
_MODELS = config.ROOT / "gin_configs/models"
_PATCHES = (
    "efficientnet_x.build_model.stem_block_size = 4",
    "efficientnet_x.build_model.stem_reshuffle = 'host'",
    "efficientnet_x.build_model.input_layout = 'HWCN'",
)


class KerasBatchNormalization(keras.layers.BatchNormalization):
    """Keras' own, for one replica, where the models put theirs."""

    def __init__(self, *, groups: int = 1, reduce_mean: Any = None, **kwargs: Any):
        assert groups == 1
        assert reduce_mean is None
        super().__init__(**kwargs)


class KerasJaxBatchNormalization(KerasBatchNormalization):
    """The same with the moments of Keras' JAX backend, which differentiates all."""

    def _moments(self, inputs, mask):
        assert mask is None
        mean = ops.mean(inputs, axis=self._reduction_axes)
        squares = ops.square(inputs - mean)
        return mean, ops.mean(squares, axis=self._reduction_axes)


_KERAS_FORMS = {
    "keras_jax_batch_norm": KerasJaxBatchNormalization,
    "keras_batch_norm": KerasBatchNormalization,
}
_OUR_FORMS = {"as_written": (), "patches_hwcn": _PATCHES}
FORMS = (*_KERAS_FORMS, *_OUR_FORMS)


@contextlib.contextmanager
def _batch_norm_of(form: str) -> Iterator[None]:
    """Puts Keras' batch norm in the place of ours, with nothing joined to it."""
    if form in _OUR_FORMS:
        yield
        return
    with (
        mock.patch.object(blocks, "BatchNormalization", _KERAS_FORMS[form]),
        mock.patch.object(blocks, "has_gradient", return_value=False),
    ):
        yield


def lower(model: str, batch: int, form: str) -> bytes:
    """Returns the train step of a network in a form, for one replica."""
    recipe = (
        "experiment.Experiment.data_dir = 'none'",
        f"experiment.Experiment.global_batch_size = {batch}",
        f"experiment.Experiment.eval_batch_size = {batch}",
    )
    files = [str(_MODELS / f"{model}.gin"), "gin_configs/runs/imagenet_tpu.gin"]
    experiment = config.parse(files, [*recipe, *_OUR_FORMS.get(form, ())])
    with _batch_norm_of(form):
        return Programs(experiment, _IMAGENET, 1).train_step().stablehlo


def _compile(model: str, batch: int, topology: Topology) -> dict[str, CompilerReport]:
    """Returns the compiler's reports by form."""
    with Compiler() as compiler:
        futures = {
            form: compiler.compile(
                lower(model, batch, form), topology, timeout_seconds=3600, name=form
            )
            for form in FORMS
        }
        return {form: future.result() for form, future in futures.items()}


def _row(report: CompilerReport) -> dict[str, Any]:
    if report.memory is None:
        verdict = "compile" if report.verdict == "refused" else "fit"
        return {"failed": f"it does not {verdict}: {report.message}"}
    return {
        "cycles": report.cycles,
        "milliseconds": report.milliseconds,
        "temporaries_mb": round(report.memory.temporaries / 2**20),
    }


def _savings(reports: Mapping[str, CompilerReport]) -> dict[str, dict[str, float]]:
    """Returns which share of the cycles of Keras' forms the other forms save."""
    cycles = {form: one.cycles for form, one in reports.items() if one.cycles}
    return {
        base: {form: round(1 - cycles[form] / cycles[base], 3) for form in cycles}
        for base in _KERAS_FORMS
        if base in cycles
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="efficientnet_x_b0",
        choices=sorted(path.stem for path in _MODELS.glob("*.gin")),
        metavar="MODEL",
        help="its file in gin_configs/models",
    )
    parser.add_argument("--topology", default="v3", help="one device of it is used")
    parser.add_argument("--batch", type=positive, default=64, help="images a step")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = _parse(argv)
    hardware = machine.describe()  # before this benchmark is part of the load
    with errors.reported():
        topology = Topology.parse(options.topology)
        reports = _compile(options.model, options.batch, topology)
    report = {
        "benchmark": "tpu_step",
        "model": options.model,
        "topology": str(topology),
        "batch": options.batch,
        "forms": {form: _row(one) for form, one in reports.items()},
        "fewer_cycles_than": _savings(reports),
        "compiler": reports["as_written"].versions,
        "machine": hardware,
        "does_not_show": "a TPU: cycles are the compiler's estimates; the host's work "
        "for the patches",
    }
    print(json.dumps(report))
    return 0 if all(one.compiled for one in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
