"""What the command says of images, records and exports of any kind."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image as Pillow

from common.errors import UserError
from input_pipeline import dataset_info
from input_pipeline.dataset_info import DatasetInfo, ShardInfo, SplitInfo
from input_pipeline.preparation.jpeg import to_rgb_jpeg
from tests.support.commands import status
from train import classify, serving
from train.exports import image_files
from train.exports.image_files import Image

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


@pytest.fixture
def sorted_photos(tmp_path):
    """Photos in folders named like the digits' classes, and in one that is not."""
    for folder in ("3", "7", "other"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        (tmp_path / "photos" / folder / "a.jpg").write_bytes(JPEG)
    (tmp_path / "photos/3/b.png").write_bytes(encoded("PNG"))
    (tmp_path / "photos/7/empty.jpg").write_bytes(b"")
    return tmp_path / "photos"


@pytest.mark.usefixtures("loaded")
def test_a_table_of_a_folder(exported, sorted_photos, tmp_path, capfd):
    folder, output = str(sorted_photos), str(tmp_path / "table.json")
    flags = f"--export_dir={exported[0]}", folder, "--show=0"
    found, lines, errors = outcome(capfd, *flags, f"--output={output}", "--top_k=3")
    assert found == 2
    assert errors == [f"error: {folder}/7/empty.jpg: it is empty"]
    report = json.loads(Path(output).read_bytes())
    files = ("3/a.jpg", "3/b.png", "7/a.jpg", "7/empty.jpg", "other/a.jpg")
    by_file = {image["file"]: image for image in report["images"]}
    assert list(by_file) == [f"{folder}/{name}" for name in files]
    assert [one["label"] for one in by_file.values()] == ["3", "3", "7", None, None]
    assert by_file[f"{folder}/7/empty.jpg"]["problem"] == "it is empty"
    top = by_file[f"{folder}/3/a.jpg"]["top"]
    assert len(top) == 3
    # The same network by its own signature, of the same batch.
    model = serving.load_signature(exported[0])
    answer = model(image_bytes=tf.constant([JPEG, encoded("PNG"), JPEG, JPEG]))
    shares = answer["probabilities"][0].numpy()
    likeliest = np.argsort(-shares, kind="stable")[:3]
    assert [one["class"] for one in top] == [str(one) for one in likeliest]
    assert [one["probability"] for one in top] == [float(shares[k]) for k in likeliest]
    assert top[0]["class"] == answer["class_names"][0].numpy().decode()
    assert report["labelled"] == 3
    assert report["confusion_matrix"]["labels"] == ["3", "7"]
    assert lines[0] == f"Right: {report['right']} of 3 with a label " + (
        f"({report['right'] / 3:.2%})"
    )
    # The same call again replaces its own file; nothing else lies there then.
    assert outcome(capfd, *flags, f"--output={output}")[0] == 2
    assert sorted(os.listdir(tmp_path)) == ["photos", "table.json"]


@pytest.mark.usefixtures("loaded")
def test_a_table_of_records(exported, records, tmp_path, capfd):
    """Whose labels and scores are those that the command prints anyway."""
    output = tmp_path / "table.csv"
    found, lines, _ = outcome(
        capfd, *arguments(exported[0], records), "--show=0", f"--output={output}"
    )
    assert found == 0
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    right = sum(row["label"] == row["class"] for row in rows)
    assert lines[0] == f"Right: {right} of 20 with a label ({right / 20:.2%})"
    assert f"SavedModel in a new process: {right} of 20 right" in lines[-2]
    with open(tmp_path / "table.classes.csv", newline="") as file:
        of_classes = list(csv.DictReader(file))
    assert sum(int(row["right"]) for row in of_classes) == right
    assert sum(int(row["images"]) for row in of_classes) == 20


@pytest.mark.usefixtures("loaded")
def test_tables_of_two_calls_do_not_mix(
    exported, sorted_photos, tmp_path, capfd, monkeypatch
):
    """A name alone is of the folder it lies in; without labels, no matrix is left."""
    flags = f"--export_dir={exported[0]}", "--show=0", f"--output={tmp_path}/t.csv"
    monkeypatch.chdir(sorted_photos / "3")
    found, lines, _ = outcome(capfd, *flags, "a.jpg", "./b.png")
    assert found == 0
    assert lines[0].endswith(
        tuple(f" of 2 with a label ({n}.00%)" for n in (0, 50, 100))
    )
    assert (tmp_path / "t.classes.csv").exists()
    assert outcome(capfd, *flags, "../other/a.jpg")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["photos", "t.csv"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.txt", None, "is no .csv, .json or .jsonl: name it so, it will be one"),
        ("no/t.csv", None, "there is no folder "),
        ("t.csv", b"id,label\n1,2\n", "t.csv"),
        ("t.classes.csv", b"mine", "t.classes.csv"),
        ("t.json", b"[]", "t.json"),
    ],
)
def test_a_table_takes_nobodys_place(tmp_path, capsys, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    output = tmp_path / name.replace(".classes", "")
    assert status(classify.main, "--export_dir=x", "y", f"--output={output}") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: argument --output: " in last
    assert said in last
    assert content is None or (tmp_path / name).read_bytes() == content
    assert len(os.listdir(tmp_path)) == (content is not None)


def test_a_table_takes_nobodys_place_in_a_bucket(exported, capfd):
    """Which is known before anything is classified: none of the photos is there."""
    theirs = "ram://tables/t.classes.csv"
    with tf.io.gfile.GFile(theirs, "w") as file:
        file.write("mine")
    flags = f"--export_dir={exported[0]}", "no.jpg", "--output=ram://tables/t.csv"
    found, _, errors = outcome(capfd, *flags)
    assert found == 2
    assert len(errors) == 1
    assert theirs in errors[0]
    tf.io.gfile.remove(theirs)


@pytest.mark.usefixtures("loaded")
def test_names_of_any_alphabet(exported, tmp_path, capfd):
    folder = (
        tmp_path / "\xe9t\xe9 \xe0 l'\u0153uvre" / "\u043c\u0430\u043a & [b] {c} $d"
    )
    folder.mkdir(parents=True)
    (folder / "1 (1).jpg").write_bytes(JPEG)
    output = tmp_path / "l'\xe9t\xe9.csv"
    found, lines, errors = outcome(
        capfd, f"--export_dir={exported[0]}", str(folder), f"--output={output}"
    )
    assert (found, errors) == (0, [])
    assert lines[0].startswith(f"{folder}/1 (1).jpg: ")
    with open(output, newline="", encoding="utf-8") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [f"{folder}/1 (1).jpg"]


def noted(orientation, kind="PNG"):
    """PIXELS lying as a camera held like that stores them."""
    file, tags = io.BytesIO(), Pillow.Exif()
    tags[0x0112] = orientation
    image = Pillow.fromarray(PIXELS)
    undo = {6: Pillow.Transpose.ROTATE_90, 2: Pillow.Transpose.FLIP_LEFT_RIGHT}
    image.transpose(undo[orientation]).save(file, kind, exif=tags)
    return file.getvalue()


@pytest.mark.usefixtures("loaded")
def test_a_file_is_seen_upright_and_a_record_as_it_is_stored(exported, capfd):
    """Each alone in its batch, so that equal pixels have equal logits, to the bit."""

    def shares(encoded, *, is_record):
        image = Image("a", encoded, None, "a", is_record)
        (found,) = serving.classify(exported[0], [image], top=10)
        assert isinstance(found, serving.Result)
        return found.top

    upright = shares(encoded("PNG"), is_record=False)
    for orientation in (2, 6):
        photo = noted(orientation)
        stored = Pillow.open(io.BytesIO(photo))
        bare = io.BytesIO()
        Pillow.fromarray(np.asarray(stored)).save(bare, "PNG")
        assert shares(photo, is_record=False) == upright
        lying = shares(photo, is_record=True)
        assert lying == shares(bare.getvalue(), is_record=False) != upright
    assert capfd.readouterr().err == ""


def test_a_kind_that_is_converted_is_turned_too(tmp_path):
    """As prepare does it: what the SavedModel gets of a WebP is upright."""
    (tmp_path / "a.webp").write_bytes(noted(6, "WEBP"))
    (image,) = image_files.read_files([f"{tmp_path}/a.webp"])
    assert isinstance(image, Image)
    turned = to_rgb_jpeg(noted(6, "WEBP"), apply_orientation=True)
    assert image.served() == turned.encoded != to_rgb_jpeg(noted(6, "WEBP")).encoded


@pytest.mark.usefixtures("loaded")
def test_an_export_of_a_version_before_says_that_it_does_not_turn(
    copied, tmp_path, capfd
):
    check = copied / "assets.extra/check.json"
    said = json.loads(check.read_text())
    assert said.pop("applies_orientation") is True
    check.write_text(json.dumps(said))
    (tmp_path / "a.png").write_bytes(noted(6))
    (tmp_path / "b.png").write_bytes(encoded("PNG"))
    files = [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]
    found, _, errors = outcome(capfd, f"--export_dir={copied}", *files)
    assert (found, errors) == (
        0,
        [
            f"warning: {tmp_path}/a.png: its EXIF orientation is ignored by this "
            "SavedModel of a version before; export again"
        ],
    )


def test_records_of_other_classes_are_said(tmp_path, capsys):
    """Their labels would be counted as the model's."""
    extra = tmp_path / "export" / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "labels.txt").write_text("no\nyes\n")
    (extra / "check.json").write_text('{"label_offset": 1}')
    one = SplitInfo((ShardInfo("train-0", 1, (0,)),))
    said = (
        f"warning: {tmp_path} has other classes than {tmp_path}/export has learnt, or "
        "other labels of them: how many are right means nothing\n"
    )
    for offset, names, warning in (
        (1, ("no", "yes"), ""),
        (1, ("yes", "no"), said),
        (0, ("no", "yes"), said),
    ):
        info = DatasetInfo("pets", offset, names, {"train": one})
        dataset_info.write_info(info, str(tmp_path))
        serving.warn_of_other_classes(f"{tmp_path}/export", f"{tmp_path}/train-*")
        assert capsys.readouterr().err == warning
    (tmp_path / "dataset_info.json").write_text("{")
    serving.warn_of_other_classes(f"{tmp_path}/export", f"{tmp_path}/train-*")
    assert capsys.readouterr().err == ""
