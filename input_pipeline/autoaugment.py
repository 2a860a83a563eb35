"""AutoAugment (Cubuk et al., 2019): learnt pairs of RandAugment's ops.

"v0" is the policy of the authors' TF1 reference (tensorflow/tpu,
models/official/efficientnet/autoaugment.py), with which EfficientNet was trained.
"reduced_imagenet" is the paper's own, found on a part of ImageNet, as the Model Garden
has it: with v0's scales of magnitude, which for Posterize are not the paper's.
"""

from collections.abc import Callable

import tensorflow as tf

from common import checks
from input_pipeline.randaugment import apply_op, one_of

# The reference's, which differ from RandAugment's.
_TRANSLATE_CONST = 250  # pixels
_CUTOUT_CONST = 100

_WITHOUT_MAGNITUDE = ("AutoContrast", "Equalize", "Invert")

Step = tuple[str, float, int]  # the op, its probability, its magnitude from 0 to 10
SubPolicy = tuple[Step, Step]

POLICIES: dict[str, tuple[SubPolicy, ...]] = {
    "v0": (
        (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
        (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
        (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
        (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
        (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
        (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
        (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
        (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
        (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
        (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
        (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
        (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
        (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
        (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
        (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
        (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
        (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
        (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
        (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
        (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
        (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
        (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
        (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
        (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
        (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
    ),
    "reduced_imagenet": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
        (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
        (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    ),
}


@checks.rules(policy=checks.one_of(*POLICIES))
def auto_augment(image: tf.Tensor, seed: tf.Tensor, *, policy: str = "v0") -> tf.Tensor:
    """Apply one sub-policy, drawn with equal chances: each step with its probability.

    Args:
      image: uint8[H, W, 3] of static shape.
      seed: int32 or int64 [2], of no other augmentation; the result depends on it and
        the image alone.
      policy: one of `autoaugment.POLICIES`.

    Returns:
      uint8[H, W, 3].

    Raises:
      UserError: an unknown policy.
    """
    sub_policies = POLICIES[policy]
    ops = sorted({_op(step) for steps in sub_policies for step in steps})
    indices = [[ops.index(_op(step)) for step in steps] for steps in sub_policies]
    chances = [[step[1] for step in steps] for steps in sub_policies]

    choice, *draws = tf.unstack(tf.random.stateless_uniform([3, 4], seed))
    chosen = tf.cast(choice[0] * len(sub_policies), tf.int32)
    branches = [*map(_at_level, ops), lambda image, sign, center: image]
    apply = one_of(branches, image.shape.as_list())
    for index, chance, draw in zip(
        tf.unstack(tf.gather(indices, chosen)),
        tf.unstack(tf.gather(chances, chosen)),
        draws,
        strict=True,
    ):
        image = apply(image, tf.where(draw[0] < chance, index, len(ops)), draw[1:])
    return image


def _op(step: Step) -> tuple[str, int]:
    """Return the op and its magnitude, of which only different ones need building."""
    name, _, magnitude = step
    return name, 0 if name in _WITHOUT_MAGNITUDE else magnitude


def _at_level(op: tuple[str, int]) -> Callable[..., tf.Tensor]:
    """Make the op at its magnitude, on AutoAugment's scales."""
    name, magnitude = op
    return lambda image, sign, center: apply_op(
        image,
        name,
        magnitude,
        sign,
        center,
        translate_const=_TRANSLATE_CONST,
        cutout_const=_CUTOUT_CONST,
    )
