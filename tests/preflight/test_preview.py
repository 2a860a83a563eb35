import pathlib

import gin
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFont

from common.errors import UserError
from input_pipeline import dataset, records
from input_pipeline.randaugment import rand_augment
from models.input_form import input_form
from preflight import contact_sheet, preview
from train import config

MNIST = "gin_configs/runs/mnist_cpu.gin"
BUILD = "efficientnet_x.build_model"
AUGMENT = (
    "dataset.train_dataset.augment = @randaugment.rand_augment",
    "randaugment.rand_augment.num_layers = 1",
)
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


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    """40 pictures, picture i as grey as 6 * i and of a size that nothing else has."""
    folder = tmp_path_factory.mktemp("greys")
    examples = [
        records.make_example(
            tf.io.encode_jpeg(np.full([20 + i, 30, 3], 6 * i, np.uint8)).numpy(),
            label=1 + i % 3,
            height=20 + i,
            width=30,
            filename=f"{i}.JPEG",
            synset="",
            text="",
        )
        for i in range(40)
    ]
    shards = [
        records.write_shard(str(folder / f"train-{k}"), examples[20 * k : 20 * k + 20])
        for k in range(2)
    ]
    split = records.SplitInfo(tuple(shards))
    names = ("ash", "slate", "chalk")
    splits = {"train": split, "validation": split}
    records.write_info(records.DatasetInfo("greys", 1, names, splits), str(folder))
    return str(folder)


def experiment_of(data_dir: str, *bindings: str):
    data = f"experiment.Experiment.data_dir = {data_dir!r}"
    batch = "experiment.Experiment.global_batch_size = 10"
    return config.parse([MNIST], [data, batch, *bindings])


def shown_of(data_dir: str, count: int, *bindings: str) -> list[contact_sheet.Shown]:
    experiment = experiment_of(data_dir, *bindings)
    info = records.load_info(data_dir)
    settings = preview.Settings(experiment, info)
    return list(preview.first_images(experiment, settings, info, count))


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


def test_shows_what_the_trainer_is_fed(data_dir):
    """Before and after augmentation, whatever form the model wants."""
    form = (f"{BUILD}.input_layout = 'HWCN'", f"{BUILD}.stem_block_size = 2")
    seed = "experiment.Experiment.seed = 5"
    images = shown_of(data_dir, 6, seed, *AUGMENT, *form)

    def augment(image, seed):
        return rand_augment(image, seed, num_layers=1, magnitude=10)

    before, after = fed(data_dir, 6), fed(data_dir, 6, augment=augment)
    assert (before["image"] != after["image"]).any()
    np.testing.assert_array_equal([x.pictures[1] for x in images], before["image"])
    np.testing.assert_array_equal([x.pictures[2] for x in images], after["image"])
    assert [x.number for x in images] == before["label"].tolist()


def test_the_originals_are_those_of_the_crops(data_dir):
    images = shown_of(data_dir, 40, "dataset.train_dataset.shuffle_buffer = 16")
    for shown in images:
        original, cropped = shown.pictures
        number = original.shape[0] - 20
        np.testing.assert_allclose(original, 6 * number, atol=1)
        np.testing.assert_allclose(cropped, original[0, 0, 0], atol=1)
        assert shown.name == ("ash", "slate", "chalk")[number % 3]
        assert shown.source.startswith(f"30 x {20 + number} px, 1 kB · ")
        shard, record = divmod(number, 20)
        assert shown.source.endswith(f"train-{shard}, record {record}")
    heights = sorted(shown.pictures[0].shape[0] for shown in images)
    assert heights == list(range(20, 60))


def test_mixed_images_say_their_shares(data_dir):
    images = shown_of(data_dir, 4, *MIX)
    for shown, partner in zip(images, images[::-1], strict=True):
        shares = {name: float(w) for w, name in map(str.split, shown.shares)}
        assert sum(shares.values()) == pytest.approx(1, abs=0.011)
        assert shares.keys() <= {shown.name, partner.name}
        own, mixed = (int(x.mean()) for x in (shown.pictures[1], shown.pictures[-1]))
        other = partner.pictures[1].mean()
        if shown.name != partner.name:
            expected = own + shares.get(partner.name, 0) * (other - own)
            assert mixed == pytest.approx(expected, abs=2)
    assert any(len(shown.shares) == 2 for shown in images)


@pytest.mark.slow
def test_a_bad_record_is_black_and_said_to_be_bad(data_dir, tmp_path):
    bad = records.make_example(
        b"no JPEG", label=1, height=1, width=1, filename="", synset="", text=""
    )
    shard = records.write_shard(str(tmp_path / "train-0"), [bad])
    split = records.SplitInfo((shard,))
    splits = {"train": split, "validation": split}
    info = records.DatasetInfo("bad", 1, ("ash",), splits)
    records.write_info(info, str(tmp_path))
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
def test_resolution_is_the_models_without_building_it(data_dir, bindings, monkeypatch):
    experiment = experiment_of(data_dir, *bindings)
    monkeypatch.setattr(preview, "input_form", None)
    settings = preview.Settings(experiment, records.load_info(data_dir))
    model = experiment.build_model()
    assert settings.resolution == input_form(model).resolution
    assert settings.model == model.name


def test_the_first_stage_counts(data_dir):
    row = {"until_epoch": 4, "resolution": 24, "magnitude": 3, "cutmix_alpha": 0}
    stages = f"experiment.Experiment.progressive = [{row}]"
    experiment = experiment_of(data_dir, stages, *AUGMENT, *ERASE, *MIX)
    settings = preview.Settings(experiment, records.load_info(data_dir))
    assert settings.resolution == 24
    assert settings.lines == [
        "crop and flip: area_range=(0.65, 0.9), aspect_ratio_range=(0.9, 1.1), "
        "flip=False",
        "augment: rand_augment(num_layers=1, magnitude=3) · erase: random_erasing("
        "probability=1, area_range=(0.02, 0.3333), aspect_ratio_range=(0.3, 3.333))",
        "mixing: mixup_cutmix(mixup_alpha=0.2, cutmix_alpha=0, switch_prob=1, "
        "layout=NHWC, patch_size=1)",
        "the first of 2 stages",
    ]


def test_images_of_another_function_are_refused(data_dir):
    other = "experiment.Experiment.train_data = @dataset.eval_dataset"
    experiment = experiment_of(data_dir, other)
    with pytest.raises(UserError, match=r"of @dataset\.train_dataset only"):
        preview.Settings(experiment, records.load_info(data_dir))


def test_the_command_writes_a_sheet(data_dir, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    command = [f"--gin_file={MNIST}", f"--data_dir={data_dir}", f"--output={output}"]
    preview.main([*command, "--images=1", "--seed=7"])
    assert capsys.readouterr().out == f"wrote {output}, 1 images\n"
    with Image.open(output) as sheet:
        assert (sheet.format, sheet.mode, sheet.width) == ("PNG", "RGB", 1600)
        pixels = np.asarray(sheet).astype(int)
    # The middles of both pictures, one of which is of the other.
    original, cropped = pixels[300, 150], pixels[300, 394]
    np.testing.assert_allclose(original, cropped, atol=1)
    assert min(original % 6) in (0, 1, 5)


def test_sheet_has_every_picture_in_its_place():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    pictures = [np.full([50, 50, 3], colour, np.uint8) for colour in colours]
    images = [contact_sheet.Shown([x, x, x], "name", 0, "source") for x in pictures]
    sheet = np.asarray(contact_sheet.draw_sheet(["title"], ["a", "b", "c"], images))
    places = []
    for colour in colours:
        rows, columns = np.nonzero((sheet == colour).all(axis=-1))
        assert rows.size == 3 * 242 * 242
        places.append((rows.min(), columns.min()))
    rows, columns = zip(*places, strict=True)
    assert columns == (32, 824, 32, 824, 32)
    assert rows[0] == rows[1] < rows[2] == rows[3] < rows[4]


def test_letterbox_keeps_the_proportions():
    picture = np.full([30, 60, 3], 255, np.uint8)
    boxed = np.asarray(contact_sheet.letterboxed(picture, 120))
    white = (boxed == 255).all(axis=-1)
    assert boxed.shape == (120, 120, 3)
    assert white[30:90].all()
    assert white.sum() == 60 * 120


def test_long_text_is_cut_with_an_ellipsis():
    font = ImageFont.load_default(size=17)
    name = "a name that is far too long for its place"
    cut = contact_sheet.fitted(name, font, 150)
    assert cut.endswith("…")
    assert name.startswith(cut[:-1])
    assert 120 < font.getlength(cut) <= 150
    assert contact_sheet.fitted("short", font, 150) == "short"
    assert contact_sheet.fitted("crêpe", font, 150) == "crepe"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output=sheet.jpg"], "--output=sheet.jpg is no .png"),
        (["--output=none/sheet.png"], "there is no folder none for --output"),
        (["--gin_file=none.gin"], "there is no gin file none.gin"),
        (["--gin_file=gin_configs/runs/imagenet.gin"], "Experiment.data_dir; set each"),
        ([f"--gin_file={MNIST}", "--data_dir=none"], "there is no data folder none"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, tmp_path):
    output = f"--output={tmp_path}/sheet.png"
    with pytest.raises(SystemExit) as raised:
        preview.main([output, *arguments])
    assert str(raised.value.code).startswith("error: ")
    assert said in str(raised.value.code)
    assert "\n" not in str(raised.value.code)


def test_a_sheet_that_cannot_be_written_is_one_line(data_dir, tmp_path):
    folder = pathlib.Path(tmp_path / "folder.png")
    folder.mkdir()
    with pytest.raises(UserError, match=r"cannot write .*name another --output"):
        preview._write(Image.new("RGB", (1, 1)), str(folder))
