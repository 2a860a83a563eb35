"""A selection, as a graph reads it: weights of values, and what tables have there.

Of one network all weights are 0 or 1, so that everything here is exact.
"""

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from search.supernets.counts import Table
from search.supernets.fields import Axis, Fields
from search.supernets.layers import NotSaved
from search.supernets.selection import Selection


class Reading:
    """What a selection says; made anew in each call of a layer.

    Args:
      fields: of the space.
      slices: see Selection.
      selection: float32[size].
    """

    def __init__(self, fields: Fields, slices: tuple[slice, ...], selection: Any):
        self._conditions = fields.conditions
        self._slices = slices
        self._selection = ops.cast(selection, "float32")
        self._counts = functools.cache(self._count)
        self.weights = functools.cache(self._weigh)

    def expect(self, table: Table) -> Any:
        """Return the entry of the selection, or the weighted mean, in float32."""
        if not table.axes:
            return np.float32(table.entries)
        joint = self._joint(table.axes)
        return ops.sum(joint * table.entries.reshape(-1).astype(np.float32))

    def expect_array(self, table: Table) -> Any:
        """Return the array of the selection of a table with one axis."""
        if not table.axes:
            return table.entries.astype(np.float32)
        (axis,) = table.axes
        weights = self.weights(axis)
        ones = (1,) * (table.entries.ndim - 1)
        weights = ops.reshape(weights, (len(axis.values), *ones))
        return ops.sum(weights * table.entries.astype(np.float32), axis=0)

    def first(self, table: Table, size: int, copies: int = 1) -> Any:
        """Return which of `size` channels a network has: the first of every copy.

        Returns:
          float32[size], or None where it always has all.
        """
        period = size // copies
        counts = table.entries.reshape(-1, 1)
        if (counts >= period).all():
            return None
        has = (np.arange(size) % period < counts).astype(np.float32)
        if not table.axes:
            return has[0]
        return ops.sum(self._joint(table.axes)[:, None] * has, axis=0)

    def _joint(self, axes: tuple[Axis, ...]) -> Any:
        """Return the weight of each combination of values, the last axis fastest."""
        joint = self.weights(axes[0])
        for axis in axes[1:]:
            joint = ops.reshape(joint[:, None] * self.weights(axis)[None, :], (-1,))
        return joint

    def _weigh(self, axis: Axis) -> Any:
        """Return float32[values]: the weights of an axis that varies."""
        assert axis.place is not None
        own = self._selection[self._slices[axis.place]]
        if axis.otherwise is None:
            return own
        counts = self._counts(axis.place)
        missing = len(axis.values) - own.shape[0]
        own = ops.pad(own, ((0, missing),)) if missing else own
        otherwise = np.zeros(len(axis.values), np.float32)
        otherwise[axis.otherwise] = 1
        return counts * own + (1 - counts) * otherwise

    def _count(self, place: int) -> Any:
        """Return the weight with which a choice counts."""
        factors = []
        for other, indices in self._conditions[place]:
            chosen = self._selection[self._slices[other]]
            among = np.zeros(chosen.shape[0], np.float32)
            among[list(indices)] = 1
            factors += [self._counts(other), ops.sum(chosen * among)]
        return math.prod(factors) if factors else np.float32(1)


class Selected(NotSaved):
    """A layer that computes what a selection says, its second input.

    Args:
      fields: of the space.
      selection: its layout.
      **kwargs: keras.Layer's.
    """

    def __init__(self, fields: Fields, selection: Selection, **kwargs: Any):
        # Autocasting would round the selection.
        super().__init__(autocast=False, **kwargs)
        self._fields = fields
        self._slices = selection.slices

    def read(self, selection: Any) -> Reading:
        """Return what a selection says."""
        return Reading(self._fields, self._slices, selection)


class SectionMix(Selected):
    """The outputs of the form of the sections that is selected.

    Args:
      fields: of the space, whose sections vary.
      selection: its layout.
      **kwargs: keras.Layer's.
    """

    def call(self, forms, selection):
        """Return the weighted mean of float[B, H, W, C], of each form in its order."""
        axis = self._fields.sections
        assert axis is not None
        weights = self.read(selection).weights(axis)
        return sum(x * ops.cast(weights[i], x.dtype) for i, x in enumerate(forms))

    def compute_output_shape(self, forms_shape, selection_shape):
        """Return the shape of one form's outputs."""
        return forms_shape[0]
