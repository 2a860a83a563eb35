"""The weights of a network, out of a supernet that contains it.

The first channels, the middle of a kernel: what of each of the supernet's weights a
network uses. Moving statistics are in no supernet: `models.statistics` counts them.
"""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

from common.errors import UserError
from models import scaling
from models.scaling import BlockSpec
from search.networks.layout import Network
from search.networks.space import Space
from search.supernets.blocks import Branch
from search.supernets.counts import Slot, plan
from search.supernets.fields import Fields


@dataclasses.dataclass(frozen=True)
class Piece:
    """A weight of a network, as a part of one of the supernet's.

    Attributes:
      path: of the weight in the model that `models.build_model` makes.
      source: the supernet's weight.
      indices: of each axis of the source, which a network has, in its order; None are
        all.
    """

    path: str
    source: keras.Variable
    indices: tuple[np.ndarray | None, ...]

    @property
    def mesh(self) -> tuple[np.ndarray, ...]:
        """What the source's value is to be indexed with."""
        sides = zip(self.indices, self.source.shape, strict=True)
        return np.ix_(*(np.arange(n) if one is None else one for one, n in sides))

    def value(self) -> np.ndarray:
        """Return the network's weight."""
        return self.source.numpy()[self.mesh]


def weights_for(
    model: keras.Model, space: Space, network: Network
) -> dict[str, np.ndarray]:
    """Return a network's weights by their paths in what `models.build_model` makes.

    Args:
      model: what `search.supernet.build_model(space)` returned.
      space: of the supernet.
      network: of the space, valid.

    Returns:
      All weights but for the moving statistics, which no supernet has.

    Raises:
      UserError: the network is not valid.
    """
    return {one.path: one.value() for one in pieces(model, space, network)}


def take_over(
    model: keras.Model, space: Space, network: Network, target: keras.Model
) -> None:
    """Copy a network's weights into the network built alone.

    Its moving statistics stay as they are: see `models.statistics`.

    Args:
      model: what `search.supernet.build_model(space)` returned.
      space: of the supernet.
      network: of the space, valid.
      target: what `models.build_model(space.build(network))` returned, with as many
        classes.

    Raises:
      UserError: the network is not valid, or the target is another network.
    """
    values = weights_for(model, space, network)
    targets = {v.path: v for v in target.weights if "moving_" not in v.name}
    shapes = {path: value.shape for path, value in values.items()}
    if shapes != {path: tuple(v.shape) for path, v in targets.items()}:
        raise UserError(
            f"{target.name} is not the network {space.encode(network)} with the "
            "supernet's classes: build it by models.build_model(space.build(network))"
        )
    for path, value in values.items():
        targets[path].assign(value)


def pieces(model: keras.Model, space: Space, network: Network) -> list[Piece]:
    """Return where in a supernet the weights of a network are; see `weights_for`."""
    variant = space.build(network)
    specs = scaling.block_specs(variant)
    stages = scaling.stage_of_block(variant)
    form = [stage.space_to_depth for stage in variant.stages]
    slots = [
        (model.get_layer(slot.name(chain)), slot)
        for chain, slot in plan(Fields(space), space.name).chains(form)
        if slot.number < stages.count(slot.stage)
    ]
    found = list(_whole(model, "stem_conv", "stem_bn"))
    for i, (spec, (layer, slot)) in enumerate(zip(specs, slots, strict=True)):
        found += _of_block(f"block_{i}", layer.branches[spec.fused], slot, spec)
    outputs = np.arange(specs[-1].output_filters)
    kernel, *rest = _whole(model, "head_conv", "head_bn", "classifier")
    indices = (None, None, outputs, None)
    return [*found, dataclasses.replace(kernel, indices=indices), *rest]


def _whole(model: keras.Model, *names: str) -> Iterator[Piece]:
    """Yield the weights of layers that all networks have."""
    for name in names:
        for variable in model.get_layer(name).weights:
            yield Piece(variable.path, variable, (None,) * len(variable.shape))


# Of each weight of a block, what its axes are; a convolution's begin with its taps.
_AXES: dict[str, tuple[str, ...]] = {
    "fold/kernel": ("all", "all", "inputs", "folded"),
    "fold_bn": ("folded",),
    "expand/kernel": ("expand_taps", "expand_taps", "folded", "expanded"),
    "expand_bn": ("expanded",),
    "depthwise/kernel": ("taps", "taps", "expanded", "all"),
    "depthwise_bn": ("expanded",),
    "squeeze_excite/reduce/kernel": ("all", "all", "expanded", "squeezed"),
    "squeeze_excite/reduce/bias": ("squeezed",),
    "squeeze_excite/expand/kernel": ("all", "all", "squeezed", "expanded"),
    "squeeze_excite/expand/bias": ("expanded",),
    "project/kernel": ("all", "all", "expanded", "outputs"),
    "project_bn": ("outputs",),
}


def _of_block(
    name: str, branch: Branch, slot: Slot, spec: BlockSpec
) -> Iterator[Piece]:
    """Yield the weights of a block."""
    indices = _indices(branch, slot, spec)
    for variable in branch.weights:
        path = variable.path.partition(f"/{branch.name}/")[2]
        part = path.split("/")[0]
        if part in ("expand", "expand_bn") and not spec.has_expansion:
            continue
        if part == "squeeze_excite" and not spec.se_filters:
            continue
        axes = _AXES.get(path) or _AXES[part]
        yield Piece(f"{name}/{path}", variable, tuple(indices[one] for one in axes))


def _indices(
    branch: Branch, slot: Slot, spec: BlockSpec
) -> dict[str, np.ndarray | None]:
    """Return by the kind of an axis what of it the block has."""
    inputs = folded = np.arange(spec.input_filters)
    if spec.space_to_depth == "conv":
        folded = np.arange(spec.space_to_depth_filters)
    elif spec.space_to_depth == "reshuffle":  # copies of all channels that could be
        copies = np.arange(slot.copies)[:, None] * slot.input_filters
        folded = (copies + inputs).reshape(-1)
    taps = np.arange(slot.kernel_size.largest)[branch.taps[spec.kernel_size]]
    expands = spec.has_expansion
    return {
        "all": None,
        "inputs": inputs,
        "folded": folded,
        "taps": taps,
        "expand_taps": taps if spec.fused else None,
        "expanded": np.arange(spec.expanded_filters) if expands else folded,
        "squeezed": np.arange(spec.se_filters),
        "outputs": np.arange(spec.output_filters),
    }
