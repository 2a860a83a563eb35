"""Whole pipelines with fused ops and without: the same batches, or the same error."""

import functools
import io
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline import dataset
from input_pipeline.autoaugment import auto_augment
from input_pipeline.bad_records import explain
from input_pipeline.erasing import random_erasing
from input_pipeline.errors import DataError
from input_pipeline.fused import library
from input_pipeline.randaugment import rand_augment
from tests.input_pipeline import images
from tests.input_pipeline.builders import example, jpeg
from tests.input_pipeline.fused.test_images import RARE_RECORDS, USUAL_RECORDS
from tests.support import processes


def mirrored_by_hand(image, seed):
    """An augmentation of a user's own."""
    return tf.reverse(image, [1])


def file(form: str, mode: str = "RGB", **options) -> bytes:
    output = io.BytesIO()
    images.picture(7, 40, 33).convert(mode).save(output, form, **options)
    return output.getvalue()


RECORDS = {
    "JPEGs": [example(i, encoded=jpeg(i, 20 + i, 57 - i)) for i in range(12)],
    "of all kinds": [
        example(0),
        example(1, encoded=file("PNG")),
        example(2, encoded=file("PNG", "LA")),
        example(3, encoded=file("JPEG", "L")),
        example(4, encoded=file("JPEG", "CMYK")),
        example(5, encoded=file("JPEG", progressive=True)),
        example(6, encoded=jpeg(6, 1, 1)),
        example(7, encoded=jpeg(7, 1, 90)),
    ],
    "written otherwise": [
        *USUAL_RECORDS.values(),
        RARE_RECORDS["the image twice"],
        RARE_RECORDS["a label that is not packed"],
        RARE_RECORDS["the label twice"],
    ],
}
BROKEN = {
    "no image": example(1, encoded=b"nothing"),
    "another kind": example(2, encoded=file("GIF")),
    "cut off": example(3, encoded=jpeg(3)[:-300]),
    "huge": example(4, encoded=jpeg(4)[:163] + b"\xff\xff\xff\xff" + jpeg(4)[167:]),
    "another label": example(5, label=99),
    "no example": b"\xff\xff",
    "two images": RARE_RECORDS["two images"],
    "a label of another type": RARE_RECORDS["a label of another type"],
}
TRAINING = {
    "cropped alone": {},
    "RandAugment": {"augment": functools.partial(rand_augment, num_layers=3)},
    "strong": {"augment": functools.partial(rand_augment, magnitude=28)},
    "AutoAugment": {"augment": auto_augment, "erase": random_erasing},
    "their own": {"augment": mirrored_by_hand, "resize": "bilinear"},
    "all of both": {"augment": mirrored_by_hand, "erase": random_erasing},
    "erased alone": {"erase": functools.partial(random_erasing, probability=1.0)},
    "as others": {"resize": "bilinear_half_pixels", "flip": False},
}


def batches(make, data_dir, fused_ops, count=None, **settings):
    made = make(data_dir=data_dir, resolution=24, fused_ops=fused_ops, **settings)
    return list((made if count is None else made.take(count)).as_numpy_iterator())


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for name in ("image", "label"):
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.long
@pytest.mark.parametrize(
    ("records", "settings"),
    [
        *(("of all kinds", settings) for settings in TRAINING),
        ("written otherwise", "RandAugment"),
    ],
)
def test_training_has_the_same_batches(ops, dataset_of, records, settings):
    settings = {"batch_size": 4, "seed": 3, "count": 6, **TRAINING[settings]}
    data = dataset_of(RECORDS[records])
    plain, fused = (
        batches(dataset.train_dataset, data, of, **settings) for of in (False, True)
    )
    assert_equal(fused, plain)


EVALUATION = [
    {},
    {"pixels": "uint8"},
    {"resize": "bilinear_half_pixels", "crop_fraction": "squash"},
    {"resize": "bilinear", "crop_fraction": 1.0, "pixels": "uint8"},
]


@pytest.mark.parametrize(
    ("records", "settings"),
    [
        ("of all kinds", EVALUATION[0]),
        *(
            pytest.param(records, settings, marks=pytest.mark.long)
            for records in RECORDS
            for settings in EVALUATION
            if (records, settings) != ("of all kinds", EVALUATION[0])
        ),
    ],
)
def test_evaluation_has_the_same_batches(ops, dataset_of, records, settings):
    data = dataset_of(RECORDS[records])
    plain, fused = (
        batches(dataset.eval_dataset, data, of, batch_size=4, **settings)
        for of in (False, True)
    )
    assert_equal(fused, plain)


@pytest.mark.long
@pytest.mark.parametrize("broken", BROKEN)
def test_broken_records_are_masked_and_named_alike(ops, dataset_of, capfd, broken):
    data = dataset_of([*RECORDS["of all kinds"][:3], BROKEN[broken]])
    found = []
    for fused_ops in (False, True):
        settings = {"batch_size": 4, "seed": 0, "max_bad_records": 4}
        skipping = batches(
            dataset.train_dataset,
            data,
            fused_ops,
            count=3,
            on_bad_record="skip",
            augment=rand_augment,
            **settings,
        )
        with pytest.raises(tf.errors.OpError) as raised:
            batches(dataset.eval_dataset, data, fused_ops, batch_size=4)
        said = {
            line for line in capfd.readouterr().err.splitlines() if "bad rec" in line
        }
        found.append((skipping, said, explain(raised.value)))
    (plain, plain_said, plain_why), (fused, fused_said, fused_why) = found
    assert_equal(fused, plain)
    assert fused_said == plain_said
    assert fused_why == plain_why
    assert ", record 3: " in fused_why


@pytest.mark.long
def test_a_user_s_own_augmentation_that_fails_is_named(ops, dataset_of):
    def failing(image, seed):
        with tf.control_dependencies([tf.debugging.Assert(False, ["not today"])]):
            return tf.identity(image)

    with pytest.raises(tf.errors.OpError) as raised:
        batches(
            dataset.train_dataset,
            dataset_of(RECORDS["JPEGs"]),
            True,
            count=1,
            batch_size=4,
            seed=0,
            augment=failing,
        )
    assert "augment (failing) failed on an image" in str(explain(raised.value))


@pytest.mark.long
def test_they_are_really_used(ops, dataset_of, monkeypatch):
    """And by choice alone: with other ops there would be other images."""
    data = dataset_of(RECORDS["JPEGs"])
    settings = {"batch_size": 4, "seed": 0, "count": 1}
    before = batches(dataset.train_dataset, data, None, **settings)

    def inverted(*inputs, **attributes):
        image, *others = ops.efficientnetx_images(*inputs, **attributes)
        return 255 - image, *others

    other = SimpleNamespace(
        efficientnetx_images=inverted,
        efficientnetx_augment=ops.efficientnetx_augment,
    )
    monkeypatch.setattr(library, "find", lambda: library.Found(other, ""))
    for fused_ops, is_inverted in ((None, True), (True, True), (False, False)):
        found = batches(dataset.train_dataset, data, fused_ops, **settings)
        want = before[0]["image"]
        np.testing.assert_array_equal(
            found[0]["image"], 255 - want if is_inverted else want
        )


@pytest.mark.long
def test_without_a_library(dataset_of, monkeypatch):
    monkeypatch.setattr(
        library, "find", lambda: library.Found(None, "they are no more")
    )
    data = dataset_of(RECORDS["JPEGs"])
    settings = {"batch_size": 4, "seed": 0, "count": 1}
    assert_equal(
        batches(dataset.train_dataset, data, None, **settings),
        batches(dataset.train_dataset, data, False, **settings),
    )
    for make in (dataset.train_dataset, dataset.eval_dataset):
        some: dict[str, Any] = {"seed": 0} if make is dataset.train_dataset else {}
        with pytest.raises(
            DataError, match=r"no fused input ops: they are no more; pyt"
        ):
            make(data_dir=data, resolution=24, batch_size=4, fused_ops=True, **some)


@pytest.mark.parametrize("value", ["yes", 2, "auto"])
def test_a_setting_that_makes_no_sense(dataset_of, value):
    with pytest.raises(
        UserError, match=r"fused_ops = .*: it has to be None or True or F"
    ):
        dataset.eval_dataset(
            data_dir=dataset_of(RECORDS["JPEGs"]),
            resolution=24,
            batch_size=4,
            fused_ops=value,
        )


@pytest.mark.long
def test_each_worker_is_asked(ops):
    """Of a slice of two, of which one has not loaded the ops."""
    code = """
import sys
import tensorflow as tf
if sys.argv[1] == "with":
    from input_pipeline.fused import library
    library.find()
server = tf.distribute.Server({"worker": ["localhost:0"]}, job_name="worker")
print(server.target, flush=True)
sys.stdin.read()
"""
    client = """
import sys
import tensorflow as tf
from input_pipeline.fused import library
here = library.choose(None)
cluster = tf.train.ClusterSpec({"worker": sys.argv[1:]})
tf.config.experimental_connect_to_cluster(cluster)
print(here is not None, library.choose(None) is not None)
"""
    found = {}
    for loads in ("with", "without"):
        arguments = [[sys.executable, "-c", code, how] for how in ("with", loads)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        workers: list[Any] = [
            subprocess.Popen(one, text=True, **pipes) for one in arguments
        ]
        targets = [w.stdout.readline().strip().removeprefix("grpc://") for w in workers]
        ran = subprocess.run(
            [sys.executable, "-c", client, *targets], capture_output=True, text=True
        )
        found[loads] = ran.stdout.split() or ran.stderr[-2000:]
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert found == {"with": ["True", "True"], "without": ["True", "False"]}


@pytest.mark.long
def test_a_process_asks_none_of_its_equals(ops):
    """Under multi_worker: TensorFlow lists their devices, where nothing may be run."""
    code = """
import tensorflow as tf
from input_pipeline.fused import library
tf.distribute.MultiWorkerMirroredStrategy()
print(len(tf.config.list_logical_devices("CPU")), library.choose(None) is not None)
"""
    with processes.started([sys.executable, "-c", code], workers=2) as running:
        found = [process.communicate(timeout=300) for process in running]
    assert [said for said, _ in found] == 2 * ["2 True\n"], found


def test_a_device_without_the_ops_gets_tensorflow_s(monkeypatch):
    """As a worker on which they are not built."""

    def missing(*inputs, **attributes):
        raise tf.errors.NotFoundError(None, None, "Op type not registered")

    other = SimpleNamespace(efficientnetx_augment=missing)
    monkeypatch.setattr(library, "find", lambda: library.Found(other, ""))
    assert library.choose(None) is None
    assert library.choose(True) is other


def test_a_service_gets_them_only_where_they_are_asked_for(ops):
    assert library.choose(None, "grpc://somewhere:1") is None
    assert library.choose(True, "grpc://somewhere:1") is ops
    assert library.choose(None) is ops
