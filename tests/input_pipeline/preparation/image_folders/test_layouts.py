"""The forms in which people have their images, and what becomes of each."""

import os
import pathlib

import pytest

from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import folder_names, imagefolder
from tests.input_pipeline.images import write_files


def make(root, words: str) -> str:
    """Make folders of two images; "a/" is empty, "a.csv" a file, "a->b" a link."""
    root.mkdir()
    for number, word in enumerate(words.split()):
        name, arrow, target = word.partition("->")
        path = root / name.replace("_SPACE_", " ")
        path.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            path.symlink_to(target)
        elif "." in name[1:]:
            path.write_text("")
        else:
            path.mkdir(exist_ok=True)
            sizes = range(0 if word.endswith("/") else 2)
            write_files(path, {f"{i}.jpg": b"x" * (2 * number + i) for i in sizes})
    return str(root)


def found(source: str, **options) -> str:
    """Return "classes: images of each split"."""
    plan, _ = imagefolder.plan(source, **options)
    counts = [f"{len(split.items)} {name}" for name, split in plan.splits.items()]
    return f"{' '.join(one.name for one in plan.classes)}: {', '.join(counts)}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cat dog", "cat dog: 4 train"),
        ("train/cat train/dog", "cat dog: 4 train"),
        (
            "train/cat train/dog validation/cat validation/dog",
            "cat dog: 4 train, 4 validation",
        ),
        ("train/cat train/dog val/cat val/dog", "cat dog: 4 train, 4 validation"),
        ("train/cat train/dog valid/cat valid/dog", "cat dog: 4 train, 4 validation"),
        ("Train/cat Train/dog Val/cat Val/dog", "cat dog: 4 train, 4 validation"),
        ("TRAIN/a TRAIN/b TEST/a TEST/b", "a b: 4 train, 4 test"),
        ("Training/a Training/b Testing/a Testing/b", "a b: 4 train, 4 test"),
        (
            "trn/a trn/b dev/a dev/b tst/a tst/b",
            "a b: 4 train, 4 validation, 4 test",
        ),
        ("train/a train/b eval/a eval/b", "a b: 4 train, 4 validation"),
        ("train/a train/b holdout/a", "a b: 4 train, 2 test"),
        ("train_set/a train_set/b test_set/a", "a b: 4 train, 2 test"),
        ("train2017/a train2017/b val2017/b", "a b: 4 train, 2 validation"),
        ("my-train/a my-train/b my-val/b", "a b: 4 train, 2 validation"),
        ("01_train/a 01_train/b 02_val/b", "a b: 4 train, 2 validation"),
        ("entrenamiento/a entrenamiento/b prueba/a", "a b: 4 train, 2 test"),
        ("训练集/a 训练集/b 测试集/a", "a b: 4 train, 2 test"),
        ("訓練データ/a 訓練データ/b 検証用/a", "a b: 4 train, 2 validation"),
        ("обучающая/a обучающая/b тестовая/a", "a b: 4 train, 2 test"),
        ("TrainImages/a TrainImages/b ValImages/a", "a b: 4 train, 2 validation"),
        ("train_station bus_station", "bus_station train_station: 4 train"),
        ("entrenamiento/a entrenamiento/b validación/a", "a b: 4 train, 2 validation"),
        (
            "seg_train/seg_train/a seg_train/seg_train/b seg_test/seg_test/a seg_pred",
            "a b: 4 train, 2 test",
        ),
        ("train/images/a train/images/b val/images/a", "a b: 4 train, 2 validation"),
        ("train/a train/b test", "a b: 4 train"),
        ("train/a train/b test/test", "a b: 4 train"),
        ("train/a train/b test/unknown", "a b: 4 train"),
        ("train/unknown train/b test/unknown", "b unknown: 4 train, 2 test"),
        ("train/a train/b unlabeled", "a b: 4 train"),
        ("train/a train/b train_unlabeled", "a b: 4 train"),
        ("train/a train/b val/a labels/x.txt", "a b: 4 train, 2 validation"),
        ("train/a train/b val/a val/b/", "a b: 4 train, 2 validation"),
        # A class of vehicles.
        ("train bus car", "bus car train: 6 train"),
        ("train plane", "plane train: 4 train"),
        ("cat/x dog/y", "cat dog: 4 train"),
        ("land/car land/train sea/ship sea/boat", "land sea: 8 train"),
        ("BulletTrain SteamTrain suv gt", "BulletTrain SteamTrain gt suv: 8 train"),
        ("mask no_mask", "mask no_mask: 4 train"),
        ("background cat", "background cat: 4 train"),
        # What systems leave behind.
        ("a b @eaDir __MACOSX/a $RECYCLE.BIN/x lost+found/y", "a b: 4 train"),
        ("a b a/@eaDir b/.ipynb_checkpoints a/#recycle", "a b: 4 train"),
        ("train/a train/b val/a __pycache__ @eaDir/", "a b: 4 train, 2 validation"),
        ("a b . a/notes.txt README.md", "a b: 4 train"),
        # Upper and lower case are two classes of characters.
        ("A a b", "A a b: 6 train"),
        ("a b/c/d/e", "a b: 4 train"),
    ],
)
def test_what_is_read(tmp_path, words, expected):
    assert found(make(tmp_path / "in", words)) == expected


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("photos/cat photos/dog", "photos, around the classes: give --source=IN/ph"),
        ("photos/train/a photos/train/b photos/val/a", "give --source=IN/photos, or"),
        ("x/y/z/a x/y/z/b", "give --source=IN/x/y/z, or if x is the class"),
        ("images/cat images/dog README.md", "give --source=IN/images,"),
        ("images/a images/b meta/classes.txt", "give --source=IN/images,"),
        ("dtd/images/a dtd/images/b dtd/labels/x.txt", "give --source=IN/dtd/images,"),
        (". photos/cat photos/dog", "give --source=IN/photos"),
        ("cat", "IN holds one class, cat: is --source one folder too high or too low"),
        ("cat/old cat/new", "around the classes: give --source=IN/cat, or if cat is"),
        ("train/cat val/cat", "IN/train holds one class, cat: is"),
        (".", "IN holds no class folders, but 2 images: sort them by their labels"),
        (". labels.csv", "give --labels=IN/labels.csv, if their labels are there, or"),
        (". x.mat", "write a CSV of their files and labels, if IN/x.mat tells them, a"),
        ("train train.csv", "IN/train holds no class folders, but 2 images: "),
        ("train train.csv test sample.csv", "give --labels=IN/train.csv, if their lab"),
        ("cars_train cars_test", "links will do, docs/data.md (Prepare) shows how"),
        ("images annotations/list.txt", "IN/images holds no class folders, but 2 im"),
        ("images annotations/trimaps", "annotations is hardly a class: move it else"),
        ("JPEGImages/a JPEGImages/b masks", "give --source=IN/JPEGImages, or choose"),
        ("images/train images/val labels/train/a.txt", "IN/images/train holds no cl"),
        (
            "train/a/images train/b/images val/images val/val_annotations.txt",
            "IN/val holds no class folders, but 2 images: give --labels="
            "IN/val/val_annotations.txt, if their labels are there, or sort them "
            "into IN/val/CLASS/IMAGE; "
            "links will do, docs/data.md (Prepare) shows how; or move it elsewhere and "
            "hold out a --validation_fraction",
        ),
        ("train/a train/b train/val", "IN/train holds a, b, val, and val is hardly"),
        ("train/images train/masks", "images is hardly a class: move it elsewhere, or "
         "choose --layout=splits if all are classes"),
        ("train/train/a train/train/b train/test/a", "class: give --source=IN/train"),
        ("train/a train/b val", "hold out a --validation_fraction"),
        ("train test", "IN/train holds no class folders, but 2 images: sort them"),
        ("train test", "or if these are classes, choose --layout=classes"),
        ("train/ val/a val/b", "holds val, but no folder train with images: add it"),
        ("train/a train_1/a", "holds train and train_1, both for train: move one"),
        ("val/a val/b test/a", "holds test, val, but no folder train with images: "),
        ("cat dog test", "holds test, by the name a split, beside cat, dog: move it"),
        ("valid invalid", "choose --layout=classes if all are classes"),
        ("train/a train/b meta/a", "holds the splits train and meta: move meta else"),
        ("train/a val/a meta/a", "holds the splits train, val and meta: move meta"),
        ("train/a val/a train_masks/a", "and train_masks: move train_masks elsewhere"),
        ("train/a train/b bus car", "or choose --layout=splits to leave that out"),
        ("train/a val/a validation/a", "holds val and validation, both for validation"),
        ("Train/a train/a", "holds Train and train, both for train: move one"),
        ("cat/train cat/test dog/train dog/test", "other way round, train/cat; links"),
        ("photo/a photo/b sketch/a", "photo, sketch in IN hold the same folders, a, b: "
         "if those are the classes, give --source=IN/photo for that alone, or sort "),
        ("x/images/a x/images/b y/images/a y/images/b", "give --source=IN/x/images fo"),
        ("a/images a/masks b/images b/masks", "move masks elsewhere, or choose --l"),
        # One folder beside the classes holds all of them again.
        ("no yes brain/yes brain/no", "IN holds no, yes, and IN/brain holds folders of "
         "the same names: move that elsewhere, or choose --layout=classes if it is"),
        ("in/a in/b in/in/a in/in/b", "give --source=IN/in with --layout=classes if"),
        ("train/a train/b train/c/a train/c/b", "and IN/train/c holds folders of the"),
        ("all/train/a all/val/a a b", "IN holds the splits train, val in all: give "
         "--source=IN/all, or choose --layout=classes if all is a class"),
        ("x/train/a x/test/b x/ground_truth/b y/a", "the splits test, train in x: giv"),
        # The training split has another name, or none.
        ("data_large/a data_large/b val_large/a", "IN holds val_large, by the name a "
         "split, beside data_large: if you train on that, name it train (a link will"),
        ("faces faces_test", "beside faces: if you train on that, name it train"),
        ("images images_val", "beside images: if you train on that, name it train"),
        ("train_mini/a val/a", "beside train_mini: if you train on that, name it "),
        ("trainA trainB testA testB", "IN holds testA, testB, trainA and 1 more, by "
         "the name each of a split and of a class: sort them into train/CLASS and val"),
        ("x/train/a x/train/b y/train/a", "splits train in x: give --source=IN/x, or"),
        ("x/train/a x/val/a x/c/a", "or give --source=IN/x with --layout=splits to le"),
        ("café cafe\u0301 dog", "in U+0065 U+0301 against U+00E9"),
        ("train/café train/b val/cafe\u0301", "give them one name"),
        ("cat c\u0430t", "the classes cat and c\u0430t, which look alike (they "
         "differ in U+0061 against U+0430): give"),
        ("Cat cat", "U+0043 against U+0063"),
        ("train/cat train/dog val/Cat", "U+0043 against U+0063"),
        ("cat cat_SPACE_", "they differ in nothing against U+0020"),
        ("cat c\u200bat", "they differ in nothing against U+200B"),
        ("t-shirt t\u2013shirt", "they differ in U+002D against U+2013"),
        ("cat dog bird/", "the class folder IN/bird holds no image: fill it or rem"),
        ("train/a train/b/", "the class folder IN/train/b holds no image"),
        ("train/a val/a val/b", "1 classes in validation that are not in train (b)"),
        ("x.txt", "IN holds no image: --source needs DIR/CLASS/IMAGE, or DIR/train/"),
        ("a/ b/", "IN holds no image: --source needs"),
        (".hidden", "IN holds no image: --source needs"),
        ("photos.zip", "IN holds no image: unpack photos.zip"),
        ("x.tfrecord", "IN holds no image: use the command tfrecords for x.tfrecord"),
        ("x.npz", "IN holds no image: write images out of x.npz"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, words, refusal):
    source = make(tmp_path / "in", words)
    with pytest.raises(DataError) as error:
        imagefolder.plan(source)
    said = str(error.value).replace(source, "IN")
    assert refusal in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("words", "options", "expected"),
    [
        ("train test", {"layout": "classes"}, "test train: 4 train"),
        ("val/a test/a", {"layout": "classes"}, "test val: 4 train"),
        ("valid invalid", {"layout": "classes"}, "invalid valid: 4 train"),
        ("a/x a/y b/x b/y", {"layout": "classes"}, "a b: 8 train"),
        ("images masks", {"layout": "classes"}, "images masks: 4 train"),
        ("train/a train/b extra/a", {"layout": "splits"}, "a b: 4 train"),
        ("train/a train/b train/val", {"layout": "splits"}, "a b val: 6 train"),
        ("train/a train/b bus", {"layout": "splits"}, "a b: 4 train"),
        ("cat", {"allow_one_class": True}, "cat: 2 train"),
        ("train/cat val/cat", {"allow_one_class": True}, "cat: 2 train, 2 validation"),
        (
            "cat/old cat/new",
            {"layout": "classes", "allow_one_class": True},
            "cat: 4 train",
        ),
    ],
)
def test_what_is_read_when_a_person_says_how(tmp_path, words, options, expected):
    assert found(make(tmp_path / "in", words), **options) == expected


def test_folders_that_are_said_to_be_splits_but_are_none(tmp_path):
    with pytest.raises(DataError, match="holds cat, dog, but no folder train with"):
        imagefolder.plan(make(tmp_path / "in", "cat dog"), layout="splits")


@pytest.mark.parametrize(
    ("words", "notes", "skipped"),
    [
        ("cat dog", [], ""),
        (
            "cat dog . cat/notes.txt README.md dog/@eaDir .x",
            [],
            "2 other files, 2 images in no class folder, 2 hidden or system files",
        ),
        (
            "train/a train/b test val/a/ val/b/ README.md . .x",
            [
                "left out what holds no image in IN: val",
                "left out 2 images in IN/test: they have no classes",
            ],
            "1 other file, 2 images in no class folder, 1 hidden or system file",
        ),
        (
            "train/train/a train/train/b",
            ["the classes of train are those in IN/train/train"],
            "",
        ),
        (
            "a/abbey a/alley b/bar b/bath",
            [
                "the 2 folders in IN are the classes, not those in them (a/abbey, "
                "a/alley and 2 more)"
            ],
            "",
        ),
        (
            "cat dog train.txt test_list.txt labels.txt classes.txt",
            ["left out the splits of train.txt in IN"],
            "4 other files",
        ),
        (
            "a/masks a/x b",
            ["the images in a/masks are taken for images of their class"],
            "",
        ),
        (
            "cat cat/test dog",
            ["the images in cat/test are taken for images of their class"],
            "",
        ),
        (
            "BACKGROUND_Google cat",
            [
                "BACKGROUND_Google is a class like any other: move it elsewhere if it "
                "holds what belongs to none"
            ],
            "",
        ),
        (
            "train/a train/b val->train",
            [
                "validation and train share images: 4 have the name and size of "
                "another; of 4 that were compared, 4 are the same, for one "
                "val/a/0.jpg and train/a/0.jpg"
            ],
            "",
        ),
        (
            "cat dog cat/d->../dog",
            ["the classes cat and dog share a folder by a link"],
            "",
        ),
    ],
)  # fmt: skip
def test_what_a_person_is_told(tmp_path, words, notes, skipped):
    source = make(tmp_path / "in", words)
    _, findings = imagefolder.plan(source)
    assert [note.replace(source, "IN") for note in findings.notes] == notes
    assert findings.skipped == skipped


def test_a_class_that_is_a_copy_of_another(tmp_path):
    sizes = {f"{i}.jpg": b"x" * i for i in range(20)}
    for name in ("cat", "cat - copy"):
        write_files(tmp_path / "in" / name, sizes)
    _, findings = imagefolder.plan(str(tmp_path / "in"))
    assert findings.notes == [
        "classes of train share images: 20 have the name and size of another; of 10 "
        "that were compared, 10 are the same, for one cat - copy/0.jpg and cat/0.jpg"
    ]
    for path in (tmp_path / "in" / "cat").iterdir():
        path.write_bytes(b"y" * path.stat().st_size)
    _, findings = imagefolder.plan(str(tmp_path / "in"))
    assert "of 10 that were compared, 1 are the same" in findings.notes[0]  # 0 bytes


def test_a_split_that_is_given_alone(tmp_path):
    make(tmp_path / "in", "train/a train/b val/a test/a .x")
    _, findings = imagefolder.plan(str(tmp_path / "in" / "train"))
    assert findings.notes == [
        f"left out what lies beside {tmp_path}/in/train: test, val"
    ]


def test_links_among_many_folders_come_to_an_end(tmp_path):
    names = "abcdefghi"
    links = [f"{x}/{y}{y}->../{y}" for x in names for y in names if x != y]
    source = make(tmp_path / "in", " ".join([*names, *links]))
    plan, findings = imagefolder.plan(source)
    assert len(plan.splits["train"].items) == 9 * 9 * 2
    assert findings.notes[0] == "the classes a and b share a folder by a link"


def test_a_link_does_not_rename_what_is_there_without_it(tmp_path):
    source = make(tmp_path / "in", "a/z b a/y->z")
    plan, _ = imagefolder.plan(source)
    names = sorted(item.filename for item in plan.splits["train"].items)
    assert names == ["a/z/0.jpg", "a/z/1.jpg", "b/0.jpg", "b/1.jpg"]


def test_a_thousand_folders_in_one_another(tmp_path, monkeypatch):
    source = make(tmp_path / "in", "a b")
    monkeypatch.chdir(f"{source}/a")
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    write_files(pathlib.Path(), {"0.jpg": b""})
    try:
        assert found(source) == "a b: 5 train"
    finally:  # shutil.rmtree would fail at them
        os.remove("0.jpg")
        for _ in range(1100):
            os.chdir("..")
            os.rmdir("d")


def test_what_the_system_keeps_for_itself_need_not_be_readable(tmp_path, monkeypatch):
    source = make(tmp_path / "in", "a b lost+found/x a/.#lock->nowhere")
    real = os.scandir

    def scandir(path):
        if "lost" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(source) == "a b: 4 train"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training-Set", "train"),
        ("test_images", "test"),
        ("DEV", "validation"),
        ("Validierung", "validation"),
        ("train_val", None),
        ("train (1)", "train"),
        ("Entraînement", "train"),
        ("테스트", "test"),
        ("Eğitim", "train"),
        ("trainer", None),
        ("bullet train", None),
        ("testament", None),
        ("valley", None),
        ("", None),
    ],
)
def test_which_names_mean_a_split(name, split):
    assert folder_names.splits_of([name]) == ({name: split} if split else {})


@pytest.mark.parametrize(
    ("name", "is_copy"),
    [
        ("x.jpg~", True),
        ("x.jpg.CRDOWNLOAD", True),
        ("x.jpg_original", True),
        ("x_original.jpg", False),
        ("portrait_original", False),
    ],
)
def test_copies_that_programs_keep(name, is_copy):
    assert folder_names.is_copy(name) == is_copy
