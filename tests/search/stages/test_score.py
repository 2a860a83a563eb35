"""Scores of networks in a supernet: which images they are of, and its weights."""

import numpy as np
import pytest

import models
from search.stages import score
from tests.models.nets import QUIET
from tests.search.supernets.alone import CLASSES, Pair
from tests.search.supernets.portable import space
from train.weights import pretrained


@pytest.mark.parametrize(
    ("images", "size", "replicas", "found"),
    [
        (500, 100, 1, (100, 5)),
        (500, 128, 1, (128, 3)),  # 116 images are in no batch, for all networks alike
        (100, 128, 1, (100, 1)),
        (101, 128, 4, (100, 1)),
        (3, 128, 4, (4, 1)),  # padded: there is no other way
    ],
)
def test_batches_are_whole(images, size, replicas, found):
    assert score.whole_batches(images, size, replicas) == found


@pytest.mark.long
def test_the_weights_of_a_network_out_of_the_supernet(tmp_path):
    """Written, and read as a training reads them: it computes what the supernet does.

    By the batch's statistics, which a supernet takes in evaluation, too.
    """
    path = str(tmp_path / "found.safetensors")
    pair = Pair(space())
    network = space().decode(
        "s2d-reshuffle-1-2 / 1 k3 e1 se0.25 / 2 mbconv c8 n1 relu b1 skip"
    )
    alone = score.alone_from(pair.model, space(), network)
    for variable in alone.non_trainable_variables:
        variable.assign(np.linspace(0.5, 1, variable.shape[0]))
    score._write(alone, path)
    read = models.build_model(space().build(network), num_classes=CLASSES, **QUIET)
    pretrained.load(read, path=path)
    for one, other in zip(read.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    pair.choices.selection.assign(pair.selection.of(network))
    expected = pair.model(pair.pixels, training=False).numpy()
    found = read(pair.pixels, training=True).numpy()
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
