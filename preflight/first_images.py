"""The first images that a run would train on, as the trainer has them made."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from common.errors import UserError
from input_pipeline import dataset
from input_pipeline.dataset_info import DatasetInfo, load_info
from input_pipeline.images.contact_sheet import Shown, draw_sheet
from input_pipeline.records import parse
from input_pipeline.stream import Records, stream
from models import efficientnet_x, variants
from models.input_form import InputForm, input_form
from train.datasets import make_augment, training_images
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors
from train.stage_rows import Stage

_CROP = ("area_range", "aspect_ratio_range", "flip")


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """What a run begins with, read off the functions of its config.

    Attributes:
      model: its name.
      resolution: of the training images in pixels.
      stage: the first one.
      shuffle_buffer: of `train_dataset`.
      augments: whether anything is done to an image behind the crop and the flip.
      mixing: (images, targets, seed) -> mixed ones, or None.
      lines: what is done to an image, as a person reads it.
    """

    model: str
    resolution: int
    stage: Stage
    shuffle_buffer: int
    augments: bool
    mixing: Callable[..., tuple[tf.Tensor, tf.Tensor]] | None
    lines: Sequence[str]

    @classmethod
    def of(cls, experiment: Experiment, info: DatasetInfo) -> "FirstStage":
        """Read an experiment whose functions are partials, as `config.parse` has it.

        Raises:
          UserError: images come from elsewhere than `train_dataset`, or the stage sets
            what the recipe has not.
        """
        settings = _keywords(experiment.train_data)
        if _function(experiment.train_data) is not dataset.train_dataset:
            raise UserError(
                f"Experiment.train_data is {_name(experiment.train_data)}: the preview "
                "can show the images of @dataset.train_dataset only"
            )
        stages = list(experiment.stages(info).values())
        stage = stages[0]
        augment = make_augment(experiment, stage) or settings["augment"]
        mixing = experiment.mixing and functools.partial(
            experiment.mixing,
            layout="NHWC",
            patch_size=1,
            **stage.given("mixup_alpha", "cutmix_alpha"),
        )
        crop = {name: settings[name] for name in _CROP}
        lines = [
            f"crop and flip: {_listed(crop)}",
            f"augment: {described(augment)} · erase: {described(settings['erase'])}",
        ]
        if mixing is not None:
            lines.append(f"mixing: {described(mixing)}")
        if len(stages) > 1:
            lines.append(f"the first of {len(stages)} stages")
        model, resolution = _model(experiment, info)
        return cls(
            model=model,
            resolution=stage.resolution or resolution,
            stage=stage,
            shuffle_buffer=settings["shuffle_buffer"],
            augments=augment is not None or settings["erase"] is not None,
            mixing=mixing,
            lines=lines,
        )

    @property
    def form(self) -> InputForm:
        """Of the images as a person sees them, whatever form the model takes."""
        return InputForm(self.resolution, patch_size=1, layout="NHWC")


def _function(value: Any) -> Any:
    """Return the function below a partial."""
    return getattr(value, "func", value)


def _keywords(value: Any) -> Mapping[str, Any]:
    """Return the settings that a partial has bound; none of anything else."""
    return getattr(value, "keywords", {})


def _name(value: Any) -> str:
    function = _function(value)
    return getattr(function, "__name__", repr(function))


def described(function: Callable | None) -> str:
    """Return a function of the config with its settings, in its own order."""
    if function is None:
        return "none"
    keywords = _keywords(function)
    order = inspect.signature(_function(function)).parameters
    in_order = {name: keywords[name] for name in order if name in keywords}
    return f"{_name(function)}({_listed({**in_order, **keywords})})"


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_plain, value))})"
    if callable(value):
        return described(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _model(experiment: Experiment, info: DatasetInfo) -> tuple[str, int]:
    """Return the model's name and resolution, if possible without building it."""
    if _function(experiment.build_model) is not efficientnet_x.build_model:
        model = experiment.make_model(len(info.label_names))
        return model.name, input_form(model).resolution
    settings = _keywords(experiment.build_model)
    variant = settings["variant"]
    if isinstance(variant, str):
        variant = variants.get_variant(variant)
    return variant.name, settings["resolution"] or variant.resolution


def draw(experiment: Experiment, count: int) -> Image.Image:
    """Draw the first images of a run.

    Args:
      experiment: what `train.config.parse` has returned.
      count: how many images, 1 or more.

    Returns:
      The sheet, 1600 pixels wide.

    Raises:
      UserError, input_pipeline.errors.DataError, models.errors.ModelError: something
        that the user can mend.
    """
    info = load_info(experiment.data_dir)
    total = info.split(experiment.train_split).total
    first = FirstStage.of(experiment, info)
    with translate_errors():
        images = list(first_images(experiment, first, info, count))
    side = first.resolution
    title = (
        f"{info.name}, {experiment.train_split}, {total:,} images · {first.model}, "
        f"{side} x {side} px · seed {experiment.seed}"
    )
    headings = ["original", "crop and flip"]
    headings += ["augmented"] if first.augments else []
    headings += ["mixed"] if first.mixing else []
    return draw_sheet([title, *first.lines], headings, images)


def first_images(
    experiment: Experiment, first: FirstStage, info: DatasetInfo, count: int
) -> Iterator[Shown]:
    """Yield the first images of a run, in all their states."""
    plain = dataclasses.replace(first.stage, magnitude=None)
    cropped = _batch(experiment, first, plain, count, augment=None, erase=None)
    states, labels = [cropped["image"]], cropped["label"]
    if first.augments:
        states.append(_batch(experiment, first, first.stage, count)["image"])
    shares: Sequence[Sequence[str]] = [()] * count
    if first.mixing is not None:
        targets = tf.one_hot(labels, len(info.label_names))
        seed = tf.constant([experiment.seed, 0], tf.int64)
        mixed, targets = first.mixing(tf.constant(states[-1]), targets, seed)
        states.append(tf.cast(tf.round(tf.clip_by_value(mixed, 0, 255)), tf.uint8))
        shares = [_shares(weights, info) for weights in targets.numpy()]
    records = Records(info, experiment.data_dir, experiment.train_split)
    elements = stream(
        records, seed=experiment.seed, shuffle_buffer=first.shuffle_buffer
    )
    for i, element in enumerate(elements.take(count)):
        pictures, number = [np.asarray(state[i]) for state in states], labels[i]
        name, source = "bad record, masked", _location(records, element)
        original = pictures[0]  # black, if the record is bad
        if number >= 0:
            example = parse(element["serialized"], info.fields)
            encoded: Any = example["encoded"]
            original = tf.io.decode_jpeg(encoded, channels=3).numpy()
            height, width, _ = original.shape
            size = len(encoded.numpy()) / 1000
            name = info.label_names[number]
            source = f"{width} x {height} px, {size:.0f} kB · {source}"
        yield Shown([original, *pictures], name, number, source, shares[i])


def _batch(
    experiment: Experiment, first: FirstStage, stage: Stage, count: int, **changes: Any
) -> Any:
    """Return images and labels, as the trainer has them made but for their form."""
    images = training_images(
        experiment,
        first.form,
        stage,
        batch_size=count,
        service=None,  # the images are the same wherever they are decoded
        **changes,
    )
    return next(images.as_numpy_iterator())


def _shares(weights: np.ndarray, info: DatasetInfo) -> list[str]:
    """Return the weights of the classes in one image, the larger first; two at most."""
    order = [i for i in np.argsort(-weights, kind="stable")[:2] if weights[i] >= 0.005]
    return [f"{weights[i]:.2f} {info.label_names[i]}" for i in order]


def _location(records: Records, element: Mapping[str, tf.Tensor]) -> str:
    path, number = records.location(element["position"])
    file: Any = path.numpy()
    return f"{file.decode().rpartition('/')[2]}, record {number.numpy()}"
