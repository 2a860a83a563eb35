"""Data sets that are known by what lies there: the class of every image."""

import tarfile

import pytest

from input_pipeline import dataset_info, prepare
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import imagefolder
from tests.input_pipeline.images import encoded, stored, write_files

SYNSETS = ("n01440764", "n02105855", "n07930864")
WORDS = {"n01440764": "tench, Tinca tinca", "n02105855": "Shetland sheepdog"}
# Of each validation image in order; another class than its number modulo 3.
TRUTH = [SYNSETS[i] for i in (1, 2, 0, 1, 1)]


def kaggle(root):
    """ImageNet as Kaggle hands it out."""
    inner = "ILSVRC/Data/CLS-LOC"
    files = {f"{inner}/test/ILSVRC2012_test_{i:08d}.JPEG": encoded(i) for i in (1, 2)}
    for place, one in enumerate(SYNSETS):
        for i in range(2):
            files[f"{inner}/train/{one}/{one}_{i}.JPEG"] = encoded(10 * place + i)
    lines = ["ImageId,PredictionString"]
    for i, one in reversed([*enumerate(TRUTH, start=1)]):
        files[f"{inner}/val/ILSVRC2012_val_{i:08d}.JPEG"] = encoded(100 + i)
        lines.append(f"ILSVRC2012_val_{i:08d},{one} 1 2 3 4 {one} 5 6 7 8 ")
    files["LOC_val_solution.csv"] = "\n".join(lines).encode()
    files["LOC_synset_mapping.txt"] = "".join(
        f"{one} {words}\n" for one, words in WORDS.items()
    ).encode()
    files["ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml"] = b"<x/>"
    files["ILSVRC/ImageSets/CLS-LOC/val.txt"] = b"ILSVRC2012_val_00000001 1\n"
    return write_files(root, files)


def tiny(root):
    """Tiny ImageNet as it is unpacked."""
    files = {f"test/images/test_{i}.JPEG": b"t" * (i + 1) for i in range(2)}
    for place, one in enumerate(SYNSETS):
        files[f"train/{one}/{one}_boxes.txt"] = b"x"
        for i in range(2):
            files[f"train/{one}/images/{one}_{i}.JPEG"] = b"x" * (10 * place + i + 3)
    lines = [f"val_{i}.JPEG\t{one}\t0\t0\t62\t62" for i, one in enumerate(TRUTH)]
    files["val/val_annotations.txt"] = "\n".join(lines).encode()
    files |= {f"val/images/val_{i}.JPEG": b"v" * (50 + i) for i in range(len(TRUTH))}
    files["wnids.txt"] = "\n".join(reversed(SYNSETS)).encode()
    files["words.txt"] = "".join(f"{k}\t{v}\n" for k, v in WORDS.items()).encode()
    return write_files(root, files)


def labels(source, **options):
    """Return the synset of every image by its file's name, by split; names; notes."""
    plan, findings = imagefolder.plan(str(source), **options)
    found = {
        split: {
            item.filename.rpartition("/")[2]: plan.classes[item.label].synset
            for item in of.items
        }
        for split, of in plan.splits.items()
    }
    return found, [one.name for one in plan.classes], findings.notes


def in_train(count: int = 2) -> dict[str, str]:
    return {f"{one}_{i}.JPEG": one for one in SYNSETS for i in range(count)}


NAMES = ["tench, Tinca tinca", "Shetland sheepdog", "n07930864"]


@pytest.mark.parametrize(
    "below", ["ILSVRC/Data/CLS-LOC", "ILSVRC/Data", "ILSVRC", "", ".."]
)
def test_kaggles_imagenet(tmp_path, below):
    root = kaggle(tmp_path / "around" / "kaggle")
    source = root / below if below != ".." else tmp_path / "around"
    found, names, notes = labels(source)
    assert found == {
        "train": in_train(),
        "validation": {
            f"ILSVRC2012_val_{i:08d}.JPEG": one for i, one in enumerate(TRUTH, 1)
        },
    }
    assert names == NAMES
    test = f"{root}/ILSVRC/Data/CLS-LOC/test"
    assert [note.replace(str(source), "IN") for note in notes] == [
        f"left out 2 images in {test}: they have no classes".replace(str(source), "IN")
    ]


@pytest.mark.parametrize("below", [".", "tiny-imagenet-200", "tiny-imagenet-200/train"])
def test_tiny_imagenet(tmp_path, below):
    tiny(tmp_path / "tiny-imagenet-200")
    found, names, notes = labels(tmp_path / below)
    if below.endswith("train"):
        assert found == {"train": in_train()}
        return
    assert found == {
        "train": in_train(),
        "validation": {f"val_{i}.JPEG": one for i, one in enumerate(TRUTH)},
    }
    assert names == NAMES
    assert len(notes) == 1
    assert notes[0].endswith("test: they have no classes")


@pytest.mark.parametrize("make", [kaggle, tiny])
def test_a_fraction_is_not_held_out_beside_validation(tmp_path, make):
    with pytest.raises(DataError, match="there is a validation folder already"):
        labels(make(tmp_path / "in"), validation_fraction=0.2)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (None, "validation images without labels: put Kaggle's LOC_val_solution.csv b"),
        ("Id,x\nILSVRC2012_val_00000001,n01440764\n", "has the columns Id, x, where K"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 0 0 9 9 n02105855"
         " 0 0 9 9\n", "line 2: 'n01440764 0 0 9 9 n02105855 0 0 9 9' does not name o"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,\n", "'' does not name on"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,n00000001 0 0 9 9\n",
         "1 classes in validation that are not in train (n00000001)"),
        ("ImageId,PredictionString\nx,n01440764 0 0 9 9\n", "none of them is in --sou"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 0 0 9 9\n"
         "ILSVRC2012_val_00000001,n02105855 0 0 9 9\n", "has two labels, n01440764 (l"),
    ],
)  # fmt: skip
def test_kaggles_imagenet_with_other_labels(tmp_path, change, refusal):
    root = kaggle(tmp_path / "in")
    table = root / "LOC_val_solution.csv"
    if change is None:
        table.unlink()
    else:
        table.write_text(change)
    with pytest.raises(DataError) as error:
        labels(root)
    assert refusal in str(error.value)


def test_images_without_labels_are_said(tmp_path):
    root = tiny(tmp_path / "in")
    table = root / "val" / "val_annotations.txt"
    table.write_text(table.read_text() + "\nval_77.JPEG\tn01440764\t0\t0\t1\t1\n")
    write_files(root, {"val/images/val_9.JPEG": b"y"})
    found, _, notes = labels(root)
    assert found["validation"] == {f"val_{i}.JPEG": s for i, s in enumerate(TRUTH)}
    assert notes[:2] == [
        f"left out 1 line of {table}: no image is called val_77.JPEG",
        f"left out 1 image of {root}/val without a label: val/images/val_9.JPEG",
    ]


@pytest.mark.parametrize("below", [".", "food-101"])
def test_food_101(tmp_path, below):
    files = {
        f"food-101/images/{name}/{i}.jpg": b"x" * (10 * place + i)
        for place, name in enumerate(("apple_pie", "waffles"), 1)
        for i in range(4)
    }
    files["food-101/meta/train.txt"] = b"apple_pie/0\napple_pie/2\nwaffles/1\n"
    files["food-101/meta/test.txt"] = b"apple_pie/1\nwaffles/0\nwaffles/2\n"
    files["food-101/meta/classes.txt"] = b"apple_pie\nwaffles\n"
    write_files(tmp_path, files)
    plan, findings = imagefolder.plan(str(tmp_path / below))
    found = {
        split: sorted(
            ("/".join(item.filename.split("/")[-2:]), plan.classes[item.label].name)
            for item in of.items
        )
        for split, of in plan.splits.items()
    }
    assert found == {
        "train": [
            ("apple_pie/0.jpg", "apple_pie"),
            ("apple_pie/2.jpg", "apple_pie"),
            ("waffles/1.jpg", "waffles"),
        ],
        "test": [
            ("apple_pie/1.jpg", "apple_pie"),
            ("waffles/0.jpg", "waffles"),
            ("waffles/2.jpg", "waffles"),
        ],
    }
    assert "left out 2 images that" in findings.notes[0]


def test_kaggles_table_may_be_named(tmp_path):
    root = kaggle(tmp_path / "in")
    table = root / "LOC_val_solution.csv"
    table.rename(tmp_path / table.name)
    found, _, _ = labels(
        root / "ILSVRC" / "Data" / "CLS-LOC", tables=[str(tmp_path / table.name)]
    )
    assert found == {
        "train": in_train(),
        "validation": {
            f"ILSVRC2012_val_{i:08d}.JPEG": one for i, one in enumerate(TRUTH, 1)
        },
    }


def test_annotations_that_are_cut_off(tmp_path):
    root = tiny(tmp_path / "in")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\n")
    with pytest.raises(DataError, match=r"line 1: 'val_0.JPEG' has no label: download"):
        labels(root)


def test_a_known_data_set_in_a_tar_file(tmp_path):
    root = tiny(tmp_path / "in")
    with tarfile.open(tmp_path / "tiny.tar", "w") as tar:
        tar.add(root, ".")
    with pytest.raises(DataError, match=r"holds labels in a file, val/val_annotations"):
        labels(tmp_path / "tiny.tar")


def test_oxfords_pets(tmp_path):
    names = ["Abyssinian_1", "Abyssinian_2", "great_pyrenees_1", "great_pyrenees_2"]
    files = {f"images/{name}.jpg": b"x" * i for i, name in enumerate(names, 1)}
    files["annotations/trainval.txt"] = b"Abyssinian_2 1 1 1\ngreat_pyrenees_1 2 2 1\n"
    files["annotations/test.txt"] = b"Abyssinian_1 1 1 1\ngreat_pyrenees_2 2 2 1\n"
    files["annotations/list.txt"] = b"# Image CLASS-ID SPECIES BREED ID\n"
    files["annotations/trimaps/Abyssinian_1.png"] = b"t"
    found, names, notes = labels(write_files(tmp_path / "in", files))
    assert found == {
        "train": {
            "Abyssinian_2.jpg": "Abyssinian",
            "great_pyrenees_1.jpg": "great_pyrenees",
        },
        "test": {
            "Abyssinian_1.jpg": "Abyssinian",
            "great_pyrenees_2.jpg": "great_pyrenees",
        },
    }
    assert names == ["Abyssinian", "great_pyrenees"]
    assert notes == []


def test_what_is_written_of_kaggles_imagenet(tmp_path, capsys):
    root = kaggle(tmp_path / "in")
    output = tmp_path / "out"
    arguments = [f"--source={root}", f"--output={output}", "--workers=1"]
    assert prepare.main(["imagefolder", *arguments]) == 0
    assert "6 train records, 5 validation records" in capsys.readouterr().out
    assert dataset_info.load_info(str(output)).label_names == tuple(NAMES)
    for name, (label, _, image) in stored(output, "validation").items():
        number = int(name[-13:-5])
        assert label == 1 + SYNSETS.index(TRUTH[number - 1])
        assert image == encoded(100 + number)
