import keras
import numpy as np
import pytest

import models
from models import weights
from models.variants import VARIANTS, ModelError

# Building is seconds of TensorFlow's time per variant.
LARGE = {f"efficientnet-x-b{i}" for i in range(1, 8)}
every_variant = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in VARIANTS
    ],
)


@every_variant
def test_order_and_counts_are_the_reference_ones(
    name, built, golden_variables, golden_variants
):
    variables = weights.in_reference_order(built(name))
    found = [(tuple(v.shape), v.trainable, v.dtype) for v in variables]
    assert found == [
        (tuple(shape), trainable, "float32")
        for _, shape, trainable in golden_variables[name]
    ]
    roles = [v.name for v in variables]
    assert roles == [
        variable.split("/")[-1].replace("depthwise_kernel", "kernel")
        for variable, _, _ in golden_variables[name]
    ]
    sizes = {True: 0, False: 0}
    for v in variables:
        sizes[v.trainable] += int(np.prod(v.shape))
    assert sizes == {
        True: golden_variants[name]["trainable_params"],
        False: golden_variants[name]["non_trainable_params"],
    }


def test_no_state_of_random_generators(tiny):
    model = models.build_model(tiny, survival_prob=0.5)
    variables = weights.in_reference_order(model)
    assert len(variables) == len(model.weights) < len(model.variables)


def test_another_model_is_refused(tiny):
    inputs = keras.Input((4,))
    dense = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="dense")
    with pytest.raises(ModelError, match=r"'dense' was not made by models\.build_mode"):
        weights.in_reference_order(dense)

    ours = models.build_model(tiny)
    outputs = keras.layers.PReLU()(ours.output)
    with pytest.raises(ModelError, match="was not made by"):
        weights.in_reference_order(keras.Model(ours.input, outputs))
