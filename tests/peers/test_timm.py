"""timm's own code against ours; tests/models/test_timm_goldens.py needs no torch."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tests.models.rounding import atol, terms
from tests.peers import timm_weights
from train.weights import pretrained

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="needs timm"),
]


@pytest.mark.parametrize("network", timm_weights.NETWORKS)
def test_logits(network, tmp_path):
    path = tmp_path / "timm.npz"
    command = [sys.executable, "-m", "tests.peers.run_timm", network, str(path)]
    subprocess.run(command, check=True)
    with np.load(path) as arrays:
        state = dict(arrays)
    expected = {size: state.pop(f"logits {size}") for size in timm_weights.SIZES}

    model = timm_weights.our_network(network, state)
    for size in timm_weights.SIZES:
        logits = timm_weights.our_logits(model, size)
        difference = np.abs(logits - expected[size]).max()
        largest = np.abs(expected[size]).max()
        print(f"{network} at {size}: {difference:.1e} of {largest:.1f}")
        assert largest > 0.5  # activations have not died out on the way
        assert difference < atol(terms(model), expected[size])


def test_a_file_of_torchs(tmp_path):
    path = tmp_path / "model.pth"
    save = "import sys, torch; w = torch.ones(2, 3)\n"
    save += "torch.save({'state_dict': {'conv_stem.weight': w}}, sys.argv[1])"
    subprocess.run([sys.executable, "-c", save, str(path)], check=True)
    kind, tensors = pretrained.read(str(path))
    assert kind == "timm"
    np.testing.assert_array_equal(tensors["conv_stem.weight"], np.ones((2, 3)))
