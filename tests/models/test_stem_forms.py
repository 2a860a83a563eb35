import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import models
from models import input_form, stem_forms, weight_loading
from models.batch_norm import BatchNormalization
from models.errors import ModelError
from models.variants import get_variant
from tests.models import nets
from tests.models.rounding import assert_near, bfloat16_error, terms
from tests.support.golden import undrawn

NAME = "efficientnet-x-b0"
STEM_FORMS = [
    {"stem_block_size": n, "stem_reshuffle": where, "input_layout": layout}
    for n, where, layout in itertools.product(
        (1, 2, 4), ("device", "host"), ("NHWC", "HWCN")
    )
    if (n, where) != (1, "host")
]


def array(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def build(variant, **form):
    return models.build_model(variant, survival_prob=1.0, dropout_rate=0.0, **form)


def randomise(model):
    """Give biases and batch norm values as training would."""
    random = np.random.default_rng(11)
    for variable in model.weights:
        if len(variable.shape) == 1:
            values = 1 + 0.2 * random.normal(size=variable.shape)
            variable.assign(np.abs(values))


def feed(pixels, form):
    """What a host would feed to a model of this form."""
    if form.get("stem_reshuffle") == "host":
        pixels = stem_forms.to_patches(pixels, form["stem_block_size"])
    if form.get("input_layout") == "HWCN":
        pixels = pixels.transpose(1, 2, 3, 0)
    return pixels


@pytest.fixture(scope="module")
def plain(tiny):
    model = build(tiny)
    randomise(model)
    return model


# The stem and the input


def values(model):
    """The weights by path, in the reference's order."""
    return {v.path: v.numpy() for v in weight_loading.in_reference_order(model)}


@pytest.fixture(
    scope="module",
    params=STEM_FORMS,
    ids=lambda form: "-".join(map(str, form.values())),
)
def stem(request, tiny):
    """A form, a model in it, and the weights that this began with."""
    model = build(tiny, seed=3, **request.param)
    return request.param, model, values(model)


@pytest.fixture(scope="module")
def first_values(tiny):
    return values(build(tiny, seed=3))


def test_stem_forms_give_equal_logits(stem, plain, random_pixels):
    form, model, _ = stem
    stem_forms.copy_weights(plain, model)
    logits = array(model(feed(random_pixels, form)))
    assert_near(logits, array(plain(random_pixels)), terms(plain))


def test_stem_forms_start_from_the_same_weights(stem, first_values):
    _, _, found = stem
    assert list(found) == list(first_values)
    for path, value in found.items():
        np.testing.assert_array_equal(value, first_values[path])


def test_input_form_is_read_off_the_model(stem):
    form, model, _ = stem
    on_host = form["stem_reshuffle"] == "host"
    patch_size = form["stem_block_size"] if on_host else 1
    expected = input_form.InputForm(32, patch_size, form["input_layout"])
    assert input_form.input_form(model) == expected


@pytest.mark.parametrize("n", [2, 4])
def test_stem_forms_train_alike(n, tiny, plain, random_pixels):
    def learn(model):
        with tf.GradientTape() as tape:
            logits = model(random_pixels, training=True)
            loss = tf.reduce_sum(logits * tf.random.stateless_normal((4, 1000), (1, 2)))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        return array(logits), list(map(array, gradients)), model.non_trainable_variables

    original = build(tiny)
    model = build(tiny, stem_block_size=n)
    for copy in (original, model):
        stem_forms.copy_weights(plain, copy)
    expected, found = learn(original), learn(model)
    # There and back, and in the middle the sums over four times 16x16 pixels.
    passed = 2 * terms(plain) + 4 * 16 * 16
    assert_near(found[0], expected[0], passed)
    for a, b in zip(found[1], expected[1], strict=True):
        assert_near(a, b, passed, least=1)  # what comes from above is normal
    for a, b in zip(found[2], expected[2], strict=True):
        assert_near(a.numpy(), b.numpy(), passed)


@pytest.mark.parametrize(
    "form",
    [
        {"stem_block_size": 4, "stem_reshuffle": "host", "input_layout": "HWCN"},
        {"stem_block_size": 4, "fold_batch_norm": True},
    ],
    ids=["48 channels", "48 channels, folded"],
)
def test_golden_logits(form, golden_model, golden_arrays, golden_pixels):
    plain = golden_model(NAME, 64)
    with undrawn():
        model = build(NAME, resolution=64, **form)
    stem_forms.copy_weights(plain, model)
    pixels = golden_pixels(2, 64)
    logits = array(model(feed(pixels, form)))
    assert_near(logits, array(plain(pixels)), terms(plain))
    assert_near(logits, golden_arrays(NAME)["infer_logits"], terms(plain))


@pytest.fixture(scope="module")
def plain_v2():
    model = build(nets.tiny_v2())
    randomise(model)
    return model


@pytest.mark.parametrize(
    "form",
    [
        {"stem_block_size": 2, "stem_reshuffle": "host", "input_layout": "HWCN"},
        {"stem_block_size": 2, "fold_batch_norm": True},
    ],
    ids=["12 channels", "12 channels, folded"],
)
def test_forms_of_a_network_of_v2(form, plain_v2, random_pixels):
    """With its own normalisation, and blocks without projection."""
    model = build(nets.tiny_v2(), **form)
    stem_forms.copy_weights(plain_v2, model)
    logits = array(model(feed(random_pixels, form)))
    assert_near(logits, array(plain_v2(random_pixels)), terms(plain_v2))


@pytest.mark.parametrize("field", ["mean_rgb", "std_rgb"])
def test_weights_for_other_pixels(field, plain_v2):
    other = dataclasses.replace(nets.tiny_v2(), **{field: (1.0, 2.0, 3.0)})
    with pytest.raises(ModelError, match=rf"two networks: {field} is \(128.0, .*\(1.0"):
        stem_forms.copy_weights(plain_v2, build(other))


def test_rewritten_layers_are_what_the_accelerator_gets(tiny):
    model = build(tiny, stem_block_size=4)
    stem = model.get_layer("stem_conv")
    assert stem.input.shape == (None, 8, 8, 48)
    assert stem.rearranged_kernel().shape == (2, 2, 48, 128)
    fold = model.get_layer("block_0").forward_layers[0]
    assert fold.rearranged_kernel().shape == (1, 1, 128, 128)
    twelve = build(tiny, stem_block_size=2).get_layer("stem_conv")
    assert twelve.input.shape == (None, 16, 16, 12)
    assert twelve.rearranged_kernel().shape == (2, 2, 12, 32)


def test_to_patches_is_tensorflows(random_pixels):
    for n in (1, 2, 4, 8):
        found = stem_forms.to_patches(random_pixels, n)
        assert found.dtype == np.uint8
        expected = tf.nn.space_to_depth(random_pixels, n) if n > 1 else random_pixels
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ModelError, match="patch_size 3 does not divide 32x32 pixels"):
        stem_forms.to_patches(random_pixels, 3)


def test_mixed_precision_and_serialisation(tiny, plain, random_pixels):
    form = {"stem_block_size": 4, "stem_reshuffle": "device", "input_layout": "HWCN"}
    model = build(tiny, dtype="mixed_bfloat16", **form)
    stem_forms.copy_weights(plain, model)
    config = keras.saving.serialize_keras_object(model)
    copy = keras.saving.deserialize_keras_object(config)
    stem_forms.copy_weights(model, copy)
    logits = array(model(feed(random_pixels, form)))
    np.testing.assert_array_equal(array(copy(feed(random_pixels, form))), logits)
    expected = array(plain(random_pixels))
    error = np.abs(logits - expected).max()
    assert 0 < error < bfloat16_error(model) * np.abs(expected).max()


@pytest.mark.parametrize(
    ("variant", "form", "message"),
    [
        (NAME, {"stem_block_size": 3}, "stem_block_size = 3: it has to be 1, 2 or 4"),
        (
            "efficientnet-x-tpu-b1",
            {"stem_block_size": 4},
            "stem_block_size 4 does not divide the resolution 229; the nearest that "
            "it does are 228 and 232",
        ),
        (
            "efficientnet-b0",
            {"stem_block_size": 4},
            "stem_block_size 4 needs the learned space-to-depth in block 0, which "
            "efficientnet-b0 has not; use 2",
        ),
        (
            "efficientnet-x-b3-timm",
            {"stem_block_size": 2},
            "efficientnet-x-b3-timm pads its stem symmetrically: it has no form of "
            "patches; use stem_block_size = 1",
        ),
        (
            NAME,
            {"stem_block_size": 4, "blocks": {0: {"space_to_batch": 2}}},
            "stem_block_size 4 folds pixels together that space_to_batch in block 0 "
            "would part; use 2",
        ),
        (
            NAME,
            {"stem_reshuffle": "host"},
            'stem_reshuffle = "host" has nothing to move at stem_block_size = 1',
        ),
        (
            NAME,
            {"stem_reshuffle": "cpu"},
            "stem_reshuffle = 'cpu': it has to be 'device' or 'host'",
        ),
        (
            NAME,
            {"input_layout": "NCHW"},
            "input_layout = 'NCHW': it has to be 'NHWC' or 'HWCN'",
        ),
    ],
)
def test_forms_that_do_not_exist(variant, form, message):
    with pytest.raises(ModelError) as error:
        models.build_model(variant, **form)
    assert str(error.value).removeprefix("efficientnet_x.build_model.") == message


# Batch norm


@pytest.mark.parametrize("variant", ["tiny", "efficientnet-b0"])
def test_folded_batch_norm_gives_equal_logits(variant, tiny, random_pixels):
    if variant == "tiny":
        variant = tiny
    else:  # each of its stages, of one or two blocks
        smaller = {"resolution": 32, "depth_coefficient": 0.5}
        variant = dataclasses.replace(get_variant(variant), **smaller)
    plain = build(variant)
    randomise(plain)
    folded = build(variant, fold_batch_norm=True)
    stem_forms.copy_weights(plain, folded)
    layers = folded._flatten_layers()
    assert not any(isinstance(layer, BatchNormalization) for layer in layers)
    expected = array(plain(random_pixels))
    assert np.abs(expected).max() > 0.1
    assert_near(array(folded(random_pixels)), expected, terms(plain))

    # And back: batch norm that does nothing but add the bias.
    unfolded = build(variant)
    stem_forms.copy_weights(folded, unfolded)
    assert_near(array(unfolded(random_pixels)), expected, terms(plain))


def test_folded_model_learns(tiny, plain, random_pixels):
    folded = build(tiny, fold_batch_norm=True)
    stem_forms.copy_weights(plain, folded)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(folded(random_pixels, training=True) ** 2)
    gradients = tape.gradient(loss, [v.value for v in folded.trainable_variables])
    assert all(np.abs(array(gradient)).max() > 0 for gradient in gradients)
    assert {v.path.split("/")[-1] for v in folded.trainable_variables} == {
        "kernel",
        "bias",
    }


def test_gradient_of_a_rearranged_kernel_in_mixed_precision(tiny, random_pixels):
    """It is the plain form's in float32 but for roundings to bfloat16."""

    def gradient(n, dtype):
        model = build(tiny, stem_block_size=n, dtype=dtype, seed=2)
        kernel = model.get_layer("stem_conv").kernel
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(random_pixels, training=False)[:, :5])
        return array(tape.gradient(loss, kernel.value))

    exact = gradient(1, "float32")
    scale = np.abs(exact).max()
    # Two sums of 4 x 16 x 16 terms in float32: 4 * 2^-23 * sqrt(1024) = 1.5e-5.
    np.testing.assert_allclose(gradient(4, "float32"), exact, atol=1e-5 * scale)
    # A rounding to bfloat16 is off by 2^-9 in the mean: 2^-9 * sqrt(1024) = 0.0625. How
    # the two are rounded is the libraries' affair, so they are not compared with each
    # other.
    for n in (1, 4):
        found = gradient(n, "mixed_bfloat16")
        np.testing.assert_allclose(found, exact, atol=4 * 0.0625 * scale)


def test_copy_between_two_networks_is_refused_and_writes_nothing(tiny, plain):
    wider = build(tiny, width_coefficient=2.0)
    before = [v.numpy() for v in wider.weights]
    message = "two networks: input_filters of block_0 is 32 in tiny, 64 in tiny"
    with pytest.raises(ModelError, match=message):
        stem_forms.copy_weights(plain, wider)
    for variable, value in zip(wider.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_norm_epsilon": 0.1}, r"epsilons of batch norm are \[0.001, 0.1\]"),
        ({"stages": {3: {"activation": "swish"}}}, "activation of block_3 is 'relu'"),
        ({"stages": {3: {"strides": 1}}}, "strides of block_3 is 2 in tiny, 1 in"),
        ({"stages": {2: {"skip": False}}}, "skip of block_1 is True in tiny, False"),
        ({"stages": {2: {"space_to_batch": 2}}}, "space_to_batch of block_1 is 1 in"),
        ({"dialect": "timm"}, "padding of block_0 is 'same' in tiny, 'symmetric' in"),
        ({"depth_coefficient": 2.0}, "two networks: "),
        ({"num_classes": 10}, r"classifier/kernel of tiny has shape \(64, 1000\)"),
    ],
)
def test_copy_sees_differences_that_weights_do_not_show(changes, message, tiny, plain):
    with pytest.raises(ModelError, match=message):
        stem_forms.copy_weights(plain, build(tiny, **changes))
    foreign = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="mlp")
    with pytest.raises(ModelError, match="'mlp' was not made by"):
        stem_forms.copy_weights(plain, foreign)


def test_keras_loops_would_cut_images_of_hwcn_into_strips(tiny):
    model = build(tiny, input_layout="HWCN", resolution=64)
    with pytest.raises(ModelError, match="Keras' fit, evaluate and predict need"):
        model.predict(np.zeros((64, 64, 3, 4), np.float32), verbose=0)
    with pytest.raises(ModelError, match=r"must be \[64, 64, 3, batch\], not \[8, 64"):
        model(np.zeros((8, 64, 3, 4), np.float32))


@pytest.mark.parametrize("n", [1, 2])
def test_stem_forms_with_a_batch_domain(n, tiny, random_pixels):
    changed = {"stages": {1: {"space_to_batch": 2}}}
    pixels = np.tile(random_pixels, (1, 2, 2, 1))
    expected = build(tiny, resolution=64, **changed)
    model = build(tiny, resolution=64, stem_block_size=n, **changed)
    stem_forms.copy_weights(expected, model)
    assert_near(array(model(pixels)), array(expected(pixels)), terms(model))
