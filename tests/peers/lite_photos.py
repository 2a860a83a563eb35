"""The photos of the golden evaluation images, as every framework may be given them."""

import numpy as np

from tests.support.golden import DATA

NAMES = ("astronaut", "camera", "cat", "coffee")


def pixels():
    """Return float32[4, 224, 224, 3] in 0..255, with bicubic's overshoots."""
    with np.load(DATA / "input_pipeline/preprocess_eval.npz") as arrays:
        return np.stack([arrays[f"{name}_eval224"] for name in NAMES])
