"""A supernet fixed to a network is that network."""

import dataclasses
import random
import threading

import keras
import numpy as np
import pytest

from common.errors import UserError
from models.variants import get_variant
from search import spaces, supernet
from search.supernets.selection import Selection
from tests.models.nets import tiny_v2
from tests.models.rounding import bfloat16_error
from tests.search.supernets.alone import CLASSES, Pair, block_layers
from tests.search.supernets.space import base, corner, rich_space


@pytest.fixture(scope="module")
def rich():
    return Pair(rich_space())


@pytest.mark.long
@pytest.mark.parametrize("best", [min, max])
def test_corners(rich, best):
    rich.assert_equal(corner(rich.space, best))


@pytest.mark.parametrize(
    "network",
    [
        "s2d-conv-1-2 / 1 fused k5 e2 c8 / 2 k3 e1 cx1.5 se0.5 swish"
        " / 3 mbconv c24 n-1 hard_swish b2 skip",
        "s2d-reshuffle-1-2 / 1 mbconv k5 e1 c8 / 2 k7 e4 cx0.5 se0 relu"
        " / 3 mbconv c16 n+1 sigmoid b2 noskip",
    ],
)
@pytest.mark.long
def test_sections_and_parts(rich, network):
    rich.assert_equal(rich.space.decode(network))


@pytest.mark.slow
def test_random_networks(rich):
    rng = random.Random(7)
    for _ in range(16):
        rich.assert_equal(rich.space.sample(rng))


@pytest.mark.slow
def test_random_networks_of_timms_dialect():
    pair = Pair(rich_space(base(dialect="timm")))
    rng = random.Random(8)
    for _ in range(8):
        pair.assert_equal(pair.space.sample(rng))


@pytest.mark.slow
def test_random_networks_of_odd_sizes():
    variant = base(resolution=54)  # 27, 14 and 7 pixels, or in a section 14, 14 and 7
    stages = {
        1: {"kernel_size": [1, 3, 5]},
        2: {"kernel_size": [7, 3, 5], "fused": [True, False]},
        3: {"kernel_size": [3, 1, 5], "skip": [True, False]},
    }
    for dialect in ("reference", "timm"):
        space = spaces.blocks(
            base(resolution=variant.resolution, dialect=dialect),
            stages,
            space_to_depth=["none", "conv 2-3", "reshuffle 1-2", "conv 1-3"],
        )
        pair, rng = Pair(space), random.Random(9)
        for _ in range(6):
            pair.assert_equal(space.sample(rng))


@pytest.mark.slow
def test_random_networks_of_the_papers_space():
    small = dataclasses.replace(
        get_variant("efficientnet-x-b0"),
        resolution=64,
        width_coefficient=0.25,
        dropout_rate=0.0,
    )
    pair, rng = Pair(spaces.paper(small)), random.Random(10)
    for _ in range(4):
        pair.assert_equal(pair.space.sample(rng))


def test_blocks_without_projection():
    variant = dataclasses.replace(tiny_v2(), dropout_rate=0.0)
    space = spaces.blocks(
        variant,
        {1: {"output_filters": [8, 24], "num_repeat": [1, 2], "skip": [True, False]}},
    )
    Pair(space).assert_equal((1, 0, 1))


def test_warm_up_is_between_the_alternatives(rich):
    block = block_layers(rich.model)[-1]
    assert (block.slot.stage, len(block.branches)) == (3, 2)
    inputs = np.random.default_rng(1).normal(size=(4, 4, 4, 24)).astype(np.float32)
    fused = [choice.name for choice in rich.space.choices].index("3.fused")
    vectors = np.stack([rich.selection.of(corner(rich.space, max))] * 3)
    where = rich.selection.slices[fused]
    vectors[:, where] = [(1, 0), (0, 1), (0.5, 0.5)]
    one, other, both = (block(inputs, v, training=True).numpy() for v in vectors)
    assert np.abs(one - other).max() > 1
    # A product and a sum more than either has.
    np.testing.assert_allclose(both, (one + other) / 2, atol=4 * 2.0**-23 * 20)


@pytest.mark.long
def test_warm_up_computes_and_learns_everything(rich):
    logits, gradients = rich.compute(rich.selection.warm_up())
    assert np.isfinite(logits).all()
    still = {path for path, g in gradients.items() if not np.abs(g).max() > 0}
    assert not still


def test_the_weight_counts_when_nobody_says_otherwise(rich):
    small, large = (rich.selection.of(corner(rich.space, best)) for best in (min, max))

    def logits(vector=None):
        if vector is None:
            return rich.model(rich.pixels, training=False).numpy()
        with rich.choices.selected(vector):
            return rich.model(rich.pixels, training=False).numpy()

    rich.choices.selection.assign(small)
    expected = logits()
    rich.choices.selection.assign(large)
    np.testing.assert_array_equal(logits(small), expected)
    assert np.abs(logits() - expected).max() > 0.1


def test_each_thread_has_its_selection(rich):
    vectors = [rich.selection.of(corner(rich.space, best)) for best in (min, max)]
    both, seen = threading.Barrier(2), {}

    def run(i):
        with rich.choices.selected(vectors[i]):
            both.wait()
            seen[i] = rich.choices(rich.pixels).numpy()
            both.wait()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, vector in enumerate(vectors):
        np.testing.assert_array_equal(seen[i], vector)


def test_evaluation_uses_the_batchs_statistics(rich):
    with rich.choices.selected(rich.selection.of(corner(rich.space, max))):
        evaluated = rich.model(rich.pixels, training=False)
        trained = rich.model(rich.pixels, training=True)
    np.testing.assert_allclose(evaluated, trained, rtol=0, atol=1e-5)
    assert not any("moving" in v.path for v in rich.model.weights)


SMALL = {
    1: {"kernel_size": [3, 5], "fused": [True, False]},
    3: {"output_filters": [8, 16], "num_repeat": [1, 2], "skip": [True, False]},
}


def test_bfloat16_is_near(rich):
    space = spaces.blocks(base(), SMALL)
    half, full = Pair(space, dtype="mixed_bfloat16"), Pair(space)
    vector = full.selection.of(corner(space, max))
    with half.choices.selected(vector), full.choices.selected(vector):
        found = half.model(full.pixels, training=True)
        expected = full.model(full.pixels, training=True).numpy()
    assert found.dtype == "float32"
    # Two bfloat16 roundings a layer: of what it writes, and of its kernel.
    limit = 2 * bfloat16_error(full.model) * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def test_residual_branches_survive_as_in_the_network_alone():
    space = spaces.blocks(base(), SMALL)
    selection = Selection(space)
    model = supernet.build_model(space, CLASSES, survival_prob=0.5)
    first, _, third, fourth = block_layers(model)

    def survival(block, **values):
        network = space.decode(
            f"1 fused k3 / 3 c8 n{values['repeats']} {values.get('skip', 'skip')}"
        )
        return float(block.survival_prob(block.read(selection.of(network))))

    assert survival(first, repeats=1) == 1
    assert survival(third, repeats=1) == pytest.approx(1 - 0.5 * 2 / 3)
    assert survival(third, repeats=2) == pytest.approx(1 - 0.5 * 2 / 4)
    assert survival(fourth, repeats=2) == pytest.approx(1 - 0.5 * 3 / 4)


def test_dropped_branches_leave_the_inputs():
    space = spaces.blocks(base(), SMALL)
    model = supernet.build_model(space, CLASSES, survival_prob=0.25)
    block = block_layers(model)[-1]
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(64, 4, 4, 16)).astype(np.float32)
    for skip in (True, False):
        text = f"1 fused k3 / 3 c16 n2 {'skip' if skip else 'noskip'}"
        vector = Selection(space).of(space.decode(text))
        outputs = block(inputs, vector, training=True).numpy()
        dropped = np.isclose(outputs, inputs, atol=1e-6).all(axis=(1, 2, 3))
        if skip:
            keep = 1 - 0.75 * 3 / 4
            assert abs(dropped.mean() - (1 - keep)) < 4 * np.sqrt(keep / 64)
            whole = block(inputs, vector, training=False).numpy() - inputs
            branch = (outputs - inputs)[~dropped] * keep
            np.testing.assert_allclose(branch, whole[~dropped], atol=1e-5)
        else:
            assert not dropped.any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"resolution": [32, 64]}, "resolution: a supernet cannot hold networks"),
        ({"stages": {1: {"strides": [1, 2]}}}, "1.strides: a supernet cannot hold"),
        ({"stages": {1: {"kernel_size": [3, 4]}}}, "1.kernel_size: 4: kernels share"),
        ({"stages": {1: {"activation": ["softmax", "relu"]}}}, "stage 1: softmax"),
        ({"network": {"head_filters": [16, 32]}}, "fix it in the base, or search it"),
        ({"space_to_depth": ["none", "conv 2-3", "conv 3-2"]}, "closes in a later"),
        ({"space_to_depth": ["none", "conv 1-2"], "base": base(resolution=4)}, "small"),
    ],
)
def test_refuses_what_one_network_cannot_contain(given, says):
    with pytest.raises(UserError, match=says):
        supernet.build_model(spaces.blocks(**{"base": base(), **given}), CLASSES)


def test_refuses_settings():
    space = spaces.blocks(base(), SMALL)
    with pytest.raises(UserError, match="num_classes = None is for the config"):
        supernet.build_model(space, None)
    with pytest.raises(UserError, match="with the parentheses"):
        supernet.build_model(spaces.blocks, CLASSES)  # type: ignore[arg-type]


def test_one_value_is_no_choice_whatever_its_field():
    space = spaces.blocks(
        base(), SMALL, resolution=[64], network={"head_filters": [24]}
    )
    model = supernet.build_model(space, CLASSES)
    assert model.input_shape == (None, 64, 64, 3)
    assert model.get_layer("head_conv").filters == 24


def test_says_that_it_is_not_saved_as_a_model(rich, tmp_path):
    with pytest.raises(UserError, match="keep its checkpoint"):
        rich.model.save(tmp_path / "model.keras")


def test_no_supernet_has_no_choices():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(UserError, match=r"is no supernet: bind"):
        supernet.choices_of(model)
