"""What trained weights say of photos, and how near they are to torch's: JSON.

    python -m benchmarks.pretrained

Takes each network whose weights a package brings along (make with-pretrained), and the
photos that scikit-image and scikit-learn ship (make with-benchmarks). Of each photo the
five likeliest classes; of each network the largest difference between its logits and
those of the package's own code on torch, for the same pixels (make with-peers; without
it they are null).
"""

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.support import machine, results
from common import cli, extras
from common.console import say
from common.errors import Status, UserError
from train.weights import registry

# By the package that is imported, where it is on PyPI, and its folder of pictures.
PHOTOS = {
    "skimage": (
        "scikit-image",
        "data",
        (
            "chelsea.png",
            "coffee.png",
            "camera.png",
            "motorcycle_left.png",
            "rocket.jpg",
            "astronaut.png",
        ),
    ),
    "sklearn": ("scikit-learn", "datasets/images", ("china.jpg", "flower.jpg")),
}
_TOP = 5
_DOES_NOT_SHOW = (
    "an accuracy: the photos are few, and none is of ImageNet; some show what is no "
    "class of it, as the astronaut"
)


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.pretrained", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Classify, compare, and print."""
    extras.require(*PHOTOS, task="benchmarks.pretrained")
    paths = _paths()
    with_torch = _has_torch()
    networks, answers = [], {}
    for name in registry.WEIGHTS:
        say(f"{name} ...", stays=False)
        network, answers[name] = _measured(name, [*paths.values()], with_torch)
        networks.append(network)
    photos = [
        {"photo": photo, "classes": {name: answers[name][i] for name in answers}}
        for i, photo in enumerate(paths)
    ]
    results.publish(
        {
            "benchmark": "pretrained",
            "machine": machine.describe(),
            "versions": _versions(with_torch),
            "does_not_show": _DOES_NOT_SHOW,
            "networks": networks,
            "photos": photos,
        },
        arguments.output,
    )
    return Status.OK


def _has_torch() -> bool:
    from benchmarks.support import lite_torch

    return extras.installed(*lite_torch.PACKAGES)


def _paths() -> dict[str, str]:
    """Return where the photos are, by package and file name."""
    found = {}
    for module, (package, folder, names) in PHOTOS.items():
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise UserError(f"{package} is no package of files: install it again")
        for name in names:
            found[f"{package} {name}"] = str(Path(spec.origin).parent / folder / name)
    return found


def _measured(
    name: str, paths: Sequence[str], with_torch: bool
) -> tuple[dict[str, Any], list[list[tuple[str, float]]]]:
    """Return how near a network's logits are, and the classes of each photo."""
    import numpy as np

    from train.weights import classifiers

    network = classifiers.describe(name)
    model = classifiers.load(name, network)
    pixels = _pixels(network.variant, model.input_shape[1], paths)
    logits = np.asarray(model(pixels, training=False), np.float64)
    row = registry.WEIGHTS[name]
    found: dict[str, Any] = {
        "name": name,
        "package": row.package,
        "resolution": row.resolution,
        "authors_top1": row.top1,
        "images": len(paths),
        "largest_logit": float(np.abs(logits).max()),
        "largest_difference": None,
        "torch_float32_difference": None,
        "same_first_class": None,
    }
    if with_torch:
        from benchmarks.support import lite_torch

        theirs = lite_torch.logits(name, pixels)
        exact = theirs["float64"]
        found |= {
            "largest_difference": float(np.abs(logits - exact).max()),
            "torch_float32_difference": float(np.abs(theirs["float32"] - exact).max()),
            "same_first_class": int((logits.argmax(-1) == exact.argmax(-1)).sum()),
        }
    return found, [_classes(one, network.names) for one in logits]


def _pixels(variant: str, resolution: int, paths: Sequence[str]) -> Any:
    """Return float32[N, S, S, 3]: what the network's authors make of photos."""
    import tensorflow as tf

    from input_pipeline import preprocess
    from train import datasets

    crop = datasets.authors_crop(variant, resolution)
    encoded = [tf.constant(Path(path).read_bytes()) for path in paths]
    images = [preprocess.eval_pixels(one, resolution, crop) for one in encoded]
    return tf.stack(images).numpy()


def _classes(logits: Any, names: Sequence[str]) -> list[tuple[str, float]]:
    import numpy as np

    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    best = np.argsort(-shares, kind="stable")[:_TOP]
    return [(names[i], round(float(shares[i]), 4)) for i in best]


def _versions(with_torch: bool) -> Mapping[str, str]:
    packages = ["tensorflow", "keras", *(package for package, *_ in PHOTOS.values())]
    if with_torch:
        packages += ["torch", "efficientnet-lite-pytorch"]
    return {package: metadata.version(package) for package in packages}


if __name__ == "__main__":
    sys.exit(main())
