import dataclasses
import functools

import gin
import numpy as np
import pytest

from common.errors import UserError
from input_pipeline import dataset, dataset_info, records
from input_pipeline.images.contact_sheet import Shown
from models.input_form import input_form
from preflight import first_images
from preflight.first_images import FirstStage
from tests.support import tiny
from train import config

MNIST = "gin_configs/runs/mnist_cpu.gin"
BUILD = "efficientnet_x.build_model"
AUGMENT = (
    "dataset.train_dataset.augment = @randaugment.rand_augment",
    "randaugment.rand_augment.num_layers = 1",
    "randaugment.rand_augment.ops = ('Rotate', 'ShearX', 'ShearY')",
)
# Of MNIST: its own is another than those that are looked at here.
PLAIN = ("dataset.train_dataset.augment = None",)
ERASE = (
    "dataset.train_dataset.erase = @erasing.random_erasing",
    "erasing.random_erasing.probability = 1.0",
)
MIX = (
    "experiment.Experiment.mixing = @mixing.mixup_cutmix",
    "mixing.mixup_cutmix.switch_prob = 1.0",
)


@pytest.fixture(autouse=True)
def _clean_gin():
    yield
    gin.clear_config()


def experiment_of(data_dir: str, *bindings: str, gin_files=()):
    data = f"experiment.Experiment.data_dir = {data_dir!r}"
    batch = "experiment.Experiment.global_batch_size = 10"
    own = () if gin_files else PLAIN
    return config.parse([MNIST, *gin_files], [data, batch, *own, *bindings])


def shown_of(data_dir: str, count: int, *bindings: str, gin_files=()) -> list[Shown]:
    experiment = experiment_of(data_dir, *bindings, gin_files=gin_files)
    info = dataset_info.load_info(data_dir)
    first = FirstStage.of(experiment, info)
    return list(first_images.first_images(experiment, first, info, count))


def fed(data_dir: str, count: int, **arguments):
    """What the trainer is fed first, in one batch."""
    batches = dataset.train_dataset(
        data_dir=data_dir,
        resolution=32,
        batch_size=count,
        seed=5,
        area_range=(0.65, 0.9),
        aspect_ratio_range=(0.9, 1.1),
        flip=False,
        **arguments,
    )
    return next(batches.as_numpy_iterator())


# rand_augment would do as well, and is slow to make a graph of.
BRIGHTEN = """
from __gin__ import dynamic_registration
from input_pipeline import dataset
from tests.support import tiny

dataset.train_dataset.augment = @tiny.brighten
tiny.brighten.magnitude = 20
"""


@pytest.mark.long
def test_shows_what_the_trainer_is_fed(greys, tmp_path):
    """Before and after augmentation, whatever form the model wants."""
    form = (f"{BUILD}.input_layout = 'HWCN'", f"{BUILD}.stem_block_size = 2")
    seed = "experiment.Experiment.seed = 5"
    brighten = tmp_path / "brighten.gin"
    brighten.write_text(BRIGHTEN)
    images = shown_of(greys, 6, seed, *form, gin_files=[str(brighten)])

    augment = functools.partial(tiny.brighten, magnitude=20)
    before, after = fed(greys, 6), fed(greys, 6, augment=augment)
    assert (before["image"] != after["image"]).any()
    np.testing.assert_array_equal([x.pictures[1] for x in images], before["image"])
    np.testing.assert_array_equal([x.pictures[2] for x in images], after["image"])
    assert [x.number for x in images] == before["label"].tolist()


@pytest.mark.long
def test_the_originals_are_those_of_the_crops(greys):
    images = shown_of(greys, 40, "dataset.train_dataset.shuffle_buffer = 16")
    for shown in images:
        original, cropped = shown.pictures
        number = original.shape[0] - 20
        # JPEG rounds, and so does the resize of a crop.
        np.testing.assert_allclose(original, 6 * number, atol=1)
        np.testing.assert_allclose(cropped, original[0, 0, 0], atol=1)
        assert shown.name == ("ash", "slate", "chalk")[number % 3]
        assert shown.source.startswith(f"30 x {20 + number} px, 1 kB · ")
        shard, record = divmod(number, 20)
        assert shown.source.endswith(f"train-{shard}, record {record}")
    heights = sorted(shown.pictures[0].shape[0] for shown in images)
    assert heights == list(range(20, 60))


@pytest.mark.long
def test_mixed_images_say_their_shares(greys):
    images = shown_of(greys, 4, *MIX)
    for shown, partner in zip(images, images[::-1], strict=True):
        shares = {name: float(w) for w, name in map(str.split, shown.shares)}
        assert shares.keys() <= {shown.name, partner.name}
        # Two numbers of two digits each.
        assert sum(shares.values()) == pytest.approx(1, abs=2 * 0.005 + 1e-9)
        own, mixed = (x.mean() for x in (shown.pictures[1], shown.pictures[-1]))
        if shown.name != partner.name:
            difference = partner.pictures[1].mean() - own
            expected = own + shares.get(partner.name, 0) * difference
            # The share has two digits, a pixel none.
            rounding = 0.005 * abs(difference) + 0.5
            assert mixed == pytest.approx(expected, abs=rounding)
    assert any(len(shown.shares) == 2 for shown in images)


@pytest.mark.slow
def test_a_bad_record_is_black_and_said_to_be_bad(greys, tmp_path):
    bad = records.make_example(
        b"no JPEG", label=1, height=1, width=1, filename="", synset="", text=""
    )
    splits = {
        name: dataset_info.SplitInfo(
            (records.write_shard(str(tmp_path / f"{name}-0"), [bad]),)
        )
        for name in ("train", "validation")
    }
    info = dataset_info.DatasetInfo("bad", 1, ("ash",), splits)
    dataset_info.write_info(info, str(tmp_path))
    batch = "experiment.Experiment.global_batch_size = 1"
    skip = "dataset.train_dataset.on_bad_record = 'skip'"
    (shown,) = shown_of(str(tmp_path), 1, batch, skip)
    assert (shown.name, shown.number) == ("bad record, masked", -1)
    assert shown.source == "train-0, record 0"
    assert not np.any(shown.pictures)


@pytest.mark.parametrize(
    "bindings",
    [
        (),
        (f"{BUILD}.resolution = 96",),
        (f"{BUILD}.resolution = None",),
        (f"{BUILD}.resolution = %side\nside = 64",),
        (
            f"experiment.Experiment.build_model = @other/{BUILD}",
            f"other/{BUILD}.resolution = 48",
        ),
    ],
)
def test_resolution_is_the_models_without_building_it(greys, bindings, monkeypatch):
    experiment = experiment_of(greys, *bindings)
    monkeypatch.setattr(first_images, "input_form", None)
    first = FirstStage.of(experiment, dataset_info.load_info(greys))
    model = experiment.build_model()
    assert first.resolution == input_form(model).resolution
    assert first.model == model.name


def test_the_first_stage_counts(greys):
    row = {"until_epoch": 4, "resolution": 24, "magnitude": 3, "cutmix_alpha": 0}
    stages = f"experiment.Experiment.progressive = [{row}]"
    experiment = experiment_of(greys, stages, *AUGMENT, *ERASE, *MIX)
    first = FirstStage.of(experiment, dataset_info.load_info(greys))
    assert first.resolution == 24
    assert first.lines == [
        "crop and flip: area_range=(0.65, 0.9), aspect_ratio_range=(0.9, 1.1), "
        "flip=False",
        "augment: rand_augment(num_layers=1, magnitude=3, ops=(Rotate, ShearX, "
        "ShearY)) · erase: random_erasing("
        "probability=1, area_range=(0.02, 0.3333), aspect_ratio_range=(0.3, 3.333))",
        "mixing: mixup_cutmix(mixup_alpha=0.2, cutmix_alpha=0, switch_prob=1, "
        "layout=NHWC, patch_size=1)",
        "the first of 2 stages",
    ]


def test_images_of_another_function_are_refused(greys):
    experiment = dataclasses.replace(experiment_of(greys), train_data=lambda **_: None)
    with pytest.raises(UserError, match=r"of @dataset\.train_dataset only"):
        FirstStage.of(experiment, dataset_info.load_info(greys))
