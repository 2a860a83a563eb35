import keras
import numpy as np
import pytest
import tensorflow as tf

from models.errors import ModelError
from models.space_to_depth import BatchToSpace, DepthToSpace, SpaceToBatch, SpaceToDepth
from tests.models.rounding import assert_near

PATCH_SIZES = [1, 2, 3, 4]


def pixels(shape=(2, 12, 24, 5), dtype="float32"):
    values = np.random.default_rng(4).normal(size=shape)
    return tf.cast(values.astype(np.float32), dtype)


def equal(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(tf.cast(found, tf.float32)),
        tf.cast(expected, tf.float32),
    )


def padded(x, n):
    _, height, width, _ = x.shape
    return tf.pad(x, [[0, 0], [0, -height % n], [0, -width % n], [0, 0]])


@pytest.mark.parametrize("size", [(12, 24), (13, 23), (1, 1), (3, 8)])
@pytest.mark.parametrize("n", PATCH_SIZES[1:])
def test_space_to_depth_is_tensorflows(n, size):
    x = pixels((2, *size, 5))
    folded = SpaceToDepth(n)(x)
    equal(folded, tf.nn.space_to_depth(padded(x, n), n))
    equal(DepthToSpace(n)(folded), tf.nn.depth_to_space(folded, n))
    equal(DepthToSpace(n, output_size=size)(folded), x)


@pytest.mark.parametrize("size", [(12, 24), (13, 23), (1, 1), (3, 8)])
@pytest.mark.parametrize("n", PATCH_SIZES)
def test_space_to_batch_is_tensorflows(n, size):
    x = pixels((2, *size, 5))
    parts = SpaceToBatch(n)(x)
    equal(parts, tf.nn.space_to_batch(padded(x, n), [n, n], [[0, 0], [0, 0]]))
    equal(BatchToSpace(n)(parts), tf.batch_to_space(parts, [n, n], [[0, 0]] * 2))
    equal(BatchToSpace(n, output_size=size)(parts), x)


def test_patch_size_one_changes_nothing():
    x = pixels()
    for layer in (SpaceToDepth, DepthToSpace, SpaceToBatch, BatchToSpace):
        equal(layer(1)(x), x)


def test_a_convolution_in_the_batch_domain_is_a_dilated_one():
    x, kernel = pixels((2, 12, 12, 5)), pixels((3, 3, 5, 7))
    parts = tf.nn.conv2d(SpaceToBatch(2)(x), kernel, 1, "SAME")
    dilated = tf.nn.conv2d(x, kernel, 1, "SAME", dilations=2)
    assert_near(BatchToSpace(2)(parts).numpy(), dilated.numpy(), terms=3 * 3 * 5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "uint8", "int32"])
def test_every_dtype_passes_unchanged(dtype):
    x = tf.cast(pixels((1, 5, 6, 3)) * 50, dtype)
    for there, back in ((SpaceToDepth, DepthToSpace), (SpaceToBatch, BatchToSpace)):
        for policy in ("float32", "mixed_bfloat16"):
            folded = there(2, dtype=policy)(x)
            equal(back(2, output_size=(5, 6), dtype=policy)(folded), x)
            symbol = there(2, dtype=policy)(keras.Input((5, 6, 3), dtype=dtype))
            assert symbol.dtype == dtype


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (SpaceToDepth(2), (None, 7, 8, 3), (None, 4, 4, 12)),
        (SpaceToDepth(2), (3, None, None, 3), (3, None, None, 12)),
        (DepthToSpace(2), (None, 4, 4, 12), (None, 8, 8, 3)),
        (DepthToSpace(2, output_size=(7, 8)), (None, 4, 4, 12), (None, 7, 8, 3)),
        (SpaceToBatch(3), (None, 7, 9, 2), (None, 3, 3, 2)),
        (SpaceToBatch(3), (2, 7, 9, 2), (18, 3, 3, 2)),
        (BatchToSpace(3), (18, 3, None, 2), (2, 9, None, 2)),
    ],
)
def test_static_shapes_stay_static(layer, shape, expected):
    assert layer.compute_output_shape(shape) == expected
    inputs = keras.Input(batch_shape=shape)
    assert layer(inputs).shape == expected
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec(shape))
    assert tuple(graph.output_shapes) == expected


def test_shapes_known_only_at_run_time():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def there_and_back(x):
        return SpaceToDepth(2)(x), SpaceToBatch(3)(x)

    x = pixels((2, 5, 7, 3))
    depth, batch = there_and_back(x)
    equal(depth, tf.nn.space_to_depth(padded(x, 2), 2))
    equal(batch, tf.nn.space_to_batch(padded(x, 3), [3, 3], [[0, 0]] * 2))


def test_gradient_goes_where_the_pixels_came_from():
    x = tf.Variable(pixels((1, 5, 5, 2)))
    weights = pixels((1, 3, 3, 8))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(SpaceToDepth(2)(x) * weights)
    expected = tf.nn.depth_to_space(weights, 2)[:, :5, :5]
    equal(tape.gradient(loss, x), expected)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: SpaceToDepth(0), "patch_size must be an integer of 1 or more, not 0"),
        (lambda: SpaceToBatch(-1), "patch_size must be an integer of 1 or more"),
        (lambda: DepthToSpace(True), "patch_size must be an integer of 1 or more"),
        (
            lambda: DepthToSpace(2, output_size=(-1, 3)),
            r"output_size must be two integers of 1 or more, not \(-1, 3\)",
        ),
        (
            lambda: DepthToSpace(2, name="d")(pixels((1, 2, 2, 6))),
            "d: 6 channels are no 4 parts of equal size",
        ),
        (
            lambda: BatchToSpace(2, name="b")(pixels((6, 2, 2, 3))),
            "b: a batch of 6 is no 4 parts of equal size",
        ),
        (
            lambda: BatchToSpace(2, output_size=(5, 4), name="b")(pixels((4, 2, 2, 3))),
            r"b: output_size \(5, 4\) is larger than the 4x4 pixels that there are",
        ),
    ],
)
def test_errors(request_, message):
    with pytest.raises(ModelError, match=message):
        request_()


@pytest.mark.parametrize(
    "layer",
    [
        SpaceToDepth(2),
        DepthToSpace(2, output_size=(7, 7), dtype="mixed_bfloat16"),
        SpaceToBatch(3, name="there"),
        BatchToSpace(3, output_size=(5, 6)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
