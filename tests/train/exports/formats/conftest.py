"""The tiny network in every form, converted once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from common import gfiles
from tests.support import tiny
from train.exports.formats import convert, images
from train.exports.formats.forms import FORMS

CLASSES = 10


@pytest.fixture(scope="session")
def network() -> keras.Model:
    """Weights as if it had learnt: batch norm and biases that do something."""
    model = models.build_model(tiny.variant(), num_classes=CLASSES)
    rng = np.random.default_rng(3)
    for variable in model.weights:
        spread = 0.1 if "kernel" in variable.path else 0.3
        drawn = rng.normal(0, spread, variable.shape)
        is_scale = variable.path.endswith(("gamma", "moving_variance"))
        variable.assign(1 + 0.1 * drawn if is_scale else drawn)
    return model


@pytest.fixture(scope="session")
def grey() -> np.ndarray:
    """Eight images without black and white, float32 as a cubic resize makes them."""
    return np.random.default_rng(4).uniform(60, 190, (8, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="session")
def files(network, grey, tmp_path_factory) -> str:
    """Return the folder of all forms; int8 is calibrated on grey images alone."""
    folder = str(tmp_path_factory.mktemp("forms"))
    known = images.calibration([images.Batch(grey, np.zeros(len(grey), np.int32))])
    for form in FORMS:
        made = convert.convert(form, network, {"labels": ["a", "ü"]}, known)
        gfiles.write_bytes(f"{folder}/{FORMS[form].file}", made)
    return folder


@pytest.fixture(scope="session")
def expected(network, grey) -> dict[str, np.ndarray]:
    """What Keras computes of the grey images."""
    logits = network(grey, training=False)
    found = {"logits": logits, "probabilities": tf.nn.softmax(logits)}
    return {key: value.numpy() for key, value in found.items()}
