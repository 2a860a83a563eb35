"""Parameters, multiply-accumulates and activations of a variant, by arithmetic.

Imports no framework, so that search can ask about hundreds of variants in a second.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from models import scaling
from models.errors import require
from models.scaling import BlockSpec
from models.variants import Variant

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_COLORS, _STEM_KERNEL = 3, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a part of a network costs for one image. Costs add up with +.

    Attributes:
      trainable_params: kernels, biases, and batch norm's gamma and beta.
      non_trainable_params: batch norm's moving mean and variance.
      conv_macs: multiply-accumulates of the convolutions but for the depthwise
        ones. Padding counts as pixels do, as in TensorFlow's profiler (whose
        float operations are about twice the MACs), and squeeze-and-excite as the
        two 1x1 convolutions that it is.
      depthwise_macs: the same of the depthwise convolutions.
      dense_macs: of the classifier.
      activation_elements: numbers that the convolutions, depthwise convolutions and
        dense layers write, squeeze-and-excite's included: the "activations" of
        "Designing Network Design Spaces" (RegNet, CVPR 2020). What batch norm,
        activation functions, pooling and moved pixels write does not count: a
        compiler fuses it, or most of it.
    """

    trainable_params: int = 0
    non_trainable_params: int = 0
    conv_macs: int = 0
    depthwise_macs: int = 0
    dense_macs: int = 0
    activation_elements: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        mine, others = vars(self), vars(other)
        return Cost(**{field: mine[field] + others[field] for field in mine})

    @property
    def macs(self) -> int:
        """Multiply-accumulates of every kind."""
        return self.conv_macs + self.depthwise_macs + self.dense_macs

    def activation_bytes(self, dtype: str = "bfloat16") -> int:
        """Return the bytes of the activations in "bfloat16", "float16" or "float32"."""
        known = ", ".join(BYTES)
        require(dtype in BYTES, f"dtype must be one of {known}, not {dtype!r}")
        return self.activation_elements * BYTES[dtype]


def total(variant: Variant, num_classes: int = 1000) -> Cost:
    """Return the cost of a whole variant; see layer_costs."""
    return sum((cost for _, cost in layer_costs(variant, num_classes)), start=Cost())


def layer_costs(
    variant: Variant, num_classes: int = 1000
) -> tuple[tuple[str, Cost], ...]:
    """Return what each part of a variant costs, from the input to the logits.

    Args:
      variant: a row of the table, or a variant of your own.
      num_classes: number of logits.

    Returns:
      Names and costs of "stem", "block_0", "block_1", ..., "head" and "classifier".

    Raises:
      ModelError: for a variant that cannot be built, or a value out of range.
    """
    require(num_classes >= 1, f"num_classes must be 1 or more, not {num_classes}")
    return _layer_costs(
        variant.resolution,
        scaling.block_specs(variant),
        stem_filters=scaling.stem_filters(variant),
        head_filters=scaling.head_filters(variant),
        num_classes=num_classes,
    )


def of_model(model: Any, resolution: int) -> Cost:
    """Return the cost of a model that `build_model` returned.

    Args:
      model: a Keras model, whatever form it was built in.
      resolution: height and width of the images in pixels.
    """
    filters = {
        name: model.get_layer(name).weights[0].shape[-1]
        for name in ("stem_conv", "head_conv")
    }
    blocks = [layer.spec for layer in model.layers if hasattr(layer, "spec")]
    costs = _layer_costs(
        resolution,
        blocks,
        stem_filters=filters["stem_conv"],
        head_filters=filters["head_conv"],
        num_classes=model.output_shape[-1],
    )
    return sum((cost for _, cost in costs), start=Cost())


def _layer_costs(
    resolution: int,
    blocks: Sequence[BlockSpec],
    *,
    stem_filters: int,
    head_filters: int,
    num_classes: int,
) -> tuple[tuple[str, Cost], ...]:
    sizes = scaling.sizes_behind(resolution, blocks)
    outputs = blocks[-1].output_filters
    return (
        ("stem", _conv_bn(sizes[0], _STEM_KERNEL, _COLORS, stem_filters)),
        *(
            (f"block_{i}", block_cost(block, sizes[i]))
            for i, block in enumerate(blocks)
        ),
        ("head", _conv_bn(sizes[-1], 1, outputs, head_filters)),
        ("classifier", _dense(head_filters, num_classes)),
    )


def block_cost(block: BlockSpec, size: int) -> Cost:
    """Return the cost of one block.

    Args:
      block: its real sizes.
      size: height and width of the tensor that enters, in pixels.

    Raises:
      ModelError: if the block's space-to-batch does not divide the size.
    """
    parts = block.space_to_batch
    require(
        size % parts == 0,
        f"space_to_batch {parts} does not divide the {size}x{size} input",
    )
    part = _part_cost(block, size // parts)
    # The parts of an image are samples: more work, the same weights.
    return dataclasses.replace(
        part,
        conv_macs=part.conv_macs * parts**2,
        depthwise_macs=part.depthwise_macs * parts**2,
        activation_elements=part.activation_elements * parts**2,
    )


def _part_cost(block: BlockSpec, size: int) -> Cost:
    """Return the cost of a block for one sample of this size."""
    cost = Cost()
    entering, expanded = block.space_to_depth_filters, block.expanded_filters
    if block.space_to_depth != "none":
        size = _shrunk(size, 2)
    if block.space_to_depth == "conv":
        cost += _conv_bn(size, 2, block.input_filters, entering)
    small = _shrunk(size, block.strides)
    if block.fused:
        cost += _conv_bn(small, block.kernel_size, entering, expanded)
    else:
        if block.has_expansion:
            cost += _conv_bn(size, 1, entering, expanded)
        cost += _depthwise_bn(small, block.kernel_size, expanded)
    if block.se_filters:
        cost += _conv(1, 1, expanded, block.se_filters, bias=True)
        cost += _conv(1, 1, block.se_filters, expanded, bias=True)
    if not block.project:
        return cost
    return cost + _conv_bn(small, 1, expanded, block.output_filters)


def _shrunk(size: int, strides: int) -> int:
    """Return the size behind a stride; an odd pixel makes one of its own."""
    return -(-size // strides)


def _conv_bn(size: int, kernel_size: int, inputs: int, outputs: int) -> Cost:
    """Return the cost of a convolution, by the size it writes, and its batch norm."""
    return _conv(size, kernel_size, inputs, outputs) + _batch_norm(outputs)


def _conv(
    size: int, kernel_size: int, inputs: int, outputs: int, bias: bool = False
) -> Cost:
    weights = kernel_size**2 * inputs * outputs
    return Cost(
        trainable_params=weights + (outputs if bias else 0),
        conv_macs=size**2 * weights,
        activation_elements=size**2 * outputs,
    )


def _depthwise_bn(size: int, kernel_size: int, filters: int) -> Cost:
    weights = kernel_size**2 * filters
    cost = Cost(
        trainable_params=weights,
        depthwise_macs=size**2 * weights,
        activation_elements=size**2 * filters,
    )
    return cost + _batch_norm(filters)


def _batch_norm(filters: int) -> Cost:
    return Cost(trainable_params=2 * filters, non_trainable_params=2 * filters)


def _dense(inputs: int, outputs: int) -> Cost:
    return Cost(
        trainable_params=inputs * outputs + outputs,
        dense_macs=inputs * outputs,
        activation_elements=outputs,
    )
