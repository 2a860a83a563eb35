"""The least time that a step could take on a device, by its arithmetic and memory."""

from collections.abc import Sequence

import keras

from common.accelerators import Tpu
from models import complexity
from models.parts import built_by_us
from preflight.rows import LoweredStep
from tpu_compiler.costs import Costs


def floors_ms(
    lowered: LoweredStep,
    costs: Costs,
    model: keras.Model,
    generation: Tpu,
    *,
    trains: bool,
    frozen: Sequence[str] = (),
) -> dict[str, float]:
    """Return milliseconds by "memory" and, of our own networks, by "compute".

    Args:
      lowered: the step.
      costs: of it, by the compiler.
      model: of the step.
      generation: of the TPU.
      trains: whether it is a train step, and not the evaluation's.
      frozen: parts that stand still in this step's stage.
    """
    floors = {"memory": 1e3 * (costs.hbm_bytes / generation.hbm_bytes_per_second)}
    if built_by_us(model):
        macs = complexity.of_model(model, lowered.resolution).macs
        passes = forward_equivalents(model, trains=trains, frozen=frozen)
        flops = 2 * passes * macs * lowered.images
        floors["compute"] = 1e3 * flops / generation.peak_flops["bfloat16"]
    return floors


def forward_equivalents(
    model: keras.Model, *, trains: bool, frozen: Sequence[str] = ()
) -> int:
    """Return how often a step does the arithmetic of a forward pass, at least."""
    if not trains:
        return 2  # it scores raw and averaged weights
    # A backward pass is two products for each of the forward pass; of parts that are
    # frozen it may have none.
    still = bool(frozen) or any(
        not layer.trainable and layer.weights
        for layer in model._flatten_layers(include_self=False)
    )
    return 1 if still else 3
