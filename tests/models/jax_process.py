"""A process on Keras' JAX backend: weights and pixels from a .npz, results to one.

KERAS_BACKEND=jax python -m tests.models.jax_process INPUT OUTPUT
"""

import functools
import sys
from typing import Any

import jax
import keras
import numpy as np

from models import build_model, weight_loading
from tests.models.nets import FORMS, QUIET, tinier
from tests.support.golden import undrawn


def inference(given, name, variant, **form):
    """Return a model with the given weights, and its logits."""
    with undrawn():
        model = build_model(variant, **QUIET, **form)
    for i, variable in enumerate(weight_loading.in_reference_order(model)):
        variable.assign(given[f"{name}/weights/{i}"])
    learning, rest = values_of(model)

    @jax.jit  # one compilation takes a second, those of its operations ten
    def logits(pixels):
        return model.stateless_call(learning, rest, pixels, training=False)[0]

    return model, logits(given[f"{name}/pixels"])


def values_of(model):
    """Return the trainable and the other variables' values."""
    learning = [v.value for v in model.trainable_variables]
    return learning, [v.value for v in model.non_trainable_variables]


def training(model, pixels, targets):
    """Return logits, gradients of sum(logits * targets), statistics afterwards."""
    learning, rest = values_of(model)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradients_of_loss(learning):
        logits, after = model.stateless_call(learning, rest, pixels, training=True)
        return (logits * targets).sum(), (logits, after)

    gradients, (logits, after) = gradients_of_loss(learning)
    return {"logits": [logits], "gradients": gradients, "after": after}


def main(source, target):
    """Compute what test_portable asks for."""
    assert keras.backend.backend() == "jax"
    given, results = np.load(source), {}
    for name, form in FORMS.items():
        if f"{name}/pixels" in given:
            model, results[name] = inference(given, name, tinier(), **form)
            if name == "plain":
                pixels = given["plain/pixels"]
                trained = training(model, pixels, given["targets"])
                for kind, values in trained.items():
                    for i, value in enumerate(values):
                        results[f"{kind}/{i}"] = value
    if "golden/pixels" in given:
        golden = inference(given, "golden", "efficientnet-x-b0", resolution=64)
        results["golden"] = golden[1]
    assert "tensorflow" not in sys.modules
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in results.items()}
    np.savez(target, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
