import functools
import os
import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from common import storage_errors
from common.errors import UserError
from input_pipeline import bad_records, dataset, preprocess
from input_pipeline.errors import DataError
from tests.input_pipeline.builders import DATA, example, jpeg, write_dataset


def huge() -> bytes:
    encoded = jpeg(0)
    place = encoded.index(b"\xff\xc0") + 5  # SOF0: length, precision, height, width
    side = (20_000).to_bytes(2, "big")
    return encoded[:place] + side + side + encoded[place + 4 :]


def without(field: str) -> bytes:
    message = tf.train.Example.FromString(example(0))
    del message.features.feature[field]
    return message.SerializeToString()


PNG = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy()
PHOTO = (DATA / "cat.jpg").read_bytes()
SCAN = PHOTO.index(b"\xff\xda")
BAD = {
    "no bytes": (example(0, encoded=b""), "image/encoded is missing or empty"),
    "no image": (without("image/encoded"), "image/encoded is missing or empty"),
    "no label": (without("image/class/label"), "image/class/label is missing"),
    "label 0": (example(0, label=0), "its label 0 is outside 1..5"),
    "label 6": (example(0, label=6), "its label 6 is outside 1..5"),
    "text": (example(0, encoded=b"hello"), "its image is of no kind that is known:"),
    "webp": (
        example(0, encoded=b"RIFF\xff\0\x80\0WEBPVP8 "),
        "its image is a WebP: records hold JPEGs and PNGs",
    ),
    "Apple's": (
        example(0, encoded=PNG[:8] + b"\0\0\0\4CgBI" + PNG[8:]),
        "its image is a PNG of Apple's own kind: records hold",
    ),
    "png header": (
        example(0, encoded=PNG[:20]),
        "its PNG header is damaged or cut off",
    ),
    "huge png": (
        example(0, encoded=PNG[:16] + b"\xff" * 8 + PNG[24:]),
        "its header claims 4294967295 x 4294967295 pixels",
    ),
    "png data": (
        example(0, encoded=PNG[:-20]),
        "its PNG data is damaged or cut off",
    ),
    "not an example": (b"\xff\xff\xff", "it is not a tf.train.Example"),
    "only a header": (
        example(0, encoded=jpeg(0)[:20]),
        "its JPEG header is damaged or cut off",
    ),
    "huge": (example(0, encoded=huge()), "its header claims 20000 x 20000 pixels"),
    "cut off": (
        example(0, encoded=PHOTO[: len(PHOTO) // 2]),
        "its JPEG data is damaged or cut off",
    ),
    "garbage body": (
        example(0, encoded=PHOTO[: SCAN + 14] + b"garbage" * 1000),
        "its JPEG data is damaged or cut off",
    ),
}
RECORDS = [content for content, _ in BAD.values()]


def options(data_dir: str, policy: str) -> dict:
    return {
        "data_dir": data_dir,
        "resolution": 16,
        "batch_size": 3 * len(BAD),
        "on_bad_record": policy,
    }


def labels(batch) -> list[int]:
    return batch["label"].numpy().tolist()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> str:
    """A good record on either side of every bad one."""
    folder = tmp_path_factory.mktemp("it's mixed")
    contents = [c for bad in RECORDS for c in (example(1), bad, example(2))]
    write_dataset(folder, {"train-0": contents, "validation-0": contents})
    return str(folder)


def test_skip_masks_exactly_the_bad_records_and_names_each(mixed, capfd):
    (batch,) = dataset.eval_dataset(**options(mixed, "skip"))
    assert labels(batch) == [1, -1, 2] * len(BAD)
    images = batch["image"].numpy()
    assert (images[1::3] == 0).all()
    good = preprocess.eval_image(tf.constant(jpeg(1)), 16).numpy()
    assert all((image == good).all() for image in images[::3])
    lines = [x for x in capfd.readouterr().err.splitlines() if "bad record" in x]
    assert len(lines) == len(BAD)
    for number, (_, reason) in enumerate(BAD.values()):
        (line,) = [x for x in lines if f"validation-0, record {3 * number + 1}:" in x]
        assert reason in line
        assert line.endswith("; masked")


@pytest.mark.long
def test_skip_in_training_keeps_every_other_image(mixed, capfd):
    def train(**more):
        return dataset.train_dataset(
            **options(mixed, "skip"), seed=0, shuffle_buffer=100, **more
        )

    plain = next(iter(train(augment=lambda image, seed: image)))
    inverted = next(iter(train(augment=lambda image, seed: 255 - image)))
    assert sorted(labels(plain)) == sorted([1, -1, 2] * len(BAD))
    masked = plain["label"].numpy() == -1
    assert (plain["image"].numpy()[masked] == 0).all()
    assert (inverted["image"].numpy()[masked] == 0).all()
    np.testing.assert_array_equal(
        inverted["image"].numpy()[~masked], 255 - plain["image"].numpy()[~masked]
    )
    assert "train-0, record 1:" in capfd.readouterr().err


def test_stop_names_each_bad_record_and_its_fault(mixed):
    batches = iter(dataset.eval_dataset(**{**options(mixed, "stop"), "batch_size": 1}))
    for number, (_, reason) in enumerate(BAD.values()):
        assert labels(next(batches)) == [1]
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            next(batches)
        line = bad_records.explain(error.value)
        assert line is not None
        assert line.startswith(
            f"bad record: {mixed}/validation-0, record {3 * number + 1}: "
        )
        assert reason in line
        assert line.endswith("train without it (on_bad_record: skip)")
        assert "\n" not in line
        assert labels(next(batches)) == [2]


def test_a_split_of_nothing_but_bad_records_ends(dataset_of, capfd):
    data_dir = dataset_of([b"\xff\xff"] * 3)
    (batch,) = dataset.eval_dataset(**{**options(data_dir, "skip"), "batch_size": 4})
    assert labels(batch) == [-1] * 4
    assert capfd.readouterr().err.count("bad record") == 3


RECORD = len(example(0)) + 16
CUT_OFF = "the file is damaged or cut off here"
# What is done to a file of 40 records, the first one lost, how many, and why. Behind a
# damaged length the rest of a chunk of 16 is lost.
DAMAGE = {
    "cut off": (lambda b: b[:-7], 39, 1, CUT_OFF),
    "length": (lambda b: b"??" + b[2:], 0, 16, CUT_OFF),
    "data": (
        lambda b: b[: 20 * RECORD + 40] + b"??" + b[20 * RECORD + 42 :],
        20,
        1,
        CUT_OFF,
    ),
    "a record lost": (lambda b: b[:-RECORD], 39, 1, CUT_OFF),
    "empty": (lambda b: b"", 0, 40, CUT_OFF),
    "a record more": (
        lambda b: b + b[:RECORD],
        39,
        1,
        "the file goes on behind its last",
    ),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> str:
    """A file of 40 equal records for each kind of damage, and the damage."""
    folder = tmp_path_factory.mktemp("damaged")
    names = [f"train-{number}" for number in range(len(DAMAGE))]
    write_dataset(folder, {name: [example(0)] * 40 for name in names})
    for name, (damage, *_) in zip(names, DAMAGE.values(), strict=True):
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))
    return str(folder)


@pytest.mark.long
def test_of_damaged_files_only_what_is_lost_is_masked(damaged, capfd):
    arguments = {**options(damaged, "skip"), "batch_size": 40 * len(DAMAGE)}
    (evaluated,) = dataset.eval_dataset(**arguments, split="train")
    found = np.reshape(labels(evaluated), [len(DAMAGE), 40]) == -1
    said = [x for x in capfd.readouterr().err.splitlines() if "bad record" in x]
    for number, (_, first, lost, reason) in enumerate(DAMAGE.values()):
        assert np.flatnonzero(found[number]).tolist() == [*range(first, first + lost)]
        lines = [line for line in said if f"{damaged}/train-{number}, " in line]
        assert len(lines) == lost
        # Groups are decoded at once: any of them may be the first to speak.
        assert f"train-{number}, record {first}: {reason}" in "\n".join(lines)
    trained = next(iter(dataset.train_dataset(**arguments, seed=0)))
    assert labels(trained).count(-1) == found.sum()


@pytest.mark.parametrize("kind", ["length", "a record more"])
def test_a_damaged_file_is_named_with_the_first_record_lost(damaged, kind):
    number, (_, first, _, reason) = list(DAMAGE).index(kind), DAMAGE[kind]
    batches = dataset.eval_dataset(
        **{**options(damaged, "stop"), "batch_size": 40},
        split=f"train[{number}shard:{number + 1}shard]",
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        list(batches)
    line = bad_records.explain(error.value)
    assert line is not None
    assert f"{damaged}/train-{number}, record {first}: {reason}" in line


@pytest.mark.long
def test_more_hosts_than_records_and_a_bad_one(dataset_of, capfd):
    data_dir = dataset_of([example(0), b"\xff", example(2)])
    for host in (2, 4):  # one meets every record in six images, one the same again
        (batch,) = dataset.train_dataset(
            **{**options(data_dir, "skip"), "batch_size": 6},
            seed=0,
            shuffle_buffer=6,
            num_hosts=5,
            host=host,
        ).take(1)
        assert set(labels(batch)) <= {0, -1, 2}
    assert "train-0, record 1: it is not a tf.train.Example" in capfd.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(
    ("policy", "fault", "why"),
    [
        ("stop", "gone", "No such file or directory; copy it there, or mend the name"),
        ("skip", "closed", "Permission denied; mend the permissions"),
    ],
)
def test_a_file_that_cannot_be_opened_is_no_bad_record(policy, fault, why, capfd):
    # pytest's own folders are closed to others, and root may read everything.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        path.chmod(0o755)
        write_dataset(path, {"train-0": [example(0)] * 4})
        arguments = {**options(folder, policy), "batch_size": 4}
        evaluated = iter(dataset.eval_dataset(**arguments, split="train"))
        trained = iter(dataset.train_dataset(**arguments, seed=0, shuffle_buffer=4))
        file = path / "train-0"
        file.unlink() if fault == "gone" else file.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            for batches in (evaluated, trained):
                with pytest.raises(UserError) as error, storage_errors.translated():
                    next(batches)
                assert str(error.value) == f"cannot read {folder}/train-0: {why}"
        finally:
            if root:
                os.seteuid(0)
        assert "bad record" not in capfd.readouterr().err


@pytest.mark.long
def test_skipping_has_a_limit(mixed):
    arguments = {**options(mixed, "skip"), "batch_size": 3}
    too_few = iter(dataset.eval_dataset(**arguments, max_bad_records=len(BAD) - 1))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        list(too_few)
    assert bad_records.explain(error.value) == (
        f"bad records: more than {len(BAD) - 1} records could not be used; look at "
        "them, or raise max_bad_records"
    )


def test_the_limit_counts_each_pass_for_itself(mixed):
    found = tf.constant([[-1, 0], [1, -1]] * 3)
    groups = tf.data.Dataset.from_tensor_slices(found).map(lambda x: {"label": x})
    assert len(list(bad_records.limited(groups, 2, records_per_pass=4))) == 6
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(bad_records.limited(groups, 2, records_per_pass=6))
    # Each group is two passes.
    assert len(list(bad_records.limited(groups, 1, records_per_pass=1))) == 6


def too_bright(image, seed):
    sound = tf.reduce_max(image) <= 200
    told = tf.debugging.Assert(sound, ["it is too 'bright'"])
    with tf.control_dependencies([told]):
        return tf.identity(image)


class Callable:
    def __call__(self, image, seed):
        return too_bright(image, seed)


def raises_python(image, seed):
    def fail(_):
        raise ValueError("two\nlines")

    return tf.ensure_shape(tf.py_function(fail, [image], tf.uint8), image.shape)


BRIGHT = "assertion failed: [it is too 'bright']"
# The setting, its function, what people call it, and what it says.
FAILING = [
    ("augment", too_bright, "too_bright", BRIGHT, "stop"),
    ("erase", functools.partial(too_bright), "too_bright", BRIGHT, "skip"),
    ("augment", tf.function(too_bright), "too_bright", BRIGHT, "skip"),
    ("augment", Callable(), "Callable", BRIGHT, "skip"),
    (
        "augment",
        lambda image, seed: tf.gather(image, tf.fill([16], 16 + seed[0] * 0)),
        "_lambda_",
        "indices[0] = 16 is not in [0, 16)",
        "stop",
    ),
    ("augment", raises_python, "raises_python", "ValueError: two lines", "stop"),
]


@pytest.mark.parametrize(
    ("setting", "function", "name", "says", "policy"),
    [
        *FAILING[:2],
        *(pytest.param(*case, marks=pytest.mark.slow) for case in FAILING[2:]),
    ],
)
def test_what_an_augmentation_raises_is_no_records_fault(
    dataset_of, capfd, setting, function, name, says, policy
):
    data_dir = dataset_of([example(i) for i in range(4)])
    batches = dataset.train_dataset(
        **{**options(data_dir, policy), "batch_size": 4},
        **{setting: function},
        seed=0,
        shuffle_buffer=4,
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        next(iter(batches))
    assert bad_records.explain(error.value) == (
        f"{setting} ({name}) failed on an image: {says}; mend this function or its "
        "settings, the record is sound"
    )
    assert "bad record" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("function", "gives"),
    [
        (
            lambda image, seed: tf.cast(image, tf.float32),
            "float32 of the shape (16, 16",
        ),
        (lambda image, seed: image[:8], "uint8 of the shape (8, 16, 3)"),
        (lambda image, seed: 5, "int32 of the shape ()"),
    ],
)
def test_an_augmentation_that_gives_no_such_image(tiny, function, gives):
    with pytest.raises(UserError, match=r"augment .<lambda>. gives ") as error:
        dataset.train_dataset(**options(tiny, "stop"), seed=0, augment=function)
    assert gives in str(error.value)
    assert "it has to give uint8 of the shape (16, 16, 3), as it takes" in str(
        error.value
    )


def test_what_explain_does_not_know():
    assert bad_records.explain(KeyError("x")) is None
    assert bad_records.explain(DataError("a line")) == "a line"


def test_an_unknown_policy(tiny):
    with pytest.raises(
        UserError, match=r"on_bad_record = 'ignore': it has to be 'stop' or 'skip'"
    ):
        dataset.eval_dataset(**options(tiny, "ignore"))
