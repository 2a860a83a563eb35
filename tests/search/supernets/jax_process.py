"""A supernet on Keras' JAX backend: weights from a .npz, results to one.

KERAS_BACKEND=jax python -m tests.search.supernets.jax_process INPUT OUTPUT
"""

import sys

import jax
import keras
import numpy as np

from search import supernet
from tests.search.supernets.portable import CLASSES, space
from tests.support.golden import undrawn


def main(source, target):
    """Compute logits and gradients of each selection."""
    assert keras.backend.backend() == "jax"
    given = np.load(source)
    with undrawn():
        model = supernet.build_model(space(), CLASSES)
    choices = supernet.choices_of(model)
    for variable in model.trainable_variables:
        variable.assign(given[variable.path])
    learning = [v.value for v in model.trainable_variables]
    rest = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def gradients_of_loss(learning, selection):
        def loss(learning):
            with choices.selected(selection):
                logits, _ = model.stateless_call(
                    learning, rest, given["pixels"], training=True
                )
            return (logits * given["upstream"]).sum(), logits

        return jax.grad(loss, has_aux=True)(learning)

    results = {}
    for name in (key for key in given if key.startswith("selection/")):
        gradients, logits = gradients_of_loss(learning, given[name])
        results[f"{name}/logits"] = np.asarray(logits)
        for variable, one in zip(model.trainable_variables, gradients, strict=True):
            results[f"{name}/{variable.path}"] = np.asarray(one)
    assert "tensorflow" not in sys.modules
    np.savez(target, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
