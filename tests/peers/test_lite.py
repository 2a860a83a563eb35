"""The code of efficientnet_lite_pytorch, and of torch, against what is recorded."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tests.peers import lite_photos
from tests.support.golden import DATA
from train.weights import registry, torch_files

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not importlib.util.find_spec("efficientnet_lite_pytorch"),
        reason="needs efficientnet_lite_pytorch",
    ),
]


@pytest.mark.parametrize("name", registry.WEIGHTS)
def test_the_recorded_logits(name):
    """In float64: another machine's sums differ by its last bits alone."""
    from benchmarks.support import lite_torch

    pixels = lite_photos.pixels(registry.WEIGHTS[name].resolution)
    with np.load(DATA / "train/lite_logits.npz") as arrays:
        expected = arrays[name]
    found = lite_torch.logits(name, pixels)["float64"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("name", ["numbers", "checkpoint"])
def test_what_torch_writes_today(form, name, tmp_path):
    command = [sys.executable, "-m", "tests.peers.make_torch_files", str(tmp_path)]
    subprocess.run(command, check=True)
    recorded = (DATA / f"train/torch_files/{name}-{form}.pth").read_bytes()
    expected = torch_files.read(recorded)
    found = torch_files.read((tmp_path / f"{name}-{form}.pth").read_bytes())
    assert found.tensors.keys() == expected.tensors.keys()
    assert found.skipped == expected.skipped
    for key in expected.tensors:
        np.testing.assert_array_equal(found.read(key), expected.read(key), strict=True)
