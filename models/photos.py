"""How the authors of a network make its images of photos. Imports no framework.

Sources: tensorflow/tpu, models/official/efficientnet, main.py and preprocessing.py (for
Lite bilinear in training, evaluation and export alike); google/automl, efficientnetv2,
preprocessing.py and preprocess_legacy.py.
"""

from typing import NamedTuple

_EIGHTH = 0.875  # an eighth is cut off: 32 of 256 px
_WHOLE_FROM = 320  # px, in EfficientNetV2's -s to -xl


class PhotoForm(NamedTuple):
    """How a photo becomes an image: fields of `input_pipeline.preprocess.EvalCrop`.

    Attributes:
      resize: "bicubic", "bilinear" or "bilinear_half_pixels"; of training, too.
      crop_fraction: side of the evaluation's square, as a share of the shorter side;
        "squash" for the whole photo, whatever its proportions.
    """

    resize: str
    crop_fraction: float | str


def of_authors(variant: str, resolution: int) -> PhotoForm:
    """Return what the authors of a network do.

    Args:
      variant: its name; of one that is not in the table, what the reference does.
      resolution: of the evaluation in pixels. EfficientNetV2's evaluation cuts 32 px
        off, whatever its resolution; below 224 px, where that would be more than an
        eighth, an eighth.
    """
    if variant.startswith("efficientnet-lite"):
        return PhotoForm("bilinear", _EIGHTH)
    if not variant.startswith("efficientnetv2-"):
        return PhotoForm("bicubic", _EIGHTH)
    fraction = max(_EIGHTH, resolution / (resolution + 32))
    if variant.startswith("efficientnetv2-b"):
        return PhotoForm("bicubic", fraction)
    is_large = resolution >= _WHOLE_FROM
    return PhotoForm("bilinear_half_pixels", "squash" if is_large else fraction)
