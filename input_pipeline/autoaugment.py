"""AutoAugment (Cubuk et al., 2019): learnt pairs of RandAugment's ops.

"v0" is the policy of the authors' TF1 reference (tensorflow/tpu,
models/official/efficientnet/autoaugment.py), with which EfficientNet was trained.
"reduced_imagenet" is the paper's own, found on a part of ImageNet, as the Model Garden
has it: with v0's scales of magnitude, which for Posterize are not the paper's.
"""

import tensorflow as tf

from common import checks
from input_pipeline.randaugment import AtLevel, Policy, draw

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
    ops = sorted({_at_level(step) for steps in sub_policies for step in steps})
    rows = [
        [(ops.index(_at_level(step)), step[1]) for step in steps]
        for steps in sub_policies
    ]
    return draw(image, seed, Policy(ops, num_layers=2, sub_policies=rows))


def _at_level(step: Step) -> AtLevel:
    """Return the op, on AutoAugment's scales; equal ones need building once."""
    name, _, magnitude = step
    magnitude = 0 if name in _WITHOUT_MAGNITUDE else magnitude
    return AtLevel(name, magnitude, _TRANSLATE_CONST, _CUTOUT_CONST)
