"""TensorFlow and Keras without what they import for nobody here.

Where they find these packages, they import them, for wrappers, galleries and converters
that no command uses, and every command waits for that: the longer, the more of them
are installed, as for tests and benchmarks. Each of these imports may fail, as where the
package is not installed.
"""

import importlib.abc
import inspect
import sys
from types import FrameType
from typing import Any

# Who is refused what, by the beginnings of the importing modules' names.
_REFUSED = {
    "IPython": ("keras.src.saving.file_editor",),
    "cv2": ("keras.src.visualization.",),
    "h5py": ("keras.src.legacy.saving.", "tensorflow.python.keras."),
    "jax": ("tensorflow.lite.python.util", "keras.src.callbacks.orbax_checkpoint"),
    "matplotlib": ("keras.src.visualization.",),
    "scipy": ("tensorflow.python.keras.engine.",),
    "sklearn": ("keras.src.wrappers.",),
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing, but refuses some packages to some modules."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse a package, as if it was not installed."""
        refused = _REFUSED.get(fullname)
        if refused and _importer(inspect.currentframe()).startswith(refused):
            raise ModuleNotFoundError(f"{fullname} is kept from it", name=fullname)


def _importer(frame: FrameType | None) -> str:
    """Return the name of the module that has begun an import; "" for nobody."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != __name__ and not name.startswith("importlib"):  # Python's own ways
            return name
        frame = frame.f_back
    return ""


def keep() -> None:
    """Keep these packages from what TensorFlow and Keras import from now on.

    All others import them as ever, and whoever uses Keras' wrappers for scikit-learn or
    its galleries in a program of their own does not call this.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
