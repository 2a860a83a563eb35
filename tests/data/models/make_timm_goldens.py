"""Makes timm.json.xz: `python -m tests.data.models.make_timm_goldens`, with torch.

The file in the repository was made by timm 1.0.31 and torch 2.13.0 on a CPU. It holds,
by timm's name of a network, the shapes of its state dict and, by size of the images,
its logits with the weights and images of tests/peers/timm_weights.py.
"""

import json
import lzma
import pathlib

from tests.peers.run_timm import run

NETWORKS = (
    "efficientnet_x_b3",
    "efficientnet_h_b5",
    "tf_efficientnet_b0",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite4",
    "tf_efficientnetv2_b0",
    "tf_efficientnetv2_b3",
    "tf_efficientnetv2_s",
)


def main():
    """Writes the file."""
    goldens = {}
    for network in NETWORKS:
        state, logits = run(network)
        goldens[network] = {
            "shapes": {name: list(tensor.shape) for name, tensor in state.items()},
            "logits": {size: values.tolist() for size, values in logits.items()},
        }
    path = pathlib.Path(__file__).with_name("timm.json.xz")
    path.write_bytes(lzma.compress(json.dumps(goldens).encode()))


if __name__ == "__main__":
    main()
