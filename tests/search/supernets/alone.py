"""A supernet fixed to a network, and that network built alone with its weights."""

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from search import supernet
from search.supernets import taking_over
from search.supernets.selection import Selection
from tests.models.nets import QUIET
from tests.models.rounding import assert_near, terms
from tests.support.golden import undrawn

CLASSES = 5


class Pair:
    """A supernet with trained-looking weights, and networks of it alone."""

    def __init__(self, space, **settings: Any):
        self.space = space
        self.selection = Selection(space)
        with undrawn():
            self.model = supernet.build_model(space, CLASSES, **settings)
        self.choices = supernet.choices_of(self.model)
        rng = np.random.default_rng(4)
        for variable in self.model.trainable_variables:
            draws = rng.normal(size=variable.shape)
            if len(variable.shape) > 1:
                fan_in = np.prod(variable.shape[:-1])
                depthwise = "depthwise" in variable.path
                draws *= np.sqrt(
                    2 / (np.prod(variable.shape[:2]) if depthwise else fan_in)
                )
            else:
                draws = np.abs(1 + 0.2 * draws)
            variable.assign(draws)
        size = space.base.resolution
        self.pixels = rng.uniform(0, 255, (4, size, size, 3)).astype(np.float32)
        self.upstream = rng.normal(size=(4, CLASSES)).astype(np.float32)

    @functools.cached_property
    def _step(self):
        return tf.function(
            lambda selection: self._gradients(self.model, selection), autograph=False
        )

    def supernet(self, network):
        """Logits and gradients, by path, of the supernet fixed to a network."""
        return self.compute(self.selection.of(network))

    def compute(self, vector):
        """Logits and gradients, by path, with a selection."""
        logits, gradients = self._step(tf.constant(vector))
        return logits.numpy(), {k: np.asarray(g).copy() for k, g in gradients.items()}

    def alone(self, network):
        """The network built alone, and its logits and gradients."""
        with undrawn():
            model = models.build_model(
                self.space.build(network), num_classes=CLASSES, **QUIET
            )
        taking_over.take_over(self.model, self.space, network, model)
        logits, gradients = self._gradients(model)
        return (
            model,
            logits.numpy(),
            {k: np.asarray(g).copy() for k, g in gradients.items()},
        )

    def _gradients(self, model, selection=None):
        with tf.GradientTape() as tape:
            if selection is None:
                logits = model(self.pixels, training=True)
            else:
                with self.choices.selected(selection):
                    logits = model(self.pixels, training=True)
            loss = tf.reduce_sum(logits * self.upstream)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        return logits, {v.path: g for v, g in zip(variables, gradients, strict=True)}

    def assert_equal(self, network):
        """Demand equal logits and gradients, and none of what the network has not."""
        logits, gradients = self.supernet(network)
        model, expected, of_alone = self.alone(network)
        where = self.space.encode(network)
        scale = np.abs(expected).max()
        assert scale > 0.1
        np.testing.assert_allclose(
            logits, expected, rtol=0, atol=1e-5 * scale, err_msg=where
        )
        # There and back, and in the middle the sums over four times 16x16 pixels. Batch
        # norm's variance is a difference: twice the error, where the mean behind an
        # activation is as large as the deviation, is four times the terms.
        passed = 4 * (2 * terms(model) + 4 * 16 * 16)
        for piece in taking_over.pieces(self.model, self.space, network):
            gradient = gradients[piece.source.path]
            # What comes from above is normal.
            assert_near(gradient[piece.mesh], of_alone.pop(piece.path), passed, least=1)
            gradient[piece.mesh] = 0
        assert not of_alone
        for path, rest in gradients.items():
            assert not rest.any(), f"{where}: {path}"


def block_layers(model: keras.Model):
    """The supernet's blocks in the order of the computation."""
    return [layer for layer in model.layers if hasattr(layer, "slot")]
