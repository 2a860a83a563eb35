"""Golden numbers, made by running the authors' public code; see data/*/README.md."""

import contextlib
import functools
import json
import lzma
import pathlib

import numpy as np

DATA = pathlib.Path(__file__).parents[1] / "data"

# Normal weights with these gains keep the activations of a whole network in range.
WEIGHT_GAIN = {"efficientnet-x-b0": 2.0, "efficientnet-x-tpu-b1": 1.95}


@functools.cache
def read_json(path):
    """Return a golden file, by its path under tests/data; .xz is unpacked."""
    content = (DATA / path).read_bytes()
    return json.loads(lzma.decompress(content) if path.endswith(".xz") else content)


@contextlib.contextmanager
def undrawn():
    """Let kernels be zeros at first: to draw what is assigned later takes longest."""
    import keras

    draw = keras.initializers.VarianceScaling.__call__
    keras.initializers.VarianceScaling.__call__ = lambda _, shape, dtype: (
        keras.ops.zeros(shape, dtype)
    )
    try:
        yield
    finally:
        keras.initializers.VarianceScaling.__call__ = draw


def weight(number, name, shape, gain):
    """Return the golden value of this variable in the order, by its role and shape."""
    random = np.random.RandomState(1000 + number)
    role = name.split("/")[-1]
    if role == "moving_variance":
        return random.uniform(0.5, 1.5, size=shape).astype(np.float32)
    values = random.normal(size=shape)
    if role == "gamma":
        values = 1 + 0.1 * values
    elif role in ("beta", "bias", "moving_mean"):
        values = 0.1 * values
    elif role == "depthwise_kernel":
        values = values * np.sqrt(gain / np.prod(shape[:2]))
    elif len(shape) == 4:
        values = values * np.sqrt(gain / np.prod(shape[:3]))
    else:
        values = values * np.sqrt(1 / shape[0])
    return values.astype(np.float32)
