import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models import parts, transfer
from models.errors import ModelError
from models.variants import change
from tests.models.rounding import assert_near, terms


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_parts_of_every_weight(built):
    model = built("efficientnet-x-b0")
    found = parts.parts(model)
    stages = [1, 2, 2, 3, 3, 4, 1]
    assert {part: len(layers) for part, layers in found.items()} == {
        "stem": 2,
        **{
            f"stage_{n}": blocks
            for n, blocks in enumerate([1, 2, 2, 3, 3, 4, 1], start=1)
        },
        "head": 2,
        "classifier": 1,
    }
    assert sum(stages) == 16
    of_variable = parts.part_of_variable(model)
    assert set(of_variable) == {v.path for v in model.weights}
    assert of_variable["stem_conv/kernel"] == "stem"
    assert of_variable["block_3/expand/kernel"] == "stage_3"
    assert of_variable["block_15/project_bn/moving_mean"] == "stage_7"
    assert of_variable["classifier/bias"] == "classifier"


def test_frozen_parts_do_not_move(tiny, random_pixels):
    frozen = ("stem", "stage_1", "stage_3")
    model = models.build_model(tiny, frozen=frozen, survival_prob=1.0)
    part_of = parts.part_of_variable(model)
    learning = {part_of[v.path] for v in model.trainable_variables}
    assert learning == {"stage_2", "head", "classifier"}
    before = {v.path: v.numpy() for v in model.weights}
    optimizer = keras.optimizers.SGD(0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(random_pixels, training=True) ** 2)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    optimizer.apply(gradients, model.trainable_variables)
    for variable in model.weights:
        moved = (variable.numpy() != before[variable.path]).any()
        assert moved == (part_of[variable.path] not in frozen), variable.path


def test_frozen_parts_survive_serialisation(tiny, random_pixels):
    frozen = ("stem", "stage_1", "stage_3")
    model = models.build_model(tiny, frozen=frozen)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model)
    )
    paths = [v.path for v in model.trainable_variables]
    assert [v.path for v in copy.trainable_variables] == paths
    before = {v.path: v.numpy() for v in copy.weights}
    copy(random_pixels, training=True)
    part_of = parts.part_of_variable(copy)
    moved = {
        part_of[v.path] for v in copy.weights if (v.numpy() != before[v.path]).any()
    }
    assert moved == {"stage_2", "head"}


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (
            ("stage_9",),
            "frozen: tiny has no part 'stage_9', only stem, stage_1, stage_2, stage_3, "
            "head, classifier",
        ),
        (
            ("stem", "stage_1", "stage_2", "stage_3", "head", "classifier"),
            "frozen: tiny has nothing to learn",
        ),
        (
            "stem",
            "efficientnet_x.build_model.frozen = 'stem': it has to be a list of parts, "
            "as ('stem',)",
        ),
    ],
)
def test_freeze_errors(tiny, frozen, message):
    with pytest.raises(ModelError) as error:
        models.build_model(tiny, frozen=frozen)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "name", ["efficientnet-x-b0", "efficientnet-x-tpu-b1", "efficientnet-b0"]
)
def test_five_endpoints_have_the_reference_shapes(name, built, golden_variants):
    extractor = transfer.feature_extractor(built(name))
    shapes = {key: list(t.shape[1:]) for key, t in extractor.output.items()}
    assert shapes == golden_variants[name]["reductions"]


def features(model, pixels):
    outputs = transfer.feature_extractor(model)(pixels)
    return {name: array(tensor) for name, tensor in outputs.items()}


def test_endpoints_are_the_same_in_every_form(tiny, random_pixels):
    plain = models.build_model(tiny)
    expected = features(plain, random_pixels)
    assert {name: x.shape for name, x in expected.items()} == {
        "reduction_1": (4, 16, 16, 32),
        "reduction_2": (4, 8, 8, 24),
        "reduction_3": (4, 4, 4, 80),
    }
    for n in (2, 4):
        found = features(models.build_model(tiny, stem_block_size=n), random_pixels)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_near(found[name], value, terms(plain))


def test_endpoints_leave_the_batch_domain(tiny, random_pixels):
    # Stages 2 and 3 share one round trip, across the stride between them.
    changed = change(tiny, {n: {"space_to_batch": 2} for n in (2, 3)})
    model = models.build_model(changed)
    names = [layer.name for layer in model.layers]
    assert names.count("space_to_batch_1") == 1
    assert [n for n in names if "batch_to" in n or "to_batch" in n] == [
        "space_to_batch_1",
        "batch_to_space_5",
    ]
    extractor = transfer.feature_extractor(model)
    assert "reduction_2_to_space" in [layer.name for layer in extractor.layers]
    found = features(model, random_pixels)
    assert found["reduction_2"].shape == (4, 8, 8, 24)
    assert found["reduction_3"].shape == (4, 4, 4, 80)
    last = keras.Model(model.input, model.get_layer("batch_to_space_5").output)
    np.testing.assert_array_equal(found["reduction_3"], array(last(random_pixels)))
