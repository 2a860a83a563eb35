"""What of a supernet's weights a network has."""

import numpy as np
import pytest

import models
from common.errors import UserError
from search import spaces, supernet
from search.supernets import taking_over
from tests.search.supernets.portable import CLASSES, space
from tests.search.supernets.space import base
from tests.support.golden import undrawn


@pytest.fixture(scope="module")
def model():
    with undrawn():
        built = supernet.build_model(space(), CLASSES)
    for i, variable in enumerate(built.trainable_variables):
        count = np.prod(variable.shape)
        variable.assign(np.reshape(1000 * i + np.arange(count), variable.shape))
    return built


NETWORK = "s2d-reshuffle-1-2 / 1 k3 e1 se0.25 / 2 mbconv c8 n1 relu b1 skip"  # a corner


def test_first_channels_and_crops(model):
    network = space().decode(NETWORK)
    weights = taking_over.weights_for(model, space(), network)
    name = "reshuffle1_leave2_stage_1_block_0"
    layer = model.get_layer(name).branches[False]
    (_, (depthwise, _)) = layer.convolutions
    # Inside a section kernels of 3 and 5 are 2 and 3; a 2x2 is its lower right part.
    assert depthwise.kernel.shape[:2] == (3, 3)
    np.testing.assert_array_equal(
        weights["block_0/depthwise/kernel"], depthwise.kernel.numpy()[1:, 1:, :32]
    )
    project = model.get_layer("reshuffle1_leave2_stage_2_block_0").branches[False]
    kernel = project.project[0].kernel.numpy()
    np.testing.assert_array_equal(weights["block_1/project/kernel"], kernel[..., :8])
    head = model.get_layer("head_conv").kernel.numpy()
    np.testing.assert_array_equal(weights["head_conv/kernel"], head[:, :, :8])
    assert not any(path.startswith("block_0/expand/") for path in weights)
    assert not any(path.startswith("block_2/") for path in weights)


def test_copies_of_fewer_channels_are_picked_from_each():
    made = spaces.blocks(
        base(),
        {1: {"output_filters": [8, 16]}},
        space_to_depth=["none", "reshuffle 2-3"],
    )
    with undrawn():
        built = supernet.build_model(made, CLASSES)
    network = made.decode("s2d-reshuffle-2-3 / 1 c8")
    piece = next(
        one
        for one in taking_over.pieces(built, made, network)
        if one.path == "block_1/expand/kernel"
    )
    inputs = piece.indices[2]
    assert inputs is not None
    copies = [np.arange(start, start + 8) for start in (0, 16, 32, 48)]
    np.testing.assert_array_equal(inputs, np.concatenate(copies))


def test_refuses_another_network(model):
    network = space().decode(NETWORK)
    other = space().decode(NETWORK.replace("c8", "c16"))
    with undrawn():
        target = models.build_model(space().build(other), num_classes=CLASSES)
    with pytest.raises(UserError, match=r"is not the network s2d-reshuffle-1-2 / 1 k3"):
        taking_over.take_over(model, space(), network, target)
