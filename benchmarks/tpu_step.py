"""What exact rewrites save in the train step, by the TPU's compiler: a line of JSON.

python -m benchmarks.tpu_step

Compiles the trainer's own step for one core of a TPU, without one, in several forms of
the same network: with Keras' batch norm and the plain stem, with ours, and with the
stem on patches that the host has made. Cycles are the compiler's estimates; no TPU is
run. Ratios of forms of one network are what they are good for.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import keras

from benchmarks import machine
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo
from models import blocks
from tpu_compiler import Compiler, Report, Topology
from train import config, errors
from train.programs import Programs

_SPLIT = SplitInfo((ShardInfo("none", 1_281_167, ()),))
_IMAGENET = DatasetInfo("imagenet", 0, (), {"train": _SPLIT, "validation": _SPLIT})
_PATCHES = (
    "efficientnet_x.build_model.stem_block_size = 4",
    "efficientnet_x.build_model.stem_reshuffle = 'host'",
    "efficientnet_x.build_model.input_layout = 'HWCN'",
)


class _KerasBatchNormalization(keras.layers.BatchNormalization):
    """Keras' own, for one replica, where the models put theirs."""

    def __init__(self, *, groups: int = 1, reduce_mean: Any = None, **kwargs: Any):
        assert groups == 1
        assert reduce_mean is None
        super().__init__(**kwargs)


@contextlib.contextmanager
def _keras_batch_norm() -> Iterator[None]:
    with mock.patch.object(blocks, "BatchNormalization", _KerasBatchNormalization):
        yield


_FORMS = {
    "keras_batch_norm": (_keras_batch_norm, ()),
    "as_written": (contextlib.nullcontext, ()),
    "patches_hwcn": (contextlib.nullcontext, _PATCHES),
}


def lower(model: str, batch: int, form: str) -> bytes:
    """Returns the train step of a network in a form, for one replica."""
    context, settings = _FORMS[form]
    recipe = (
        "experiment.Experiment.data_dir = 'none'",
        f"experiment.Experiment.global_batch_size = {batch}",
        f"experiment.Experiment.eval_batch_size = {batch}",
    )
    files = [f"gin_configs/models/{model}.gin", "gin_configs/runs/imagenet_tpu.gin"]
    experiment = config.parse(files, [*recipe, *settings])
    with context():
        return Programs(experiment, _IMAGENET, 1).train_step().stablehlo


def _row(report: Report) -> dict[str, Any]:
    if report.memory is None:
        raise errors.UserError(f"the step does not compile: {report.message}")
    return {
        "cycles": report.cycles,
        "milliseconds": report.milliseconds,
        "temporaries_mb": round(report.memory.temporaries / 2**20),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="efficientnet_x_b0", help="its gin file")
    parser.add_argument("--topology", default="v3")
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    with errors.reported(), Compiler() as compiler:
        topology = Topology.parse(arguments.topology)
        futures = {
            form: compiler.compile(
                lower(arguments.model, arguments.batch, form),
                topology,
                timeout_seconds=3600,
                name=form,
            )
            for form in _FORMS
        }
        reports = {form: future.result() for form, future in futures.items()}
        rows = {form: _row(report) for form, report in reports.items()}
    base = rows["keras_batch_norm"]["cycles"]
    print(
        json.dumps(
            {
                "benchmark": "tpu_step",
                "model": arguments.model,
                "topology": str(topology),
                "batch": arguments.batch,
                "forms": rows,
                "fewer_cycles": {
                    form: round(1 - row["cycles"] / base, 3)
                    for form, row in rows.items()
                },
                "compiler": reports["as_written"].versions,
                **machine.describe(),
                "does_not_show": "a TPU: cycles are the compiler's estimates; the "
                "host's work for the patches",
            }
        )
    )


if __name__ == "__main__":
    main()
