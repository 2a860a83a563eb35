import functools
import hashlib
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline import dataset, preprocess
from input_pipeline.randaugment import rand_augment
from tests.input_pipeline.builders import jpeg
from tests.support.tiny import brighten


def train(data_dir: str, **options) -> tf.data.Dataset:
    options = {"resolution": 16, "batch_size": 4, "seed": 1, **options}
    return dataset.train_dataset(data_dir=data_dir, shuffle_buffer=8, **options)


def evaluate(data_dir: str, **options) -> list:
    options = {"resolution": 16, "batch_size": 4, **options}
    return list(dataset.eval_dataset(data_dir=data_dir, **options))


def flat(batches) -> tuple[np.ndarray, np.ndarray]:
    batches = [(b["image"].numpy(), b["label"].numpy()) for b in batches]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.long
def test_batches_are_static_and_labels_from_zero(tiny):
    def spec(dtype: tf.DType) -> dict:
        return {
            "image": tf.TensorSpec([23, 16, 16, 3], dtype),
            "label": tf.TensorSpec([23], tf.int32),
        }

    trained = train(tiny, batch_size=23)
    assert trained.element_spec == spec(tf.uint8)
    options = {"data_dir": tiny, "resolution": 16, "batch_size": 23}
    assert dataset.eval_dataset(**options).element_spec == spec(tf.float32)
    rounded = dataset.eval_dataset(**options, pixels="uint8")
    assert rounded.element_spec == spec(tf.uint8)
    _, labels = flat(trained.take(1))
    assert np.bincount(labels).tolist() == [5, 5, 5, 4, 4]  # 23 records, value % 5


@pytest.mark.long
def test_resuming_continues_bit_for_bit_through_the_augmentation(tiny):
    augment = functools.partial(brighten, magnitude=200)
    options = {"augment": augment, "num_hosts": 2, "host": 1}
    images, labels = flat(train(tiny, **options).take(16))
    assert len(np.unique(images.reshape(64, -1), axis=0)) > 45
    got_images, got_labels = flat(train(tiny, **options, start=37).take(2))
    np.testing.assert_array_equal(got_images, images[37:45])
    np.testing.assert_array_equal(got_labels, labels[37:45])


@pytest.mark.long
def test_images_depend_on_the_seed_and_change_between_epochs(tiny):
    images, _ = flat(train(tiny, batch_size=23).take(2))
    other, _ = flat(train(tiny, batch_size=23, seed=2).take(2))
    assert not (images == other).all()
    assert len(np.unique(images.reshape(46, -1), axis=0)) == 46


@pytest.mark.long
def test_crop_options_reach_the_image(tiny):
    options = {"area_range": (0.99, 1.0), "aspect_ratio_range": (1.333, 1.334)}
    images, _ = flat(train(tiny, batch_size=23, flip=False, **options).take(1))
    # The full 24 x 32 image never counts as a crop: all are the evaluation image.
    rounded = preprocess.EvalCrop(pixels="uint8")
    wanted = [
        preprocess.eval_image(tf.constant(jpeg(i)), 16, rounded).numpy()
        for i in range(23)
    ]
    same = [any((image == want).all() for want in wanted) for image in images]
    assert sum(same) > 5


@pytest.mark.long
def test_evaluation_counts_every_record_once(tiny):
    num_hosts, batch_size = 3, 4
    batches = -(-host_max(10, num_hosts) // batch_size) + 1
    counted = []
    for host in range(num_hosts):
        images, labels = flat(
            evaluate(
                tiny,
                batch_size=batch_size,
                num_batches=batches,
                num_hosts=num_hosts,
                host=host,
            )
        )
        assert len(labels) == batches * batch_size
        real = labels != -1
        assert (np.sort(~real) == ~real).all()  # the padding comes last
        assert (images[~real] == 0).all()
        counted.append(list(zip(images[real], labels[real], strict=True)))
    order = [image for host in counted for image in host]
    assert len(order) == 10
    for value, (image, label) in enumerate(order, start=100):
        want = preprocess.eval_image(tf.constant(jpeg(value)), 16)
        np.testing.assert_array_equal(image, want)
        assert label == value % 5


def host_max(total: int, num_hosts: int) -> int:
    return -(-total // num_hosts)


def test_evaluation_pads_no_more_than_the_last_batch_by_default(tiny):
    batches = evaluate(tiny, batch_size=4)
    assert [b["label"].numpy().tolist() for b in batches] == [
        [0, 1, 2, 3],
        [4, 0, 1, 2],
        [3, 4, -1, -1],
    ]


@pytest.fixture(scope="module")
def expected(tiny):
    (batch,) = evaluate(tiny, batch_size=10)
    return batch


@pytest.mark.long
@pytest.mark.parametrize(
    ("patch_size", "layout"),
    [(1, "HWCN"), (2, "NHWC"), (4, "HWCN")],
)
def test_images_in_another_form_are_the_same_pixels(tiny, expected, patch_size, layout):
    (found,) = evaluate(tiny, batch_size=10, patch_size=patch_size, layout=layout)
    image = found["image"]
    assert image.dtype == tf.float32
    if layout == "HWCN":
        image = tf.transpose(image, [3, 0, 1, 2])
    assert image.shape == (10, 16 // patch_size, 16 // patch_size, 3 * patch_size**2)
    if patch_size > 1:
        image = tf.nn.depth_to_space(image, patch_size)
    np.testing.assert_array_equal(image, expected["image"])
    np.testing.assert_array_equal(found["label"], expected["label"])


@pytest.mark.parametrize(
    "setting", [{"shuffle_buffer": 0}, {"batch_size": 0}, {"service_window": 2.5}]
)
def test_counts_out_of_range(tiny, setting):
    ((name, value),) = setting.items()
    with pytest.raises(
        UserError, match=f"{name} = {value}: it has to be a whole number "
    ):
        dataset.train_dataset(
            **{
                "data_dir": tiny,
                "resolution": 16,
                "batch_size": 4,
                "seed": 1,
                **setting,
            }
        )


def test_unknown_layout(tiny):
    with pytest.raises(
        UserError, match="layout = 'NCHW': it has to be 'NHWC' or 'HWCN'"
    ):
        evaluate(tiny, layout="NCHW")


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ({"pixels": "float16"}, "it has to be 'float32' or 'uint8'"),
        ({"resize": "nearest"}, "'bicubic', 'bilinear' or 'bilinear_half_pixels'"),
        ({"crop_fraction": 87.5}, "0.01 to 1, or 'squash'; 87.5 % is 0.875"),
        ({"crop_fraction": "none"}, "a number from 0.01 to 1, or 'squash'"),
    ],
)
def test_a_crop_that_there_is_not(tiny, setting, what):
    with pytest.raises(UserError, match=what):
        evaluate(tiny, **setting)


def test_too_few_batches_are_refused(tiny):
    with pytest.raises(ValueError, match=r"2 batches of 4 .* 10 records: 3 are needed"):
        evaluate(tiny, num_batches=2)


# Prints a digest of every batch, until it is killed.
STREAMING = """
import functools, hashlib, sys
from input_pipeline import dataset, randaugment
augment = functools.partial(randaugment.rand_augment, num_layers=1, magnitude=10)
for batch in dataset.train_dataset(
    data_dir=sys.argv[1], resolution=16, batch_size=4, seed=1, augment=augment,
    shuffle_buffer=8,
).as_numpy_iterator():
    content = batch["image"].tobytes() + batch["label"].tobytes()
    print(hashlib.sha256(content).hexdigest(), flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_is_continued_bit_for_bit(tiny):
    augment = functools.partial(rand_augment, num_layers=1, magnitude=10)

    def digests(steps: int, start: int = 0) -> list[str]:
        batches = train(tiny, augment=augment, start=4 * start).take(steps)
        contents = [b["image"] + b["label"] for b in as_bytes(batches)]
        return [hashlib.sha256(content).hexdigest() for content in contents]

    process = subprocess.Popen(
        [sys.executable, "-c", STREAMING, tiny],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.stdout is not None
    before = [process.stdout.readline().strip() for _ in range(random.randint(1, 60))]
    process.kill()
    process.wait()
    process.stdout.close()
    step = len(before)
    undisturbed = digests(step + 50)
    assert before == undisturbed[:step]
    assert digests(50, start=step) == undisturbed[step:]


def as_bytes(batches):
    for batch in batches.as_numpy_iterator():
        yield {name: value.tobytes() for name, value in batch.items()}


@pytest.mark.long
def test_erasing_comes_behind_augmenting_on_a_seed_of_its_own(tiny):
    seeds = []

    def paint(value):
        def function(image, seed):
            seeds.append(seed)
            return image // 2 + value

        return function

    plain, _ = flat(train(tiny, augment=lambda image, seed: image).take(1))
    images, _ = flat(train(tiny, augment=paint(100), erase=paint(7)).take(1))
    np.testing.assert_array_equal(images, (plain // 2 + 100) // 2 + 7)
    assert seeds[0] is not seeds[1]


@pytest.mark.long
def test_only_what_is_augmented_loses_the_fraction_of_a_level(tiny):
    """As in the reference; what is not, is rounded, also before it is erased."""
    rounded, _ = flat(train(tiny, batch_size=23).take(1))
    erased, _ = flat(train(tiny, batch_size=23, erase=unchanged).take(1))
    dropped, _ = flat(train(tiny, batch_size=23, augment=unchanged).take(1))
    np.testing.assert_array_equal(erased, rounded)
    assert set(np.unique(rounded.astype(int) - dropped)) == {0, 1}


def unchanged(image, seed):
    return image


@pytest.mark.long
def test_the_resize_of_training_is_a_setting(tiny):
    images = [
        flat(train(tiny, batch_size=23, resize=resize).take(1))[0]
        for resize in (None, "bicubic", "bilinear", "bilinear_half_pixels")
    ]
    np.testing.assert_array_equal(images[0], images[1])
    assert len(np.unique([image.tobytes() for image in images])) == 3


def test_as_many_images_are_decoded_at_once_as_there_are_cores(tiny):
    options = train(tiny).options().autotune
    assert (options.enabled, options.initial_parallelism) == (False, 1 << 16)


@pytest.mark.slow
def test_an_iterator_goes_at_once(tiny):
    """With tf.data's tuner it took 11 s here, and up to a minute after longer ones."""
    iterator = iter(train(tiny))
    end = time.monotonic() + 40
    while time.monotonic() < end:
        next(iterator)
        time.sleep(0.01)
    start = time.monotonic()
    del iterator
    assert time.monotonic() - start < 3
