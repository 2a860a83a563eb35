"""Runs networks of timm's as they are, translated, and padded: results to a .npz.

python -m tests.benchmarks.timm_process NETWORK RESOLUTION FILE.npz
"""

# pyright: reportMissingImports=false
import sys

import jax
import numpy as np
import timm
import torch

from benchmarks.support import timm_networks


def randomise(model):
    """Gives every weight a value that counts; timm starts some at zero."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.ndim == 1 and "weight" in name):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.normal_(0, 0.1, generator=generator)
        elif tensor.ndim:
            fan_in = tensor[0].numel()
            tensor.normal_(0, fan_in**-0.5, generator=generator)


def by_jax(model, images):
    """Returns the logits of a network's translation."""
    logits, weights = timm_networks.translate(model, images)
    arrays = [tensor.detach().numpy() for tensor in [*weights, images]]
    return np.asarray(jax.jit(logits)(*arrays))


def by_torch(model, images):
    """Returns the logits of the network itself."""
    with torch.inference_mode():
        return model(images).numpy()


def terms(model):
    """Returns how many products are summed up behind a logit, layer after layer."""
    weights = [m.weight for m in model.modules() if hasattr(m, "in_features")]
    weights += [m.weight for m in model.modules() if hasattr(m, "in_channels")]
    return sum(weight[0].numel() for weight in weights)


def kernels(model):
    """Returns groups and size of the first grouped kernel in each stage of a RegNet."""
    stages = model.s1, model.s2, model.s3, model.s4
    convolutions = [stage.b1.conv2.conv for stage in stages]
    return [(c.groups, *c.weight.shape[:2]) for c in convolutions]


def main(network, resolution, target):
    model = timm.create_model(network).eval()
    randomise(model)
    images = torch.randn(2, 3, resolution, resolution)
    results = {
        "terms": np.array(terms(model)),
        "torch": by_torch(model, images),
        "jax": by_jax(model, images),
    }
    if network.startswith("regnet"):
        timm_networks.pad_groups(model)
        results["padded, torch"] = by_torch(model, images)
        results["padded, jax"] = by_jax(model, images)
        results["padded kernels"] = np.array(kernels(model))
    np.savez(target, **results)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
