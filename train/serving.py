"""Images through an exported SavedModel; needs TensorFlow alone."""

import contextlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from common import gfiles, storage_errors
from common.console import escaped, say, warn
from common.errors import UserError, first_line
from input_pipeline import jpeg_warnings
from input_pipeline.dataset_info import INFO_FILENAME, read_info
from input_pipeline.errors import DataError
from input_pipeline.records import Fields
from train.exports import predictions
from train.exports.image_files import Image, Unusable, why_not_decoded
from train.exports.predictions import Prediction
from train.exports.tables import Row

BATCH_SIZE = 100
_OUTPUTS = {"class_ids", "class_names", "logits", "probabilities"}
_FILES = (
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)


class Result(NamedTuple):
    """What the model says of an image.

    Attributes:
      prediction: its class.
      class_name: of this class.
      probability: of this class.
      place: where the image is.
      damage: what libjpeg says of pixels that it has made up, None where all are read.
      top: the likeliest class ids with their probabilities, the first one first.
    """

    prediction: Prediction
    class_name: str
    probability: float
    place: str
    damage: str | None
    top: tuple[tuple[int, float], ...]


class _Decoded(NamedTuple):
    """What comes of one image: the model's outputs, and as in Result."""

    output: dict[str, Any]
    damage: str | None


def classify(
    export_dir: str, images: Iterable[Image | Unusable], *, top: int = 1
) -> Iterator[Result | Unusable]:
    """Run the SavedModel on batches of images.

    Args:
      export_dir: what train.export wrote.
      images: JPEG or PNG files; what is unusable already is passed on in its place.
      top: how many of the likeliest classes a result has; fewer if there are not many.

    Raises:
      UserError: there is no such SavedModel.
    """
    model, offset = load_signature(export_dir), read_labels(export_dir).offset
    yield from classify_by(model, images, top=top, offset=offset)


def classify_by(
    model: Any, images: Iterable[Image | Unusable], *, top: int = 1, offset: int = 0
) -> Iterator[Result | Unusable]:
    """Run a function on batches of images.

    Args:
      model: as the signature of `load_signature`.
      images: as of `classify`, as `top` is.
      top: how many of the likeliest classes a result has; fewer if there are not many.
      offset: the label of class 0.
    """
    images = iter(images)
    while batch := list(itertools.islice(images, BATCH_SIZE)):
        found = iter(_run(model, [one for one in batch if isinstance(one, Image)]))
        for image in batch:
            yield (
                image
                if isinstance(image, Unusable)
                else _result(image, next(found), offset, top)
            )


def _result(
    image: Image, decoded: _Decoded | None, offset: int, top: int
) -> Result | Unusable:
    if decoded is None:
        return Unusable(image.place, why_not_decoded(image.encoded))
    output = decoded.output
    class_id = int(output["class_ids"])
    probability = float(output["probabilities"][class_id])
    if not math.isfinite(probability):
        return Unusable(image.place, "what the network computes of it is not finite")
    label = None if image.label is None else image.label - offset
    if label is not None and not 0 <= label < len(output["probabilities"]):
        label = None
    return Result(
        Prediction(image.name, label, class_id, predictions.digest(image.encoded)),
        output["class_names"].decode("utf-8", "backslashreplace"),
        probability,
        image.place,
        decoded.damage,
        _likeliest(output["probabilities"], top),
    )


def _likeliest(probabilities: np.ndarray, top: int) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    return tuple((class_id, float(probabilities[class_id])) for class_id in order)


def recorded(
    found: Iterable[Result | Unusable], names: Sequence[str], rows: list[Row]
) -> Iterator[Result | Unusable]:
    """Pass on what `classify` yields, and note each image in `rows`.

    Args:
      found: what `classify` yields.
      names: of the classes; one beyond them goes by its number, as in the SavedModel.
      rows: to be filled.
    """
    for one in found:
        if isinstance(one, Unusable):
            rows.append(Row(one.place, None, (), one.reason))
        else:
            label = one.prediction.label
            rows.append(
                Row(
                    one.place,
                    None if label is None else _name(names, label),
                    tuple((_name(names, i), share) for i, share in one.top),
                    f"damaged: {one.damage}" if one.damage else "",
                )
            )
        yield one


def _name(names: Sequence[str], class_id: int) -> str:
    return names[class_id] if class_id < len(names) else str(class_id)


def _run(model: Any, images: Sequence[Image]) -> list[_Decoded | None]:
    """Return what comes of each image, None for one that cannot be decoded."""
    if not images:
        return []
    said, outputs = jpeg_warnings.listen(lambda: _outputs(model, images))
    if len(images) > 1 and (outputs is None or jpeg_warnings.may_be_damage(said)):
        # Neither an error nor libjpeg says of which image.
        half = len(images) // 2
        return _run(model, images[:half]) + _run(model, images[half:])
    if outputs is None:
        return [None]
    complaint = jpeg_warnings.complaint(said, images[0].encoded)
    damage = complaint.text if complaint and complaint.is_damage else None
    return [_Decoded(output, damage) for output in outputs]


def _outputs(model: Any, images: Sequence[Image]) -> list[dict[str, Any]] | None:
    """Return the model's outputs for each image, None if one cannot be decoded."""
    try:
        found = model(image_bytes=tf.constant([image.encoded for image in images]))
    except tf.errors.OpError:
        return None
    arrays = {key: value.numpy() for key, value in found.items()}
    return [{k: v[i] for k, v in arrays.items()} for i in range(len(images))]


def show(
    found: Iterable[Result | Unusable],
    *,
    most: int | None = None,
    top: int = 1,
    names: Sequence[str] = (),
) -> tuple[list[Result], int]:
    """Print a line an image, and to standard error why one is unusable or in doubt.

    Args:
      found: what `classify` yields.
      most: how many results to print; None for all.
      top: how many of a result's likeliest classes.
      names: of the classes; of the first one the result knows it.

    Returns:
      All results, and how many are unusable.
    """
    results, unusable = [], 0
    for one in found:
        if isinstance(one, Unusable):
            unusable += 1
            say(escaped(f"error: {one.place}: {one.reason}"))
            continue
        results.append(one)
        if one.damage:
            warn(
                f"{one.place}: it is damaged, and pixels of it are made up "
                f"({one.damage}); it is classified all the same"
            )
        if most is None or len(results) <= most:
            shown = [(one.class_name, one.probability)]
            shown += [(_name(names, i), share) for i, share in one.top[1:top]]
            classes = ", ".join(f"{name} ({share:.1%})" for name, share in shown)
            print(escaped(f"{one.prediction.filename}: {classes}"))
    return results, unusable


def summarize(results: Sequence[Result], expected: Sequence[Prediction]) -> bool:
    """Print the accuracy, and the agreement with the trainer's predictions.

    Returns:
      Whether the SavedModel predicts what the trainer did.
    """
    found = [result.prediction for result in results]
    labelled = [one for one in found if one.label is not None]
    right = sum(one.label == one.class_id for one in labelled)
    if labelled:
        share = f"{right:,} of {len(labelled):,} right ({right / len(labelled):.2%})"
        print(f"SavedModel in a new process: {share}")
    if others := len(found) - len(labelled):
        print(f"Without a label of the SavedModel's classes: {others:,}")
    known, same = predictions.agreement(found, expected)
    if not expected:
        print("The export has no predictions of the trainer's to compare these with")
    elif known:
        print(f"Predictions equal to the trainer's: {same:,} of {known:,}")
    elif found:
        print("None of these images is among those that the trainer predicted")
    return same == known


def read_predictions(export_dir: str) -> list[Prediction]:
    """Return the trainer's predictions; UserError where they cannot be read."""
    name = predictions.FILENAME
    return predictions.from_csv(_read_extra(export_dir, name), _extra(export_dir, name))


def read_names(export_dir: str) -> list[str]:
    """Return the names of the classes; UserError where they cannot be read."""
    return _read_extra(export_dir, "labels.txt").rstrip("\n").split("\n")


class Labels(NamedTuple):
    """How records of the model's data tell their class.

    Attributes:
      offset: the label of class 0.
      fields: what the records call what is read of them.
    """

    offset: int
    fields: Fields


def read_labels(export_dir: str) -> Labels:
    """Return what train.export says of the data; UserError where it cannot be read."""
    text = _read_extra(export_dir, "check.json")
    try:
        check = json.loads(text)
        offset, fields = check.get("label_offset", 0), Fields(**check.get("fields", {}))
    except (ValueError, AttributeError, TypeError, RecursionError):
        offset, fields = None, Fields()
    if type(offset) is not int or not all(type(one) is str for one in astuple(fields)):
        raise UserError(
            f"{_extra(export_dir, 'check.json')} is not what train.export writes "
            "there (label_offset is no whole number, or fields are no texts); export "
            "again"
        )
    return Labels(offset, fields)


def warn_of_other_classes(export_dir: str, pattern: str) -> None:
    """Say where the data beside records give the labels another meaning.

    Args:
      export_dir: with the names that the model has learnt.
      pattern: of the paths of TFRecord files; what lies beside them may tell nothing.
    """
    folder = pattern.rpartition("/")[0] or "."
    if not gfiles.exists(f"{folder}/{INFO_FILENAME}"):
        return
    # That of another tool, or a damaged one, tells nothing.
    with contextlib.suppress(DataError):
        info = read_info(folder)
        ours = (read_labels(export_dir).offset, *read_names(export_dir))
        if ours != (info.label_offset, *info.label_names):
            warn(
                f"{folder} has other classes than {export_dir} has learnt, or other "
                "labels of them: how many are right means nothing"
            )


def _extra(export_dir: str, name: str) -> str:
    return f"{export_dir}/assets.extra/{name}"


def _read_extra(export_dir: str, name: str) -> str:
    """Return a text that train.export has left in the SavedModel."""
    path = _extra(export_dir, name)
    try:
        text = gfiles.read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8; export again") from error
    if text is None:
        raise UserError(f"no {path}; make the SavedModel with train.export")
    return text


def load_signature(export_dir: str) -> Any:
    """Return the function of the SavedModel that takes JPEG bytes.

    Raises:
      UserError: there is no SavedModel, or it is not of train.export.
    """
    try:
        for name in _FILES:
            gfiles.require_file(f"{export_dir}/{name}")  # a pipe would wait for ever
        found = tf.saved_model.contains_saved_model(export_dir)
    except tf.errors.OpError as error:
        what = f"cannot look into {export_dir}"
        raise storage_errors.cannot_read(export_dir, error, what=what) from error
    if not found:
        raise UserError(f"no SavedModel in {export_dir}; run train.export")
    try:
        signature = tf.saved_model.load(export_dir).signatures["serving_default"]
        inputs, outputs = (
            set(signature.structured_input_signature[1]),
            set(signature.structured_outputs),
        )
    except Exception as error:  # TensorFlow raises many kinds for a damaged file
        if ending := storage_errors.from_storage(error):
            raise ending from error
        raise UserError(
            f"cannot load the SavedModel in {export_dir} ({first_line(error)}): it is "
            "damaged, or not of train.export; export again"
        ) from error
    if inputs != {"image_bytes"} or not outputs >= _OUTPUTS:
        raise UserError(
            f"the SavedModel in {export_dir} is not of train.export: it does not turn "
            "image_bytes into class_ids, class_names and probabilities"
        )
    return signature
