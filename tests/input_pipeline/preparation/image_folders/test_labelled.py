"""Images in no class folders, and the tables that people have of them."""

import os
from collections.abc import Mapping

import pytest

from input_pipeline import prepare
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import imagefolder
from input_pipeline.preparation.image_folders.rows import Columns
from tests.input_pipeline.images import write_files

AB = {"train": {"0.jpg": "a", "1.jpg": "b", "2.jpg": "a"}}


def make(root, images: str, tables: Mapping[str, str | bytes]) -> str:
    """Make images, each of its own size, and tables."""
    files = {name: b"x" * (9 + i) for i, name in enumerate(images.split())}
    for name, text in tables.items():
        files[name] = text if isinstance(text, bytes) else text.encode()
    return str(write_files(root / "in", files))


def labels(source: str, *tables: str, columns=None, **options):
    """Return the class of every image by split, and the notes."""
    plan, findings = imagefolder.plan(
        source,
        tables=[f"{source}/{name}" for name in tables],
        columns=columns or Columns(),
        **options,
    )
    found = {
        split: {
            item.filename: plan.classes[item.label].name
            for item in sorted(of.items, key=lambda item: item.filename)
        }
        for split, of in plan.splits.items()
    }
    return found, [note.replace(source, "IN") for note in findings.notes], plan


THREE = "0.jpg 1.jpg 2.jpg"


@pytest.mark.parametrize(
    "table",
    [
        "id,label\n0,a\n1,b\n2,a\n",
        "file,class\n0.jpg,a\n1.jpg,b\n2.jpg,a\n",
        "\ufeffImage Name;Breed\r\n0.jpg;a\r\n1.jpg;b\r\n2.jpg;a\r\n",
        "image_id\tcategory\r0\ta\r1\tb\r2\ta",
        '"filename","label"\n"0.jpg","a"\n"1.jpg","b"\n"2.jpg","a"\n\n',
        "label,file\na,./0.jpg\nb,./1.jpg\na,./2.jpg\n",
        "0.jpg,a\n1.jpg,b\n2.jpg,a\n",
        "0.jpg a\n1.jpg b\n2.jpg a\n",
        '"0.jpg"   a \n1.jpg "b"\n2.jpg  a\n',
        "0.jpg\ta\t0\t62\n1.jpg\tb\t0\t62\n2.jpg\ta\t1\t60\n",
        "a,0.jpg\nb,1.jpg\na,2.jpg\n",
        ",image,target\n7,0.jpg,a\n8,1.jpg,b\n9,2.jpg,a\n",
        "image,a,b\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,1,0\n",
        "image,a,b\n0.jpg,1.0,0.0\n1.jpg,0.0,1.0\n2.jpg,1.0,0.0\n",
        "sep=;\nid;label\n0;a\n1;b\n2;a\n",
        "id,label_id,label_name\n0,0,a\n1,1,b\n2,0,a\n",
        "id , label\n0 , a\n1, b\n 2,a \n",
        "id,what\n0,a\n1,b\n2,a\n",
        "name|what|rest\n0|a|\n1|b|\n2|a|\n".replace("|rest", "|").replace("|\n", "\n"),
        "ID,Label\n0.JPG,a\n1.Jpg,b\n2.jpg,a\n",
        "path,label\n/home/me/pets/0.jpg,a\n/home/me/pets/1.jpg,b\n/home/me/pets/2.jpg,a\n",
        "path,label\nC:\\pets\\0.jpg,a\nC:\\pets\\1.jpg,b\nC:\\pets\\2.jpg,a\n",
        "id,file,label\n5,0.jpg,a\n6,1.jpg,b\n7,2.jpg,a\n",
        # The numbers of lines name images, too, but without their suffix.
        "id,file,label\n2,0.jpg,a\n0,1.jpg,b\n1,2.jpg,a\n",
        "id,label\n0,a\n0,a\n1,b\n2,a\n",
        "id,label,width\n0,a,20\n1,b,20\n2,a,20\n",
        "id,label\n0,a\n1,b\n2,a\n".encode("utf-16"),
    ],
)  # fmt: skip
def test_tables_that_say_the_same(tmp_path, table):
    source = make(tmp_path, THREE, {"train.csv": table})
    found, _, plan = labels(source, "train.csv")
    assert found == AB
    assert [(one.synset, one.name) for one in plan.classes] == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize(
    ("images", "table", "expected"),
    [
        (
            "x/0.jpg y/0.jpg",
            "f,label\nx/0.jpg,a\ny/0.jpg,b\n",
            {"x/0.jpg": "a", "y/0.jpg": "b"},
        ),
        (
            "images/0.jpg images/deep/1.png",
            "id,label\n0,a\n1,b\n",
            {"images/0.jpg": "a", "images/deep/1.png": "b"},
        ),
        ("a.jpg A.jpg", "id,label\nA.jpg,x\na.jpg,y\n", {"a.jpg": "y", "A.jpg": "x"}),
        ("v1.2.jpg v1.3.jpg", "id,label\nv1.2,a\nv1.3,b\n",
         {"v1.2.jpg": "a", "v1.3.jpg": "b"}),
        ("cafe\u0301.jpg b.jpg", "id,label\ncafé,a\nb,b\n",
         {"cafe\u0301.jpg": "a", "b.jpg": "b"}),
        ("in/0.jpg 0.jpg", "id,label\nin/in/0.jpg,a\nin/0.jpg,b\n".replace(
            "in/0.jpg,b", "x/../0.jpg,b"), {"in/0.jpg": "a"}),
        ("0.jpg 1.jpg", 'id,label\n0,"dog, big"\n1,"a ""cat"""\n',
         {"0.jpg": "dog, big", "1.jpg": 'a "cat"'}),
        ("0.jpg 1.jpg", "id,label\n0,été/мак ☂\n1,../x\n",
         {"0.jpg": "été/мак ☂", "1.jpg": "../x"}),
    ],
)  # fmt: skip
def test_names_with_folders_and_odd_letters(tmp_path, images, table, expected):
    source = make(tmp_path, images, {"labels.csv": table})
    columns = Columns(file="f") if table.startswith("f,") else None
    found, _, _ = labels(source, "labels.csv", columns=columns, allow_one_class=True)
    assert found == {"train": expected}


def test_numbers_are_in_the_order_of_their_size(tmp_path):
    images = " ".join(f"{i}.jpg" for i in range(12))
    table = "id,label\n" + "".join(f"{i},{11 - i}\n" for i in range(12))
    found, _, plan = labels(make(tmp_path, images, {"t.csv": table}), "t.csv")
    assert [one.name for one in plan.classes] == [*map(str, range(12))]
    assert found["train"] == {f"{i}.jpg": str(11 - i) for i in range(12)}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("split:train,val,Test", ["train", "validation", "test"]),
        ("Usage:Training,PublicTest,Training", ["train", "test", "train"]),
        ("is_valid:False,True,False", ["train", "validation", "train"]),
        ("is_train:1,0,1", ["train", "validation", "train"]),
        ("set:train,dev,pred", ["train", "validation", None]),
        ("fold:0,1,2", ["train", "train", "train"]),
    ],
)
def test_a_column_of_splits(tmp_path, split, expected):
    name, values = split.split(":")
    lines = [f"{i},ab,{one}" for i, one in enumerate(values.split(","))]
    table = "\n".join([f"id,label,{name}", *lines])
    source = make(tmp_path, THREE, {"t.csv": table})
    found, notes, _ = labels(source, "t.csv", allow_one_class=True)
    wanted: dict[str, dict[str, str]] = {}
    for i, one in enumerate(expected):
        if one:
            wanted.setdefault(one, {})[f"{i}.jpg"] = "ab"
    assert found == wanted
    assert list(found) == sorted(found, key=["train", "validation", "test"].index)
    if name == "fold":
        assert notes == [
            "IN/t.csv: the column fold is left out: 0, 1, 2 name no splits"
        ]


@pytest.mark.parametrize(
    ("images", "tables", "expected"),
    [
        # Competitions: train/ with a table, test/ with none.
        (
            "train/0.jpg train/1.jpg test/0.jpg test/2.jpg",
            {"train.csv": "id,label\n0,a\n1,b\n"},
            {"train": {"train/0.jpg": "a", "train/1.jpg": "b"}},
        ),
        (
            "train/0.jpg train/1.jpg valid/0.jpg",
            {"train.csv": "id,label\n0,a\n1,b\n", "valid.csv": "id,label\n0,b\n"},
            {
                "train": {"train/0.jpg": "a", "train/1.jpg": "b"},
                "validation": {"valid/0.jpg": "b"},
            },
        ),
        (
            "images/0.jpg images/1.jpg images/2.jpg",
            {"train.csv": "id,label\n0,a\n1,b\n", "test.csv": "id,label\n2,b\n"},
            {
                "train": {"images/0.jpg": "a", "images/1.jpg": "b"},
                "test": {"images/2.jpg": "b"},
            },
        ),
        (
            "train/0.jpg train/1.jpg test/2.jpg",
            {"labels.csv": "f,l\ntrain/0.jpg,a\ntrain/1.jpg,b\ntest/2.jpg,a\n"},
            {
                "train": {"train/0.jpg": "a", "train/1.jpg": "b"},
                "test": {"test/2.jpg": "a"},
            },
        ),
        # Class folders to train, and a table of those to validate.
        (
            "train/a/0.jpg train/b/0.jpg val/0.jpg val/1.jpg",
            {"val.csv": "id,label\n0,b\n1,a\n"},
            {
                "train": {"train/a/0.jpg": "a", "train/b/0.jpg": "b"},
                "validation": {"val/0.jpg": "b", "val/1.jpg": "a"},
            },
        ),
        (
            "train/a/0.jpg train/b/1.jpg val/2.jpg val/3.jpg",
            {"labels.txt": "val/2.jpg b\nval/3.jpg a\n"},
            {
                "train": {"train/a/0.jpg": "a", "train/b/1.jpg": "b"},
                "validation": {"val/2.jpg": "b", "val/3.jpg": "a"},
            },
        ),
    ],
)
def test_splits_in_folders_and_tables(tmp_path, images, tables, expected):
    found, _, _ = labels(make(tmp_path, images, tables), *tables)
    assert found == expected


@pytest.mark.parametrize(
    ("images", "table", "notes"),
    [
        (THREE, "id,label\n0,a\n1,b\n9,b\n", [
            "left out 1 line of IN/t.csv: no image is called 9",
            "left out 1 image without a label: 2.jpg",
        ]),
        (THREE, "id,label\n0,a\n1,b\n2,\n", [
            "left out 1 line of IN/t.csv without a label",
            "left out 1 image without a label: 2.jpg",
        ]),
        (THREE, "id,label\n0,a\n1,b\n2,a b\n", [
            "IN/t.csv: a b is a class of its own, beside a, b: take such images out if "
            "they have several",
        ]),
        ("a/0.jpg b/1.jpg b/2.jpg", "id,label\n0,a\n1,b\n2,a\n", [
            "IN/t.csv says another class than the folder of 1 image, for one "
            "b/2.jpg (a): the folders are not heeded",
        ]),
        ("train/0.jpg train/1.jpg test/2.jpg", "id,label,split\n0,a,test\n1,b,train\n"
         "2,a,train", [
            "IN/t.csv says another split than the folder of 2 images, for one "
            "train/0.jpg: the folders are not heeded",
        ]),
        ("train/0.jpg train/1.jpg test/5.jpg", "id,label\n0,a\n1,b\n", [
            "left out 1 image without a label: test/5.jpg",
        ]),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said(tmp_path, images, table, notes):
    _, said, _ = labels(make(tmp_path, images, {"t.csv": table}), "t.csv")
    assert said == notes


@pytest.mark.parametrize(
    ("images", "table", "refusal"),
    [
        (THREE, "id,label\n0,a\n0,b\n1,b\n", "line 3: 0.jpg has two labels, a (line 2) "
         "and b: remove one"),
        (THREE, "id,label\n0,a\n0.jpg,b\n1,b\n", "line 3: 0.jpg has two labels, a (li"),
        (THREE, "id,label,split\n0,a,train\n0,a,val\n1,b,train\n", "0.jpg has two spl"),
        ("x/0.jpg y/0.jpg", "id,label\n0,a\n", "line 2: 0 fits 2 images, x/0.jpg, y/0"),
        ("0.jpg 0.png", "id,label\n0,a\n", "line 2: 0 fits 2 images, 0.jpg, 0.png: wr"),
        ("train/0.jpg test/0.jpg", "id,label\n0,a\n", "or name the table after the sp"),
        (THREE, "id,label\n7,a\n8,b\n", "t.csv names no image of --source: line 2, for "
         "one, has 7, where --source has 0.jpg: is it of oth"),
        (THREE, "id,label\n0,a\n1,b,c\n", "t.csv, line 3: 3 columns, where line 1 has"),
        (THREE, "id\n0\n1\n", "t.csv has one column: name a table with one of files"),
        (THREE, "", "t.csv is empty"),
        (THREE, "id,label\n", "t.csv holds one line alone"),
        (THREE, 'id,label\n0,"a\n1,b\n', "unexpected end of data: mend its quotes"),
        (THREE, b"id,label\n0,\xff\n", "t.csv is not UTF-8: save it so"),
        (THREE, b"id,label\n0,a\0\n", "t.csv holds no table"),
        (THREE, "id,label\n0,\x1b[31m\n1,b\n", "line 2: the label '\\x1b[31m' holds a"),
        (THREE, "id,h,w\n0,7,8\n1,9,8\n", "has the columns id, h, w: say by --label_c"),
        (THREE, "id,a,b\n0,1,1\n1,0,1\n", "line 2: a, b with 1, where each image need"),
        (THREE, "id,a,b\n0,1,0\n1,0,0\n", "line 3: no class with 1, where each image"),
        (THREE, "id,age\n0,31.5\n1,2.0\n", "31.5 is a number, no class: choose anothe"),
        (THREE, "id,label\n0,1\n1,01\n", "has the labels 01 and 1, which are one numb"),
        (THREE, "id,label\n0,cat\n1,Cat\n", "the classes Cat and cat, which look alik"),
        (THREE, "id,category,breed\n0,x,a\n1,x,b\n", "has category and breed, which "
         "are different classes: choose one"),
        (THREE, "id,label,split\n0,a,train\n1,b,oops\n", "line 3: 'oops' in the column "
         "split names no split: write"),
        (THREE, "id,label,split\n0,a,val\n1,b,val\n", "name images of validation alon"),
        (THREE, "id,label\n0,\n1,\n", "has no label in any line"),
        (THREE, "id,image,label\n1,0,a\n0,1,b\n", "image and id name images: choose o"),
        (THREE, "id,label,Label\n0,a,c\n1,b,d\n", "choose one by its number with --la"),
        (THREE, "version https://git-lfs.github.com/spec/v1\nsize 2\n", "holds no tab"),
        ("0.png", "file,label\n0.jpg,a\n", "has 0.jpg, where --source has 0.png: is "),
        (THREE, "id,label\n0,a\n1,a\n", "all images are of one class, a: is"),
        ("train/a/0.jpg train/b/0.jpg val/1.jpg", "id,label\n1,c\n",
         "1 classes in validation that are not in train (c)"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path, images, table, refusal):
    with pytest.raises(DataError) as error:
        labels(make(tmp_path, images, {"t.csv": table}), "t.csv")
    assert refusal in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "refusal"),
    [
        (
            Columns(file="x"),
            "has no column x, but id, label, label: give --file_column",
        ),
        (Columns(label="label"), "has two columns label, but id, label, label: give -"),
        (Columns(label="4"), "has no column 4"),
    ],
)
def test_columns_that_are_not_there(tmp_path, columns, refusal):
    table = "id,label,label\n0,a,c\n1,b,d\n"
    with pytest.raises(DataError, match=refusal):
        labels(make(tmp_path, THREE, {"t.csv": table}), "t.csv", columns=columns)


@pytest.mark.parametrize(
    "columns",
    [Columns(label="what"), Columns(label="3", file="1"), Columns(label="WHAT")],
)
def test_a_person_may_name_the_columns(tmp_path, columns):
    table = "x,label,what\n0,c,a\n1,c,b\n2,c,a\n"
    source = make(tmp_path, THREE, {"t.csv": table})
    found, _, _ = labels(source, "t.csv", columns=columns)
    assert found == AB


def test_a_fraction_of_each_class_is_held_out_of_a_table(tmp_path):
    images = " ".join(f"{i:02d}.jpg" for i in range(40))
    table = "id,label\n" + "".join(f"{i:02d},{'ab'[i % 4 == 0]}\n" for i in range(40))
    source = make(tmp_path, images, {"t.csv": table})
    found, _, _ = labels(source, "t.csv", validation_fraction=0.2)
    assert sorted(found["validation"].values()) == ["a"] * 6 + ["b"] * 2
    assert found["train"].keys().isdisjoint(found["validation"])
    both = found["train"] | found["validation"]
    assert both == {f"{i:02d}.jpg": "ab"[i % 4 == 0] for i in range(40)}


def test_a_table_may_be_named_from_within_the_source(tmp_path, monkeypatch):
    source = make(tmp_path, THREE, {"t.csv": "id,label\n0,a\n1,b\n2,a\n"})
    plan, findings = imagefolder.plan(source, tables=["t.csv"])
    assert len(plan.splits["train"].items) == 3
    assert findings.skipped == ""
    monkeypatch.chdir(source)
    _, findings = imagefolder.plan(".", tables=["t.csv"])
    assert findings.skipped == ""


def test_what_is_said_of_columns_needs_a_table(tmp_path, capsys):
    arguments = ["imagefolder", f"--source={tmp_path}", f"--output={tmp_path}-out"]
    assert prepare.main([*arguments, "--file_column=x"]) == 2
    assert "--file_column is of a table: name that" in capsys.readouterr().err
    assert prepare.main([*arguments, "--labels=x", "--layout=splits"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["imagefolder", "imagenet"])
def test_a_place_that_cannot_be_written_is_named_before_all_is_read(
    tmp_path, capsys, monkeypatch, command
):
    def access(path, mode):
        assert path == str(tmp_path)
        return False

    monkeypatch.setattr(os, "access", access)
    (tmp_path / "in").mkdir()
    output = tmp_path / "a" / "b"
    arguments = [f"--source={tmp_path}/in", f"--output={output}"]
    assert prepare.main([command, *arguments]) == 2
    assert capsys.readouterr().err == (
        f"error: nothing can be written in {tmp_path}: mend its permissions, or name "
        "another folder with --output\n"
    )
    assert not output.parent.exists()


def test_an_output_that_is_a_file_is_named_before_all_is_read(tmp_path, capsys):
    write_files(tmp_path, {"out": b"", "in/x": b""})
    arguments = [f"--source={tmp_path}/in", f"--output={tmp_path}/out"]
    assert prepare.main(["imagefolder", *arguments]) == 2
    assert "/out is a file: choose a folder for --output" in capsys.readouterr().err


def test_a_class_for_each_image_is_said(tmp_path):
    images = " ".join(f"{i:02d}.jpg" for i in range(21))
    table = "id,number\n" + "".join(f"{i:02d},{i}\n" for i in range(21))
    _, said, _ = labels(make(tmp_path, images, {"t.csv": table}), "t.csv")
    assert said == ["IN/t.csv: each image has a class of its own: is that its label?"]


def test_a_table_is_named_twice(tmp_path):
    source = make(tmp_path, THREE, {"t.csv": "id,label\n0,a\n1,b\n2,a\n"})
    found, _, _ = labels(source, "t.csv", "t.csv")
    assert found == AB


@pytest.mark.parametrize(
    ("images", "table"),
    [
        ("0001.jpg 0002.jpg 0010.jpg", "id,label\n1,a\n2,b\n10,a\n"),
        ("0001.jpg 0002.jpg 0010.jpg", "1,a\n2,b\n10,a\n"),
        ("p/0.jpg p/1.jpg p/2.jpg", "url,label\nhttps://x.org/y/0.jpg?w=1,a\n"
         "https://x.org/1.jpg,b\nHTTP://x.org/q/z/2.jpg#k,a\n"),
        ("0/1/0.jpg 0/2/1.jpg 1/1/2.jpg", "id,label\n0,a\n1,b\n2,a\n"),
    ],
)  # fmt: skip
def test_numbers_without_their_zeros_and_addresses(tmp_path, images, table):
    found, notes, _ = labels(make(tmp_path, images, {"t.csv": table}), "t.csv")
    assert [*found["train"].values()] == ["a", "b", "a"]
    assert not notes


def test_a_name_comes_before_its_number(tmp_path):
    table = {"t.csv": "id,label\n01,b\n1,a\n2,a\n"}
    found, _, _ = labels(make(tmp_path, "01.jpg 1.jpg 002.jpg", table), "t.csv")
    assert found == {"train": {"01.jpg": "b", "1.jpg": "a", "002.jpg": "a"}}


def test_folders_that_share_out_images_are_no_classes(tmp_path):
    images = " ".join(
        f"{split}/{a}/{b}/{split}{a}{b}.jpg"
        for split in ("train", "test")
        for a in "01"
        for b in "01"
    )
    table = "id,label\ntrain00,0\ntrain01,1\ntrain10,0\ntrain11,1\n"
    found, notes, _ = labels(make(tmp_path, images, {"train.csv": table}), "train.csv")
    assert found == {
        "train": {f"train/{a}/{b}/train{a}{b}.jpg": b for a in "01" for b in "01"}
    }
    assert notes[-1].startswith("left out 4 images without a label: test/1/1/test11")


def test_a_submission_holds_no_labels(tmp_path):
    tables = {
        "sample_submission.csv": "id,label\n2,a\n",
        "train.csv": "id,label\n0,a\n1,b\n",
        "test.csv": "id\n2\n",
        "names.json": "{}",
    }
    source = make(tmp_path, "pics/0.jpg pics/1.jpg pics/2.jpg", tables)
    with pytest.raises(DataError, match="is called after images without labels"):
        labels(source, "train.csv", "sample_submission.csv")
    with pytest.raises(DataError, match=f"in a table, --labels={source}/train.csv"):
        labels(source)
    os.rename(f"{source}/pics", f"{source}/images")
    with pytest.raises(DataError, match=f"give --labels={source}/train.csv, if"):
        labels(source)
