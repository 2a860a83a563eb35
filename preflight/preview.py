r"""Shows what the trainer will be fed: a picture of its first images and their labels.

python -m preflight.preview --gin_file=gin_configs/models/efficientnet_x_b0.gin \
  --gin_file=gin_configs/runs/imagenet.gin --data_dir=data/photos --output=sheet.png

Takes the settings of `train.main`. Each image is seen whole, cropped and flipped,
augmented and, where the run mixes images, mixed with another one of the sheet: the
trainer mixes it with one of its own, larger batch. The images are those of a run on one
host; each of several hosts has an order of its own.
"""

import argparse
import dataclasses
import functools
import inspect
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Only this command's own lines shall reach the terminal. TensorFlow reads it on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gin
import numpy as np
import tensorflow as tf
from PIL import Image

from common import errors
from common.errors import UserError
from input_pipeline import dataset
from input_pipeline.records import DatasetInfo, load_info, parse
from input_pipeline.stream import Records, stream
from models import efficientnet_x, variants
from models.input_form import input_form
from preflight.contact_sheet import Shown, draw_sheet
from train import config
from train.datasets import make_augment
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors

_MAX_IMAGES = 256


class Settings:
    """What a run begins with, beyond what `Experiment` says: read off gin's bindings.

    Attributes:
      model: its name.
      resolution: of the training images in pixels.
      shuffle_buffer: of `train_dataset`.
      augment: the argument of `train_dataset` where a first stage changes it.
      mixing: (images, targets, seed) -> mixed ones, or None.
      augments: whether anything is done to an image behind the crop and the flip.
      lines: what is done to it, as a person reads it.
    """

    def __init__(self, experiment: Experiment, info: DatasetInfo):
        """Raises UserError where images come from elsewhere than `train_dataset`."""
        bound = gin.get_bindings("train.experiment.Experiment", False)
        train_data, mixing = bound["train_data"], bound.get("mixing")
        if _function(train_data) is not dataset.train_dataset:
            raise UserError(
                f"Experiment.train_data = {train_data!r}: the preview can show the "
                "images of @dataset.train_dataset only"
            )
        arguments = _arguments(train_data)
        steps = _arguments(train_data, resolve_references=False)
        stages = list(experiment.stages(info).values())
        magnitude = stages[0].given("magnitude")
        mix: dict[str, Any] = {"layout": "NHWC", "patch_size": 1}
        mix |= stages[0].given("mixup_alpha", "cutmix_alpha")
        crop = ("area_range", "aspect_ratio_range", "flip")

        self.model, resolution = _model(experiment, bound["build_model"])
        self.resolution: int = stages[0].resolution or resolution
        self.shuffle_buffer: int = arguments["shuffle_buffer"]
        self.augment = make_augment(experiment, stages[0])
        self.mixing = experiment.mixing and functools.partial(experiment.mixing, **mix)
        self.augments = any(
            arguments[name] is not None for name in ("augment", "erase")
        )
        self.lines = [
            f"crop and flip: {_listed({name: arguments[name] for name in crop})}",
            f"augment: {_described(steps['augment'], **magnitude)} · "
            f"erase: {_described(steps['erase'])}",
        ]
        if mixing is not None:
            self.lines.append(f"mixing: {_described(mixing, **mix)}")
        if len(stages) > 1:
            self.lines.append(f"the first of {len(stages)} stages")


def _function(value: Any) -> Any:
    """The function that @module.function in a config stands for, or None."""
    is_reference = isinstance(value, gin.config.ConfigurableReference)
    # One that is evaluated is a macro, or a call.
    return value.configurable.wrapped if is_reference and not value.evaluate else None


def _arguments(reference: Any, resolve_references: bool = True) -> dict[str, Any]:
    """What gin calls a function with: its defaults, and the config's bindings."""
    parameters = inspect.signature(_function(reference)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    selector = "/".join(filter(None, reference.config_key))
    return {**defaults, **gin.get_bindings(selector, resolve_references)}


def _model(experiment: Experiment, reference: Any) -> tuple[str, int]:
    """The model's name and resolution, if possible without the seconds to build it."""
    if _function(reference) is not efficientnet_x.build_model:
        model = experiment.build_model()
        return model.name, input_form(model).resolution
    arguments = _arguments(reference)
    variant = arguments["variant"]
    if isinstance(variant, str):
        variant = variants.get_variant(variant)
    if arguments["resolution"] is not None:
        variant = dataclasses.replace(variant, resolution=arguments["resolution"])
    return variant.name, variant.resolution


def _described(value: Any, **changes: Any) -> str:
    """A function of the config with its arguments."""
    function = _function(value)
    if function is None:
        return "none" if value is None else repr(value)
    return f"{function.__name__}({_listed(_arguments(value) | changes)})"


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in arguments.items())


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def preview(experiment: Experiment, count: int) -> Image.Image:
    """Draws the first images of a run.

    Args:
      experiment: what `train.config.parse` has just returned.
      count: how many images, 1 or more.

    Returns:
      The sheet, 1600 pixels wide.

    Raises:
      UserError, input_pipeline.errors.DataError, models.errors.ModelError: something
        that the user can mend.
    """
    info = load_info(experiment.data_dir)
    total = info.split(experiment.train_split).total
    settings = Settings(experiment, info)
    with translate_errors():
        images = list(first_images(experiment, settings, info, count))
    side = settings.resolution
    title = (
        f"{info.name}, {experiment.train_split}, {total:,} images · {settings.model}, "
        f"{side} x {side} px · seed {experiment.seed}"
    )
    headings = ["original", "crop and flip"]
    headings += ["augmented"] if settings.augments else []
    headings += ["mixed"] if settings.mixing else []
    return draw_sheet([title, *settings.lines], headings, images)


def first_images(
    experiment: Experiment, settings: Settings, info: DatasetInfo, count: int
) -> Iterator[Shown]:
    """Yields the first images of a run, in all their states."""
    cropped = _batch(experiment, settings, count, augment=None, erase=None)
    states, labels = [cropped["image"]], cropped["label"]
    if settings.augments:
        changes = {} if settings.augment is None else {"augment": settings.augment}
        states.append(_batch(experiment, settings, count, **changes)["image"])
    shares: Sequence[Sequence[str]] = [()] * count
    if settings.mixing is not None:
        targets = tf.one_hot(labels, len(info.label_names))
        seed = tf.constant([experiment.seed, 0], tf.int64)
        mixed, targets = settings.mixing(tf.constant(states[-1]), targets, seed)
        states.append(tf.cast(tf.round(tf.clip_by_value(mixed, 0, 255)), tf.uint8))
        shares = [_shares(weights, info) for weights in targets.numpy()]
    records = Records(info, experiment.data_dir, experiment.train_split)
    elements = stream(
        records, seed=experiment.seed, shuffle_buffer=settings.shuffle_buffer
    )
    for i, element in enumerate(elements.take(count)):
        pictures, number = [np.asarray(state[i]) for state in states], labels[i]
        name, source = "bad record, masked", _place(records, element)
        original = pictures[0]  # black, if the record is bad
        if number >= 0:
            encoded: Any = parse(element["serialized"])["encoded"]
            original = tf.io.decode_jpeg(encoded, channels=3).numpy()
            height, width, _ = original.shape
            size = len(encoded.numpy()) / 1000
            name = info.label_names[number]
            source = f"{width} x {height} px, {size:.0f} kB · {source}"
        yield Shown([original, *pictures], name, number, source, shares[i])


def _batch(
    experiment: Experiment, settings: Settings, count: int, **changes: Any
) -> Any:
    """Images and labels, as the trainer has them made but for their form."""
    batches = experiment.train_data(
        data_dir=experiment.data_dir,
        split=experiment.train_split,
        resolution=settings.resolution,
        patch_size=1,
        layout="NHWC",
        batch_size=count,
        seed=experiment.seed,
        service=None,  # the images are the same wherever they are decoded
        **changes,
    )
    return next(batches.as_numpy_iterator())


def _shares(weights: np.ndarray, info: DatasetInfo) -> list[str]:
    """The weights of the classes in one image, the larger first; two at most."""
    order = [i for i in np.argsort(-weights, kind="stable")[:2] if weights[i] >= 0.005]
    return [f"{weights[i]:.2f} {info.label_names[i]}" for i in order]


def _place(records: Records, element: Mapping[str, tf.Tensor]) -> str:
    path, number = records.location(element["position"])
    file: Any = path.numpy()
    return f"{file.decode().rpartition('/')[2]}, record {number.numpy()}"


def _check_output(path: str) -> None:
    """Raises UserError where no PNG can be written, before the work is done."""
    if not path.lower().endswith(".png"):
        raise UserError(f"--output={path} is no .png; name it so, it will be one")
    folder = path.rpartition("/")[0]
    if folder and not tf.io.gfile.isdir(folder):
        raise UserError(
            f"there is no folder {folder} for --output; make it, or name another"
        )


def _write(sheet: Image.Image, path: str) -> None:
    content = io.BytesIO()
    sheet.save(content, "PNG")
    try:
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content.getvalue())
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot write {path}: {error.message}; mend the permissions or name "
            "another --output"
        ) from error


def _images(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_IMAGES:
        raise argparse.ArgumentTypeError(f"choose 1 to {_MAX_IMAGES}, not {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    # Not absl's flags: there is one registry of them in a process, and train.main
    # defines its own under the same names.
    parser = argparse.ArgumentParser(
        prog="python -m preflight.preview",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    several: Any = {"action": "append", "default": []}
    parser.add_argument("--gin_file", **several, help="a .gin file; later ones win")
    parser.add_argument("--gin_param", **several, help="a binding as a.b = 1; it wins")
    parser.add_argument("--output", required=True, help="the .png to write")
    parser.add_argument("--images", type=_images, default=16, help="how many (16)")
    parser.add_argument("--data_dir", help="instead of the config's")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Draws; a mistake that the user can mend is one line and exit status 1."""
    arguments = _parser().parse_args(argv)
    bindings = [
        f"experiment.Experiment.{name} = {value!r}"
        for name in ("data_dir", "seed")
        if (value := getattr(arguments, name)) is not None
    ]
    with errors.reported():
        _check_output(arguments.output)
        experiment = config.parse(arguments.gin_file, [*arguments.gin_param, *bindings])
        _write(preview(experiment, arguments.images), arguments.output)
        print(f"wrote {arguments.output}, {arguments.images} images")


if __name__ == "__main__":
    main()
