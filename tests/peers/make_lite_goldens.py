"""Writes tests/data/train/lite_logits.npz: efficientnet_lite_pytorch's own logits.

    python -m tests.peers.make_lite_goldens FILE.npz

It runs the authors' torch code on the weights of the three packages, in float32 and in
float64, for the photos of tests/data/input_pipeline/preprocess_eval.npz at 224 pixels.
By itself, because torch's compiler crashes in a process that has loaded TensorFlow.
"""

import sys

import efficientnet_lite_pytorch  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from tests.peers import lite_photos
from train.weights import registry


def logits(name, pixels, dtype):
    """Return what their network says of pixels in 0..255, [N, S, S, 3]."""
    row = registry.WEIGHTS[name]
    weights = torch.load(registry.path(row), "cpu", weights_only=True)
    network = efficientnet_lite_pytorch.EfficientNet.from_name(name).eval()
    network.load_state_dict(weights)
    images = (pixels.transpose(0, 3, 1, 2) - 127.0) / 128.0
    with torch.no_grad():
        return network.to(dtype)(torch.from_numpy(images).to(dtype)).numpy()


def main(path):
    """Write the file."""
    pixels = lite_photos.pixels()
    found = {}
    for name in registry.WEIGHTS:
        found[name] = logits(name, pixels, torch.float64)
        single = logits(name, pixels, torch.float32)
        found[f"{name} float32"] = np.abs(single - found[name]).max()
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
