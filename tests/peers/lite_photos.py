"""The photos of the golden evaluation images, as every framework may be given them."""

import numpy as np

from tests.support.golden import DATA

NAMES = ("astronaut", "camera", "cat", "coffee")


def pixels(resolution):
    """Return float32[4, S, S, 3] in 0..255, with bicubic's overshoots.

    The photos of 224 pixels, with a mirrored rim around them. The torch code pads for
    the resolution of its network alone: at any other one it computes something else.
    """
    with np.load(DATA / "input_pipeline/preprocess_eval.npz") as arrays:
        images = np.stack([arrays[f"{name}_eval224"] for name in NAMES])
    rim = (resolution - images.shape[1]) // 2
    return np.pad(images, ((0, 0), (rim, rim), (rim, rim), (0, 0)), mode="reflect")
