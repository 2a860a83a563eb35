"""The blocks of a supernet: every alternative, weighted by the selection.

              +- fold - expand - depthwise - squeeze_excite - project -+
    inputs -+-+                                                        +-+- outputs
            | +- fold - expand (fused) ----- squeeze_excite - project -+ |
            +------------ the inputs, where a network adds them ---------+

Channels that a network has not are zeros behind every activation and every block. So
kernels need no masks for them: they give nothing, and get no gradient.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from models.blocks import run_chain
from models.initializers import derive_seed
from models.layers import SeedGeneratorMaker
from models.space_to_depth import BatchToSpace, SpaceToBatch, SpaceToDepth
from search.supernets import layers
from search.supernets.counts import Slot, Table
from search.supernets.fields import Axis, Fields
from search.supernets.layers import SupernetMaker, fit_channels, scaled
from search.supernets.reading import Reading, Selected
from search.supernets.selection import Selection


class Parts:
    """Computes on images, on their interleaved parts, or on both with weights.

    Args:
      table: how many parts a side.
    """

    def __init__(self, table: Table):
        self._table = table
        self._numbers = dict.fromkeys(table.entries.reshape(-1).tolist())
        self._domains = {
            n: (SpaceToBatch(n), BatchToSpace(n)) for n in self._numbers if n > 1
        }

    def convolve(self, function: Callable[[Any], Any], x: Any, read: Reading) -> Any:
        """Apply a function of images to all images or parts, as samples."""
        outputs = (
            scaled(self._inside(n, function, x), weight)
            for n, weight in self._weights(read)
        )
        return sum(outputs)

    def gate(self, function: Callable[[Any], Any], x: Any, read: Reading) -> Any:
        """Return the factors that a function makes of the means over the pixels."""
        _, height, width, _ = x.shape
        factors = []
        for n, weight in self._weights(read):
            own = function(layers.mean_of_parts(x, n))
            if n > 1:
                own = ops.tile(own, (1, height // n, width // n, 1))
            factors.append(scaled(own, weight))
        return sum(factors)

    def _weights(self, read: Reading) -> list[tuple[int, Any]]:
        """Return each number of parts with its weight, None for a single one."""
        if len(self._numbers) == 1:
            return [(n, None) for n in self._numbers]
        entries, axes = self._table.entries, self._table.axes
        return [(n, read.expect(Table(axes, entries == n))) for n in self._numbers]

    def _inside(self, n: int, function: Callable[[Any], Any], x: Any) -> Any:
        if n == 1:
            return function(x)
        into, back = self._domains[n]
        return back(function(into(x)))


class SqueezeExcite(keras.Layer):
    """Squeeze-and-excite of any width, or none.

    Args:
      slot: the block's sizes.
      channels: that are scaled.
      make: makes the layers.
    """

    def __init__(self, slot: Slot, channels: int, make: SupernetMaker):
        super().__init__(autocast=False, dtype=make.dtype, name="squeeze_excite")
        self._slot = slot
        seed = derive_seed(make.seed, "squeeze_excite")
        make = dataclasses.replace(make, seed=seed)
        (self.reduce,) = make.conv("reduce", slot.se_filters.largest, use_bias=True)
        (self.expand,) = make.conv("expand", channels, use_bias=True)

    def build(self, input_shape):
        """Build both convolutions, on one pixel."""
        batch, *_, channels = input_shape
        self.reduce.build((batch, 1, 1, channels))
        self.expand.build((batch, 1, 1, self._slot.se_filters.largest))

    def factors(self, mean: Any, read: Reading) -> Any:
        """Return the factors of the channels; ones for a block that has none."""
        table = self._slot.se_filters
        x = activated(self.reduce(mean), self._slot.activation, read)
        x = self.expand(scaled(x, read.first(table, table.largest)))
        x = ops.sigmoid(x)
        if table.entries.all():
            return x
        has = read.expect(Table(table.axes, table.entries > 0))
        return scaled(x, has) + ops.cast(1 - has, x.dtype)


class Branch(keras.Layer):
    """What a block computes beside the inputs; what both alternatives have in common.

    Its layers have the names of those of `models.blocks`.

    Args:
      slot: the block's sizes.
      make: makes the layers.
      **kwargs: keras.Layer's.

    Attributes:
      width: channels behind the expansion of the largest network.
      taps: of each value of kernel_size, where it lies in the largest kernel.
    """

    fused: bool

    def __init__(self, slot: Slot, make: SupernetMaker, **kwargs: Any):
        super().__init__(autocast=False, dtype=make.dtype, **kwargs)
        self._slot = slot
        self.width = slot.widest(self.fused)
        self._parts = Parts(slot.space_to_batch)
        kernels = slot.kernel_size.entries.reshape(-1).tolist()
        where = layers.taps(kernels, slot.strides, slot.folded_size, slot.padding)
        self.taps = dict(zip(kernels, where, strict=True))
        self._tap_table = layers.tap_table(slot.kernel_size, where)
        self.fold = self._fold_layers(make)
        self.convolutions = self._convolution_layers(make)
        self.squeeze_excite = None
        if slot.se_filters.largest:
            self.squeeze_excite = SqueezeExcite(slot, self.width, make)
        self.project: list[keras.Layer] = []
        if slot.project:
            self.project += make.conv("project", slot.output_filters.largest)
            self.project += make.bn("project")

    def build(self, inputs_shape):
        """Build every layer."""
        slot = self._slot
        shape = (inputs_shape[0], slot.size, slot.size, slot.input_filters)
        shape = build_chain(self.fold, shape)
        for chain in self.convolutions:
            shape = (*build_chain(chain, shape)[:3], self.width)
        if self.squeeze_excite is not None:
            self.squeeze_excite.build(shape)
        build_chain(self.project, shape)

    def run(self, x: Any, read: Reading) -> Any:
        """Return float[B, H, W, C]; channels that a network has not hold anything."""
        x, has = self._expanded(self._folded(x, read), read)
        x = scaled(activated(x, self._slot.activation, read), has)
        if self.squeeze_excite is not None:
            factors = functools.partial(self.squeeze_excite.factors, read=read)
            x = x * self._parts.gate(factors, x, read)
        return run_chain(self.project, x)

    def _convolution_layers(self, make: SupernetMaker) -> list[list[keras.Layer]]:
        """Make the convolutions before squeeze-and-excite, each with its norm."""
        raise NotImplementedError

    def _expanded(self, x: Any, read: Reading) -> tuple[Any, Any]:
        """Return the expanded channels before the activation, and which there are."""
        raise NotImplementedError

    def _fold_layers(self, make: SupernetMaker) -> list[keras.Layer]:
        """Make the space-to-depth, if there is one."""
        if self._slot.space_to_depth == "none":
            return []
        if self._slot.space_to_depth == "reshuffle":
            return [SpaceToDepth(2, name="fold")]
        conv = make.conv("fold", self._slot.entering, 2, strides=2)
        return [*conv, *make.bn("fold")]

    def _folded(self, x: Any, read: Reading) -> Any:
        """Run the space-to-depth."""
        if not self.fold:
            return x
        first, *norm = self.fold
        x = self._parts.convolve(first, x, read)
        if not norm:
            return x
        x = activated(run_chain(norm, x), self._slot.activation, read)
        return scaled(x, read.first(self._slot.folded, self._slot.entering))

    def _spatial(self, chain: list[keras.Layer], x: Any, read: Reading) -> Any:
        """Run a convolution that looks at neighbours, and its norm."""
        *padding, convolution, norm = chain
        taps = None
        if self._tap_table is not None:
            taps = read.expect_array(self._tap_table)

        def convolve(x):
            return convolution(run_chain(padding, x), taps)

        return norm(self._parts.convolve(convolve, x, read))


class MBConvBranch(Branch):
    """1x1 expansion or none, depthwise convolution, 1x1 projection."""

    fused = False

    def __init__(self, slot: Slot, make: SupernetMaker):
        self._expands = bool(slot.expanded[False].entries.any())
        self._passes = bool(slot.passing[False].entries.any())
        super().__init__(slot, make, name="mbconv")

    def _convolution_layers(self, make: SupernetMaker) -> list[list[keras.Layer]]:
        kernel_size = self._slot.kernel_size.largest
        depthwise = make.depthwise("depthwise", kernel_size, self._slot.strides)
        chains = [[*depthwise, *make.bn("depthwise")]]
        if self._expands:
            chains.insert(0, [*make.conv("expand", self.width), *make.bn("expand")])
        return chains

    def _expanded(self, x: Any, read: Reading) -> tuple[Any, Any]:
        *expand, depthwise = self.convolutions
        if not expand:
            return self._spatial(depthwise, x, read), self._passing(read)
        inputs = x
        has = read.first(self._slot.expanded[False], self.width)
        x = activated(run_chain(expand[0], x), self._slot.activation, read)
        x = scaled(x, has)
        if self._passes:
            table = self._slot.passing[False]
            passes = read.expect(Table(table.axes, table.entries > 0))
            x = x + scaled(fit_channels(inputs, self.width), passes)
            missing = self.width - self._slot.entering
            has = has + ops.pad(self._passing(read), ((0, missing),))
        return self._spatial(depthwise, x, read), has

    def _passing(self, read: Reading) -> Any:
        """Return which channels there are that enter as they are."""
        slot = self._slot
        return read.first(slot.passing[False], slot.entering, slot.copies)


class FusedBranch(Branch):
    """One dense convolution for both the expansion and the depthwise."""

    fused = True

    def __init__(self, slot: Slot, make: SupernetMaker):
        super().__init__(slot, make, name="fused")

    def _convolution_layers(self, make: SupernetMaker) -> list[list[keras.Layer]]:
        slot = self._slot
        kernel_size, strides = slot.kernel_size.largest, slot.strides
        conv = make.conv("expand", self.width, kernel_size, strides=strides)
        return [[*conv, *make.bn("expand")]]

    def _expanded(self, x: Any, read: Reading) -> tuple[Any, Any]:
        (chain,) = self.convolutions
        has = read.first(self._slot.expanded[True], self.width)
        return self._spatial(chain, x, read), has


class SupernetBlock(Selected):
    """One block of the largest network, and within it those of all others.

    Args:
      slot: the sizes.
      fields: of the space.
      selection: its layout.
      make: makes the layers; its seed is the block's.
      survival_prob: of the last block's residual branch, in (0, 1]; block i of the N
        that a network has survives with 1 - (1 - survival_prob) * i / N.
      make_seed_generator: see `models.build_model`.
      **kwargs: keras.Layer's.

    Attributes:
      branches: whether fused -> that alternative.
    """

    def __init__(
        self,
        slot: Slot,
        fields: Fields,
        selection: Selection,
        make: SupernetMaker,
        *,
        survival_prob: float,
        make_seed_generator: SeedGeneratorMaker,
        **kwargs: Any,
    ):
        super().__init__(fields, selection, dtype=make.dtype, **kwargs)
        self.slot = slot
        kinds = {False: MBConvBranch, True: FusedBranch}
        made = [kinds[fused](slot, make) for fused in slot.kinds]
        self._made = made  # Keras tracks a list
        self.branches = dict(zip(slot.kinds, made, strict=True))
        self._lost = 1 - survival_prob
        self._seeds = None
        if slot.has_skip.entries.any() and survival_prob < 1:
            seed = derive_seed(make.seed, "stochastic_depth")
            self._seeds = make_seed_generator(seed)

    def build(self, inputs_shape, selection_shape):
        """Build all alternatives."""
        for branch in self._made:
            branch.build(inputs_shape)

    def call(self, inputs, selection, training=None):
        """Return the block's outputs, or the inputs of a block that is absent.

        Args:
          inputs: float[B, H, W, C]; channels that a network has not are zero.
          selection: float32[size].
          training: whether residual branches are dropped.
        """
        read, slot = self.read(selection), self.slot
        present = read.expect(slot.present) if slot.number else np.float32(1)
        adds = present * read.expect(slot.has_skip) + (1 - present)
        x = sum(
            scaled(branch.run(inputs, read), self._share(read, fused))
            for fused, branch in self.branches.items()
        )
        has = read.first(slot.output_filters, slot.output_filters.largest)
        x = scaled(x, present if has is None else has * present)
        if training and self._seeds is not None:
            x = self._drop(x, read)
        if not (slot.has_skip.entries.any() or slot.present.axes):
            return x
        return x + scaled(fit_channels(inputs, x.shape[-1]), adds)

    def _share(self, read: Reading, fused: bool) -> Any:
        """Return the weight of an alternative; None where there is no other."""
        axis = self.slot.fused
        if len(self.branches) == 1:
            return None
        return read.expect(Table((axis,), np.array([v == fused for v in axis.values])))

    def survival_prob(self, read: Reading) -> Any:
        """Return with which probability a sample's residual branch survives."""
        repeats = [read.expect(table) for table in self.slot.repeats]
        index = sum(repeats[: self.slot.stage - 1], np.float32(self.slot.number))
        return 1 - self._lost * index / sum(repeats)

    def _drop(self, x: Any, read: Reading) -> Any:
        """Zero samples and scale up those that survive, where the inputs are added."""
        keep = self.survival_prob(read)
        shape = (ops.shape(x)[0], 1, 1, 1)
        drawn = keras.random.uniform(shape, dtype="float32", seed=self._seeds)
        factor = ops.cast(drawn < keep, "float32") / keep
        adds = read.expect(self.slot.has_skip)
        return scaled(x, adds * factor + (1 - adds))

    def compute_output_shape(self, inputs_shape, selection_shape):
        """Return the shape of the largest network's outputs."""
        size = -(-self.slot.size // self.slot.reduction)
        return (inputs_shape[0], size, size, self.slot.output_filters.largest)


def activated(x: Any, axis: Axis, read: Reading) -> Any:
    """Return the activation that is selected, or the weighted mean of all."""
    names = dict.fromkeys(axis.values)
    if len(names) == 1:
        return keras.activations.get(axis.values[0])(x)
    outputs = []
    for name in names:
        table = Table((axis,), np.array([value == name for value in axis.values]))
        outputs.append(scaled(keras.activations.get(name)(x), read.expect(table)))
    return sum(outputs)


def build_chain(chain: list[keras.Layer], shape: Any) -> Any:
    """Build layers that follow one another, and return the last one's shape."""
    for layer in chain:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return shape
