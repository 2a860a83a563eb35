"""Times our models on Keras' JAX backend, in a process of its own."""

import jax
import keras

from models import build_model
from performance.device_timing import NUM_CLASSES, Device, TimedCase


def device() -> Device:
    """Return the device that JAX finds."""
    return Device(jax.default_backend(), jax.devices()[0].device_kind)


def seconds(case: TimedCase) -> list[float]:
    """Return the seconds of each call, compiled by XLA."""
    assert keras.backend.backend() == "jax"
    pixels = jax.device_put(case.pixels())  # too many fail before the model is built
    model = build_model(case.variant, num_classes=NUM_CLASSES, dtype=case.dtype)
    weights = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    @jax.jit
    def forward(weights, pixels):
        return model.stateless_call(*weights, pixels, training=False)[0].sum()

    return case.seconds(lambda: float(forward(weights, pixels)))  # waits for the device
