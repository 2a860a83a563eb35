"""The images of a split's records, as a person and as the network sees them."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from input_pipeline import preprocess
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.preprocess import EvalCrop
from input_pipeline.records import parse
from input_pipeline.stream import Records
from train.datasets import eval_crop
from train.distribution import slices
from train.experiment import Experiment

_SIDE = 320  # pixels of a picture that is kept, the longer side
_SMALL = 64  # up to which a picture is stored without loss


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of a split.

    Attributes:
      record: where it lies: file and number.
      file: its name by the record, "" where that has none.
      photo: uint8[h, w, 3], the whole of it, at most 320 pixels a side.
      seen: uint8[S, S, 3], what enters the network, likewise.
      problem: why there is no picture; "" where there is one.
    """

    record: str
    file: str = ""
    photo: np.ndarray | None = None
    seen: np.ndarray | None = None
    problem: str = ""


def read(
    experiment: Experiment,
    info: DatasetInfo,
    positions: Sequence[int],
    labels: Sequence[int],
    resolution: int,
) -> list[Picture]:
    """Read images of the evaluation split; a record that has gone has no picture.

    Args:
      experiment: of the run.
      info: of its data.
      positions: of the records in the split.
      labels: their classes, as the evaluation has seen them.
      resolution: of the network's input, in pixels.

    Raises:
      RuntimeError: a record has another class.
      Restart: the storage does not answer now.
    """
    if not len(positions):
        return []
    with tf.device(slices.own_cpu()):
        records = Records(info, experiment.data_dir, experiment.eval_split)
        # One after the other, each in one request; a whole chunk is decoded of none.
        elements = tf.data.Dataset.from_tensor_slices(np.asarray(positions)).flat_map(
            lambda at: records.read(None, at, at + 1)
        )
        decode = _decoder(info, resolution, eval_crop(experiment, resolution))
        return [
            _picture(records, element, label, decode, info)
            for element, label in zip(elements, labels, strict=True)
        ]


def _decoder(info: DatasetInfo, resolution: int, crop: EvalCrop) -> Any:
    """Return a function of a record, compiled: it is called for each."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decode(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse(serialized, info.fields, filename=True)
        encoded = example["encoded"]
        seen = preprocess.eval_pixels(encoded, resolution, crop)
        return {
            "label": example["label"] - info.label_offset,
            "filename": example["filename"],
            "photo": preprocess.cropped(encoded, _whole),
            "seen": preprocess.nearest_uint8(seen),
        }

    return decode


def _whole(shape: tf.Tensor) -> tf.Tensor:
    """Return the window that is all of an image."""
    return tf.concat([tf.zeros_like(shape[:2]), shape[:2]], 0)


def _picture(
    records: Records, element: Any, label: int, decode: Any, info: DatasetInfo
) -> Picture:
    path, number = records.location(element["position"])
    file: Any = path.numpy()
    name = file.decode("utf-8", "backslashreplace").rpartition("/")[2]
    record = f"{name}, record {int(number)}"
    try:
        found = decode(element["serialized"])
    # TensorFlow puts the record into its message, which need not be text.
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return Picture(record, problem="the record cannot be read any more")
    if int(found["label"]) != label:
        raise RuntimeError(
            f"{record} is of class {int(found['label'])}, and the evaluation has seen "
            f"one of class {label} there"
        )
    return Picture(
        record,
        bytes(found["filename"].numpy()).decode("utf-8", "backslashreplace"),
        _reduced(found["photo"].numpy()),
        _reduced(found["seen"].numpy()),
    )


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """Return uint8[h, w, 3] at most so large, with its proportions."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def encoded(pixels: np.ndarray) -> tuple[str, bytes]:
    """Return the media type and the file of a picture: a JPEG, of a small one a PNG."""
    kind = "png" if max(pixels.shape) <= _SMALL else "jpeg"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=82)
    return f"image/{kind}", file.getvalue()
