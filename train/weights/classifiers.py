"""A network that classifies, from weights alone: no run, no export."""

import re
from typing import NamedTuple

import keras

import models
from common import gfiles
from common.console import count, say
from common.errors import UserError
from train.weights import pretrained, registry

# What the bias of the classifier is called by those whose weights are read.
_BIAS = re.compile(
    r"(?:^|[./])(?:classifier|_fc|dense)[./]bias(?:/ExponentialMovingAverage)?$"
)


class Network(NamedTuple):
    """What weights are of.

    Attributes:
      variant: of the network.
      names: of its classes, in the order of the logits.
    """

    variant: str
    names: tuple[str, ...]


def describe(path: str, *, variant: str | None = None, labels: str = "") -> Network:
    """Return the network that weights are of, and its classes.

    Args:
      path: of the weights, or a name of the registry: see `pretrained.load`.
      variant: of the network; None for that of the name.
      labels: path of a text with the names of the classes, a line each; "" for those of
        the name of the registry, else their numbers.

    Raises:
      UserError: something cannot be read, or the names are of other classes.
    """
    row = registry.WEIGHTS.get(path)
    if variant is None:
        if row is None:
            raise UserError(f"{path} does not say its network: name its variant")
        variant = row.variant
    return Network(variant, _names(row, labels, number_of_classes(path)))


def load(path: str, network: Network) -> keras.Model:
    """Build a network and load its weights.

    Args:
      path: of the weights.
      network: what `describe` says of them.

    Returns:
      From pixels of 0..255 to logits, in float32.

    Raises:
      UserError: the weights cannot be read.
      ModelError: they are not of this variant.
    """
    classes = len(network.names)
    model = models.build_model(network.variant, num_classes=classes, dtype="float32")
    pretrained.load(model, path=path)
    return model


def number_of_classes(path: str) -> int:
    """Return how many classes weights tell apart.

    Raises:
      UserError: they cannot be read, or have no classifier.
    """
    _, tensors = pretrained.read(path, tell=False)  # it is read once more to load it
    for name in tensors:
        if _BIAS.search(name):
            return tensors[name].size
    raise UserError(f"{path} has no classifier: its weights are of the features alone")


def _names(
    row: registry.PretrainedWeights | None, labels: str, classes: int
) -> tuple[str, ...]:
    if labels:
        names = _read_names(labels)
        if len(names) != classes:
            raise UserError(
                f"{labels} has {count(len(names), 'name')}, and the weights tell apart "
                f"{count(classes, 'class', 'classes')}: it needs a line for each"
            )
        return names
    if row:
        return registry.class_names(row.labels)
    say("the classes go by their numbers: a file with a name in each line names them")
    return tuple(map(str, range(classes)))


def _read_names(path: str) -> tuple[str, ...]:
    try:
        text = gfiles.read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: save it as that") from error
    if text is None:
        raise UserError(f"there is no file {path}")
    # As an editor of Windows' leaves it, too.
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    names = [line.removesuffix("\r") for line in lines]
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise UserError(f"{path}: line {number} is empty, and names no class")
    return registry.each_once(names)
