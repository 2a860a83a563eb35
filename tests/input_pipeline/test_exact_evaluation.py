"""Evaluation's pixels are the authors', bit for bit, from the record to the batch.

At 224 px against what their own code gave; at sizes that nobody looked at while the
code was written against `plain_crop`, which shares nothing with it but the decoder.
"""

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import dataset, dataset_info, preprocess, records
from input_pipeline.preprocess import EvalCrop
from tests.input_pipeline.builders import DATA
from tests.support import plain_crop

PHOTOS = ["astronaut", "camera", "cat", "coffee"]  # camera is a grey JPEG
KEPT_ASIDE = [240, 380]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "preprocess_eval.npz") as arrays:
        return dict(arrays)


def read(photo: str) -> bytes:
    return (DATA / f"{photo}.jpg").read_bytes()


def plain(photo: str, size: int, padding: int | None = None) -> np.ndarray:
    """Return the authors' image without our code."""
    encoded = read(photo)
    height, width, _ = tf.io.extract_jpeg_shape(encoded).numpy()
    cut = plain_crop.reference_padding(size) if padding is None else padding
    window = plain_crop.central_window(height, width, size, cut)
    part = tf.image.decode_and_crop_jpeg(encoded, window, channels=3).numpy()
    return plain_crop.bicubic(part, size)


# What the authors' own code gave at other sizes: the smallest and the largest pixel.
EXTREMES = {
    ("astronaut", 240): (-17.964561462402344, 276.6809997558594),
    ("astronaut", 300): (-22.007827758789062, 275.78546142578125),
    ("camera", 229): (-3.0367746353149414, 267.34893798828125),
    ("coffee", 240): (-21.135286331176758, 280.8634948730469),
    ("cat", 300): (-6.870676040649414, 215.10951232910156),
}


def test_the_plain_image_is_that_of_the_authors(golden):
    for photo in PHOTOS:
        np.testing.assert_array_equal(plain(photo, 224), golden[f"{photo}_eval224"])
    for (photo, size), extremes in EXTREMES.items():
        image = plain(photo, size)
        assert (image.min(), image.max()) == extremes


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("photos")
    contents = [
        records.make_example(
            read(photo),
            label=label,
            height=1,
            width=1,
            filename=f"{photo}.jpg",
            synset="",
            text="",
        )
        for label, photo in enumerate(PHOTOS, start=1)
    ]
    shard = records.write_shard(str(folder / "validation-0"), contents)
    splits = {"validation": dataset_info.SplitInfo((shard,))}
    info = dataset_info.DatasetInfo("photos", 1, tuple(PHOTOS), splits)
    dataset_info.write_info(info, str(folder))
    return str(folder)


def batch_of(data_dir: str, **options) -> np.ndarray:
    (batch,) = dataset.eval_dataset(data_dir=data_dir, batch_size=6, **options)
    assert batch["label"].numpy().tolist() == [0, 1, 2, 3, -1, -1]
    image = batch["image"].numpy()
    assert (image[4:] == 0).all()
    return image[:4]


@pytest.mark.parametrize(
    "size", [224, *(pytest.param(size, marks=pytest.mark.long) for size in KEPT_ASIDE)]
)
def test_from_the_record_to_the_batch(golden, data_dir, size):
    authors = np.stack(
        [golden[f"{p}_eval224"] if size == 224 else plain(p, size) for p in PHOTOS]
    )
    found = batch_of(data_dir, resolution=size)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, authors)
    rounded = batch_of(data_dir, resolution=size, pixels="uint8")
    nearest = np.floor(np.clip(authors.astype(np.float64) + 0.5, 0, 255))
    np.testing.assert_array_equal(rounded, nearest)
    # By no more than half a level, where it is not clipped.
    inside = (authors >= 0) & (authors <= 255)
    assert np.abs(rounded - authors)[inside].max() <= 0.5


@pytest.mark.long
@pytest.mark.parametrize("method", ["bilinear", "bilinear_half_pixels"])
def test_other_resizes(data_dir, method):
    half_pixels = method == "bilinear_half_pixels"
    whole = batch_of(data_dir, resolution=96, resize=method, crop_fraction="squash")
    cut = batch_of(data_dir, resolution=96, resize=method, crop_fraction=0.75)
    for number, photo in enumerate(PHOTOS):
        image = tf.io.decode_image(read(photo), channels=3).numpy()
        want = plain_crop.bilinear(image, 96, half_pixels=half_pixels)
        np.testing.assert_array_equal(whole[number], want)
        height, width, _ = image.shape
        window = plain_crop.central_window(height, width, 96, 32)
        part = tf.image.decode_and_crop_jpeg(read(photo), window, channels=3).numpy()
        want = plain_crop.bilinear(part, 96, half_pixels=half_pixels)
        np.testing.assert_array_equal(cut[number], want)


def test_as_the_ops_of_both_tensorflows_resize():
    """What Lite's and EfficientNetV2's authors call: of TF1 and of TF2."""
    image = tf.io.decode_image(read("coffee"), channels=3)
    for method, resized in (
        ("bilinear", tf.compat.v1.image.resize([image], [75, 75])),
        ("bilinear_half_pixels", tf.image.resize([image], [75, 75])),
    ):
        found = preprocess.eval_pixels(
            tf.constant(read("coffee")), 75, EvalCrop(method, "squash")
        )
        np.testing.assert_array_equal(found, resized[0])
