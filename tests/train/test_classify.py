"""What the command says of images, records and exports of any kind."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image as Pillow

from common.errors import UserError
from tests.support.commands import status
from train import classify, serving

PIXELS = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)


def encoded(kind):
    file = io.BytesIO()
    Pillow.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


JPEG = encoded("JPEG")
HALF = len(JPEG) // 2
NOT_UTF8 = os.fsdecode(b"caf\xe9.jpg")


def outcome(capfd, *arguments):
    """The status, the lines printed, and those of errors, ours and of libjpeg."""
    found = status(classify.main, *arguments)
    printed = capfd.readouterr()
    errors = [
        line
        for line in printed.err.splitlines()
        if line.startswith(("error: ", "warning: ", "the SavedModel")) or "JPEG" in line
    ]
    assert "Traceback" not in printed.err
    return found, printed.out.splitlines(), errors


def test_one_bad_file_does_not_hide_the_good_ones(exported, tmp_path, capfd):
    """Whatever its name is, and in whatever order they come."""
    contents = {
        "a.jpg": JPEG,
        "cut.jpg": JPEG[:HALF],
        "header.jpg": JPEG[:100],
        "lost.jpg": JPEG[:HALF] + b"\xff\xd9" + JPEG[HALF:],
        NOT_UTF8: JPEG,
        "empty.jpg": b"",
        "\x1b[31mred\n.jpg": JPEG,
        "\x1b[2Jbad.jpg": b"no image",
        "w.webp": encoded("WEBP"),
        "cut.webp": encoded("WEBP")[:-200],
        "b.png": encoded("PNG"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [f"{tmp_path}/{name}" for name in contents]
    found, lines, errors = outcome(capfd, f"--export_dir={exported[0]}", *paths)
    assert found == 2
    assert [line.partition(": ")[0] for line in lines] == [
        f"{tmp_path}/{name}"
        for name in (
            *("a.jpg", "lost.jpg", r"caf\xe9.jpg", r"\x1b[31mred\n.jpg", "w.webp"),
            "b.png",
        )
    ]
    assert errors == [
        f"error: {tmp_path}/cut.jpg: its JPEG data is damaged or cut off",
        f"error: {tmp_path}/header.jpg: its JPEG header is damaged or cut off",
        f"warning: {tmp_path}/lost.jpg: it is damaged, and pixels of it are made up "
        "(Corrupt JPEG data: premature end of data segment); it is classified all the "
        "same",
        f"error: {tmp_path}/empty.jpg: it is empty",
        rf"error: {tmp_path}/\x1b[2Jbad.jpg: it is no image: neither a JPEG nor a PNG",
        f"error: {tmp_path}/cut.webp: it is a WebP that is damaged or cut off",
    ]


@pytest.fixture(scope="module")
def signature(exported):
    return serving.load_signature(exported[0])


@pytest.fixture
def loaded(signature, monkeypatch):
    """Load the SavedModel no second time."""
    monkeypatch.setattr(serving, "load_signature", lambda _: signature)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("show", "shown"),
    [([], ["a.jpg", "b.jpg"]), (["--show=1"], ["a.jpg"]), (["--show=0"], [])],
)
def test_a_folder(exported, tmp_path, capfd, show, shown):
    (tmp_path / "b.jpg").write_bytes(JPEG)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    found, lines, _ = outcome(
        capfd, f"--export_dir={exported[0]}", str(tmp_path), *show
    )
    assert found == 0
    names = [line.partition(": ")[0] for line in lines]
    assert names == [f"{tmp_path}/{name}" for name in shown]


@pytest.fixture
def copied(exported, tmp_path):
    return Path(shutil.copytree(exported[0], tmp_path / "copy"))


@pytest.fixture(scope="module")
def records(digits, tmp_path_factory):
    """The first twenty images that the trainer predicted, in a folder with a [."""
    path = tmp_path_factory.mktemp("records") / "few [20]"
    (shard,) = tf.io.gfile.glob(f"{digits}/validation-00000-*")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in tf.data.TFRecordDataset(shard).take(20):
            writer.write(bytes(record.numpy()))
    return str(path)


def arguments(folder, records):
    return f"--export_dir={folder}", f"--tfrecords={records}"


def change_first(folder, *fields):
    table = folder / "assets.extra/predictions.csv"
    head, first, *others = table.read_text().splitlines()
    values = dict(zip(head.split(","), first.split(","), strict=True))
    for field, change in fields:
        values[field] = change(values[field])
    rows = [head, ",".join(values.values()), *others]
    table.write_text("\n".join(rows) + "\n")


def other_class(class_id):
    return str((int(class_id) + 1) % 10)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("changes", "expected", "agreement"),
    [
        ([], 0, "20 of 20"),
        ([("class_id", other_class)], 1, "19 of 20"),
        # The picture that the trainer saw under this name was another one.
        ([("class_id", other_class), ("sha256", lambda _: "0" * 64)], 0, "19 of 19"),
        ([("filename", lambda _: "x.jpg")], 0, "20 of 20"),
    ],
)
def test_images_are_known_by_what_they_are(
    copied, records, capfd, changes, expected, agreement
):
    change_first(copied, *changes)
    found, lines, errors = outcome(capfd, *arguments(copied, records))
    assert found == expected
    assert lines[-1] == f"Predictions equal to the trainer's: {agreement}"
    said = ["the SavedModel predicts other classes than the trainer did"]
    assert errors == said * (expected == 1)


DATA = "variables/variables.data-00000-of-00001"
WRONG_FIELDS = (b'{"image": 1}', b'{"picture": "x"}', b'["image"]', b"null", b"5")
WRONG_OFFSETS = (b'"1"', b"1.5", b"null", b"true", b"NaN", b"1" * 5000)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        *(
            (
                "check.json",
                content,
                "{} is not what train.export writes there (label_offset is no whole "
                "number, or fields are no texts); export again",
            )
            for content in (
                *(b"", b"[]", b"null", b"5", b"hello", b"[" * 100_000),
                *(b'{"label_offset": %s}' % value for value in WRONG_OFFSETS),
                *(b'{"fields": %s}' % value for value in WRONG_FIELDS),
            )
        ),
        ("check.json", b"\xe9", "{} is not UTF-8; export again"),
        ("check.json", os.mkfifo, "cannot read {}: it is a named pipe; move it away"),
        ("check.json", None, "no {}; make the SavedModel with train.export"),
        (
            "predictions.csv",
            b"",
            "{} is not what train.export writes there; export again",
        ),
        ("predictions.csv", b"\xff\xfe", "{} is not UTF-8; export again"),
        ("predictions.csv", None, "no {}; make the SavedModel with train.export"),
    ],
)
def test_what_an_export_says_of_itself(tmp_path, name, content, said):
    path = tmp_path / "assets.extra" / name
    path.parent.mkdir()
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content)
    reads = {
        "check.json": serving.read_labels,
        "predictions.csv": serving.read_predictions,
    }
    with pytest.raises(UserError) as error:
        reads[name](str(tmp_path))
    assert str(error.value) == said.format(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("saved_model.pb", b""),
        ("saved_model.pb", b"hello"),
        ("saved_model.pb", 20_000),
        ("variables/variables.index", 300),
        pytest.param("variables/variables.index", b"", marks=pytest.mark.slow),
        pytest.param(DATA, 3000, marks=pytest.mark.slow),
        pytest.param(DATA, None, marks=pytest.mark.slow),
    ],
)
def test_an_export_that_is_damaged(copied, records, capfd, name, change):
    path = copied / name
    if change is None:
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[:change] if isinstance(change, int) else change)
    found, lines, errors = outcome(capfd, *arguments(copied, records))
    assert (found, lines) == (2, [])
    assert len(errors) == 1
    assert errors[0].startswith(f"error: cannot load the SavedModel in {copied} (")
    assert errors[0].endswith("): it is damaged, or not of train.export; export again")


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_an_export_of_a_pipe_is_not_waited_for(copied, records, capfd, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    found, _, errors = outcome(capfd, *arguments(copied, records))
    said = f"error: cannot read {copied}/{name}: it is a named pipe; move it away"
    assert (found, errors) == (2, [said])


def test_a_saved_model_of_somebody_else(tmp_path, capfd):
    class Theirs(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None])])
        def __call__(self, x):
            return {"y": x}

    theirs = Theirs()
    folder = str(tmp_path / "theirs")
    tf.saved_model.save(theirs, folder, signatures={"serving_default": theirs.__call__})
    (tmp_path / "a.jpg").write_bytes(JPEG)
    found, _, errors = outcome(capfd, f"--export_dir={folder}", f"{tmp_path}/a.jpg")
    assert found == 2
    assert errors == [
        f"error: the SavedModel in {folder} is not of train.export: it does not turn "
        "image_bytes into class_ids, class_names and probabilities"
    ]
    for missing in (f"{tmp_path}/nowhere", str(tmp_path)):
        found, _, errors = outcome(
            capfd, f"--export_dir={missing}", f"{tmp_path}/a.jpg"
        )
        said = f"error: no SavedModel in {missing}; run train.export"
        assert (found, errors) == (2, [said])


def test_pixels_of_which_nothing_follows(copied, tmp_path, capfd):
    """Weights that are not numbers, in an export of a version before."""
    values = tf.train.load_checkpoint(f"{copied}/variables/variables")
    names = list(values.get_variable_to_shape_map())
    tensors = [values.get_tensor(name) for name in names]
    with tf.device("CPU:0"):
        tf.raw_ops.SaveV2(
            prefix=f"{copied}/variables/variables",
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[
                tf.fill(t.shape, np.nan) if getattr(t, "ndim", 0) == 4 else t
                for t in tensors
            ],
        )
    (tmp_path / "a.jpg").write_bytes(JPEG)
    found, lines, errors = outcome(capfd, f"--export_dir={copied}", f"{tmp_path}/a.jpg")
    assert (found, lines) == (2, [])
    assert errors == [
        f"error: {tmp_path}/a.jpg: what the network computes of it is not finite"
    ]
