"""The steps of a run as StableHLO: what its devices would be given, without them."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from common.project import ROOT
from input_pipeline.dataset_info import DatasetInfo
from models.input_form import InputForm, input_form
from performance import lowered_cache, lowering
from preflight import program_keys
from preflight.compile_only import CompileOnlyStrategy
from preflight.rows import LoweredStep
from train import datasets, stages, state
from train.evaluation import Evaluator
from train.experiment import Experiment
from train.numerics.precision import refuse_on_tpus
from train.stage_rows import BASE_STAGE, Stage

_LANES = 128  # of a TPU's registers
_PIXELS = "uint8"  # of the training images


class CannotLower(Exception):  # noqa: N818 - of a program, not of this one
    """XLA has no form of an op, on any device.

    Attributes:
      op: its type, such as "EagerPyFunc"; None where TensorFlow does not say.
      reason: in a line.
      node: its name in the graph, which begins with those of model and layer.
      source: "file:line" of the call that made it, outside TensorFlow and Keras.
    """

    def __init__(self, message: str):
        """Args: message: of TensorFlow."""
        op = re.search(r"No registered '(\w+)'|with op (\w+)", message)
        node = re.search(r"\{\{node ([^}]+)\}\}|node `([^`]+)`", message)
        self.op = op and (op[1] or op[2])
        self.node = node and (node[1] or node[2])
        self.source = _own_source(message)
        self.reason = _reason(message)
        super().__init__(message)


class LoweredSteps:
    """What `train.main` would build on a slice, to lower its steps.

    Attributes:
      model: that is trained.
    """

    def __init__(self, experiment: Experiment, info: DatasetInfo, num_replicas: int):
        """Build the state; nothing else is as large.

        Raises:
          UserError, models.errors.ModelError, input_pipeline.errors.DataError: a
            setting does not fit the others, the data or the replicas.
        """
        refuse_on_tpus(experiment.precision)
        experiment.check_replicas(num_replicas)
        self._experiment, self._info = experiment, info
        self._strategy = CompileOnlyStrategy(num_replicas)
        with self._strategy.scope():
            self._state = state.create(experiment, info)
        self.model = self._state.model

    @property
    def state_bytes(self) -> int:
        """What all variables of the training take, without a TPU's padding."""
        variables = self._state.variables().values()
        return sum((v.shape.num_elements() or 0) * v.dtype.size for v in variables)

    def train_step(
        self, stage: Stage = BASE_STAGE, replica_images: int | None = None
    ) -> LoweredStep:
        """Lower the update of a stage.

        Args:
          stage: of the run.
          replica_images: on each replica; None is as the recipe has it.

        Returns:
          The `LoweredStep`.

        Raises:
          CannotLower: XLA does not have one of its ops.
        """
        experiment, strategy = self._experiment, self._strategy
        if replica_images is not None:
            size = replica_images * strategy.num_replicas_in_sync
            experiment = dataclasses.replace(experiment, global_batch_size=size)
        form = stages.stage_form(stage, self.model)
        with strategy.scope():
            trainer = stages.make_trainer(experiment, self._state, strategy, stage)
        return self._lower(trainer.replica_step, form, experiment.global_batch_size)

    def other_batch(
        self, known: LoweredStep, stage: Stage, replica_images: int
    ) -> LoweredStep:
        """Lower the update of a stage for another batch, unless that was done before.

        Args:
          known: of the recipe's own batch.
          stage: of the run.
          replica_images: on each replica.

        Raises:
          CannotLower: as `train_step`.
          CompilerError: the folder of what was lowered cannot be used.
        """
        key = program_keys.of_another_batch(known.stablehlo, replica_images)
        program = lowered_cache.load(key)
        if program is None:
            lowered = self.train_step(stage, replica_images)
            lowered_cache.store(key, lowered.stablehlo)
            return lowered
        form = stages.stage_form(stage, self.model)
        taken = _device_bytes(form, replica_images, _PIXELS)
        return dataclasses.replace(
            known, stablehlo=program, images=replica_images, image_bytes=taken
        )

    def eval_step(self) -> LoweredStep:
        """Lower the scoring of a batch; see train_step."""
        evaluator = Evaluator(
            self._experiment, self._info, self._strategy, self._state.models
        )
        size, form = self._experiment.eval_batch_size, input_form(self.model)
        pixels = datasets.eval_crop(self._experiment, form.resolution).pixels
        return self._lower(evaluator.replica_step, form, size, pixels)

    def _lower(
        self,
        replica_step: Callable[[Mapping[str, tf.Tensor]], None],
        form: InputForm,
        global_batch_size: int,
        pixels: str = _PIXELS,
    ) -> LoweredStep:
        images = global_batch_size // self._strategy.num_replicas_in_sync
        shape = list(form.image_shape)
        shape.insert(form.batch_axis, images)
        specs = tf.TensorSpec(shape, pixels), tf.TensorSpec([images], tf.int32)

        def step(image: tf.Tensor, label: tf.Tensor) -> None:
            batch = {"image": image, "label": label}
            self._strategy.run(replica_step, args=(batch,))

        try:
            text = lowering.stablehlo(step, *specs, name="step")
        except (ValueError, tf.errors.OpError) as error:
            if "tf2xla conversion failed" not in str(error):
                raise
            raise CannotLower(str(error)) from error
        taken = _device_bytes(form, images, pixels)
        variables = argument_bytes(text, behind=len(specs))
        return LoweredStep(text.encode(), images, form.resolution, taken, variables)


def _device_bytes(form: InputForm, images: int, pixels: str) -> int:
    """Return what images take of a TPU's HBM.

    The innermost axis fills whole lanes: NHWC lies there as NCHW, HWCN as it is.
    """
    height, width, channels = form.image_shape
    sides = [images, channels, height, width]
    if form.layout == "HWCN":
        sides = [height, width, channels, images]
    sides[-1] = _LANES * math.ceil(sides[-1] / _LANES)
    return math.prod(sides) * tf.as_dtype(pixels).size


def argument_bytes(text: str, *, behind: int = 0) -> int:
    """Return what a program is given, without a TPU's padding.

    Args:
      text: StableHLO; in MLIR's generic form, of dynamic shapes, it has no such list.
      behind: the arguments in front that do not count.
    """
    _, _, signature = text.partition("@main(")
    signature, _, _ = signature.partition("\n")
    arguments = re.findall(r"%arg\d+: tensor<((?:\d+x)*)[a-z]+(\d+)", signature)
    return sum(
        math.prod(int(side) for side in sides.split("x")[:-1])
        * math.ceil(int(bits) / 8)
        for sides, bits in arguments[behind:]
    )


def layers_of(node: str, model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers in whose calls a node of a graph was made, outermost first.

    Args:
      node: its name, as in "model_1/block_4_1/squeeze_excite/reduce/convolution".
      model: whose layers are looked at.
    """
    found: list[keras.layers.Layer] = []
    for part in node.split("/"):
        inside = found[-1] if found else model
        children = inside._flatten_layers(include_self=False, recursive=False)
        by_name = {layer.name: layer for layer in children}
        for name in (part, lowering.layer_name(part)):
            if name in by_name:
                found.append(by_name[name])
                break
    return found


def _reason(message: str) -> str:
    """Return what is wrong, without the lists of nodes and of Python's calls."""
    if found := re.search(r"No registered '(\w+)'", message):
        return f"XLA has no {found[1]}"
    first = message.strip().splitlines()[0].removeprefix("Failed getting HLO text: '")
    return re.sub(r"node `[^`]+` with op (\w+)", r"\1", first).rstrip(".")


def _own_source(message: str) -> str | None:
    """Return the last line that TensorFlow lists outside installed packages."""
    found = re.findall(r'File "([^"]+)", line (\d+)', message)
    own = [(file, line) for file, line in found if "site-packages/" not in file]
    if not own:
        return None
    file, line = own[-1]
    path = Path("/", file)  # TensorFlow drops the first slash
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}"
