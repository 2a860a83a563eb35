"""How much an image counts in the training loss: by its class."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from common import checks, console
from common.checks import Rule
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo

BALANCED = "balanced"
ClassWeights = str | Mapping[str, float]

_MOST = 1e6
_BY_NAME = checks.mapping(
    lambda name: isinstance(name, str), checks.between(0, _MOST).holds, ""
)
RULE = Rule(
    lambda value: value is None or value == BALANCED or _BY_NAME.holds(value),
    f"None, {BALANCED!r} or a mapping from names of classes to weights of 0 to "
    f"{_MOST:,.0f}, as in {{'cat': 2.5}}",
)


def of_classes(
    class_weights: ClassWeights | None,
    info: DatasetInfo,
    *,
    split: str,
    data_dir: str,
    classes: int,
) -> np.ndarray | None:
    """Return the weight of every class of the model.

    Args:
      class_weights: `Experiment.class_weights`. By name, a class that is not named has
        1. "balanced" is N / (K * n) for a class of n of the N training images, K the
        number of classes that have any, as in scikit-learn's compute_class_weight.
      info: of the data.
      split: that is learnt from.
      data_dir: where the data are, for messages.
      classes: logits of the model, as many as the data have labels or more.

    Returns:
      float32[classes], or None where `class_weights` is.

    Raises:
      UserError: a name is no class or that of two, or all weights are 0; or nobody has
        counted the images of each class.
    """
    if class_weights is None:
        return None
    if not info.label_names:  # of which preflight was told nothing but their number
        return np.ones(classes, np.float32)
    if isinstance(class_weights, str):
        named = _balanced(_counts(info, split, data_dir))
    else:
        named = _by_name(class_weights, info.label_names, data_dir)
    weights = np.ones(classes)
    weights[: len(named)] = named
    return weights.astype(np.float32)


def _by_name(
    class_weights: Mapping[str, float], names: Sequence[str], data_dir: str
) -> np.ndarray:
    weights = np.ones(len(names))
    for name, weight in class_weights.items():
        count = names.count(name)
        if count > 1:
            raise UserError(
                f"Experiment.class_weights: {count} classes of {data_dir} are called "
                f"{name!r}, so the name tells none; leave it out, or give them "
                "different names in label_names of dataset_info.json"
            )
        if not count:
            near = checks.nearest_names(name, names)
            meant = f"did you mean {' or '.join(map(repr, near))}?"
            known = console.named(map(repr, names))
            raise UserError(
                f"Experiment.class_weights: {data_dir} has no class {name!r}; "
                + (meant if near else f"its {len(names)} classes are {known}")
            )
        weights[names.index(name)] = weight
    if not np.float32(weights).any():
        raise UserError(
            "Experiment.class_weights: the weights of all classes are 0, so that "
            "nothing would be learnt; leave one above 0"
        )
    return weights


def _counts(info: DatasetInfo, split: str, data_dir: str) -> np.ndarray:
    """Return the images of each class of a split."""
    counts = info.split(split).images
    if counts is not None:
        return np.array(counts, dtype=np.float64)
    mend = (
        "start the command that prepared it again, which counts them in a finished "
        "folder and writes no image anew; or "
    )
    whole, bracket, _ = split.partition("[")
    if bracket and info.split(whole).images is not None:
        mend = ""  # some files of a split are not counted by themselves
    raise UserError(
        f"Experiment.class_weights = {BALANCED!r}: {data_dir} does not say how many "
        f"images of each class {split!r} has; {mend}name the weights, as in "
        "{'cat': 2.5}"
    )


def _balanced(counts: np.ndarray) -> np.ndarray:
    has_any = counts > 0
    return np.divide(
        counts.sum(),
        has_any.sum() * counts,
        out=np.ones_like(counts),  # of what never comes
        where=has_any,
    )


def of_images(
    targets: tf.Tensor, class_weights: np.ndarray, label_smoothing: float
) -> tf.Tensor:
    """Return float32[B]: of a mixed image, its classes' weights by their shares.

    That is sum_c h_c w_c, where h is the target before smoothing: one-hot, or the
    mixture of two that mixup and CutMix make. What smoothing spreads over all classes
    says nothing of the image, and would draw all weights towards their mean. So does
    PyTorch: it divides by the weights of the labels, smoothed or not.

    Args:
      targets: float32[B, C], smoothed and then mixed; all zero is not an image, and
        its weight is 0.
      class_weights: float32[C].
      label_smoothing: of the targets, in [0, 1).
    """
    spread = label_smoothing / len(class_weights)
    # Not below 0 where rounding has made less than `spread` of it.
    shares = tf.maximum(targets - spread, 0.0) / (1.0 - label_smoothing)
    # No matrix product: a TPU would round its factors to bfloat16.
    return tf.reduce_sum(shares * tf.constant(class_weights), axis=1)


def divide(value: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return value / weight; the value, which is 0, where no image has any weight."""
    return value / tf.where(weight > 0, weight, 1.0)
