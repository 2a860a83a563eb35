"""The steps of a run as StableHLO: what its devices would be given, without them."""

import dataclasses
import re
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from input_pipeline.records import DatasetInfo
from models.rewrites import InputForm, input_form
from train import progressive, state
from train.evaluation import Evaluator
from train.experiment import Experiment
from train.progressive import OWN
from train.stages import Stage
from train.step import Trainer
from train.virtual_slice import VirtualSlice


class CannotLower(Exception):  # noqa: N818 - of a program, not of this one
    """XLA has no form of an op, on any device.

    Attributes:
      op: its type, such as "EagerPyFunc"; None where TensorFlow does not say.
      node: its name in the graph, which begins with those of model and layer.
      source: "file:line" of the call that made it, outside TensorFlow and Keras.
    """

    def __init__(self, message: str):
        """Args: message: of TensorFlow."""
        op = re.search(r"No registered '(\w+)'", message)
        node = re.search(r"\{\{node ([^}]+)\}\}", message)
        self.op = op[1] if op else None
        self.node = node[1] if node else None
        self.source = _own_source(message)
        super().__init__(message)


@dataclasses.dataclass(frozen=True)
class Program:
    """A step for one replica of many.

    Attributes:
      stablehlo: of TensorFlow's bridge for the CPU, serialized.
      images: of a replica, a step.
      resolution: of these, in pixels.
    """

    stablehlo: bytes
    images: int
    resolution: int


class Programs:
    """Builds what `train.main` would build on a slice, and lowers its steps.

    Attributes:
      model: that is trained.
    """

    def __init__(self, experiment: Experiment, info: DatasetInfo, num_replicas: int):
        """Builds the state; nothing else is as large.

        Raises:
          UserError, models.variants.ModelError, input_pipeline.errors.DataError: a
            setting does not fit the others, the data or the replicas.
        """
        experiment.check_replicas(num_replicas)
        self._experiment = experiment
        self._strategy = VirtualSlice(num_replicas)
        with self._strategy.scope():
            self._state = state.create(experiment, info)
        self.model = self._state.model

    def train_step(self, stage: Stage = OWN, replica_images: int | None = None):
        """Lowers the update of a stage.

        Args:
          stage: of the run.
          replica_images: on each replica; None is as the recipe has it.

        Returns:
          The `Program`.

        Raises:
          CannotLower: XLA does not have one of its ops.
        """
        experiment, strategy = self._experiment, self._strategy
        if replica_images is not None:
            size = replica_images * strategy.num_replicas_in_sync
            experiment = dataclasses.replace(experiment, global_batch_size=size)
        form = progressive.stage_form(stage, self.model)
        with strategy.scope():
            model = progressive.stage_model(stage, self.model)
            mixing = progressive.make_mixing(experiment, stage, form, model)
            trainer = Trainer(experiment, self._state, strategy, None, model, mixing)
        return self._lower(trainer.replica_step, form, experiment.global_batch_size)

    def eval_step(self) -> Program:
        """Lowers the scoring of a batch; see train_step."""
        with self._strategy.scope():
            evaluator = Evaluator(self._state.models, self._strategy, None)
        size = self._experiment.eval_batch_size
        return self._lower(evaluator.replica_step, input_form(self.model), size)

    def _lower(
        self,
        replica_step: Callable[[Mapping[str, tf.Tensor]], None],
        form: InputForm,
        global_batch_size: int,
    ) -> Program:
        images = global_batch_size // self._strategy.num_replicas_in_sync
        shape = list(form.image_shape)
        shape.insert(form.batch_axis, images)
        specs = tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([images], tf.int32)

        def step(image: tf.Tensor, label: tf.Tensor) -> None:
            batch = {"image": image, "label": label}
            self._strategy.run(replica_step, args=(batch,))

        program = tf.function(step, jit_compile=True, autograph=False)
        try:
            lower = program.experimental_get_compiler_ir(*specs)
            stablehlo = lower(stage="stablehlo_serialized")
        except (ValueError, tf.errors.OpError) as error:
            if "tf2xla conversion failed" not in str(error):
                raise
            raise CannotLower(str(error)) from error
        return Program(stablehlo, images, form.resolution)


def layer_of(node: str, model: keras.Model) -> keras.layers.Layer | None:
    """Returns the innermost layer in whose call a node of a graph was made.

    Args:
      node: its name, as in "model_1/block_4/se/reduce/convolution".
      model: whose layers are looked at.
    """
    layers = {layer.name: layer for layer in model._flatten_layers()}
    for part in reversed(node.split("/")):
        # A scope that is entered again is numbered on.
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in layers:
                return layers[name]
    return None


def _own_source(message: str) -> str | None:
    """Returns the last line that TensorFlow lists outside installed packages."""
    found = re.findall(r'File "([^"]+)", line (\d+)', message)
    own = [(file, line) for file, line in found if "site-packages/" not in file]
    return ":".join(own[-1]) if own else None
