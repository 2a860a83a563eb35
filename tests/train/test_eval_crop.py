"""What a run's evaluation makes of a photo: by its settings, else as the authors do."""

import dataclasses
import functools

import pytest

from input_pipeline.preprocess import EvalCrop
from models import efficientnet_x, photos, variants
from models.input_form import InputForm
from train import config, datasets
from train.exports.formats import images

MNIST = "gin_configs/runs/mnist_cpu.gin"


def experiment(variant: str | None, *bindings: str):
    named = [f"efficientnet_x.build_model.variant = '{variant}'"] if variant else []
    return config.parse([MNIST], [*named, *bindings])


@pytest.mark.parametrize(
    ("variant", "bindings", "crop"),
    [
        (None, (), EvalCrop()),
        ("efficientnet-lite0", (), EvalCrop("bilinear")),
        ("efficientnetv2-s", (), EvalCrop("bilinear_half_pixels", "squash")),
        (
            "efficientnetv2-s",
            ("dataset.eval_dataset.crop_fraction = 0.9",),
            EvalCrop("bilinear_half_pixels", 0.9),
        ),
        (
            "efficientnet-lite0",
            (
                "dataset.eval_dataset.resize = 'bicubic'",
                "dataset.eval_dataset.pixels = 'uint8'",
            ),
            EvalCrop(pixels="uint8"),
        ),
    ],
)
def test_settings_come_before_the_authors(variant, bindings, crop):
    assert datasets.eval_crop(experiment(variant, *bindings), 384) == crop


def test_a_model_file_brings_its_preprocessing():
    """Who includes it needs to say no more."""
    files = ["gin_configs/models/efficientnet_lite2.gin", MNIST]
    bindings = ["efficientnet_x.build_model.variant = 'efficientnet-lite2'"]
    crop = datasets.eval_crop(config.parse(files, bindings), 260)
    assert crop == EvalCrop("bilinear")


def test_a_network_that_is_no_name():
    row = variants.get_variant("efficientnet-lite1")
    made = functools.partial(efficientnet_x.build_model, variant=row)
    run = dataclasses.replace(experiment(None), build_model=made)
    assert datasets.eval_crop(run, 240) == EvalCrop("bilinear")
    own = dataclasses.replace(run, build_model=lambda **_: None)
    assert datasets.eval_crop(own, 240) == EvalCrop()


def test_every_row_is_a_crop_that_there_is():
    for name, row in variants.VARIANTS.items():
        crop = datasets.authors_crop(name, row.resolution)
        form = photos.of_authors(name, row.resolution)
        assert crop == EvalCrop(form.resize, form.crop_fraction, "float32")


FORM = InputForm(300, 1, "NHWC")


def test_a_function_is_asked_for_what_the_config_leaves_open():
    """And one of the user's own for what it takes, no more."""
    asked = {}

    def data(*, resize=None, crop_fraction=None, **others):
        asked.update(resize=resize, crop_fraction=crop_fraction, **others)

    def other(*, batch_size, **others):
        asked.update(others)

    def ask(function, **settings) -> dict:
        asked.clear()
        bound = functools.partial(function, **settings)
        run = dataclasses.replace(
            experiment("efficientnetv2-s"), train_data=bound, eval_data=bound
        )
        datasets.evaluation_images(run, FORM, batch_size=2)
        found = {name: asked.get(name) for name in ("resize", "crop_fraction")}
        asked.clear()
        datasets.training_images(run, FORM, batch_size=2)
        return {**found, "training": asked.get("resize")}

    half_pixels = "bilinear_half_pixels"
    fraction = 300 / 332
    assert ask(data) == {
        "resize": half_pixels,
        "crop_fraction": fraction,
        "training": half_pixels,
    }
    assert ask(data, resize="bicubic") == {
        "resize": "bicubic",
        "crop_fraction": fraction,
        "training": "bicubic",
    }
    assert ask(other) == {"resize": None, "crop_fraction": None, "training": None}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_forms_of_an_export_are_calibrated_and_scored_on_the_same_crop(split):
    """Another one would be of other pixels than the network was trained for."""
    asked = []

    def data(*, resize=None, crop_fraction=None, **others):
        asked.append({"resize": resize, "crop_fraction": crop_fraction, **others})
        return []

    run = dataclasses.replace(experiment("efficientnetv2-s"), eval_data=data)
    assert list(images.of_split(run, split, 300, 8)) == []
    datasets.evaluation_images(run, FORM, split, batch_size=8)
    assert asked[0] == asked[1]
    assert asked[0]["crop_fraction"] == 300 / 332
    assert (asked[0]["split"], asked[0]["batch_size"]) == (split, 8)
