"""Which files are of which split: by their names alone, so that they may be empty."""

import os

import pytest

from input_pipeline.errors import DataError
from input_pipeline.preparation import record_files
from tests.input_pipeline.images import touch_latin1
from tests.input_pipeline.preparation.foreign_records import imagenet, write

TWO = "-00000-of-00002", "-00001-of-00002"


def touch(folder, names) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-00000-of-00001", "test-00000-of-00001"], ["test", "train"]),
        (["holdout-00000-of-00001"], ["holdout"]),
        (["flowers_train-00000-of-00001"], ["flowers_train"]),
        (["Train-00000-of-00001", "val-00000-of-00001"], ["Train", "val"]),
        (["train.tfrecord", "validation-00000-of-00001"], ["train", "validation"]),
        (["train.tfrecords", "val.tfrecords"], ["train", "validation"]),
        (["train.tfrec", "valid.tfrec", "tst.tfrec"], ["test", "train", "validation"]),
        (["coco_train.record", "coco_dev.record"], ["train", "validation"]),
        (["TRAIN.TFRECORD", "Test.TFRecord"], ["test", "train"]),
        (["train-0-of-1", "eval-0-of-1"], ["train", "validation"]),
        (["training_set.tfrecord"], ["train"]),
        (["a.b_train_v2.tfr"], ["train"]),
        (["train.tfrecord.gz"], ["train"]),
        (["train/00.tfrec", "val/00.tfrec"], ["train", "validation"]),
        (["Training/a.tfrecord", "Testing/a.tfrecord"], ["test", "train"]),
        (["records/train-00000-of-00001"], ["train"]),
        (["train/x-train-0-of-1.tfrecord"], ["train"]),
    ],
)  # fmt: skip
def test_splits_by_names(tmp_path, names, splits):
    found = record_files.find(touch(tmp_path, names))
    assert list(found.splits) == splits
    assert sorted(sum(found.splits.values(), ())) == sorted(names)
    assert found.notes == ()


@pytest.mark.parametrize(
    "names",
    [
        [f"train{end}" for end in TWO],
        [f"flowers_train{end}.tfrecord" for end in TWO],
        [f"flowers_train_{end[1:]}.tfrecord" for end in TWO],
        [f"pets-train.tfrecord{end}" for end in TWO],
        [f"train.tfrecord{end}" for end in TWO],
        ["train-1-of-2", "train-2-of-2"],
        [f"train-{i}-of-11" for i in range(11)],
        ["train_0.tfrecord", "train_1.tfrecord"],
        ["train00-2071.tfrec", "train01-2000.tfrec"],
        ["train-part-00.tfrecord", "train-part-01.tfrecord"],
        ["train/00-48x48-24.tfrec", "train/01-48x48-7.tfrec"],
        ["train/shard7.tfrecord", "train/shard8.tfrecord"],
        ["train/img_a-00000-of-00002", "train/img_a-00001-of-00002"],
    ],
)
def test_files_of_one_set_in_order(tmp_path, names):
    assert record_files.find(touch(tmp_path, names)).splits == {"train": tuple(names)}


SEVERAL = "holds files of several sets named "


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Train-00000-of-00001", "train-00000-of-00001"],
         f"{SEVERAL}Train: Train-*-of-00001 and train-*-of-00001: move all but one set "
         "elsewhere, or choose: --split 'Train=Train-*-of-00001'"),
        (["val-00000-of-00001", "validation-00000-of-00001"], f"{SEVERAL}val: val-*"),
        (["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"],
         f"{SEVERAL}train: train-*-of-00001 and train-*-of-00002: "),
        (["cifar10_train.tfrecord", "cifar100_train.tfrecord"], f"{SEVERAL}train: cif"),
        (["train.tfrecord", "train/0.tfrecord"], f"{SEVERAL}train: train.tfrecord"),
        (["train.tfrecord", "train (1).tfrecord"], f"{SEVERAL}train: "),
        (["train.tfrecord", "train_old.tfrecord"], f"{SEVERAL}train: "),
        (["train-00001-of-00003"],
         "lacks 2 of 3 train files (the first is train-00000-of-00003): copy them "
         "there, or take those that there are, --split 'train=train-*-of-00003'"),
        (["a_train_1-of-3.tfrecord", "a_train_3-of-3.tfrecord"],
         "lacks 1 of 3 train files (the first is a_train_2-of-3.tfrecord)"),
        (["train-0-of-9999999999999"], "lacks 9999999999998 of 9999999999999 train "),
        ([f"train-0000{i}-of-00002" for i in range(3)],
         "holds 1 file more than the 2 of train-*-of-00002, the last is "
         "train-00002-of-00002: move"),
        (["train-00000-of-00000"], "holds 1 file more than the 0 of train-*-of-00000"),
        ([], " is empty: name another folder with --source"),
        (["a/cat.jpg", "a/dog.jpg", "README"],
         "holds no TFRecords named like train-00000-of-01024, but 2 files named *.jpg: "
         "python -m input_pipeline.prepare imagefolder takes folders of images"),
        (["x.parquet"], "but 1 file named *.parquet: write TFRecords, or images for "),
        (["ILSVRC2012_img_train.tar"], "1 file named *.tar: python -m input_pipeline."
         "prepare imagenet takes ImageNet's; unpack others"),
        (["README"], "but README, ...: write TFRecords, or images"),
        ([".train-00000-of-00001"], "is empty"),
        (["a/b/c/train.tfrecord"], "holds no TFRecords, but {}/a/b/c does: python -m "
         "input_pipeline.prepare tfrecords --source={}/a/b/c"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, names, said):
    with pytest.raises(DataError) as refused:
        record_files.find(touch(tmp_path, names))
    assert said.format(tmp_path, tmp_path) in str(refused.value)


ONE = [imagenet(0)]
FIELDS = "the fields image/class/label, image/encoded, image/filename"


@pytest.mark.parametrize(
    ("folder", "names", "said"),
    [
        ("", ["00-2.tfrec", "01-2.tfrec"],
         f"holds 2 files named *.tfrec, the first of 1 record with {FIELDS}, and "
         "nothing tells their split: add --split 'train=*.tfrec'"),
        ("train", ["00-2.tfrec"], "--split 'train=*.tfrec', or name the folder of all "
         "splits, --source={}"),
        ("", ["a-0.tfrec", "b.tfrecord"], "2 files named a-*.tfrec and 1 other set"),
        ("", ["voc_trainval.tfrecord"], "holds 1 file named *.tfrecord, "),
        ("", ["voc_train_val.tfrecord"], "holds 1 file named *.tfrecord, "),
        ("", ["restrain.tfrecord"], "holds 1 file named *.tfrecord, "),
        ("", ["train/val.tfrecord"], "holds 1 file named train/val.tfrecord, "),
        ("", ["data"], "holds 1 file named data, "),
    ],
)  # fmt: skip
def test_a_split_that_nothing_tells(tmp_path, folder, names, said):
    write(tmp_path / folder, dict.fromkeys(names, ONE))
    with pytest.raises(DataError) as refused:
        record_files.find(str(tmp_path / folder))
    assert said.format(tmp_path) in str(refused.value)


LEFT = "of no split that is described; --split NAME=PATTERN takes what it names"


@pytest.mark.parametrize(
    ("others", "notes"),
    [
        (["extra.tfrecord"], [f"left out: extra.tfrecord, {LEFT}"]),
        (["train-00000-of-00001.bak"], [f"left out: train-00000-of-00001.bak, {LEFT}"]),
        (["a.bin", "b", "c", "d", "e"], [f"left out: a.bin, b, c and 2 more, {LEFT}"]),
        (["more/extra.tfrec"], [f"left out: more/extra.tfrec, {LEFT}"]),
        (["._train-00000-of-00001", ".git/x.tfrecord"], []),
    ],
)
def test_what_looks_like_a_tfrecord_and_is_left_out_is_named(tmp_path, others, notes):
    write(tmp_path, dict.fromkeys(["train-00000-of-00001", *others], ONE))
    touch(tmp_path, ["README", "train-00000-of-00001.idx", "labels.txt", "empty"])
    os.mkfifo(tmp_path / "pipe")  # to read it would wait for ever
    (tmp_path / "link").symlink_to("nowhere")
    found = record_files.find(str(tmp_path))
    assert found.splits == {"train": ("train-00000-of-00001",)}
    assert list(found.notes) == notes


@pytest.mark.parametrize("name", ["train.bin", "train", "my_train.data"])
def test_a_file_of_another_name_is_of_a_split_that_nothing_else_is_of(tmp_path, name):
    write(tmp_path, dict.fromkeys([name, "validation-00000-of-00001"], ONE))
    found = record_files.find(str(tmp_path))
    assert (found.splits["train"], found.notes) == ((name,), ())


@pytest.mark.parametrize(
    ("patterns", "splits", "notes"),
    [
        ({"train": "a-*"}, {"train": ("a-0", "a-1")}, ["b-0-of-3.tfrec, d/c.tfrec"]),
        ({"x": "d/*", "y": "b*"}, {"x": ("d/c.tfrec",), "y": ("b-0-of-3.tfrec",)},
         ["y: 2 of 3 files b-*-of-3.tfrec are absent"]),
        ({"x": "*/*.tfrec"}, {"x": ("d/c.tfrec",)}, ["b-0-of-3.tfrec"]),
        ({"x": "./a-1"}, {"x": ("a-1",)}, ["b-0-of-3.tfrec, d/c.tfrec"]),
        ({"x": "{}/a-1"}, {"x": ("a-1",)}, ["b-0-of-3.tfrec, d/c.tfrec"]),
        ({"x": "z*"}, "no file of {} matches 'z*' of x: there are b-0-of-3.tfrec", []),
        ({"x": "../*"}, "no file of {} matches '../*' of x", []),
        ({"x": "a*", "y": "*-0"}, "a-0 is of x and of y: give patterns to --split", []),
    ],
)  # fmt: skip
def test_patterns_of_a_person(tmp_path, patterns, splits, notes):
    touch(tmp_path, ["a-0", "a-1", "b-0-of-3.tfrec", "d/c.tfrec"])
    patterns = {name: pattern.format(tmp_path) for name, pattern in patterns.items()}
    if isinstance(splits, str):
        with pytest.raises(DataError) as refused:
            record_files.choose(str(tmp_path), patterns)
        assert splits.format(tmp_path) in str(refused.value)
        return
    found = record_files.choose(str(tmp_path), patterns)
    assert found.splits == splits
    for note, said in zip(notes, found.notes, strict=False):
        assert note in said


def test_names_that_are_not_utf8(tmp_path):
    """What cannot be a TFRecord is passed over; what may be one is named."""
    names = ["train-00000-of-00001", "deep/val-00000-of-00001"]
    touch(tmp_path, names)
    for folder in (tmp_path, tmp_path / "deep"):
        touch_latin1(folder, "notes-\xe9t\xe9.txt")
    assert record_files.list_files(str(tmp_path)) == sorted(names)
    touch_latin1(tmp_path / "deep", "caf\xe9.tfrecord")
    with pytest.raises(DataError, match=r"/deep holds b'caf\\xe9\.tfrecord', whose"):
        record_files.find(str(tmp_path))


def test_a_file_is_no_folder(tmp_path):
    touch(tmp_path, ["train.tfrecord"])
    for name, said in (
        ("train.tfrecord", "is a file: name the folder"),
        ("no", "there"),
    ):
        with pytest.raises(DataError, match=said):
            record_files.find(str(tmp_path / name))
