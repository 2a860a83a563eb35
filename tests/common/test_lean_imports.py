"""What TensorFlow and Keras do without, and nobody else."""

import subprocess
import sys

import pytest

from common import lean_imports
from common.project import ROOT

LOOK = """
import importlib.util, sys
from common import lean_imports
lean_imports.keep()
import tensorflow as tf
import keras
keras.wrappers, keras.visualization, tf.lite.TFLiteConverter
unwanted = {"IPython", "cv2", "h5py", "jax", "matplotlib", "scipy", "sklearn"}
print(*sorted(set(sys.modules) & unwanted))
for name in unwanted:
    if importlib.util.find_spec(name):
        importlib.import_module(name)
print(tf.constant([2.0]).numpy().tolist())
"""


@pytest.mark.long
def test_what_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "\n[2.0]\n", done.stderr


@pytest.mark.parametrize("name", lean_imports._REFUSED)
def test_who_is_refused(name):
    """By the name of the module; the package need not be installed for that."""
    module = f"{lean_imports._REFUSED[name][0]}x"
    finder = lean_imports._Finder()
    ask = "def ask(name): return finder.find_spec(name, None)"
    for importer, refused in ((module, True), ("keras.src.backend.jax", False)):
        asking = {"__name__": importer, "finder": finder}
        exec(ask, asking)
        if refused:
            with pytest.raises(ModuleNotFoundError, match=f"{name} is kept from it"):
                asking["ask"](name)
        else:
            assert asking["ask"](name) is None
        assert asking["ask"]("scipy.sparse") is None


def test_it_is_kept_once():
    lean_imports.keep()
    count = len(sys.meta_path)
    lean_imports.keep()
    assert len(sys.meta_path) == count
