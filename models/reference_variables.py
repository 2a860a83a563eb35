"""The reference's variables of a variant, by arithmetic. Imports no framework."""

import collections
import dataclasses
from collections.abc import Iterable

from models import scaling
from models.scaling import BlockSpec
from models.variants import Variant


@dataclasses.dataclass(frozen=True)
class VariableSpec:
    """One variable, under its name in the authors' TF1 checkpoints.

    The name goes without the model's, which stands before it there:
    "blocks_0/se/conv2d/kernel".
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool


def variables(variant: Variant, num_classes: int = 1000) -> tuple[VariableSpec, ...]:
    """List the variables of a variant in the reference's order.

    Args:
      variant: a row of the table, or a Variant of your own.
      num_classes: number of logits.

    Returns:
      All of them, trainable or not, in the order of the forward computation.
    """
    return variables_of(
        stem_filters=scaling.stem_filters(variant),
        blocks=scaling.block_specs(variant),
        head_filters=scaling.head_filters(variant),
        num_classes=num_classes,
    )


def variables_of(
    *,
    stem_filters: int,
    blocks: Iterable[BlockSpec],
    head_filters: int,
    num_classes: int,
) -> tuple[VariableSpec, ...]:
    """List the variables of a network that is scaled already; see `variables`."""
    stem = _Scope("stem")
    stem.conv(3, 3, stem_filters)
    stem.batch_norm(stem_filters)
    found = stem.variables
    filters = stem_filters
    for i, block in enumerate(blocks):
        found += _block(f"blocks_{i}", block)
        filters = block.output_filters
    head = _Scope("head")
    head.conv(1, filters, head_filters)
    head.batch_norm(head_filters)
    head.dense(head_filters, num_classes)
    return tuple(found + head.variables)


def _block(name: str, block: BlockSpec) -> list[VariableSpec]:
    """List the variables of one block."""
    scope = _Scope(name)
    if block.space_to_depth == "conv":
        space_to_depth = _Scope(f"{name}/space2depth")
        space_to_depth.conv(2, block.input_filters, block.space_to_depth_filters)
        space_to_depth.batch_norm(block.space_to_depth_filters)
        scope.variables += space_to_depth.variables
    expanded = block.expanded_filters
    if block.has_expansion:
        kernel_size = block.kernel_size if block.fused else 1
        scope.conv(kernel_size, block.space_to_depth_filters, expanded)
        scope.batch_norm(expanded)
    if not block.fused:
        scope.depthwise(block.kernel_size, expanded)
        scope.batch_norm(expanded)
    if block.se_filters:
        squeeze_excite = _Scope(f"{name}/se")
        squeeze_excite.conv(1, expanded, block.se_filters, bias=True)
        squeeze_excite.conv(1, block.se_filters, expanded, bias=True)
        scope.variables += squeeze_excite.variables
    if block.project:
        scope.conv(1, expanded, block.output_filters)
        scope.batch_norm(block.output_filters)
    return scope.variables


class _Scope:
    """Names layers as TF1 does: conv2d, conv2d_1, ... by kind within a scope."""

    def __init__(self, name: str):
        self.variables: list[VariableSpec] = []
        self._name = name
        self._layers: collections.Counter[str] = collections.Counter()

    def conv(self, kernel_size: int, inputs: int, outputs: int, *, bias: bool = False):
        layer = self._next_layer("conv2d")
        self._add(layer, "kernel", kernel_size, kernel_size, inputs, outputs)
        if bias:
            self._add(layer, "bias", outputs)

    def depthwise(self, kernel_size: int, filters: int):
        layer = self._next_layer("depthwise_conv2d")
        self._add(layer, "depthwise_kernel", kernel_size, kernel_size, filters, 1)

    def batch_norm(self, filters: int):
        layer = self._next_layer("tpu_batch_normalization")
        for role in ("gamma", "beta"):
            self._add(layer, role, filters)
        for role in ("moving_mean", "moving_variance"):
            self._add(layer, role, filters, trainable=False)

    def dense(self, inputs: int, outputs: int):
        layer = self._next_layer("dense")
        self._add(layer, "kernel", inputs, outputs)
        self._add(layer, "bias", outputs)

    def _next_layer(self, kind: str) -> str:
        number = self._layers[kind]
        self._layers[kind] += 1
        return f"{kind}_{number}" if number else kind

    def _add(self, layer: str, role: str, *shape: int, trainable: bool = True):
        name = f"{self._name}/{layer}/{role}"
        self.variables.append(VariableSpec(name, shape, trainable))
