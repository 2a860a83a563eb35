"""Mutations of dataset_info.json: each sound, or one line that names the place."""

import json
from typing import Any

import pytest

from input_pipeline import dataset_info, info_schema
from input_pipeline.errors import DataError
from input_pipeline.validation import inspect_dataset
from tests.input_pipeline.builders import example, write_dataset

TRAIN = {
    "total": 41,
    "shards": [
        {"filename": "train-0", "records": 40, "offsets": [0, 900, 1800]},
        {"filename": "train-1", "records": 1, "offsets": [0]},
    ],
}
VALIDATION = {
    "total": 2,
    "shards": [{"filename": "validation-0", "records": 2, "offsets": [0]}],
}
GOOD = {
    "name": "tiny",
    "label_offset": 1,
    "label_names": ["cat", "dog", "emu"],
    "chunk_records": 16,
    "splits": {"train": TRAIN, "validation": VALIDATION},
}
GONE = object()
SHARD = "splits.train.shards.0"


def changed(place: str, value: Any) -> bytes:
    """Put a value in a place of a good file, or take away what is there."""
    content = json.loads(json.dumps(GOOD))
    *path, last = place.split(".")
    node = content
    for key in path:
        node = node[int(key) if isinstance(node, list) else key]
    if value is GONE:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return json.dumps(content).encode()


def fault_of(data: bytes) -> str:
    """Return what is wrong, "" if nothing is."""
    try:
        info_schema.check(info_schema.read_json(data), chunk_records=16)
    except info_schema.InfoError as error:
        return str(error)
    return ""


BITS = "it has to be a whole number of 64 bits"
TEXT = "it has to be a text in quotes, not empty"
COUNT = "it has to be a whole number, 0 or more"
FILE = "it has to be the name of a file beside dataset_info.json, without a folder"
SOME = "it has to be a list of at least one, [...]"
NUMBERS = "it has to be a list of numbers, [...]"
SPLITS = "it has to be an object, {...}, of at least one split"
TOTAL = "it has to be 41, the records of its shards"
DIGEST = "it has to be the 32 hexadecimal digits that prepare writes"
IMAGES = "splits.train.images"
MANY = 10**30
# The place, what is put there, how it is shown, and what it has to be.
WRONG = [
    *(
        ("label_offset", value, shown, BITS)
        for value, shown in [
            ("1", '"1"'),
            (1.0, "1.0"),
            (1.5, "1.5"),
            (None, "null"),
            ([], "[]"),
            ([1], "[...]"),
            ({}, "{}"),
            (True, "true"),
            (MANY, str(MANY)),
            (-MANY, str(-MANY)),
            (2**63, str(2**63)),
            (-(2**63), str(-(2**63))),
        ]
    ),
    (
        "label_offset",
        2**63 - 2,
        str(2**63 - 2),
        f"the last label, {2**63}, has more than 64 bits",
    ),
    *(
        (place, value, shown, TEXT)
        for place in ("name", "label_names.1")
        for value, shown in [
            (None, "null"),
            (5, "5"),
            ({}, "{}"),
            ("", '""'),
            (True, "true"),
            ("\ud800", '"\\ud800"'),
        ]
    ),
    *(
        ("label_names", value, shown, SOME)
        for value, shown in [
            ([], "[]"),
            ("cat", '"cat"'),
            (None, "null"),
            ({"cat": 1}, "{...}"),
        ]
    ),
    *(
        ("splits.train.total", value, shown, TOTAL)
        for value, shown in [
            (7, "7"),
            ("41", '"41"'),
            (41.0, "41.0"),
            (True, "true"),
            (None, "null"),
            (-41, "-41"),
        ]
    ),
    *(
        ("chunk_records", value, shown, "it has to be 16")
        for value, shown in [
            (16.0, "16.0"),
            ("16", '"16"'),
            (32, "32"),
            (None, "null"),
            (True, "true"),
        ]
    ),
    *(
        (f"{SHARD}.filename", value, json.dumps(value), FILE)
        for value in [
            *(None, "", 5, ".", "..", "../x", "/etc/passwd", "a/b", "a/../b"),
            *("a\0b", "\ud800"),
        ]
    ),
    (
        f"{SHARD}.filename",
        "validation-0",
        None,
        'splits.validation.shards[0].filename = "validation-0": '
        "splits.train.shards[0].filename is the same",
    ),
    (
        f"{SHARD}.filename",
        "train-1",
        None,
        'splits.train.shards[1].filename = "train-1": splits.train.shards[0].filename '
        "is the same",
    ),
    *(
        (f"{SHARD}.records", value, shown, COUNT)
        for value, shown in [
            (-1, "-1"),
            (39.0, "39.0"),
            (None, "null"),
            ("40", '"40"'),
            (True, "true"),
            (2**70, str(2**70)),
        ]
    ),
    *(
        (f"{SHARD}.offsets.1", value, shown, COUNT)
        for value, shown in [
            (1.5, "1.5"),
            (900.0, "900.0"),
            (True, "true"),
            (None, "null"),
            (-1, "-1"),
            (2**63, str(2**63)),
            (10**99, f"1{'0' * 59}..."),
        ]
    ),
    (
        f"{SHARD}.offsets.1",
        0,
        "0",
        "it has to be more than the one before it, 0",
    ),
    (
        f"{SHARD}.offsets.2",
        900,
        "900",
        "it has to be more than the one before it, 900",
    ),
    (f"{SHARD}.offsets.0", 1, "1", "the first record begins at byte 0"),
    *(
        (f"{SHARD}.offsets", value, shown, NUMBERS)
        for value, shown in [(None, "null"), ("abc", '"abc"'), ({"0": 0}, "{...}")]
    ),
    *(
        ("splits", value, shown, SPLITS)
        for value, shown in [({}, "{}"), ([], "[]"), (None, "null"), ("x", '"x"')]
    ),
    *(
        (f"{SHARD}.digest", value, shown, DIGEST)
        for value, shown in [
            ("", '""'),
            (None, "null"),
            (5, "5"),
            ("0" * 31, f'"{"0" * 31}"'),
            ("0" * 33, f'"{"0" * 33}"'),
            ("A" * 32, f'"{"A" * 32}"'),
            ("0" * 31 + "\n", f'"{"0" * 31}\\n"'),
        ]
    ),
    *(
        ("splits.train.images", value, shown, SOME)
        for value, shown in [(None, "null"), (5, "5"), ({"cat": 41}, "{...}")]
    ),
    *(
        ("splits.train.images", [value, 0, 41], None, f"{IMAGES}[0] = {shown}: {COUNT}")
        for value, shown in [(1.0, "1.0"), (True, "true"), (-1, "-1"), ("1", '"1"')]
    ),
    (
        "splits.train.images",
        [40, 1],
        None,
        f"{IMAGES} are 2 numbers: there are 3 classes, one for each",
    ),
    ("splits.train.images", [40, 0, 0], None, f"{IMAGES} add up to 40 of 41 records"),
    ("splits.train", 5, "5", "it has to be an object, {...}"),
    ("splits.train.shards", {}, "{}", SOME),
    ("splits.train.shards", [], "[]", SOME),
    (SHARD, 5, "5", "it has to be an object, {...}"),
]


@pytest.mark.parametrize(("place", "value", "shown", "why"), WRONG)
def test_a_wrong_value_is_shown_with_its_place(place, value, shown, why):
    written = "".join(
        f"[{part}]" if part.isdigit() else f".{part}" for part in place.split(".")
    )
    want = why if shown is None else f"{written[1:]} = {shown}: {why}"
    assert fault_of(changed(place, value)) == want


def test_offsets_are_those_of_the_records():
    for place, value, have, records_, need in [
        ("offsets", [0, 900], 2, 40, 3),
        ("offsets", [0, 900, 1800, 2700], 4, 40, 3),
        ("records", 0, 3, 0, 0),
        ("records", 10**12, 3, 10**12, 62_500_000_000),
    ]:
        assert fault_of(changed(f"{SHARD}.{place}", value)) == (
            f"splits.train.shards[0].offsets are {have} numbers: {records_} records "
            f"have {need}, one for every 16"
        )


@pytest.mark.parametrize(
    "place",
    [
        *("name", "label_offset", "label_names", "chunk_records", "splits"),
        *("splits.train.shards", f"{SHARD}.filename", f"{SHARD}.records"),
        f"{SHARD}.offsets",
    ],
)
def test_what_is_missing_is_named(place):
    assert fault_of(changed(place, GONE)) == (
        f"{place.replace('.0', '[0]')} is missing"
    )


@pytest.mark.parametrize(
    "name", ["", "train[", "]", "a b", "a\n", "\x1b[31m", "\ud800"]
)
def test_a_split_has_a_name_that_can_be_chosen(name):
    assert fault_of(changed("splits", {name: TRAIN})) == (
        f"splits: the name {json.dumps(name)} cannot be chosen: take one of letters, "
        "digits, - and _"
    )


TEXT_OF = json.dumps(GOOD)
UTF_16 = "it is written in UTF-16: save it as UTF-8"
BYTES = {
    "UTF-16": (TEXT_OF.encode("utf-16"), UTF_16),
    "UTF-16 without a BOM": (TEXT_OF.encode("utf-16-le"), UTF_16),
    "UTF-32": (TEXT_OF.encode("utf-32"), UTF_16.replace("16", "32")),
    "Latin-1": (
        TEXT_OF.replace("cat", "été").encode("latin-1"),
        "byte 53 is no UTF-8: save it as UTF-8",
    ),
    "empty": (b"", "it is empty"),
    "zeros": (b"\0" * 99, "there is nothing in it"),
    "blanks": (b" \r\n\t", "there is nothing in it"),
    "NaN": (TEXT_OF.replace("41", "NaN").encode(), "NaN is no number that JSON knows"),
    "infinity": (
        TEXT_OF.replace("41", "-Infinity").encode(),
        "-Infinity is no number that JSON knows",
    ),
    "a huge exponent": (
        TEXT_OF.replace("41", "1e999").encode(),
        f"splits.train.total = Infinity: {TOTAL}",
    ),
    "a huge number": (
        TEXT_OF.replace("41", "9" * 5000).encode(),
        "a number in it has thousands of digits",
    ),
    "nested lists": (b"[" * 100_000, "its brackets are nested too deeply"),
    "nested objects": (b'{"a":' * 100_000, "its brackets are nested too deeply"),
    "a list": (b"[]", "the whole file = []: it has to be an object, {...}"),
    "a text": (b'"x"', 'the whole file = "x": it has to be an object, {...}'),
    "a number": (b"5", "the whole file = 5: it has to be an object, {...}"),
    "nothing": (b"null", "the whole file = null: it has to be an object, {...}"),
    "a key twice": (
        TEXT_OF.replace('"name"', '"name": 5, "name"').encode(),
        'an object has the key "name" twice',
    ),
    "a key twice, deep": (
        TEXT_OF.replace('"total": 41', '"total": 41, "total": 41').encode(),
        'an object has the key "total" twice',
    ),
    "cut off": (
        TEXT_OF[:70].encode(),
        "line 1, column 67: Unterminated string starting at",
    ),
    "more behind": (
        f"{TEXT_OF}\n{{}}".encode(),
        "line 2, column 1: Extra data",
    ),
    "a comma": (b'{"a": 1,\n}', "line 2, column 1: Expecting property name"),
    "single quotes": (b"{'a': 1}", "line 1, column 2: Expecting property name"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_say_nothing_sound(case):
    data, want = BYTES[case]
    assert fault_of(data).startswith(want)


@pytest.mark.parametrize(
    "data",
    [
        TEXT_OF.encode(),
        b"\xef\xbb\xbf" + TEXT_OF.encode(),  # as Windows' editors write it
        json.dumps(GOOD, indent=4).replace("\n", "\r\n").encode(),
        changed("label_offset", -5),
        changed("label_offset", 2**63 - 3),
        changed("name", "a\nb"),
        changed("label_names.1", "\x1b[31mred\n"),
        changed("label_names.1", "été"),
        changed("label_names.1", "cat"),
        changed("splits.train.total", GONE),
        changed("splits.train.images", [40, 0, 1]),
        changed(f"{SHARD}.digest", "0123456789abcdef" * 2),
        changed("more", {"x": [None]}),
        changed("splits", {"test-v2.été": TRAIN}),
    ],
)
def test_what_is_sound(data):
    assert fault_of(data) == ""


def test_files_in_folders_below_a_records_dir():
    content = json.loads(TEXT_OF)
    content["records_dir"] = "/data"
    shard = content["splits"]["train"]["shards"][0]
    for filename, sound in [("a/b", True), ("a/../b", False), ("/a", False)]:
        shard["filename"] = filename
        assert (fault_of(json.dumps(content).encode()) == "") == sound


def test_validate_and_training_say_the_same_line_and_keep_the_file(tmp_path):
    write_dataset(tmp_path, {"train-0": [example(0)]})
    path = tmp_path / dataset_info.INFO_FILENAME
    sound = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + sound)
    assert dataset_info.load_info(str(tmp_path)).label_offset == 1
    wrong = sound.replace(b'"label_offset": 1', b'"label_offset": 1.5')
    path.write_bytes(wrong)
    lines = []
    for read in (dataset_info.load_info, inspect_dataset.inspect_dataset):
        with pytest.raises(DataError) as refused:
            read(str(tmp_path))
        lines.append(str(refused.value))
    assert lines[0] == lines[1]
    assert lines[0].startswith(
        f"{path} is not sound: label_offset = 1.5: {BITS}; mend it, which keeps the "
        "names"
    )
    assert path.read_bytes() == wrong
