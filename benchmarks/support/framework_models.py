"""Our models beside other people's, each framework's timed in a process of its own.

No framework is imported up here: torch's compiler crashes in a process that has loaded
TensorFlow.
"""

import dataclasses
import gc
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from models.imagenet import MEAN_RGB, STD_RGB

NUM_CLASSES = 1000
DROP_RATE = 0.2  # of dropout and of stochastic depth, the default of ours and Keras'
CALLS = 3  # that are timed together
_LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model to compare.

    Attributes:
      name: in the JSON.
      variant: whose multiply-accumulates it has: a name in our table.
      library: "ours", "keras.applications", "timm", or "timm, passive" for threads that
        do not spin.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What all models are measured with; the command line's flags."""

    batch: int
    size: int
    repeats: int
    threads: int

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels [batch, size, size, 3] in 0..255 and labels [batch]."""
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (self.batch, self.size, self.size, 3))
        return pixels.astype("float32"), rng.integers(0, NUM_CLASSES, self.batch)


class Side:
    """Times the models of one framework, in a process of its own."""

    def __init__(self, settings: CallSettings):
        self.settings = settings
        self._calls: dict[str, Callable[[], float]] = {}

    def build(self, row: ModelRow) -> float:
        """Return the seconds to construct a model."""
        gc.collect()  # else the end of the model before counts as this one's beginning
        start = time.perf_counter()
        self.model(row)
        return time.perf_counter() - start

    def prepare(self, measure: str, row: ModelRow) -> None:
        """Make what `seconds` calls from now on, and call it until it is compiled."""
        self._calls[row.name] = getattr(self, measure)(self.model(row))
        for _ in range(2):
            self._call(row)

    def seconds(self, row: ModelRow) -> float:
        """Return the mean seconds of a call."""
        self._call(row)  # the models before this one have filled the caches
        start = time.perf_counter()
        for _ in range(CALLS):
            self._call(row)
        return (time.perf_counter() - start) / CALLS

    def _call(self, row: ModelRow) -> None:
        """Call it, and refuse the speed of a computation that went wrong."""
        result = self._calls[row.name]()
        if not math.isfinite(result):
            raise FloatingPointError(f"{row.name}: the result is {result}")

    def model(self, row: ModelRow) -> Any:
        """Make a model with random weights."""
        raise NotImplementedError

    def inference(self, model: Any) -> Callable[[], float]:
        """Return a forward pass."""
        raise NotImplementedError

    def train_step(self, model: Any) -> Callable[[], float]:
        """Return a training step."""
        raise NotImplementedError


class _KerasSide(Side):
    """Our models and keras.applications', on TensorFlow."""

    def __init__(self, settings: CallSettings):
        import tensorflow as tf

        super().__init__(settings)
        tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
        tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
        self.pixels, self.labels = map(tf.constant, settings.examples())

    def model(self, row: ModelRow) -> Any:
        if not row.is_ours:
            return self._peer()
        if not row.folded:
            return self._ours(row)
        from models import stem_forms

        folded = self._ours(row, fold_batch_norm=True)
        stem_forms.copy_weights(self._ours(row), folded)
        return folded

    def _ours(self, row: ModelRow, **arguments: Any) -> Any:
        from models import build_model

        return build_model(
            row.variant,
            num_classes=NUM_CLASSES,
            resolution=self.settings.size,
            dropout_rate=DROP_RATE,
            survival_prob=1 - DROP_RATE,
            **arguments,
        )

    def _peer(self) -> Any:
        import keras

        # Its dropout and stochastic depth are 0.2 unless asked for.
        return keras.applications.EfficientNetB0(
            weights=None,
            input_shape=(self.settings.size, self.settings.size, 3),
            classes=NUM_CLASSES,
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


class _TimmSide(Side):
    """timm's models, on torch."""

    def __init__(self, settings: CallSettings):
        import torch  # pyright: ignore[reportMissingImports]

        super().__init__(settings)
        torch.set_num_threads(settings.threads)
        pixels, labels = map(torch.from_numpy, settings.examples())
        # A view: to torch, this is channels first in the memory format channels last.
        self.pixels, self.labels = pixels.permute(0, 3, 1, 2), labels
        # timm leaves this to its data loader; the others do it in the model.
        self.mean = torch.tensor(MEAN_RGB).reshape(3, 1, 1)
        self.std = torch.tensor(STD_RGB).reshape(3, 1, 1)

    def model(self, row: ModelRow) -> Any:
        import timm  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]

        model: Any = timm.create_model(
            "efficientnet_b0",
            num_classes=NUM_CLASSES,
            drop_rate=DROP_RATE,
            drop_path_rate=DROP_RATE,
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


def keras_side(settings: CallSettings) -> Side:
    """Return our models and keras.applications', on TensorFlow."""
    return _KerasSide(settings)


def timm_side(settings: CallSettings) -> Side:
    """Return timm's models, on torch."""
    return _TimmSide(settings)
