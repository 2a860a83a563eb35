"""What the tests of a process have left in its memory, freed when it is much.

TensorFlow's graphs and Keras' models are circles, which only a search finds, and the
search is slow: it is made when memory has grown, not when objects have.
"""

import ctypes
import gc
import resource

from tensorflow.python.framework import ops

MUCH = 2**29  # bytes


class Garbage:
    """Of one process, from when its modules have been imported."""

    def __init__(self):
        gc.freeze()  # what was imported stays, and need not be searched
        # Behind the last search, and behind the last that has let go of the graphs,
        # too: one in the middle of a file must not put that off.
        self.after_search = self.after_graphs = resident_bytes()

    def free_if_much(self, *, graphs_are_done: bool) -> None:
        """Free what nobody refers to, if memory has grown by `MUCH`.

        Args:
          graphs_are_done: no graph made so far will be differentiated any more.
        """
        before = self.after_graphs if graphs_are_done else self.after_search
        if resident_bytes() < before + MUCH:
            return
        if graphs_are_done:
            forget_custom_gradients()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.after_search = resident_bytes()
        if graphs_are_done:
            self.after_graphs = self.after_search


def resident_bytes() -> int:
    """Return how much of the machine's memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def forget_custom_gradients() -> None:
    """Let go of the graphs that TensorFlow keeps for ever.

    Each trace of a function of its own gradient, as swish is, registers that gradient
    under a new name, and the gradient holds the graph, its weights included.
    """
    registry = ops.gradient_registry._registry  # type: ignore[attr-defined]
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
