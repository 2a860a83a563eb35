"""Ops of RandAugment on one image, one after another, in one op of TensorFlow's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

_NO_TABLE = 0


class PixelOp(NamedTuple):
    """An op with all that is not drawn.

    Attributes:
      name: of `randaugment.OP_NAMES`; "" is none at all.
      parameter: what its level comes to, see `randaugment`.
      sources: of an op that moves pixels: each output pixel's source from 1, 0 for
        grey, int32[H * W], for both signs.
    """

    name: str
    parameter: float = 0.0
    sources: Sequence[np.ndarray] = ()


def in_turn(
    module: Any,
    image: tf.Tensor,
    ops: Sequence[PixelOp],
    chosen: tf.Tensor,
    draws: tf.Tensor,
) -> tf.Tensor:
    """Apply drawn ops.

    Args:
      module: of the fused ops.
      image: uint8[H, W, 3] of static shape.
      ops: what is drawn from.
      chosen: int32[N], their numbers.
      draws: float32[N, 3] in [0, 1): of the sign, and of Cutout's centre, y and x.

    Returns:
      uint8[H, W, 3].
    """
    attributes, tables = described(ops, (image.shape.num_elements() or 0) // 3)
    augmented = module.efficientnetx_augment(image, chosen, draws, tables, **attributes)
    return tf.ensure_shape(augmented, image.shape)


def described(ops: Sequence[PixelOp], pixels: int) -> tuple[dict[str, Any], tf.Tensor]:
    """Return what the fused ops are told of ops.

    Args:
      ops: what is drawn from.
      pixels: of an image.

    Returns:
      Attributes, and tables, int32[tables, pixels].
    """
    tables: list[np.ndarray] = []
    places = []
    for op in ops:
        places.append(len(tables) if op.sources else _NO_TABLE)
        tables += [sources.reshape(-1) for sources in op.sources]
    attributes = {
        "ops": ",".join(op.name for op in ops),
        "parameters": [op.parameter for op in ops],
        "tables": places,
    }
    return attributes, tf.constant(np.array(tables, np.int32).reshape(-1, pixels))
