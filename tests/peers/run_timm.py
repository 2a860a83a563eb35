"""Runs timm's own code: `python -m tests.peers.run_timm NETWORK FILE.npz`.

By itself, because torch's compiler crashes in a process that has loaded TensorFlow.
"""

import sys

import numpy as np
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

from tests.peers import timm_weights


def run(network):
    """Returns the state dict and, by size, the logits of a network of timm's."""
    model = timm.create_model(network, num_classes=timm_weights.NUM_CLASSES).eval()
    shapes = {name: list(t.shape) for name, t in model.state_dict().items()}
    state = timm_weights.state_dict(network, shapes)
    model.load_state_dict({name: torch.from_numpy(v) for name, v in state.items()})
    logits = {}
    for size in timm_weights.SIZES:
        images = timm_weights.normalized(network, timm_weights.pixels(size))
        with torch.no_grad():
            logits[str(size)] = model(torch.from_numpy(images)).numpy()
    return {name: t.numpy() for name, t in model.state_dict().items()}, logits


if __name__ == "__main__":
    state, logits = run(sys.argv[1])
    np.savez(sys.argv[2], **state, **{f"logits {s}": v for s, v in logits.items()})
