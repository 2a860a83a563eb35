"""The card of an export: what somebody needs who has nothing but its files."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from common import gfiles
from common.version import VERSION
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.preprocess import CUBIC_COEFFICIENT, EvalCrop, central_share
from models.layers import Normalize
from train.exports.formats.forms import FORMS, SAVED_MODEL
from train.exports.formats.writing import paths_of

FILENAME = "card.json"
_SIGNATURES = {
    "serving_default": "image_bytes string[B]: JPEG or PNG",
    "images": "images float32[B, S, S, 3]: pixels",
    "images_uint8": "images uint8[B, S, S, 3]: pixels",
}
_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "onnx", "onnxruntime", "tf2onnx")


def describe(
    model: keras.Model, crop: EvalCrop, classes: DatasetInfo, checkpoint: str
) -> dict[str, Any]:
    """Return what is true of every form: the network, its pixels and its classes.

    Args:
      model: the SavedModel's.
      crop: what the evaluation makes of a photo.
      classes: their names.
      checkpoint: whose averaged weights these are.
    """
    size, outputs = model.input_shape[1], model.output_shape[-1]
    numbered = map(str, range(len(classes.label_names), outputs))
    colors: dict[str, Any] = {}
    for layer in model.layers:
        if isinstance(layer, Normalize):
            colors = {"mean_rgb": layer.mean_rgb, "std_rgb": layer.std_rgb}
    return {
        "network": model.name,
        "parameters": model.count_params(),
        "resolution": size,
        "pixels": {
            "shape": ["batch", size, size, 3],
            "order": "RGB",
            "range": [0, 255],
            "normalised": "inside the network: (pixels - mean_rgb) / std_rgb",
            **colors,
        },
        "preprocessing": _preprocessing(crop, size),
        "outputs": {
            "logits": ["batch", outputs],
            "probabilities": ["batch", outputs],
        },
        "labels": [*classes.label_names, *numbered],
        "checkpoint": checkpoint,
        "program": f"efficientnet-x {VERSION}",
    }


def _preprocessing(crop: EvalCrop, resolution: int) -> dict[str, Any]:
    """Return how a photo becomes pixels, for somebody with other libraries.

    The name of a resize says too little: most programs' bicubic has another kernel and
    is antialiased, which gives some photos other classes.
    """
    found: dict[str, Any] = {
        "before": "upright by EXIF orientation; on white where it is transparent",
        "resize": crop.resize,
        "antialiased": False,
        "half_pixel_centers": crop.resize.endswith("half_pixels"),
    }
    if crop.resize == "bicubic":
        found["cubic_coefficient"] = CUBIC_COEFFICIENT
    if isinstance(crop.crop_fraction, str):
        found["crop"] = crop.crop_fraction
    else:
        found |= {
            "crop": f"the centre, {crop.crop_fraction:g} of the shorter side",
            "side": "floor(min(height, width) * side_of_shorter)",
            "side_of_shorter": central_share(resolution, crop.crop_fraction),
            "top": "(height - side + 1) // 2",
            "left": "(width - side + 1) // 2",
        }
    return found | {
        "crop_fraction": crop.crop_fraction,
        "pixels_of_the_evaluation": crop.pixels,
    }


def write(
    folder: str,
    description: Mapping[str, Any],
    report: Sequence[Mapping[str, Any]],
    check: Mapping[str, Any],
) -> None:
    """Write the card of an export whose files are all there.

    Args:
      folder: of the export.
      description: of `describe`.
      report: a row a form, as `writing.write` returns them; none of the SavedModel
        alone.
      check: how the SavedModel agrees with the evaluation.
    """
    rows = {row["form"]: row for row in report}
    forms = []
    for form in rows or (SAVED_MODEL,):
        paths = paths_of(folder, form)
        about: dict[str, Any] = {"form": form}
        if form == SAVED_MODEL:
            about |= {"signatures": _SIGNATURES}
        else:
            about |= {"input": "pixels", "type": FORMS[form].pixels}
        about |= dict(rows.get(form, {}))
        sha256 = {path: gfiles.sha256(f"{folder}/{path}") for path in paths}
        forms.append(about | {"sha256": sha256})
    card = {
        **description,
        "versions": _versions(),
        "compared": {
            key: check[key] for key in ("images_compared", "largest_logit_difference")
        },
        "forms": forms,
    }
    gfiles.write_json(f"{folder}/assets.extra/{FILENAME}", card)


def _versions() -> dict[str, str]:
    """Return the versions of what makes and runs forms, as far as it is installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra, or under another name
    return found
