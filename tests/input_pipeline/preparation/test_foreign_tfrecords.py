"""TFRecords of others: what is in them, what is said of them, and how they are read."""

import base64
import functools
import gzip
import json
import os
import re
import zlib

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import dataset, dataset_info, prepare, records, validate
from input_pipeline.errors import DataError
from input_pipeline.preparation.tfrecords import Description, Source, describe
from tests.input_pipeline.builders import forget_identity
from tests.input_pipeline.preparation.foreign_records import (
    JPEGS,
    PNG,
    WEBP,
    example,
    imagenet,
    plain,
    write,
    write_tfds,
)
from tests.support import folders

IMAGENET = [imagenet(i) for i in range(8)]
PLAIN = [plain(i) for i in range(8)]
FOLDERS = (
    "write the images into folders named after their classes, of which python -m "
    "input_pipeline.prepare imagefolder makes JPEGs"
)
REWRITE = (
    "write the records again with one int64, or the images into folders named after "
    "their classes for python -m input_pipeline.prepare imagefolder"
)


def look(folder, output=None, **flags) -> Description:
    source = Source(str(folder), **flags)
    return describe(
        source, output=output and str(output), workers=1, allow_one_class=True
    )


def refusal(folder, output=None, **flags) -> str:
    with pytest.raises(DataError) as refused:
        look(folder, output, **flags)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("record", "flags", "fields"),
    [
        (imagenet(0), {}, records.IMAGENET),
        (plain(0, 1), {}, ("image", "label", "image/filename")),
        (plain(0, 1, file_name=b"x"), {}, ("image", "label", "file_name")),
        (plain(0, 1, "class", id=b"7"), {}, ("image", "class", "id")),
        (plain(0, 1, "class", id=7), {}, ("image", "class", "image/filename")),
        (plain(0, 1, "target", image_name=b"a", sex=0), {},
         ("image", "target", "image_name")),
        ({"image_raw": JPEGS[0], "label": 1, "height": 9, "width": 9}, {},
         ("image_raw", "label", "image/filename")),
        (imagenet(0) | plain(0, 2), {}, records.IMAGENET),
        ({"photo": JPEGS[0], "label": 1, "text": b"BM"}, {},
         ("photo", "label", "image/filename")),
        ({"a": JPEGS[0], "b": JPEGS[1], "c": 1, "label": 2},
         {"image_field": "b", "label_field": "c"}, ("b", "c", "image/filename")),
        (plain(0, 1, coarse_label=3), {}, ("image", "label", "image/filename")),
    ],
)  # fmt: skip
def test_fields_are_found(tmp_path, record, flags, fields):
    write(tmp_path, {"train.tfrecord": [record] * 2})
    info = look(tmp_path, **flags).info
    found = info.fields
    assert (found.image, found.label, found.filename) == (
        tuple(fields) if isinstance(fields, tuple) else tuple(vars(fields).values())
    )
    assert ("fields" in json.loads((tmp_path / "dataset_info.json").read_text())) == (
        found != records.IMAGENET
    )
    assert dataset_info.load_info(str(tmp_path)) == info


def label(value) -> list:
    return [{"image": JPEGS[0], "label": value}]


def field(what: str) -> str:
    return f", record 0: the field label holds {what}, where training takes one int64: "


def picture(what: str) -> str:
    where = f": the field image holds {what}, where records hold JPEGs and PNGs: "
    return where + FOLDERS


SEQUENCE = tf.train.SequenceExample(
    feature_lists=tf.train.FeatureLists(feature_list={"x": tf.train.FeatureList()})
).SerializeToString()


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (label(b"cat"), field("the text 'cat'") + REWRITE),
        (label(b"3"), field("the text '3'") + REWRITE),
        (label(b"BMW"), field("the text 'BMW'")),
        (label(b"\3" + bytes(7)), field("8 bytes that are no number, text or image")),
        (label(2.0), field("a float (2)")),
        (label([0, 1, 0, 0]), field("4 int64s, of which one is 1 (one-hot)")),
        (label([0.0, 1.0, 0.0]), field("3 floats, of which one is 1 (one-hot)")),
        (label([3, 5]), field("2 int64s (3, 5)")),
        (label([3, 5, 6, 7]), field("4 int64s (3, 5, 6 ...)")),
        (label([b"a", b"b"]), field("2 values of bytes")),
        (label(PNG), field("a PNG")),
        ([plain(0, 1), *label(b"3")], ", record 1: the field label holds the text '3'"),
        ([plain(0, 1), {"image": JPEGS[0], "x": 1}], ", record 1: the field label is "
         f"missing (one int64); it has the fields image, x: {REWRITE}"),
        ([plain(0, 1), {"label": 1}],
         ", record 1: the field image is missing or empty; it has the fields label: "),
        ([{"image": JPEGS[0]}], " has the fields image, of which none is known as the "
         f"label: name it with --label_field, or {REWRITE}"),
        ([{"image/encoded": JPEGS[0], "image/object/class/label": [1, 2]}],
         " has the fields image/encoded, image/object/class/label, of which none is"),
        ([{"label": 1, "x": 2.0}], " has the fields label, x, of which none is "
         "known as "
         "the image: name it with --image_field"),
        ([plain(0, 1, "class", label=2)], " has the fields class, image, label, and "
         "both "
         "label and class may be the label: name one with --label_field"),
        ([{"a": JPEGS[0], "b": JPEGS[1], "label": 1}], " has the fields a, b, "
         "label, and "
         "both a and b may be the image: name one with --image_field"),
        ([{"image": WEBP, "label": 1}], picture("a WebP")),
        ([{"image": base64.b64encode(JPEGS[0]), "label": 1}],
         picture("a JPEG in base64")),
        ([{"image": bytes(784), "label": 1}],
         picture("784 bytes that are no number, text or image")),
        ([{"image": b"photos/cat.jpg", "label": 1}],
         picture("the text 'photos/cat.jpg'")),
        ([{"image": [0.5] * 784, "label": 1}],
         "the field image holds 784 floats (0.5, 0.5, 0.5 ...), where training "
         "takes one"),
        ([{"image": [JPEGS[0]] * 2, "label": 1}], "the field image holds 2 values of "),
        ([SEQUENCE], ", record 0 is a tf.train.SequenceExample, not a "
         "tf.train.Example"),
        ([b""], ", record 0 is empty: write the file again"),
        ([b"\x08\x01"], ", record 0 is not a tf.train.Example, but another protocol "),
        ([JPEGS[0]], ", record 0 is not a tf.train.Example, but a JPEG: write"),
        ([b"cat,1"], ", record 0 is not a tf.train.Example: write the file again"),
        ([], " is empty: copy or prepare it again"),
        ([*IMAGENET, imagenet(0, label=-1)],
         " holds the label -1, and below 0 is no class (-1 often says that there is "),
        ([*IMAGENET, imagenet(0, label=10**15)],
         " holds the label 1,000,000,000,000,000, which numbers no class, but an "
         "image"),
    ],
)  # fmt: skip
def test_what_training_cannot_use_is_named_as_what_it_is(tmp_path, contents, said):
    write(tmp_path, {"train.tfrecord": contents})
    text = refusal(tmp_path)
    assert said in text
    assert text.startswith(str(tmp_path / "train.tfrecord"))
    assert not (tmp_path / "dataset_info.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gzip.compress, "compressed by gzip: decompress it, gzip -dc FILE > NEW"),
        (zlib.compress, "compressed by zlib: decompress it, python -c 'import sys, "
         "zlib"),
        (lambda _: b"BZh91AY", "compressed by bzip2: decompress it"),
        (lambda _: b"PK\3\4....", "a zip file: unzip it"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "what Git LFS lea"),
        (lambda _: b"<!DOCTYPE html>", "a page of the web or XML, a failed download"),
        (lambda _: b"PAR1....", "Parquet: write it again as TFRecords"),
        (lambda _: b"\x83\xaf\x70\xd1....", "ArrayRecord or Riegeli: write it again"),
        (lambda _: JPEGS[0], f"a JPEG: {FOLDERS}"),
    ],
)  # fmt: skip
def test_files_that_are_no_tfrecords_are_named_as_what_they_are(tmp_path, change, said):
    write(tmp_path, {"train-00000-of-00001": IMAGENET})
    path = tmp_path / "train-00000-of-00001"
    path.write_bytes(change(path.read_bytes()))
    assert refusal(tmp_path).startswith(f"{path} is no TFRecord file, but {said}")


@pytest.mark.parametrize("keep", [1, 11, 40])
def test_a_file_that_is_damaged_from_its_begin(tmp_path, keep):
    write(tmp_path, {"train.tfrecord": IMAGENET})
    path = tmp_path / "train.tfrecord"
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(tmp_path) == (
        f"{path} is no TFRecord file, or damaged from its begin on: copy or prepare it "
        "again"
    )


SAME = "val.tfrecord holds the same records as train.tfrecord: validation then says "


@pytest.mark.parametrize(
    ("files", "flags", "notes"),
    [
        ({"train": IMAGENET, "val": IMAGENET[:4]}, {}, []),
        ({"train": IMAGENET, "val": IMAGENET}, {},
         [f"{SAME}nothing of images that train does not hold"]),
        ({"train": IMAGENET, "val": IMAGENET[:3]}, {},
         ["1 of 4 classes has no image in validation, the first is label 4, '4'"]),
        ({"train": IMAGENET}, {"label_offset": 0},
         ["1 of 5 classes has no image, the first is label 0, '0'"]),
        ({"train": [imagenet(0), imagenet(3)]}, {},
         ["2 of 4 classes have no image, the first is label 2, '2'"]),
        ({"train": IMAGENET, "val": [imagenet(0, label=-1)]}, {},
         ["validation is left out: its 1 record have the label -1, which is none"]),
        ({"train": [*IMAGENET, imagenet(0, encoded=WEBP)]}, {},
         ["1 image of 9 cannot be trained on, the first is a WebP "
          "({}/train.tfrecord, record 8): training stops there, or masks them with "
          "dataset.train_dataset.on_bad_record = 'skip'; python -m "
          "input_pipeline.validate names all"]),
    ],
)  # fmt: skip
def test_what_may_be_meant_is_noted(tmp_path, files, flags, notes):
    write(tmp_path, {f"{name}.tfrecord": files[name] for name in files})
    found = look(tmp_path, **flags).notes
    assert list(found) == [note.format(tmp_path) for note in notes]


def test_copies_are_told_in_one_line(tmp_path):
    parts = [IMAGENET[:4], IMAGENET[4:], IMAGENET]
    names = [f"-{part:05d}-of-00003" for part in range(3)]
    for split in ("train", "validation"):
        write(tmp_path, {split + n: part for n, part in zip(names, parts, strict=True)})
    assert look(tmp_path).notes == [
        "validation-00000-of-00003 holds the same records as train-00000-of-00003 (3 "
        "such files): validation then says nothing of images that train does not hold"
    ]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ((b"crane", b"crane", b"hen"), ("crane (n1)", "crane (n2)", "hen")),
        ((b"a\nb", b"\x1b[31m", b"hen"), ("a\\nb", "\\x1b[31m", "hen")),
        ((b"\xff", b"b", b"c"), ("\\xff", "b", "c")),
        ((b"", b"b", b"c"), ("n1", "n2", "n3")),
        ((b"hen", b"hen", b"hen (n1)"), ("hen (1)", "hen (2)", "hen (n1)")),
    ],
)
def test_names_of_the_records_are_distinct_lines(tmp_path, texts, names):
    made = [
        imagenet(i) | {"image/class/text": text, "image/class/synset": b"n%d" % (i + 1)}
        for i, text in enumerate(texts)
    ]
    write(tmp_path, {"train.tfrecord": made})
    assert look(tmp_path).info.label_names == names


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train/0.tfrec": PLAIN, "test/0.tfrec": [{"image": JPEGS[0], "id": b"x"}]},
         "; or leave test out, --split 'train=train/*.tfrec'"),
        ({"train.tfrecord": IMAGENET, "val.tfrecord": PLAIN},
         ": validation has the fields image and label, train has image/encoded and "
         "image/class/label: describe only what has the same, by --split"),
        ({"train.tfrecord": PLAIN}, "the records hold labels 0 to 3, but "
         "--label_offset "
         "1 allows 1 and up: give --label_offset 0"),
    ],
)  # fmt: skip
def test_splits_that_do_not_go_together(tmp_path, files, said):
    write(tmp_path, files)
    assert refusal(tmp_path).endswith(said)


@pytest.fixture
def tfds(tmp_path):
    """A folder of TensorFlow Datasets, two files to train and one to validate."""
    made = [plain(i, file_name=b"%d.jpg" % i) for i in range(40)]
    return write_tfds(
        tmp_path / "5.1.0",
        {"train": [made[:20], made[20:37]], "validation": [made[:5]]},
    )


@pytest.mark.long
def test_tfds_of_an_older_description_and_written_anew(tfds, tmp_path, capsys):
    before, output = folders.content(tfds), tmp_path / "out"
    command = ["tfrecords", f"--source={tfds}", "--workers=1"]
    assert prepare.main([*command, f"--output={output}"]) == 0
    described = forget_identity(output)
    capsys.readouterr()
    assert prepare.main([*command, f"--output={output}"]) == 0
    said = f"described anew, the digest was missing: {tfds} in {output}: 37 train rec"
    assert capsys.readouterr().out.startswith(said)
    assert (output / dataset_info.INFO_FILENAME).read_bytes() == described
    assert prepare.main([*command, f"--output={tmp_path}/new", "--shuffle"]) == 0
    info = dataset_info.load_info(str(tmp_path / "new"))
    assert (info.name, info.label_offset, info.label_names[1]) == ("pets", 0, "bengal")
    assert [shard.records for shard in info.split("train").shards] == [18, 19]
    assert info.split("train").images == (10, 9, 9, 9)
    assert folders.content(tfds) == before


@pytest.mark.long
def test_tfds_is_described_elsewhere_and_stays_as_it_is(tfds, tmp_path, capsys):
    before, output = folders.content(tfds), tmp_path / "out"
    command = ["tfrecords", f"--source={tfds}", "--workers=1"]
    for more in ([], ["--overwrite_info"]):
        assert prepare.main([*command, *more]) == 2
        assert capsys.readouterr() == (
            "",
            f"error: {tfds}/dataset_info.json is not this project's, TensorFlow "
            f"Datasets "
            "or another tool wrote it: leave it as it is, and describe the records "
            "in a "
            "folder of their own: python -m input_pipeline.prepare tfrecords "
            f"--source={tfds} --output=OUT\n",
        )
    counts = "37 train records, 5 validation records in 2 + 1 files"
    for said in ("described", "nothing to do, described already:"):
        assert prepare.main([*command, f"--output={output}"]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines() == [
            f"{said} {tfds} in {output}: {counts}",
            "train: 4 classes of 9 to 10 images, median 9; fewest: bengal 9, birman 9, "
            "bombay 9; most: abyssinian 10",
            "validation: 4 classes of 1 to 2 images, median 1; fewest: bengal 1, "
            "birman 1, bombay 1; most: abyssinian 2",
        ]
        assert err == ""
    assert folders.content(tfds) == before
    info = dataset_info.load_info(str(output))
    assert (info.name, info.label_offset) == ("pets", 0)
    assert info.label_names == ("abyssinian", "bengal", "birman", "bombay")
    assert info.fields == records.Fields("image", "label", "file_name")
    assert info.records_dir == str(tfds)
    assert validate.main([f"--data_dir={output}", "--workers=1", "--skip_decode"]) == 1
    assert "image that is in another split, too" in capsys.readouterr().out  # 5 are


def test_a_foreign_folder_says_so_to_training(tfds):
    with pytest.raises(DataError, match=rf"tfrecords --source={tfds} --output=OUT$"):
        dataset.train_dataset(data_dir=str(tfds), resolution=8, batch_size=4, seed=0)


@pytest.mark.parametrize("trains", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_read_is_what_imagenets_fields_would_give(
    tfds, tmp_path, monkeypatch, trains
):
    """Bit for bit, in the same order, also where the folders have moved together."""
    monkeypatch.chdir(tmp_path)
    look("5.1.0", "out")
    assert dataset_info.load_info("out").records_dir == "../5.1.0"
    moved = tmp_path / "elsewhere" / "data"
    moved.mkdir(parents=True)
    for name in ("5.1.0", "out"):
        (tmp_path / name).rename(moved / name)
    made = [imagenet(i) for i in range(40)]
    parts = {"train-00000-of-00002": made[:20], "train-00001-of-00002": made[20:37]}
    write(moved / "ours", {**parts, "validation-00000-of-00001": made[:5]})
    look(moved / "ours")
    make = (
        functools.partial(dataset.train_dataset, seed=3)
        if trains
        else (dataset.eval_dataset)
    )
    theirs, ours = (
        make(data_dir=str(moved / name), resolution=8, batch_size=5)
        for name in ("out", "ours")
    )
    both = tf.data.Dataset.zip(theirs, ours).take(4)
    labels = []
    for one, other in both.as_numpy_iterator():
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])
        labels += one["label"].tolist()
    assert len(labels) == (20 if trains else 5)
    assert set(labels) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("label", "label is missing"),
        pytest.param("image", "image is missing or empty", marks=pytest.mark.slow),
    ],
)
def test_a_bad_record_is_named_by_its_own_fields(tfds, tmp_path, name, fault):
    look(tfds, tmp_path / "out")
    odd = {key: value for key, value in plain(0).items() if key != name}
    shard = "pets-validation.tfrecord-00000-of-00001"
    write(tfds, {shard: [plain(i) for i in range(4)] + [odd]})
    batches = dataset.eval_dataset(
        data_dir=str(tmp_path / "out"), resolution=8, batch_size=5
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"the field {fault}"):
        list(batches)


def test_records_that_have_gone_are_named(tfds, tmp_path):
    output = tmp_path / "out"
    look(tfds, output)
    tfds.rename(tmp_path / "away")
    with pytest.raises(DataError) as refused:
        dataset_info.load_info(str(output))
    assert str(refused.value) == (
        f"{tfds} lacks 3 of its 3 TFRecord files, the first is "
        "pets-train.tfrecord-00000-of-00002: copy them there, where "
        f"{output}/dataset_info.json says they are, or prepare the dataset again"
    )


def listed(split, **more):
    return {"splits": [{"name": split, "shardLengths": ["8"], **more}]}


NOT_READ = "of TensorFlow Datasets, cannot be read ("


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, 8),
        (listed("train"), 8),  # an older version, without filepathTemplate
        ({"splits": [{"name": "train", "numShards": "1"}]}, 8),
        (listed("train", filepathTemplate="pets-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}-of-"
         "{NUM_SHARDS}"), 8),
        ({"supervisedKeys": None}, 8),
        ({"supervisedKeys": {"input": "image", "output": "label"}}, 8),
        ({"supervisedKeys": {"dict": {}}}, 8),
        ({"supervisedKeys": [1]}, f"{NOT_READ}AttributeError: "),
        ({"name": None}, f"{NOT_READ}TypeError: name is no text): copy it again"),
        ({"splits": [{"name": "train"}]}, f"{NOT_READ}KeyError: 'numShards')"),
        ({"splits": [{"name": "train", "numShards": "99999999999"}]}, "99999999999 "
         "fil"),
        ({"splits": [{"name": "train", "shardLengths": ["x"]}]},
         f"{NOT_READ}ValueError"),
        ({"splits": []}, "dataset_info.json lists no files: build it again"),
        (listed("train", filepathTemplate="{SPLIT}"), "lacks 1 of 1 train files "
         "(the fir"),
        (listed("train", filepathTemplate="../{SPLIT}"), "(the first is ../train): "
         "copy"),
        ({"splits": [{"name": "train", "shardLengths": ["9"]}]},
         "pets-train.tfrecord-00000-of-00001 holds 8 records, where "
         "dataset_info.json of "
         "TensorFlow Datasets says 9: copy or build it again"),
        ({"splits": [{"name": "train", "shardLengths": ["8", "8"]}]}, "lacks 2 of 2 "
         "train"),
        ({"fileFormat": "array_record"}, "tells of files of the format array_record: "
         "write them again as TFRecords, tfds build --file_format=tfrecord"),
    ],
)  # fmt: skip
def test_infos_of_tensorflow_datasets(tmp_path, changes, outcome):
    folder = write_tfds(tmp_path / "1.0.0", {"train": [PLAIN]}, changes=changes)
    if isinstance(outcome, int):
        assert look(folder, tmp_path / "out").info.split("train").total == outcome
    else:
        assert outcome in refusal(folder, tmp_path / "out")
        assert not (tmp_path / "out" / "dataset_info.json").exists()


def test_what_lies_in_a_folder_of_tensorflow_datasets(tfds, tmp_path):
    output = tmp_path / "out"
    assert refusal(tmp_path, output) == (
        f"{tfds} has a dataset_info.json of its own: python -m input_pipeline.prepare "
        f"tfrecords --source={tfds} --output=OUT"
    )
    write(tfds, {"pets-test.tfrecord-00000-of-00001": PLAIN})
    assert look(tfds, output).notes == [
        "left out: pets-test.tfrecord-00000-of-00001, of no split that is described; "
        "--split NAME=PATTERN takes what it names"
    ]
    (tfds / "label.labels.txt").unlink()
    assert look(tfds, tmp_path / "out2").info.label_names == ("0", "1", "2", "3")
    splits = {"validation": "*-test.*"}
    assert (
        look(tfds, tmp_path / "out3", splits=splits).info.split("validation").total == 8
    )
    (tfds / "pets-train.tfrecord-00001-of-00002").unlink()
    assert refusal(tfds, output) == (
        f"{tfds} lacks 1 of 2 train files (the first is "
        "pets-train.tfrecord-00001-of-00002): copy them there, or take the rest, "
        "--split "
        "'validation=*-validation.*'"
    )


@pytest.mark.parametrize("content", ['{"features": {}, "splits": {"train": {}}}', "{}"])
def test_an_output_of_another_tool_is_left_alone(tmp_path, content):
    write(tmp_path, {"train.tfrecord": IMAGENET})
    output = tmp_path / "out"
    output.mkdir()
    (output / "dataset_info.json").write_text(content)
    said = refusal(tmp_path, output)
    foreign = "is another tool's: choose another folder for --output"
    assert said.endswith(foreign) == (content != "{}")
    assert (output / "dataset_info.json").read_text() == content


def test_what_is_wrong_is_said_before_all_is_read(tfds, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert refusal(tfds, tmp_path / "out") == (
        f"{tmp_path / 'out'} cannot be written in: mend its permissions, or name "
        "another folder for dataset_info.json, --output=OUT"
    )
    assert refusal(tfds, tmp_path / "out", label_field="lable").endswith(
        ", and no lable: name another one with --label_field"
    )
    info = tfds / "dataset_info.json"
    info.write_bytes(info.read_bytes()[:60])
    assert refusal(tfds, tmp_path / "out") == (
        f"{info}, of TensorFlow Datasets, is damaged or cut off: copy it again"
    )


def test_a_file_that_tensorflow_datasets_left_empty(tmp_path):
    write_tfds(tmp_path, {"train": [PLAIN, []]})
    (shard,) = look(tmp_path, tmp_path / "out").info.splits["train"].shards
    assert (shard.filename, shard.records) == (
        "pets-train.tfrecord-00000-of-00002",
        len(PLAIN),
    )


def test_the_indices_of_dali_are_no_set(tmp_path):
    write(tmp_path, {"train/train-00000-of-00001": IMAGENET})
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx" / "train-00000-of-00001").write_text("0 1234\n1234 5678\n")
    found = look(tmp_path)
    assert [one.filename for one in found.info.splits["train"].shards] == [
        "train/train-00000-of-00001"
    ]
    assert found.notes[0].startswith("left out: idx/train-00000-of-00001, of no split")


def test_folders_of_files_are_described_in_place_too(tmp_path):
    write(tmp_path, {"train/0-8.tfrec": IMAGENET, "val/0-4.tfrec": IMAGENET[:4]})
    info = look(tmp_path).info
    assert info.records_dir == "."
    assert info.split("train").shards[0].filename == "train/0-8.tfrec"
    assert dataset_info.load_info(str(tmp_path)) == info
    assert (
        validate.main([f"--data_dir={tmp_path}", "--workers=1"]) == 1
    )  # four are twice


def test_a_bucket():
    write("ram://bucket/data", {"train.tfrecord": IMAGENET})
    for output, stored in ((None, ""), ("ram://bucket/out", "ram://bucket/data")):
        info = look("ram://bucket/data", output).info
        assert info.records_dir == stored
        assert dataset_info.load_info(output or "ram://bucket/data") == info


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--label_offset=-5"], "argument --label_offset: '-5' is not a whole number"),
        (["--split=train"], "argument --split: train is not of the form train=PATTERN"),
        (["--split=a b=x"], "argument --split: a b=x is not of the form train=PATTERN"),
        (["--split=a=x", "--split=a=y"], "--split names a twice: give one pattern a"),
    ],
)
def test_flags(tmp_path, capsys, flags, said):
    command = ["tfrecords", f"--source={tmp_path}", *flags]
    try:
        status = prepare.main(command)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("fields", {"image": ""}, 'fields.image = "": it has to be a text'),
        ("fields", {"image": 1}, "fields.image = 1: it has to be a text"),
        ("fields", {"image": "x", "label": "x"}, "fields.image is the same"),
        ("fields", {"picture": "x"}, "fields.picture is not known: image, label"),
        ("fields", ["image"], "fields = [...]: it has to be an object"),
        ("records_dir", 1, "records_dir = 1: it has to be the path of a folder"),
        ("records_dir", "a\0b", "it has to be the path of a folder"),
    ],
)
def test_keys_of_the_info_that_make_no_sense(tmp_path, key, value, said):
    write(tmp_path, {"train.tfrecord": [example(one) for one in PLAIN]})
    look(tmp_path, label_offset=0)
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=re.escape(said)):
        dataset_info.load_info(str(tmp_path))
