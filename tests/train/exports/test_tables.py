import csv
import io
import json

import pytest

from train.exports import tables
from train.exports.tables import Row

NAMES = ["cat", 'a "dog", or two', "\u043c\u0430\u043a", "4"]
CAT, DOG, POPPY, _ = NAMES


def row(file, label, *top, problem=""):
    return Row(file, label, top, problem)


ROWS = [
    row("cat/1.jpg", CAT, (CAT, 0.75), (DOG, 0.25)),
    row("cat/2.jpg", CAT, (DOG, 0.5), (CAT, 0.5)),
    row("cat/3.jpg", CAT, (CAT, 1.0), (POPPY, 1e-30)),
    row("dog/1,\n2.jpg", DOG, (POPPY, 0.625), (CAT, 0.25), problem="damaged: x"),
    row("other.jpg", None, (CAT, 1.0), (DOG, 0.0)),
    row("bad.jpg", None, problem="it is empty"),
]


def read(data):
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def test_a_table_of_images_and_one_of_their_classes():
    written = tables.files("t.csv", ROWS, NAMES, 2)
    assert list(written) == ["t.csv", "t.classes.csv"]
    assert read(written["t.csv"]) == [
        [
            "file",
            "label",
            "class",
            "probability",
            "class_2",
            "probability_2",
            "problem",
        ],
        ["cat/1.jpg", CAT, CAT, "0.75", DOG, "0.25", ""],
        ["cat/2.jpg", CAT, DOG, "0.5", CAT, "0.5", ""],
        ["cat/3.jpg", CAT, CAT, "1", POPPY, "1e-30", ""],
        ["dog/1,\n2.jpg", DOG, POPPY, "0.625", CAT, "0.25", "damaged: x"],
        ["other.jpg", "", CAT, "1", DOG, "0", ""],
        ["bad.jpg", "", "", "", "", "", "it is empty"],
    ]
    assert read(written["t.classes.csv"]) == [
        ["class", "images", "right", "accuracy", CAT, DOG, POPPY],
        [CAT, "3", "2", "0.666667", "2", "1", "0"],
        [DOG, "1", "0", "0", "0", "0", "1"],
    ]


def test_one_object():
    (data,) = tables.files("t.json", ROWS, NAMES, 2).values()
    report = json.loads(data)
    assert report["images"][1] == {
        "file": "cat/2.jpg",
        "label": CAT,
        "class": DOG,
        "probability": 0.5,
        "top": [{"class": DOG, "probability": 0.5}, {"class": CAT, "probability": 0.5}],
        "problem": None,
    }
    assert report["images"][5]["class"] is None
    assert report["images"][5]["problem"] == "it is empty"
    assert (report["labelled"], report["right"], report["accuracy"]) == (4, 2, 0.5)
    assert report["classes"][0] == {
        "class": CAT, "images": 3, "right": 2, "accuracy": 2 / 3,
    }  # fmt: skip
    assert report["confusion_matrix"] == {
        "labels": [CAT, DOG],
        "predicted": [CAT, DOG, POPPY],
        "counts": [[2, 1, 0], [0, 0, 1]],
    }


def test_lines():
    (data,) = tables.files("t.jsonl", ROWS, NAMES, 2).values()
    (whole,) = tables.files("t.json", ROWS, NAMES, 2).values()
    assert [*map(json.loads, data.splitlines())] == json.loads(whole)["images"]


def test_without_labels():
    rows = ROWS[4:]
    assert list(tables.files("t.csv", rows, NAMES, 2)) == ["t.csv"]
    (data,) = tables.files("t.json", rows, NAMES, 2).values()
    assert json.loads(data)["accuracy"] is None
    assert list(tables.summary(rows, NAMES)) == []


def test_what_a_person_reads():
    assert list(tables.summary(ROWS, NAMES)) == [
        "Right: 2 of 4 with a label (50.00%)",
        "class            images  right         most often taken for",
        'a "dog", or two       1      0   0.0%  \u043c\u0430\u043a (1)',
        'cat                   3      2  66.7%  a "dog", or two (1)',
    ]


def test_of_many_classes_the_worst():
    names = [str(number) for number in range(50)]
    rows = [row("x", name, (name if int(name) > 2 else "49", 1.0)) for name in names]
    lines = list(tables.summary(rows, names))
    assert [line.split()[0] for line in lines[2:5]] == ["0", "1", "2"]
    assert lines[-1] == "... and 30 classes with more right"
    assert len(lines) == 23


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[4:], []])
def test_ours_is_known_and_nobody_elses(suffix, rows):
    for path, data in tables.files(f"t.{suffix}", rows, NAMES, 2).items():
        assert tables.is_ours(path)(data)
    foreign = (b"file,label\n", b"{}", b"[1]", b'{"images": []}', b"x", b"id,class\n1")
    assert not any(map(tables.is_ours(f"t.{suffix}"), foreign))


def test_a_table_of_what_cannot_be_classified():
    """The reason stands in its own column."""
    rows = [tables.Row("a.jpg", None, (), "it is empty")]
    assert tables.files("t.csv", rows, (), 0) == {
        "t.csv": b"file,label,class,probability,problem\na.jpg,,,,it is empty\n"
    }
