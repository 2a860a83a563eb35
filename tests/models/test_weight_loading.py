import re

import keras
import numpy as np
import pytest

import models
from models import stem_forms, weight_loading
from models.errors import ModelError
from models.reference_variables import variables
from models.variants import get_variant
from tests.models.rounding import assert_near, terms
from tests.peers import timm_weights
from tests.support.golden import read_json

AVERAGE = "/ExponentialMovingAverage"

# Building is seconds of TensorFlow's time per variant, and gigabytes for all of them.
FAST = ("efficientnet-x-b0", "efficientnet-b0")
every_reference_variant = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in read_json("models/variants.json")["variants"]
    ],
)


@every_reference_variant
def test_order_and_counts_are_the_reference_ones(
    name, built, golden_variables, golden_variants
):
    model = built(name) if name in FAST else models.build_model(name)
    found = weight_loading.in_reference_order(model)
    assert [(tuple(v.shape), v.trainable, v.dtype) for v in found] == [
        (tuple(shape), trainable, "float32")
        for _, shape, trainable in golden_variables[name]
    ]
    assert [v.name for v in found] == [
        variable.split("/")[-1].replace("depthwise_kernel", "kernel")
        for variable, _, _ in golden_variables[name]
    ]
    sizes = {True: 0, False: 0}
    for v in found:
        sizes[v.trainable] += int(np.prod(v.shape))
    assert sizes == {
        True: golden_variants[name]["trainable_params"],
        False: golden_variants[name]["non_trainable_params"],
    }


def test_no_state_of_random_generators(tiny):
    model = models.build_model(tiny, survival_prob=0.5)
    found = weight_loading.in_reference_order(model)
    assert len(found) == len(model.weights) < len(model.variables)


def test_another_model_is_refused(tiny):
    inputs = keras.Input((4,))
    dense = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="dense")
    with pytest.raises(ModelError, match=r"'dense' was not made by models\.build_mode"):
        weight_loading.in_reference_order(dense)

    ours = models.build_model(tiny)
    outputs = keras.layers.PReLU()(ours.output)
    with pytest.raises(ModelError, match="was not made by"):
        weight_loading.in_reference_order(keras.Model(ours.input, outputs))


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_names_are_those_of_the_arithmetic(width, tiny):
    model = models.build_model(tiny, num_classes=7, width_coefficient=width)
    found = weight_loading.by_reference_name(model)
    if width == 1.0:
        assert list(found) == [v.name for v in variables(tiny)]
    assert found["stem/conv2d/kernel"].path == "stem_conv/kernel"
    assert found["stem/conv2d/kernel"].shape[-1] == 32 * width
    assert found["blocks_2/se/conv2d_1/bias"].path.endswith("/expand/bias")
    assert found["head/dense/bias"].shape == (7,)


# The authors' checkpoints


def random_tensors(tiny, num_classes=10, seed=0):
    random = np.random.default_rng(seed)
    return {
        v.name: random.uniform(0.5, 1.5, v.shape).astype("float32")
        for v in variables(tiny, num_classes)
    }


def values_of(model):
    found = weight_loading.by_reference_name(model)
    return {name: v.numpy() for name, v in found.items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


class Reads(dict):
    """A mapping that notes what was read of it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = []

    def __getitem__(self, key):
        self.read.append(key)
        return super().__getitem__(key)


def checkpoint_of(raw, average, prefix="tiny/"):
    """Both sets of weights, with what else training leaves in a file."""
    tensors = Reads({"global_step": np.int64(5), "beta1_power": np.float32(0.9)})
    for name in raw:
        tensors[f"{prefix}{name}"] = raw[name]
        tensors[f"{prefix}{name}{AVERAGE}"] = average[name]
        for slot in ("RMSProp", "RMSProp_1", "Momentum"):
            tensors[f"{prefix}{name}/{slot}"] = raw[name] * np.nan
    return tensors


@pytest.mark.parametrize("prefix", ["", "tiny/", "efficientnet-b0/model/"])
def test_averages_or_raw_weights(prefix, tiny):
    model = models.build_model(tiny, num_classes=10)
    raw, average = (random_tensors(tiny, seed=seed) for seed in (1, 2))
    tensors = checkpoint_of(raw, average, prefix)
    weight_loading.load_reference(model, tensors)
    assert_equal(values_of(model), average)
    assert sorted(tensors.read) == sorted(f"{prefix}{n}{AVERAGE}" for n in raw)
    weight_loading.load_reference(model, tensors, averaged=False)
    assert_equal(values_of(model), raw)


def test_batch_normalization_by_its_other_name_and_raw_where_no_average(tiny):
    model = models.build_model(tiny, num_classes=10)
    raw = random_tensors(tiny)
    tensors = {
        name.replace("tpu_batch_normalization", "batch_normalization"): value
        for name, value in raw.items()
    }
    bias = tensors.pop("head/dense/bias")
    tensors[f"head/dense/bias{AVERAGE}"] = bias
    weight_loading.load_reference(model, tensors)
    assert_equal(values_of(model), raw)


def test_half_precision_is_widened(tiny):
    model = models.build_model(tiny, num_classes=10)
    halves = {k: v.astype("float16") for k, v in random_tensors(tiny).items()}
    weight_loading.load_reference(model, halves, averaged=False)
    assert_equal(values_of(model), halves)
    assert {v.dtype for v in model.weights} == {"float32"}


@pytest.mark.parametrize("with_theirs", [True, False])
def test_new_head(with_theirs, tiny):
    model = models.build_model(tiny, num_classes=3)
    tensors = Reads(random_tensors(tiny))
    expected = dict(tensors)
    for name in ("head/dense/kernel", "head/dense/bias"):
        expected[name] = values_of(model)[name]
        if not with_theirs:
            del tensors[name]
    weight_loading.load_reference(model, tensors, averaged=False, new_head=True)
    assert_equal(values_of(model), expected)
    assert not any("dense" in name for name in tensors.read)


@pytest.mark.parametrize("block_size", [2, 4])
def test_into_a_rewritten_stem(block_size, tiny, random_pixels):
    logits = []
    for n in (1, block_size):
        model = models.build_model(tiny, num_classes=10, stem_block_size=n)
        weight_loading.load_reference(model, random_tensors(tiny), averaged=False)
        logits.append(model(random_pixels).numpy())
    assert_near(logits[1], logits[0], terms(model))


def test_into_a_folded_model_by_way_of_a_plain_one(tiny, random_pixels):
    tensors = random_tensors(tiny)
    plain = models.build_model(tiny, num_classes=10)
    folded = models.build_model(tiny, num_classes=10, fold_batch_norm=True)
    with pytest.raises(ModelError) as error:
        weight_loading.load_reference(folded, tensors, averaged=False)
    assert str(error.value) == (
        "tiny has its batch normalisation folded into the convolutions; load into a "
        "plain model, then use models.stem_forms.copy_weights"
    )
    weight_loading.load_reference(plain, tensors, averaged=False)
    stem_forms.copy_weights(plain, folded)
    expected = plain(random_pixels).numpy()
    assert_near(folded(random_pixels).numpy(), expected, terms(plain))


# Weights of something else


def zeros(variant, num_classes=1000):
    """The tensors of a variant by the reference's names, in no memory."""
    specs = variables(get_variant(variant), num_classes)
    return {v.name: np.broadcast_to(np.float32(0), v.shape) for v in specs}


def timm_zeros(network):
    shapes = read_json("models/timm.json.xz")[network]["shapes"]
    return {name: np.broadcast_to(np.float32(0), s) for name, s in shapes.items()}


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


def refused(model, load, tensors, **options):
    """The message, after a look at whether anything has changed."""
    before = [v.numpy() for v in model.weights]
    with pytest.raises(ModelError) as error:
        load(model, tensors, **options)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    return str(error.value)


X_B0 = "efficientnet-x-b0 or efficientnet-x-tpu-b0 or efficientnet-x-gpu-b0"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            lambda: zeros("efficientnet-x-b1"),
            "blocks_0/se/conv2d/kernel has the shape (1, 1, 128, 16), not "
            "(1, 1, 128, 32) in efficientnet-x-b0; of the table, efficientnet-x-b1 "
            "would fit",
        ),
        (
            lambda: {f"b5/{k}": v for k, v in zeros("efficientnet-b5", 7).items()},
            "b5/stem/conv2d/kernel has the shape (3, 3, 3, 48), not (3, 3, 3, 32) in "
            "efficientnet-x-b0; of the table, efficientnet-b5 would fit",
        ),
        (
            lambda: zeros("efficientnet-x-tpu-b1"),
            "blocks_0/se/conv2d/kernel has the shape (1, 1, 128, 16), not "
            "(1, 1, 128, 32) in efficientnet-x-b0; of the table, "
            "efficientnet-x-tpu-b1 or efficientnet-x-gpu-b1 would fit",
        ),
        (
            lambda: zeros("efficientnet-x-b0", 10),
            "head/dense/kernel has the shape (1280, 10), not (1280, 1000) in "
            "efficientnet-x-b0; all else fits: new_head=True leaves the classifier out",
        ),
        (
            lambda: without(zeros("efficientnet-x-b0"), "head/dense/bias"),
            "there is no tensor for head/dense/bias of shape (1000,); all else fits: "
            "new_head=True leaves the classifier out",
        ),
        (
            lambda: without(zeros("efficientnet-x-b0"), "blocks_3/conv2d/kernel"),
            "there is no tensor for blocks_3/conv2d/kernel of shape (5, 5, 24, 144); "
            "of the table, no variant would fit",
        ),
        (
            lambda: zeros("efficientnet-x-b0") | {"net/blocks_99/conv2d/kernel": [1]},
            "net/blocks_99/conv2d/kernel has no place in efficientnet-x-b0; of the "
            "table, no variant would fit",
        ),
        (
            lambda: zeros("efficientnet-x-b0") | {"ema/stem/conv2d/kernel": [1]},
            "stem/conv2d/kernel and ema/stem/conv2d/kernel are both stem/conv2d/kernel",
        ),
        (
            lambda: {"global_step": np.int64(1)},
            "no tensor has a name of the authors', such as stem/conv2d/kernel",
        ),
    ],
)
def test_tensors_that_do_not_fit(tensors, message, built):
    model = built("efficientnet-x-b0")
    found = refused(model, weight_loading.load_reference, tensors(), averaged=False)
    assert found == message


def test_averages_that_are_not_there_or_all_that_there_is(built):
    model = built("efficientnet-x-b0")
    raw = zeros("efficientnet-x-b0")
    assert refused(model, weight_loading.load_reference, raw) == (
        "the tensors have no averages; averaged=False loads the raw weights"
    )
    averages = {f"{name}{AVERAGE}": value for name, value in raw.items()}
    assert refused(model, weight_loading.load_reference, averages, averaged=False) == (
        "the tensors are averages alone; averaged=True loads them"
    )


def test_other_widths_than_the_table_has(tiny):
    model = models.build_model("efficientnet-x-b0", width_coefficient=0.5)
    tensors = zeros("efficientnet-x-b0")
    message = refused(model, weight_loading.load_reference, tensors, averaged=False)
    assert message == (
        "stem/conv2d/kernel has the shape (3, 3, 3, 32), not (3, 3, 3, 16) in "
        "efficientnet-x-b0; efficientnet-x-b0 as it is in the table would fit: this "
        "one was changed"
    )


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            lambda: timm_zeros("efficientnet_x_b3"),
            "conv_stem.weight has the shape (3, 3, 3, 40) in TensorFlow's layout, not "
            "(3, 3, 3, 32) in efficientnet-b0; of the table, efficientnet-x-b3-timm "
            "would fit",
        ),
        (
            lambda: timm_zeros("tf_efficientnet_b0"),
            "classifier.weight has the shape (1280, 32) in TensorFlow's layout, not "
            "(1280, 1000) in efficientnet-b0; all else fits: new_head=True leaves the "
            "classifier out",
        ),
        (
            lambda: without(timm_zeros("tf_efficientnet_b0"), "blocks.1.0.bn1.bias"),
            "there is no tensor for blocks_1/tpu_batch_normalization/beta of shape "
            "(96,); of the table, no variant would fit",
        ),
        (
            lambda: timm_zeros("tf_efficientnet_b0") | {"blocks.1.0.gate.weight": [1]},
            "classifier.weight has the shape (1280, 32) in TensorFlow's layout, not "
            "(1280, 1000) in efficientnet-b0; of the table, no variant would fit",
        ),
        (
            lambda: {"encoder.weight": np.zeros(3)},
            "there is no conv_stem.weight as in timm's EfficientNets",
        ),
    ],
)
def test_tensors_of_timm_that_do_not_fit(tensors, message, built):
    model = built("efficientnet-b0")
    assert refused(model, weight_loading.load_timm, tensors()) == message


def test_a_layer_of_timm_that_ours_lacks(built):
    tensors = timm_zeros("tf_efficientnet_b0") | {"blocks.1.0.gate.weight": [1]}
    message = refused(
        built("efficientnet-b0"), weight_loading.load_timm, tensors, new_head=True
    )
    assert message == (
        "blocks.1.0.gate.weight has no place in efficientnet-b0; of the table, no "
        "variant would fit"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "conv_stem.weight",
            np.ones((32, 3, 3, 3), np.int8),
            "int8 that are no finite",
        ),
        (
            "conv_stem.weight",
            np.full((32, 3, 3, 3), np.inf),
            "float64 that are no fini",
        ),
        ("bn1.running_var", np.full(32, -1e-9, np.float32), "variances below zero"),
        ("classifier.bias", np.full(1000, np.nan), "float64 that are no finite real"),
    ],
)
def test_numbers_that_are_none_of_weights(name, value, said, built):
    """Of the right shape: no other variant, and no new head, would mend them."""
    tensors = timm_zeros("tf_efficientnet_b0") | {
        "classifier.weight": np.zeros((1000, 1280), np.float32),
        "classifier.bias": np.zeros(1000, np.float32),
    }
    found = refused(
        built("efficientnet-b0"), weight_loading.load_timm, tensors | {name: value}
    )
    assert found.startswith(f"{name} holds {said}")
    assert ";" not in found


@pytest.mark.parametrize("prefixes", [("student.", "teacher."), ("", "ema_model.")])
def test_two_networks_in_one_file(prefixes, built):
    """Which of them is meant nobody can know."""
    model, state = built("efficientnet-b0"), timm_zeros("tf_efficientnet_b0")
    tensors = {first + name: state[name] for first in prefixes for name in state}
    for load, stem in (
        (weight_loading.load_timm, "conv_stem.weight"),
        (weight_loading.load_efficientnet_pytorch, "_conv_stem.weight"),
    ):
        if load is not weight_loading.load_timm:
            tensors = {f"{first}{stem}": np.zeros(3) for first in prefixes}
        assert refused(model, load, tensors) == (
            f"there are several networks, {prefixes[0]}{stem} and {prefixes[1]}{stem}: "
            "save the tensors of one of them alone"
        )


def test_prefixes_of_timm():
    model = models.build_model("efficientnet-b0", num_classes=3, resolution=32)
    shapes = read_json("models/timm.json.xz")["tf_efficientnet_b0"]["shapes"]
    state = timm_weights.state_dict("tf_efficientnet_b0", shapes)
    kernel = model.get_layer("stem_conv").kernel
    depthwise = model.get_layer("block_15").forward_layers[3]
    for tensors in (
        state,
        {f"module.{name}": value for name, value in state.items()} | {"epoch": 3},
        {f"state_dict.module.{name}": value for name, value in state.items()},
        {"state_dict": state, "epoch": 3},
    ):
        kernel.assign(kernel.numpy() + 1)
        weight_loading.load_timm(model, tensors, new_head=True)
        np.testing.assert_array_equal(
            kernel.numpy(), state["conv_stem.weight"].transpose(2, 3, 1, 0)
        )
    np.testing.assert_array_equal(
        depthwise.kernel.numpy(),
        state["blocks.6.0.conv_dw.weight"].transpose(2, 3, 0, 1),
    )


# By path


def test_by_path(tiny):
    source = models.build_model(tiny, num_classes=10, seed=1)
    model = models.build_model(tiny, num_classes=10, seed=2)
    tensors = {v.path: v.numpy() for v in source.weights}
    weight_loading.load_by_path(model, tensors)
    assert_equal(values_of(model), values_of(source))

    fewer = models.build_model(tiny, num_classes=2)
    assert refused(fewer, weight_loading.load_by_path, tensors) == (
        "classifier/kernel has the shape (64, 10), not (64, 2) in tiny; all else fits: "
        "new_head=True leaves the classifier out"
    )
    weight_loading.load_by_path(fewer, tensors, new_head=True)
    np.testing.assert_array_equal(fewer.weights[0].numpy(), source.weights[0].numpy())
    tensors = without(tensors, "stem_conv/kernel")
    message = refused(model, weight_loading.load_by_path, tensors)
    assert re.match(r"there is no tensor for stem_conv/kernel of shape \(3,", message)
