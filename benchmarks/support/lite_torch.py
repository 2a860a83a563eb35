"""efficientnet_lite_pytorch on the weights of a package: what ours has to agree with.

    python -m benchmarks.support.lite_torch NAME PIXELS.npy LOGITS.npz

By itself, because torch's compiler crashes in a process that has loaded TensorFlow.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from train.weights import registry

PACKAGES = ("torch", "efficientnet_lite_pytorch")


def logits(name: str, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Run the other code in a process of its own.

    Args:
      name: of the registry.
      pixels: float32[N, S, S, 3] in 0..255.

    Returns:
      Its logits, [N, classes], by the type of the computation: float32 and float64.
    """
    with tempfile.TemporaryDirectory() as folder:
        there, found = Path(folder, "pixels.npy"), Path(folder, "logits.npz")
        np.save(there, pixels)
        command = [sys.executable, "-m", __name__, name, str(there), str(found)]
        subprocess.run(command, check=True)
        with np.load(found) as arrays:
            return dict(arrays)


def _run(name: str, pixels: np.ndarray) -> dict[str, np.ndarray]:
    import efficientnet_lite_pytorch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    path = registry.path(registry.WEIGHTS[name])
    torch.set_num_threads(1)  # several would wait for each other on a busy machine
    network = efficientnet_lite_pytorch.EfficientNet.from_name(name).eval()
    network.load_state_dict(torch.load(path, "cpu", weights_only=True))
    # As its authors' TF code normalises; its own README does it alike.
    images = (pixels.transpose(0, 3, 1, 2).astype(np.float64) - 127) / 128
    found = {}
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            output = network.to(dtype)(torch.from_numpy(images).to(dtype))
            found[str(dtype).removeprefix("torch.")] = output.numpy()
    return found


if __name__ == "__main__":
    np.savez(sys.argv[3], **_run(sys.argv[1], np.load(sys.argv[2])))
