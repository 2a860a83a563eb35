import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import models
from models import complexity, scaling, weight_loading
from models.batch_norm import BatchNormalization
from models.blocks import FusedMBConv, MBConv
from models.errors import ModelError
from models.variants import change, get_variant
from tests.models import nets
from tests.models.rounding import assert_near, atol, bfloat16_error, terms

GOLDEN_NAMES = ["efficientnet-x-b0", "efficientnet-x-tpu-b1"]


def array(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def pooled_and_logits(model):
    pooled = model.get_layer("pooled_features").output
    return keras.Model(model.input, [pooled, model.output])


@pytest.mark.parametrize(("size", "prefix"), [(64, "infer"), (75, "infer75")])
@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_inference(name, size, prefix, golden_model, golden_arrays, golden_pixels):
    model = pooled_and_logits(golden_model(name, size))
    pooled, logits = model(golden_pixels(2, size), training=False)
    golden = golden_arrays(name)
    assert_near(logits, golden[f"{prefix}_logits"], terms(model))
    assert_near(pooled, golden[f"{prefix}_pooled_features"], terms(model))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_endpoints(name, golden_model, golden_endpoints, golden_pixels):
    model = golden_model(name, 64)
    specs = scaling.block_specs(get_variant(name))
    layers = [model.get_layer(f"block_{i}") for i in range(len(specs))]
    stem = model.get_layer("stem_activation")
    outputs = keras.Model(model.input, [layer.output for layer in (stem, *layers)])
    x, *rest = outputs(golden_pixels(2, 64))
    found = {"reduction_1": x}
    for i, (layer, output) in enumerate(zip(layers, rest, strict=True)):
        found[f"block_{i}"] = output
        found[f"block_{i}/expansion_output"] = layer.expand(x)
        x = output
    last = [i for i, spec in enumerate(specs[1:]) if spec.strides == 2]
    for number, i in enumerate([*last, len(specs) - 1], start=2):
        for suffix in ("", "/expansion_output"):
            found[f"reduction_{number}{suffix}"] = found[f"block_{i}{suffix}"]

    assert set(found) == set(golden_endpoints[name])
    for endpoint, golden in golden_endpoints[name].items():
        values = array(found[endpoint])
        assert list(values.shape) == golden["shape"], endpoint
        measured = [values.mean(), values.std(), np.abs(values).max()]
        expected = [golden["mean"], golden["std"], golden["absmax"]]
        allowed = atol(terms(model), golden["absmax"])
        np.testing.assert_allclose(measured, expected, rtol=0, atol=allowed)
        np.testing.assert_allclose(
            values.flat[:8], golden["first8"], rtol=0, atol=allowed
        )


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_training_mode(name, golden_model, golden_arrays, golden_pixels):
    model = golden_model(name, 64)
    before = [array(v) for v in weight_loading.in_reference_order(model)]
    pooled, logits = pooled_and_logits(model)(golden_pixels(8, 64), training=True)
    after = [array(v) for v in weight_loading.in_reference_order(model)]
    for variable, value in zip(
        weight_loading.in_reference_order(model), before, strict=True
    ):
        variable.assign(value)  # for the tests that share the model
    golden = golden_arrays(name)
    # 4 times the worst of four arithmetics: oneDNN, without, AVX-512, one thread. Batch
    # norm over 8 * 2 * 2 values makes the last layers' roundings larger.
    np.testing.assert_allclose(logits, golden["train_logits"], atol=4e-4, rtol=0)
    np.testing.assert_allclose(
        pooled, golden["train_pooled_features"], atol=5e-4, rtol=0
    )
    for place, value in enumerate(after):
        expected = golden.get(f"moving_after/{place:04d}", before[place])
        np.testing.assert_allclose(value, expected, atol=2e-5, rtol=0)


# The search space


def test_a_run_in_the_batch_domain_is_dilated(tiny, random_pixels):
    """Without squeeze-and-excite, which would see the parts one by one."""
    stage = {"se_ratio": 0, "strides": 1}
    plain = models.build_model(tiny, **nets.QUIET, stages={3: stage})
    model = models.build_model(
        tiny, **nets.QUIET, stages={3: {**stage, "space_to_batch": 2}}
    )
    for variable, value in zip(model.weights, plain.get_weights(), strict=True):
        variable.assign(value)
    names = [layer.name for layer in model.layers]
    assert names.index("space_to_batch_3") < names.index("block_3")
    assert names.index("block_4") < names.index("batch_to_space_5")
    for i in (3, 4):
        (depthwise,) = (
            part
            for part in plain.get_layer(f"block_{i}").forward_layers
            if part.name == "depthwise"
        )
        depthwise.dilation_rate = (2, 2)
    for training in (False, True):
        found = array(model(random_pixels, training=training))
        expected = array(plain(random_pixels, training=training))
        assert_near(found, expected, terms(plain))


def test_plain_reshuffle_has_no_weights_and_the_same_shapes(tiny, random_pixels):
    learned = models.build_model(tiny)
    plain = models.build_model(tiny, stages={1: {"space_to_depth": "reshuffle"}})
    # The convolution's kernel and its batch norm.
    assert len(learned.weights) - len(plain.weights) == 5
    fold = plain.get_layer("block_0").forward_layers[0]
    stem = np.random.default_rng(0).normal(size=(2, 16, 16, 32)).astype(np.float32)
    patches = array(fold(stem))
    assert patches.shape == (2, 8, 8, 128)
    np.testing.assert_array_equal(patches[1, 3, 4, 32:64], stem[1, 6, 9])
    assert plain(random_pixels).shape == (4, 1000)


@pytest.mark.parametrize(
    "fields",
    [
        {"kernel_size": 7},
        {"expand_ratio": 1},
        {"fused": True},
        {"activation": "hard_silu"},
        {"se_ratio": 0},
        {"se_ratio": 0.5},
        {"space_to_depth": "conv"},
        {"space_to_depth": "reshuffle"},
        {"space_to_batch": 2},
        {"output_filters": 64},
        {"skip": False},
        {"strides": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("block", [1, 3])
def test_every_field_in_any_block(block, fields):
    """It builds, learns in every weight, and costs what the arithmetic says."""
    variant = change(nets.tinier(), blocks={block: fields})
    if "space_to_depth" in fields and block == 1:  # the section is open already
        with pytest.raises(ModelError, match=r"block 1 opens .* inside another"):
            scaling.block_specs(variant)
        return
    variant = dataclasses.replace(variant, resolution=64)
    model = models.build_model(variant, num_classes=10, survival_prob=1.0)
    pixels = np.random.default_rng(3).uniform(0, 255, (2, 64, 64, 3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(pixels, training=True)[:, 0])
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(gradient is not None for gradient in gradients)
    cost = complexity.total(variant, num_classes=10)
    sizes = [int(np.prod(v.shape)) for v in model.trainable_variables]
    assert sum(sizes) == cost.trainable_params


# Numbers and types


def test_pixels_of_any_type_give_equal_logits(tiny, random_pixels):
    for dtype in ("float32", "mixed_bfloat16"):
        model = models.build_model(tiny, dtype=dtype)
        expected = array(model(random_pixels))
        for kind in (np.float32, np.float64, np.int32):
            np.testing.assert_array_equal(
                array(model(random_pixels.astype(kind))), expected
            )


def test_fractions_of_a_pixel_are_kept(tiny, random_pixels):
    model = models.build_model(tiny, dtype="mixed_bfloat16")
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    pixels = random_pixels.astype(np.float32) + np.float32(0.3)
    std = np.array([58.395, 57.12, 57.375], np.float32)
    mean = np.array([123.675, 116.28, 103.53], np.float32)
    exact = ops.cast((pixels - mean) / std, "bfloat16")
    outputs = normalized(pixels)
    assert outputs.dtype == "bfloat16"
    np.testing.assert_allclose(array(outputs), array(exact), rtol=2**-7)
    # Of pixels rounded to bfloat16 first, most would be elsewhere.
    assert (array(outputs) == array(exact)).mean() > 0.99


def test_bfloat16_is_near_float32(tiny, random_pixels):
    exact = models.build_model(tiny, dtype="float32")
    mixed = models.build_model(tiny, dtype="mixed_bfloat16")
    mixed.set_weights(exact.get_weights())
    assert {v.dtype for v in mixed.weights} == {"float32"}
    for training in (False, True):
        expected = array(exact(random_pixels, training=training))
        logits = mixed(random_pixels, training=training)
        assert logits.dtype == "float32"
        error = np.abs(array(logits) - expected).max()
        assert 0 < error < bfloat16_error(mixed) * np.abs(expected).max()


def test_dtype_reaches_every_layer_and_nothing_else(tiny, random_pixels):
    expected = array(models.build_model(tiny, dtype="float32")(random_pixels))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build_model(tiny, dtype="float32")
        assert {layer.compute_dtype for layer in flatten(model)} == {"float32"}
        np.testing.assert_array_equal(array(model(random_pixels)), expected)
        layers = flatten(models.build_model(tiny))
        in_float32 = {la.name for la in layers if la.compute_dtype == "float32"}
        assert in_float32 == {"logits"}
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


def flatten(model):
    """All layers and their parts, but for the input, which computes nothing."""
    return [part for layer in model.layers[1:] for part in layer._flatten_layers()]


# The graph


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_blocks_and_survival(name, built, golden_blocks):
    model = built(name)
    golden = golden_blocks[name]
    blocks = [
        layer for layer in model.layers if isinstance(layer, MBConv | FusedMBConv)
    ]
    assert model.name == name
    assert [isinstance(block, FusedMBConv) for block in blocks] == [
        bool(g["fused"]) for g in golden
    ]
    for block, expected in zip(blocks, golden, strict=True):
        survival = expected["survival_prob_train"]
        assert block.survival_prob == pytest.approx(survival)
        random = expected["skip"] and survival < 1
        assert (block._stochastic_depth is not None) == random
    assert model.get_layer("dropout").rate == get_variant(name).dropout_rate


def test_shapes_and_overrides(tiny):
    model = models.build_model(
        tiny,
        num_classes=7,
        width_coefficient=0.5,
        depth_coefficient=2.0,
        resolution=45,
        dropout_rate=0.4,
        batch_norm_momentum=0.9,
        batch_norm_epsilon=0.1,
    )
    assert model.name == "tiny"
    assert model.input.name == "pixels"
    assert model.input_shape == (None, 45, 45, 3)
    assert model.output_shape == (None, 7)
    assert model.get_layer("stem_conv").filters == 16
    assert model.get_layer("dropout").rate == 0.4
    assert len([la for la in model.layers if la.name.startswith("block_")]) == 10
    norms = [la for la in flatten(model) if isinstance(la, BatchNormalization)]
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 0.1)}


def test_momentum_is_the_variants():
    variant = nets.tiny_v2()
    for given, expected in ((None, 0.9), (0.5, 0.5)):
        model = models.build_model(variant, batch_norm_momentum=given)
        norms = [la for la in flatten(model) if isinstance(la, BatchNormalization)]
        assert {norm.momentum for norm in norms} == {expected}


def test_normalisation_is_the_variants(random_pixels):
    """Pixels that are brought from one mean and deviation to another give as much."""
    variant = nets.tiny_v2()
    plain = dataclasses.replace(variant, mean_rgb=(0, 0, 0), std_rgb=(1, 1, 1))
    expected = array(models.build_model(variant)(random_pixels))
    normalized = (random_pixels - np.array(variant.mean_rgb)) / variant.std_rgb
    model = models.build_model(plain)
    assert_near(array(model(normalized.astype("float32"))), expected, terms(model))
    assert np.abs(array(model(random_pixels)) - expected).max() > 0.01


def test_classifier_init(tiny):
    classifier = models.build_model(tiny, num_classes=400).get_layer("classifier")
    kernel = array(classifier.kernel)
    assert np.abs(kernel).max() == pytest.approx(1 / 20, rel=1e-3)
    assert kernel.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert not array(classifier.bias).any()


def test_seed(tiny, random_pixels):
    noisy = {"survival_prob": 0.5, "dropout_rate": 0.5}

    def logits(**kwargs):
        model = models.build_model(tiny, **noisy, **kwargs)
        return array(model(random_pixels, training=True))

    np.testing.assert_array_equal(logits(seed=1), logits(seed=1))
    assert (logits(seed=1) != logits(seed=2)).any()


def test_every_random_layer_has_its_own_seed_generator(tiny, random_pixels):
    made = []

    def make(seed):
        made.append(keras.random.SeedGenerator(seed))
        return made[-1]

    model = models.build_model(tiny, survival_prob=0.5, make_seed_generator=make)
    with_skip = sum(spec.has_skip for spec in scaling.block_specs(tiny))
    assert len({int(array(generator.state)[0]) for generator in made}) == with_skip + 1
    states = {id(v) for v in model.variables if "seed" in v.path}
    assert states == {id(generator.state) for generator in made}
    model(random_pixels, training=True)
    assert [array(generator.state).tolist()[1] for generator in made] == [1] * len(made)


def test_serialisation_round_trip(tiny, random_pixels):
    model = models.build_model(tiny, dtype="mixed_bfloat16", survival_prob=0.5)
    config = keras.saving.serialize_keras_object(model)
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(model.get_weights())
    assert len(weight_loading.in_reference_order(copy)) == len(model.weights)
    for training in (False, True):  # the seeds are in the config
        np.testing.assert_array_equal(
            array(copy(random_pixels, training=training)),
            array(model(random_pixels, training=training)),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_classes": 0},
            "num_classes = 0: it has to be None or a whole number from 1 to 1,000,000",
        ),
        (
            {"resolution": 31},
            "resolution 31 is too small for efficientnet-x-b0: its strides divide it "
            "by 32, so 32 is the least",
        ),
        (
            {"width_coefficient": 0.0},
            "width_coefficient = 0.0: it has to be None or a number above 0 and up to "
            "64",
        ),
        (
            {"depth_coefficient": -1},
            "depth_coefficient = -1: it has to be None or a number above 0 and up to "
            "64",
        ),
        (
            {"survival_prob": 0.0},
            "survival_prob = 0.0: it has to be a number above 0 and up to 1",
        ),
        (
            {"survival_prob": 1.1},
            "survival_prob = 1.1: it has to be a number above 0 and up to 1",
        ),
        (
            {"dropout_rate": 1.0},
            "dropout_rate = 1.0: it has to be None or a number from 0 to below 1",
        ),
        (
            {"batch_norm_momentum": 1.0},
            "batch_norm_momentum = 1.0: it has to be None or a number from 0 to below "
            "1",
        ),
        (
            {"batch_norm_epsilon": 0.0},
            "batch_norm_epsilon = 0.0: it has to be None or a number from 1e-30 to 1",
        ),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ModelError) as error:
        models.build_model("efficientnet-x-b0", **arguments)
    assert str(error.value).removeprefix("efficientnet_x.build_model.") == message


@pytest.mark.parametrize("name", ["glu", "threshold", "serialize"])
def test_functions_that_are_no_activations(tiny, name):
    with pytest.raises(ModelError, match="unknown activation "):
        models.build_model(tiny, stages={3: {"activation": name}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_classes": "10"},
            "num_classes = '10': it has to be None or a whole number",
        ),
        (
            {"num_classes": 10**12},
            "num_classes = 1000000000000: it has to be None or a whole",
        ),
        ({"width_coefficient": 1e12}, "width_coefficient = 1000000000000.0: it has"),
        ({"survival_prob": "0.8"}, "survival_prob = '0.8': it has to be a number"),
        ({"fold_batch_norm": "no"}, "fold_batch_norm = 'no': it has to be True or Fal"),
        (
            {"stages": [1]},
            r"stages = \[1\]: it has to be None or a mapping from numbers",
        ),
        ({"stages": {"2": {}}}, "stages = {'2': {}}: it has to be None or a mapping"),
        ({"blocks": {2: None}}, "blocks = {2: None}: it has to be None or a mapping"),
        (
            {"variant": models.Variant},
            "variant = <.*>: it has to be a name or a Varian",
        ),
        (
            {"dialect": "tim"},
            "dialect = 'tim': it has to be None or 'reference' or 'tim",
        ),
    ],
)
def test_values_of_another_type(arguments, message):
    with pytest.raises(ModelError, match=message):
        models.build_model(**{"variant": "efficientnet-x-b0", **arguments})


def test_changed_blocks_stay_where_they_are():
    changed = change(get_variant("efficientnet-x-b0"), blocks={15: {"skip": False}})
    with pytest.raises(ModelError, match="which another depth_coefficient would move"):
        models.build_model(changed, depth_coefficient=1.1)


def test_unknown_variant():
    with pytest.raises(ModelError, match="did you mean efficientnet-x-b0"):
        models.build_model("efficientnet-x-bo")
