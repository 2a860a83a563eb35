import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import dataset, dataset_info, records, validate
from input_pipeline.validation import inspect_dataset
from input_pipeline.validation.findings import FaultKind, Findings, Location
from tests.input_pipeline.builders import (
    DATA,
    example,
    forget_identity,
    jpeg,
    write_dataset,
)
from tests.input_pipeline.images import touch_latin1


def check(data_dir, *options: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of the command, in this process."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        command = ["--data_dir", str(data_dir), "--workers", "1", *options]
        code = validate.main(command)
    return code, out.getvalue(), err.getvalue()


def findings_of(data_dir) -> Findings:
    return inspect_dataset.inspect_dataset(str(data_dir)).findings


def all_locations(found: Findings) -> dict[FaultKind, list[str]]:
    """What was found, as people read it, but for classes without an image."""
    kinds = [kind for kind in found.found() if kind is not FaultKind.EMPTY_CLASS]
    return {kind: [str(one) for one in found.locations[kind]] for kind in kinds}


# A sound dataset


def test_a_sound_dataset(tiny):
    code, out, err = check(tiny)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == f"{tiny}: sound: 33 images in 5 files"
    facts = {re.split(r" {2,}", line)[0]: line for line in lines}
    assert facts["images"].split() == ["images", "23", "10"]
    assert facts["width"].split() == [
        "width",
        *["32", "/", "32", "/", "32", "32", "/", "32", "/", "32"],
    ]
    assert "error" not in out
    assert "warning" not in out


def test_a_sound_dataset_in_json(tiny):
    code, out, err = check(tiny, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    report = json.loads(out)
    train = report["splits"].pop("train")
    validation = report["splits"].pop("validation")
    assert report == {
        "data_dir": tiny,
        "name": "tiny",
        "sound": True,
        "errors": 0,
        "warnings": 0,
        "decoded": True,
        "splits": {},
        "findings": [],
    }
    sizes = [len(jpeg(i)) for i in range(23)]
    shards = pathlib.Path(tiny).glob("train-*")
    assert train == {
        "files": 3,
        "listed_records": 23,
        "images": 23,
        "bytes": sum(path.stat().st_size for path in shards),
        "height": {"min": 24, "median": 24.0, "max": 24},
        "width": {"min": 32, "median": 32.0, "max": 32},
        "image_bytes": {
            "min": min(sizes),
            "median": float(np.median(sizes)),
            "max": max(sizes),
        },
        "images_per_class": {"min": 4, "median": 5.0, "max": 5},
        "small_images": 23,
    }
    assert (validation["files"], validation["images"]) == (2, 10)


def test_one_split_or_some_shards_of_it(tiny):
    _, out, _ = check(tiny, "--split", "train[1shard:]", "--json")
    splits = json.loads(out)["splits"]
    assert list(splits) == ["train[1shard:]"]
    assert splits["train[1shard:]"]["images"] == 14


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path):
    bad = [*(example(i) for i in range(5)), example(1, label=9), b"\xff"]
    shards = {"train-0": bad, "train-1": bad[:3], "validation-0": bad[:6]}
    write_dataset(tmp_path, shards)
    root = pathlib.Path(validate.__file__).parents[1]
    command = [sys.executable, "-m", "input_pipeline.validate", "--json"]
    done = subprocess.run(
        [*command, "--workers", "2", "--data_dir", tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == check(tmp_path, "--json")[:2]
    assert done.returncode == 1


def test_other_records_than_were_described(tmp_path):
    """Their lengths, names and CRCs are right."""
    shards = {f"train-{i}": [example(i), example(i + 5)] for i in range(2)}
    info = write_dataset(tmp_path, shards)
    train = info.split("train")
    counted = dataclasses.replace(train, images=(2, 2, 0, 0, 0))
    info = dataclasses.replace(info, splits={"train": counted})
    dataset_info.write_info(info, str(tmp_path))
    assert all_locations(findings_of(tmp_path)) == {}
    other = records.write_shard(
        str(tmp_path / "train-1"), [example(1), example(6, label=1)]
    )
    found = findings_of(tmp_path)
    assert all_locations(found) == {
        FaultKind.OTHER_RECORDS: [
            f"train-1: their digest is {other.digest}, not {train.shards[1].digest}"
        ],
        FaultKind.OTHER_COUNTS: [
            "train: label 1, 'class 0': 3, dataset_info.json says 2",
            "train: label 2, 'class 1': 1, dataset_info.json says 2",
        ],
    }
    assert found.errors == 3
    code, out, _ = check(tmp_path, "--split=train[1shard:]")
    assert code == 1
    assert "other records than dataset_info.json says: 1\n  train-1: their dig" in out


def test_without_a_digest_there_is_nothing_to_compare(tmp_path):
    write_dataset(tmp_path, {"train-0": [example(i) for i in range(5)]})
    forget_identity(tmp_path)
    assert findings_of(tmp_path).found() == []


# Records


def huge() -> bytes:
    """A header that claims 20,000 x 20,000 pixels."""
    encoded = jpeg(0)
    place = encoded.index(b"\xff\xc0") + 5  # SOF0: length, precision, height, width
    side = (20_000).to_bytes(2, "big")
    return encoded[:place] + side + side + encoded[place + 4 :]


def saved(mode: str, form: str = "JPEG") -> bytes:
    pixels = np.random.RandomState(9).randint(0, 256, (24, 32, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


# A segment of EXIF, as a camera writes it behind a JPEG's first two bytes.
ON_ITS_SIDE = (
    b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
)


def changed(edit) -> bytes:
    message = tf.train.Example.FromString(example(0))
    edit(message.features.feature)
    return message.SerializeToString()


PHOTO = (DATA / "cat.jpg").read_bytes()
SCAN = PHOTO.index(b"\xff\xda")
# The record, what is found, and what its line says after file, record and name.
FAULTY = {
    "no example": (b"\xff\xff", FaultKind.NOT_AN_EXAMPLE, None),
    "no image": (
        changed(lambda f: f.pop("image/encoded")),
        FaultKind.BAD_FIELD,
        "no image/encoded",
    ),
    "no label": (
        changed(lambda f: f.pop("image/class/label")),
        FaultKind.BAD_FIELD,
        "no image/class/label",
    ),
    "two labels": (
        changed(lambda f: f["image/class/label"].int64_list.value.append(1)),
        FaultKind.BAD_FIELD,
        "image/class/label does not hold one value in a int64_list",
    ),
    "a label of bytes": (
        changed(lambda f: f["image/class/label"].bytes_list.value.append(b"1")),
        FaultKind.BAD_FIELD,
        "image/class/label does not hold one value in a int64_list",
    ),
    "no bytes": (
        example(0, encoded=b""),
        FaultKind.BAD_FIELD,
        "image/encoded holds no bytes",
    ),
    "label 0": (example(0, label=0), FaultKind.LABEL_OUTSIDE, "0, not in 1..5"),
    "label 7": (example(0, label=7), FaultKind.LABEL_OUTSIDE, "7, not in 1..5"),
    "a WebP": (
        example(0, encoded=saved("RGB", "WEBP")),
        FaultKind.NOT_A_JPEG,
        "it is a WebP",
    ),
    "a text": (
        example(0, encoded=b"hello"),
        FaultKind.NOT_A_JPEG,
        "it is no image that is known here",
    ),
    "a bad header": (example(0, encoded=jpeg(0)[:20]), FaultKind.BAD_HEADER, ""),
    "cut off": (
        example(0, encoded=PHOTO[: len(PHOTO) // 2], height=300, width=451),
        FaultKind.BAD_JPEG,
        "",
    ),
    "garbage": (
        example(0, encoded=PHOTO[: SCAN + 14] + b"garbage" * 99, height=300, width=451),
        FaultKind.BAD_JPEG,
        "",
    ),
    "huge": (
        example(0, encoded=huge(), height=20_000, width=20_000),
        FaultKind.TOO_LARGE,
        "20000 x 20000 pixels",
    ),
    "a hole": (
        example(
            0,
            encoded=PHOTO[: SCAN + 2000] + PHOTO[SCAN + 4000 :],
            height=300,
            width=451,
        ),
        FaultKind.MADE_UP_PIXELS,
        "Corrupt JPEG data: premature end of data segment",
    ),
    "stray bytes": (
        example(0, encoded=PHOTO[:-2] + bytes(12) + PHOTO[-2:], height=300, width=451),
        FaultKind.ODD_JPEG,
        "Corrupt JPEG data: 7 extraneous bytes before marker 0xd9",
    ),
    "one pixel high": (
        example(0, encoded=jpeg(0, 1, 50), height=1, width=49),
        FaultKind.WRONG_SIZE,
        "1 x 49 in the fields, 1 x 50 in the image",
    ),
    "a damaged end": (example(60) + b"\2\0", FaultKind.ODD_EXAMPLE, None),
    "grey": (example(0, encoded=saved("L")), FaultKind.GREY, ""),
    "CMYK": (example(0, encoded=saved("CMYK")), FaultKind.CMYK, ""),
    "another size": (
        example(0, height=32, width=24),
        FaultKind.WRONG_SIZE,
        "32 x 24 in the fields, 24 x 32 in the image",
    ),
    "a PNG cut off": (
        example(0, encoded=saved("RGBA", "PNG")[:-30]),
        FaultKind.BAD_JPEG,
        "",
    ),
    "a PNG's header": (
        example(0, encoded=saved("RGB", "PNG")[:20]),
        FaultKind.BAD_HEADER,
        "",
    ),
    "a huge PNG": (
        example(
            0,
            encoded=saved("RGB", "PNG")[:16] + b"\xff" * 8 + b"\x08\x02\0\0\0",
            height=2**31 - 1,
            width=2**31 - 1,
        ),
        FaultKind.TOO_LARGE,
        "2147483647 x 2147483647 pixels",
    ),
    "lies on its side": (
        example(0, encoded=jpeg(7)[:2] + ON_ITS_SIDE + jpeg(7)[2:]),
        FaultKind.ORIENTED,
        "orientation 6",
    ),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> str:
    """A sound record before each faulty one."""
    folder = tmp_path_factory.mktemp("faulty")
    contents = [
        record
        for number, (bad, _, _) in enumerate(FAULTY.values())
        for record in (example(10 + number), bad)
    ]
    write_dataset(folder, {"train-0": contents})
    return str(folder)


@pytest.fixture(scope="module")
def found(faulty) -> Findings:
    return findings_of(faulty)


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_record_is_named(found, name):
    _, kind, detail = FAULTY[name]
    record = 2 * list(FAULTY).index(name) + 1
    image = "0.JPEG" if detail is not None else ""
    assert Location("train-0", record, image, detail or "") in found.locations[kind]


def test_nothing_else_is_found_in_faulty_records(found):
    kinds = [kind for _, kind, _ in FAULTY.values()]
    assert all(found.counts[kind] == kinds.count(kind) for kind in set(kinds))
    # Those made of example(0) without another image.
    repeats = found.counts[FaultKind.DUPLICATE] + found.counts[FaultKind.CONFLICT]
    assert found.counts.total() == len(kinds) + repeats
    assert repeats == 5


def test_errors_are_what_training_cannot_load(faulty, found, capfd):
    (batch,) = dataset.eval_dataset(
        data_dir=faulty,
        split="train",
        resolution=16,
        batch_size=2 * len(FAULTY),
        on_bad_record="skip",
    )
    masked = np.flatnonzero(batch["label"].numpy() == -1).tolist()
    learnt = (FaultKind.DUPLICATE, FaultKind.CONFLICT, FaultKind.MADE_UP_PIXELS)
    errors = [kind for kind in found.counts if found.is_error(kind)]
    named = [p.record for k in errors if k not in learnt for p in found.locations[k]]
    assert masked == sorted(set(named))
    assert len(masked) == len(FAULTY) - 8
    capfd.readouterr()


def test_the_report_of_faulty_records(faulty):
    code, out, _ = check(faulty)
    assert code == 1
    assert (
        f"error: {FaultKind.BAD_JPEG.title}: 3\n  train-0, record 23 (0.JPEG)\n" in out
    )
    assert "  train-0, record 17 (0.JPEG): it is a WebP\n" in out
    assert f"warning: {FaultKind.CMYK.title}: 1\n" in out
    assert out.index("warning: ") > out.rindex("error: ")
    # 18 faults and 5 repeats; two of another size, grey, CMYK, stray and odd bytes, and
    # one that lies on its side.
    assert out.splitlines()[-1] == f"{faulty}: 23 problems, 7 warnings"


def test_findings_in_json(faulty):
    code, out, _ = check(faulty, "--json")
    report = json.loads(out)
    assert (code, report["sound"]) == (1, False)
    assert (report["errors"], report["warnings"]) == (23, 7)
    by_kind = {finding["kind"]: finding for finding in report["findings"]}
    assert by_kind["cmyk"] == {
        "kind": "cmyk",
        "title": "CMYK JPEG",
        "remedy": FaultKind.CMYK.remedy,
        "error": False,
        "count": 1,
        "places": [{"file": "train-0", "record": 39, "image": "0.JPEG", "detail": ""}],
    }
    assert by_kind["bad_jpeg"]["count"] == 3


def test_an_image_too_large_is_not_decoded(tmp_path, monkeypatch):
    write_dataset(tmp_path, {"train-0": [example(0, encoded=huge())]})
    monkeypatch.setattr(tf.io, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    assert findings_of(tmp_path).counts[FaultKind.TOO_LARGE] == 1


def test_skip_decode_reads_headers_alone(tmp_path):
    contents = [example(i) for i in range(4)]
    contents += [example(4, encoded=PHOTO[:-99], height=300, width=451)]
    write_dataset(tmp_path, {"train-0": contents})
    assert check(tmp_path)[0] == 1
    code, out, _ = check(tmp_path, "--skip_decode")
    assert code == 0
    assert out.endswith(": sound: 5 images in 1 file, not decoded\n")


def test_ten_locations_of_many(tmp_path):
    bad = {f"train-{s}": [b"\xff"] * 8 for s in range(2)}
    write_dataset(tmp_path, bad)
    _, out, _ = check(tmp_path)
    assert f"{FaultKind.NOT_AN_EXAMPLE.title}: 16\n" in out
    assert "  train-1, record 1\n  and 6 more\n  To mend it: " in out
    assert out.splitlines()[-1].startswith(f"{tmp_path}: 16 problems")


def test_the_name_of_an_image_may_be_any_bytes(tmp_path):
    odd = changed(
        lambda f: f["image/filename"].bytes_list.value.__setitem__(
            0, b"\xff" + b"x" * 999
        )
    )
    write_dataset(tmp_path, {"train-0": [odd, odd]})
    (location,) = findings_of(tmp_path).locations[FaultKind.DUPLICATE]
    assert location.image == "\\xff" + "x" * 199


# Files

GOOD = [example(i) for i in range(40)]


def missing(folder):
    (folder / "train-1").unlink()
    return {FaultKind.MISSING_FILE: ["train-1"]}


def empty(folder):
    (folder / "train-1").write_bytes(b"")
    return {FaultKind.EMPTY_FILE: ["train-1"]}


def a_folder(folder):
    (folder / "train-1").unlink()
    (folder / "train-1").mkdir()
    return {FaultKind.UNREADABLE_FILE: ["train-1: "]}


def a_pipe(folder):
    (folder / "train-1").unlink()
    os.mkfifo(folder / "train-1")
    says = f"{folder}/train-1 is a named pipe, no file: move it away, or "
    return {FaultKind.UNREADABLE_FILE: [f"train-1: {says}"]}


def a_link_to_nothing(folder):
    (folder / "train-1").unlink()
    (folder / "train-1").symlink_to("gone")
    says = f"{folder}/train-1 is a link to gone, where nothing is: mount its disk, "
    return {FaultKind.UNREADABLE_FILE: [f"train-1: {says}"]}


def too_few(folder):
    records.write_shard(str(folder / "train-1"), GOOD[20:37])
    return {FaultKind.WRONG_COUNT: ["train-1: 17, dataset_info.json says 20"]}


def too_many(folder):
    records.write_shard(str(folder / "train-1"), [*GOOD[20:], example(50)])
    return {FaultKind.WRONG_COUNT: ["train-1: 21, dataset_info.json says 20"]}


def in_another_order(folder):
    records.write_shard(str(folder / "train-1"), [*GOOD[39:19:-1]])
    first = sum(len(record) + 16 for record in GOOD[20:36])
    there = sum(len(record) + 16 for record in GOOD[39:23:-1])
    assert first != there
    says = f"begins at byte {there}, dataset_info.json says {first}"
    return {FaultKind.WRONG_OFFSETS: [f"train-1, record 16: {says}"]}


def unlisted(folder):
    (folder / "train-2").write_bytes(b"")
    (folder / "x-00003-of-00004").write_bytes(b"")
    (folder / "more.tfrecord").write_bytes(b"")
    (folder / "README").write_bytes(b"")
    (folder / "train-raw").mkdir()
    return {
        FaultKind.UNLISTED_FILE: ["more.tfrecord", "train-2"],
        FaultKind.OTHER_SPLIT: ["x-00003-of-00004"],
    }


def of_another_split(folder):
    """Also what other tools write beside TFRecords, which is none of them."""
    (folder / "test-00000-of-00001").write_bytes(b"")
    for name in ("train-0.idx", "train-notes.txt", "train.tfrecord.md5"):
        (folder / name).write_bytes(b"")
    return {FaultKind.OTHER_SPLIT: ["test-00000-of-00001"]}


def left_over(folder):
    name = f"train-1.part-{'0123456789abcdef' * 2}"
    (folder / name).write_bytes(b"")
    return {FaultKind.LEFTOVER_FILE: [name]}


FILE_FAULTS = [
    *(
        missing,
        empty,
        a_folder,
        a_pipe,
        a_link_to_nothing,
        too_few,
        too_many,
        in_another_order,
    ),
    *(unlisted, left_over, of_another_split),
]


def test_files_whose_names_are_not_utf8(tmp_path):
    """An old archive's, beside the records."""
    write_dataset(tmp_path, {"train-0": GOOD[:20], "train-1": GOOD[20:]})
    touch_latin1(tmp_path, "notes-\xe9t\xe9.txt", "train-\xe9.tfrecord")
    assert all_locations(findings_of(tmp_path)) == {}
    code, out, err = check(tmp_path)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"{tmp_path}: sound: 40 images in 2 files"


@pytest.mark.parametrize("spoil", FILE_FAULTS, ids=lambda spoil: spoil.__name__)
def test_a_faulty_file_is_named(tmp_path, spoil):
    write_dataset(tmp_path, {"train-0": GOOD[:20], "train-1": GOOD[20:]})
    want = spoil(tmp_path)
    found = all_locations(findings_of(tmp_path))
    assert found.keys() == want.keys()
    for kind, lines in want.items():
        assert len(found[kind]) == len(lines)
        assert all(a.startswith(b) for a, b in zip(found[kind], lines, strict=True))
    assert check(tmp_path)[0] == (spoil not in (left_over, of_another_split))


@contextlib.contextmanager
def nobody():
    """Without root's rights, if they are there."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read():
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        path.chmod(0o755)
        write_dataset(path, {"train-0": GOOD[:5], "train-1": GOOD[5:9]})
        (path / "train-0").chmod(0)
        with nobody():
            code, out, _ = check(folder)
    assert code == 1
    assert re.search(r"unreadable file: 1\n  train-0: .*[Pp]ermission denied", out)


# The whole dataset


def test_labels_that_are_all_shifted(tmp_path):
    write_dataset(tmp_path, {"train-0": [example(i, label=i % 5) for i in range(10)]})
    code, out, _ = check(tmp_path)
    assert code == 1
    assert (
        "label outside the classes: 2\n  train-0, record 0 (0.JPEG): 0, not in" in out
    )
    hint = "labels run 0..4: set label_offset to 0 in dataset_info.json"
    assert f"  To mend it: {hint}.\n" in out
    assert "  train: label 5, 'class 4'\n" in out


def test_labels_that_are_not_shifted(tmp_path):
    labels = [0, 1, 2, 3, 4, 5]
    contents = [example(i, label=label) for i, label in enumerate(labels)]
    write_dataset(tmp_path, {"train-0": contents})
    remedy = findings_of(tmp_path).remedy(FaultKind.LABEL_OUTSIDE)
    assert remedy.startswith("labels run 0..5: mend the labels")


def test_a_class_without_images_is_a_warning(tmp_path):
    few = [example(100 + i) for i in (0, 1, 2, 4)]
    write_dataset(tmp_path, {"train-0": GOOD, "validation-0": few})
    code, out, _ = check(tmp_path)
    assert code == 0
    assert "class without an image: 1\n  validation: label 4, 'class 3'\n" in out
    assert out.splitlines()[-1].endswith("44 images in 2 files, 1 warning")


def test_repeated_images(tmp_path):
    train = [*GOOD[:5], example(3), example(4, label=1), example(3)]
    write_dataset(
        tmp_path,
        {"train-0": train[:6], "train-1": train[6:], "validation-0": GOOD[1:6]},
    )
    found = findings_of(tmp_path)
    assert all_locations(found) == {
        FaultKind.LEAK: [
            f"validation-0, record {i} ({i + 1}.JPEG): as "
            f"train-0, record {i + 1} ({i + 1}.JPEG)"
            for i in range(4)
        ],
        FaultKind.CONFLICT: [
            "train-1, record 0 (4.JPEG): label 1, not 5, as train-0, record 4 (4.JPEG)"
        ],
        FaultKind.DUPLICATE: [
            "train-0, record 5 (3.JPEG): as train-0, record 3 (3.JPEG)",
            "train-1, record 1 (3.JPEG): as train-0, record 3 (3.JPEG)",
        ],
    }
    assert check(tmp_path)[0] == 1


@pytest.mark.long
def test_a_few_repeated_images_of_many_are_a_warning(tmp_path):
    encoded = jpeg(0, 8, 8)

    def contents(repeats: int) -> list[bytes]:
        # Bytes behind the end of a JPEG make it another.
        ends = [*range(1001 - repeats), *[0] * repeats]
        return [
            example(end, encoded=encoded + b"%d" % end, height=8, width=8)
            for end in ends
        ]

    for repeats, code, verdict in [
        (1, 0, "sound: 1,001 images in 1 file, not decoded, 1 warning"),
        (2, 1, "2 problems"),
    ]:
        write_dataset(tmp_path, {"train-0": contents(repeats)})
        got, out, _ = check(tmp_path, "--skip_decode")
        assert got == code
        assert out.splitlines()[-1] == f"{tmp_path}: {verdict}"


# The command line


def test_no_workers_are_a_mistake_in_the_flags(tiny, capsys):
    with pytest.raises(SystemExit) as ended:
        validate.main(["--data_dir", tiny, "--workers", "0"])
    assert ended.value.code == 2
    assert "argument --workers: 0 is not 1 or more" in capsys.readouterr().err


def test_what_cannot_be_checked_is_one_line(tiny, tmp_path, monkeypatch):
    lines = {
        (f"{tmp_path}/x",): f"error: there is no data folder {tmp_path}/x: ",
        (tmp_path,): f"error: {tmp_path} holds no finished dataset: ",
        (tiny, "--split", "test"): "error: dataset tiny has no split 'test': choose",
    }
    for options, start in lines.items():
        code, out, err = check(*options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(start)

    def no_credentials(_):
        raise tf.errors.UnauthenticatedError(None, None, "401\nno token")

    monkeypatch.setattr(tf.io.gfile, "exists", no_credentials)
    assert check("gs://bucket/data", "--json") == (
        2,
        "",
        "error: cannot read gs://bucket/data: 401 no token; the bucket refuses this "
        "account: give it a role there, as roles/storage.objectUser on gs://bucket\n",
    )
