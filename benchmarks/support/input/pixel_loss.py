"""What becomes of evaluation's float32 when it is made uint8: pixels, and logits."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from common.project import ROOT
from input_pipeline import preprocess
from train import serving

_FOLDER = ROOT / "tests/data/input_pipeline"
_PHOTOS = ("astronaut", "camera", "cat", "coffee")


def measure(resolution: int, export_dir: str | None) -> dict[str, Any]:
    """Return what the JSON says of it.

    Args:
      resolution: in pixels.
      export_dir: a SavedModel of train.export, in a folder named like its network; its
        resolution counts for the logits.

    Raises:
      UserError: there is none.
    """
    exact = _photos(resolution)
    return {
        "photos": list(_PHOTOS),
        "nearest": _differences(exact, preprocess.nearest_uint8(exact)),
        "fraction_dropped": _differences(exact, preprocess.to_uint8(exact)),
        "outside_0_to_255": _share((exact.numpy() < 0) | (exact.numpy() > 255)),
        "is": "levels of 0..255 by which a pixel differs from the reference's float32, "
        "by its bicubic; inside: of those in 0..255, which are not clipped",
        **({} if export_dir is None else {"logits": _logits(export_dir)}),
    }


def _photos(resolution: int) -> tf.Tensor:
    encoded = [(_FOLDER / f"{photo}.jpg").read_bytes() for photo in _PHOTOS]
    return tf.stack(
        [preprocess.eval_pixels(tf.constant(one), resolution) for one in encoded]
    )


def _differences(exact: tf.Tensor, levels: tf.Tensor) -> dict[str, float]:
    pixels = exact.numpy().astype(np.float64)
    apart = np.abs(levels.numpy() - pixels)
    inside = apart[(pixels >= 0) & (pixels <= 255)]
    return {
        "largest": round(float(apart.max()), 2),
        "largest_inside": round(float(inside.max()), 3),
        "mean": round(float(apart.mean()), 3),
    }


def _share(where: np.ndarray) -> float:
    return round(float(where.mean()), 5)


def _logits(export_dir: str) -> dict[str, Any]:
    serving.load_signature(export_dir)  # refuses what is not of train.export
    signatures: Any = tf.saved_model.load(export_dir).signatures
    resolution = signatures["images"].inputs[0].shape[1]
    exact = _photos(resolution)
    logits = signatures["images"](images=exact)["logits"].numpy()

    def of(levels: tf.Tensor) -> dict[str, Any]:
        outputs = signatures["images_uint8"](images=levels)["logits"].numpy()
        apart = np.abs(outputs - logits)
        same = outputs.argmax(axis=-1) == logits.argmax(axis=-1)
        return {
            "largest_difference": round(float(apart.max()), 4),
            "mean_difference": round(float(apart.mean()), 4),
            "same_class": int(same.sum()),
        }

    return {
        "network": os.path.basename(export_dir.rstrip("/")),
        "resolution": resolution,
        "largest": round(float(np.abs(logits).max()), 2),
        "nearest": of(preprocess.nearest_uint8(exact)),
        "fraction_dropped": of(preprocess.to_uint8(exact)),
    }
