"""A network of a space as one flat vector, which a graph can compute with.

Imports no framework. For each choice of the space, in its order, the vector has a
weight of every value; those of a choice sum to 1. Of one network one weight of each
choice is 1, the others are 0. Other weights are for warm-up, see `Selection.warm_up`.
"""

import numpy as np

from search.networks.choices import Choice
from search.networks.layout import Layout, Network
from search.networks.space import Space

# Fields that say how large a part is; all others say what it is.
_SIZES = (
    "output_filters",
    "output_filters_factor",
    "expand_ratio",
    "se_ratio",
    "num_repeat",
    "num_repeat_change",
)


def is_size(choice: Choice) -> bool:
    """Whether a choice's values are sizes, of which the largest contains the others.

    Sizes are the fields output_filters and output_filters_factor, expand_ratio,
    se_ratio, num_repeat and num_repeat_change. All others are operations: fused,
    kernel_size, activation, skip, space_to_batch and the network's space_to_depth.
    """
    return choice.field in _SIZES


class Selection:
    """The layout of a space's flat vectors.

    Attributes:
      size: of a vector.
      slices: where each choice of the space stands in it.
    """

    def __init__(self, space: Space):
        self._layout = Layout(space.choices)
        self._choices = space.choices
        ends = np.cumsum(self._layout.sizes).tolist()
        self.size: int = ends[-1]
        self.slices = tuple(map(slice, [0, *ends[:-1]], ends))

    def of(self, network: Network) -> np.ndarray:
        """Return a network's vector, float32[size] of zeros and ones.

        A choice that does not count has its first value, as in the network.
        """
        vector = np.zeros(self.size, np.float32)
        for where, index in zip(self.slices, network, strict=True):
            vector[where][index] = 1
        return vector

    def network(self, vector: np.ndarray) -> Network:
        """Return the network of the largest weights; the first of equal ones wins.

        Choices that do not count with these have index 0.
        """
        largest = [int(np.argmax(vector[where])) for where in self.slices]
        network: list[int] = []
        active: list[bool] = []
        for place, index in enumerate(largest):
            active.append(self._layout.counts(place, network, active))
            network.append(index if active[place] else 0)
        return tuple(network)

    def warm_up(self) -> np.ndarray:
        """Return the vector with all operations alike and the largest of the sizes."""
        vector = np.zeros(self.size, np.float32)
        for where, choice in zip(self.slices, self._choices, strict=True):
            if is_size(choice):
                vector[where][choice.values.index(max(choice.values))] = 1
            else:
                vector[where] = 1 / len(choice.values)
        return vector
