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


class Classifier(NamedTuple):
    """A network with weights.

    Attributes:
      model: from pixels of 0..255 to logits, in float32.
      names: of its classes, in the order of the logits.
    """

    model: keras.Model
    names: tuple[str, ...]


def load(path: str, *, variant: str | None = None, labels: str = "") -> Classifier:
    """Build the network that weights are of, and load them.

    Args:
      path: of the weights, or a name of the registry: see `pretrained.load`.
      variant: of the network; None for that of the name.
      labels: path of a text with the names of the classes, a line each; "" for those of
        the name of the registry, else their numbers.

    Raises:
      UserError: something cannot be read, or the names are of other classes.
      ModelError: the weights are not of this variant.
    """
    row = registry.WEIGHTS.get(path)
    if variant is None:
        if row is None:
            raise UserError(f"{path} does not say its network: name its variant")
        variant = row.variant
    classes = number_of_classes(path)
    names = _names(row, labels, classes)
    model = models.build_model(variant, num_classes=classes, dtype="float32")
    pretrained.load(model, path=path)
    return Classifier(model, names)


def number_of_classes(path: str) -> int:
    """Return how many classes weights tell apart.

    Raises:
      UserError: they cannot be read, or have no classifier.
    """
    _, tensors = pretrained.read(path)
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
    return tuple(text.removesuffix("\n").split("\n"))
