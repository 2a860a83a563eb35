"""The layouts in docs/data.md: each row, made small, gives the right labels."""

import io
import pathlib
import re
import shlex
import tarfile

import pytest

from input_pipeline import prepare
from tests.input_pipeline.images import encoded, stored, write_files

PAGE = pathlib.Path(prepare.__file__).parents[1] / "docs" / "data.md"
SYNSETS = ("n01440764", "n02105855")


def images(names: str) -> dict[str, bytes]:
    return {name: encoded(i) for i, name in enumerate(names.split())}


def packed(names: str) -> dict[str, bytes]:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in images(names).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {"photos.tar": output.getvalue()}


def text(**files: str) -> dict[str, bytes]:
    return {name.replace("__", "/"): one.encode() for name, one in files.items()}


SPLIT = "photos/train/cat/1.jpg photos/train/dog/1.jpg photos/val/cat/2.jpg"
FLAT = images("photos/1.jpg photos/2.jpg photos/3.jpg")
# Of two cats, one is held out.
CAT_DOG = {
    "train": {"1.jpg": "cat", "2.jpg": "dog"},
    "validation": {"3.jpg": "cat"},
}
ILSVRC = "ILSVRC/Data/CLS-LOC"
VAL = "ILSVRC2012_val_0000000"
# By command: what lies there; then the class of every image by split.
ROWS = {
    "imagefolder --source=photos --validation_fraction=0.5": (
        images("photos/cat/1.jpg photos/cat/2.jpg photos/dog/3.jpg photos/dog/4.jpg"),
        {
            "train": {"cat/1.jpg": "cat", "dog/3.jpg": "dog"},
            "validation": {"cat/2.jpg": "cat", "dog/4.jpg": "dog"},
        },
    ),
    "imagefolder --source=photos": (
        images(SPLIT),
        {
            "train": {"train/cat/1.jpg": "cat", "train/dog/1.jpg": "dog"},
            "validation": {"val/cat/2.jpg": "cat"},
        },
    ),
    "imagefolder --source=photos.tar": (
        packed("cat/1.jpg dog/2.jpg ./cat/3.jpg ._x"),
        {
            "train": {"cat/1.jpg": "cat", "dog/2.jpg": "dog"},
            "validation": {"cat/3.jpg": "cat"},
        },
    ),
    "imagefolder --source=photos --labels=labels.csv": (
        FLAT | text(**{"photos/labels.csv": "id,label\n1,cat\n2,dog\n3,cat\n"}),
        CAT_DOG,
    ),
    "imagefolder --source=photos --labels=splits.csv": (
        FLAT
        | text(
            **{
                "photos/splits.csv": "file;class;split\n1.jpg;cat;train\n"
                "2.jpg;dog;train\n3.jpg;dog;val\n"
            }
        ),
        {
            "train": {"1.jpg": "cat", "2.jpg": "dog"},
            "validation": {"3.jpg": "dog"},
        },
    ),
    "imagefolder --source=photos --labels=one_hot.csv": (
        FLAT | text(**{"photos/one_hot.csv": "image,cat,dog\n1,1,0\n2,0,1\n3,1,0\n"}),
        CAT_DOG,
    ),
    "imagefolder --source=photos --labels=odd.csv --file_column=a --label_column=b": (
        FLAT
        | text(**{"photos/odd.csv": "a,b,c\n1.jpg,cat,1\n2.jpg,dog,1\n3.jpg,cat,2\n"}),
        CAT_DOG,
    ),
    "imagefolder --source=dogs --labels=train.csv": (
        images("dogs/train/1.jpg dogs/train/2.jpg dogs/test/1.jpg dogs/test/2.jpg")
        | text(**{"dogs/train.csv": "id,breed\n1,pug\n2,collie\n"}),
        {"train": {"train/1.jpg": "pug", "train/2.jpg": "collie"}},
    ),
    "imagefolder --source=birds --labels=train.csv --labels=val.csv": (
        images("birds/train/1.jpg birds/train/2.jpg birds/val/1.jpg")
        | text(
            **{
                "birds/train.csv": "id,species\n1,wren\n2,owl\n",
                "birds/val.csv": "id,species\n1,owl\n",
            }
        ),
        {
            "train": {"train/1.jpg": "wren", "train/2.jpg": "owl"},
            "validation": {"val/1.jpg": "owl"},
        },
    ),
    "imagefolder --source=cars --labels=val.csv": (
        images(
            "cars/train/audi/1.jpg cars/train/vw/1.jpg cars/val/1.jpg cars/val/2.jpg"
        )
        | text(**{"cars/val.csv": "1.jpg,vw\n2.jpg,audi\n"}),
        {
            "train": {"train/audi/1.jpg": "audi", "train/vw/1.jpg": "vw"},
            "validation": {"val/1.jpg": "vw", "val/2.jpg": "audi"},
        },
    ),
    "imagenet --source=ILSVRC/Data/CLS-LOC": (
        images(
            " ".join(f"{ILSVRC}/train/{one}/{one}_7.JPEG" for one in SYNSETS)
            + f" {ILSVRC}/val/{VAL}1.JPEG {ILSVRC}/val/{VAL}2.JPEG"
        )
        | text(
            **{
                "LOC_val_solution.csv": "ImageId,PredictionString\n"
                f"{VAL}2,n01440764 0 0 9 9\n{VAL}1,n02105855 0 0 9 9 \n",
                "LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\n",
            }
        ),
        {
            "train": {
                "n01440764_7.JPEG": "tench, Tinca tinca",
                "n02105855_7.JPEG": "n02105855",
            },
            "validation": {
                f"{VAL}1.JPEG": "n02105855",
                f"{VAL}2.JPEG": "tench, Tinca tinca",
            },
        },
    ),
    "imagefolder --source=tiny-imagenet-200": (
        images(
            " ".join(
                f"tiny-imagenet-200/train/{one}/images/{one}_7.JPEG" for one in SYNSETS
            )
            + " tiny-imagenet-200/val/images/val_0.JPEG"
            " tiny-imagenet-200/test/images/test_0.JPEG"
        )
        | text(
            **{
                "tiny-imagenet-200/words.txt": "n02105855\tShetland sheepdog\n",
                "tiny-imagenet-200/val/val_annotations.txt": "val_0.JPEG\tn02105855"
                "\t0\t32\t44\t62\n",
            }
        ),
        {
            "train": {
                "train/n01440764/images/n01440764_7.JPEG": "n01440764",
                "train/n02105855/images/n02105855_7.JPEG": "Shetland sheepdog",
            },
            "validation": {"val/images/val_0.JPEG": "Shetland sheepdog"},
        },
    ),
    "imagefolder --source=food-101": (
        images(
            "food-101/images/pho/1.jpg food-101/images/pho/2.jpg "
            "food-101/images/waffles/1.jpg"
        )
        | text(
            **{
                "food-101/meta/train.txt": "pho/2\nwaffles/1\n",
                "food-101/meta/test.txt": "pho/1\n",
            }
        ),
        {
            "train": {"images/pho/2.jpg": "pho", "images/waffles/1.jpg": "waffles"},
            "test": {"images/pho/1.jpg": "pho"},
        },
    ),
    "imagefolder --source=CUB_200_2011": (
        images(
            "CUB_200_2011/images/001.Auk/1.jpg CUB_200_2011/images/002.Owl/1.jpg "
            "CUB_200_2011/images/002.Owl/2.jpg"
        )
        | text(
            **{
                "CUB_200_2011/images.txt": "1 001.Auk/1.jpg\n2 002.Owl/1.jpg\n"
                "3 002.Owl/2.jpg\n",
                "CUB_200_2011/train_test_split.txt": "1 1\n2 0\n3 1\n",
            }
        ),
        {
            "train": {
                "images/001.Auk/1.jpg": "001.Auk",
                "images/002.Owl/2.jpg": "002.Owl",
            },
            "test": {"images/002.Owl/1.jpg": "002.Owl"},
        },
    ),
    "imagefolder --source=oxford-iiit-pet": (
        images(
            "oxford-iiit-pet/images/pug_1.jpg oxford-iiit-pet/images/Maine_Coon_1.jpg "
            "oxford-iiit-pet/images/pug_2.jpg"
        )
        | text(
            **{
                "oxford-iiit-pet/annotations/trainval.txt": "pug_2 2 2 1\n"
                "Maine_Coon_1 1 1 1\n",
                "oxford-iiit-pet/annotations/test.txt": "pug_1 2 2 1\n",
            }
        ),
        {
            "train": {
                "images/pug_2.jpg": "pug",
                "images/Maine_Coon_1.jpg": "Maine_Coon",
            },
            "test": {"images/pug_1.jpg": "pug"},
        },
    ),
}


def test_every_row_is_held_by_a_test():
    rows = re.findall(r"^\|.*\| `(image\w+ --source.*)` \|$", PAGE.read_text(), re.M)
    assert rows == list(ROWS)


@pytest.mark.parametrize("command", ROWS)
def test_the_labels_of_every_image(tmp_path, monkeypatch, command):
    files, expected = ROWS[command]
    write_files(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    more = ["--output=out", "--workers=1", "--shards=1"]
    if command.startswith("imagenet"):
        more.append("--validation_shards=1")
    assert prepare.main([*shlex.split(command), *more]) == 0
    for split, labels in expected.items():
        found = stored(tmp_path / "out", split)
        assert {name: fields[1] for name, fields in found.items()} == labels
        classes = sorted({fields[:2] for fields in found.values()})
        assert len({label for label, _ in classes}) == len(classes)
    assert {
        path.name.partition("-")[0] for path in (tmp_path / "out").glob("*-of-*")
    } == {*expected}
