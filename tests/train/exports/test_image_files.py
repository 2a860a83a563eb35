"""Images to classify: found, read, and named when they are none."""

import gzip
import io
import os
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image as Pillow

from common.errors import UserError
from input_pipeline import records
from train.exports import image_files
from train.exports.image_files import Image, Unusable

PIXELS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(kind, pixels=PIXELS):
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, kind)
    return file.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")
NO_IMAGE = "it is no image: neither a JPEG nor a PNG"


TOO_THIN = (
    "it is {} pixels, too thin for this SavedModel of a version before; export again"
)


def claiming(width, height):
    return PNG[:16] + struct.pack(">II", width, height) + PNG[24:]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (JPEG, None),
        (PNG, None),
        (b"", "it is empty"),
        (b"hello", NO_IMAGE),
        (b"\xff\xd8", NO_IMAGE),
        (b"\x89PNG", NO_IMAGE),
        (b"\0" * 99, NO_IMAGE),
        (b"%PDF-1.4", NO_IMAGE),
        (claiming(10_000, 10_000), None),
        (
            claiming(20_000, 20_000),
            "its header claims 20000 x 20000 pixels, too many to load",
        ),
        (
            claiming(2**31 - 1, 1),
            "its header claims 1 x 2147483647 pixels, too many to load",
        ),
        *(
            (
                content,
                f"it is {name}, which no network here takes: save it as JPEG or PNG",
            )
            for name, content in [
                ("a PNG of Apple's own kind", PNG[:8] + b"\0\0\0\4CgBI" + PNG[8:]),
                ("a WebP", encoded("WEBP")),
                ("a GIF", encoded("GIF")),
                ("a BMP", encoded("BMP")),
                ("a TIFF", encoded("TIFF")),
                ("a TIFF", b"MM\0*1234"),
                ("a PNM", encoded("PPM")),
                ("an ICO", b"\0\0\1\0\1\0"),
                ("a JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
                ("a JPEG XL", b"\xff\x0a12"),
                ("a HEIC", b"\0\0\0\x18ftypheic\0\0\0\0"),
                ("a HEIC", b"\0\0\0\x18ftypmif1\0\0\0\0"),
                ("an AVIF", b"\0\0\0\x1cftypavif\0\0\0\0"),
                ("an SVG", b"<?xml version='1.0'?>\n<svg/>"),
                ("a PSD", b"8BPS\0\1"),
            ]
        ),
    ],
)
def test_what_it_is(content, why):
    assert image_files.why_unusable(content) == why


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (JPEG[:-40], "its JPEG data is damaged or cut off"),
        (JPEG[:100], "its JPEG header is damaged or cut off"),
        (PNG[: len(PNG) // 2], "its PNG data is damaged or cut off"),
        (PNG[:8], "its PNG header is damaged or cut off"),
        (claiming(0, 0), "its PNG header is damaged or cut off"),
        (encoded("JPEG", PIXELS[:1]), TOO_THIN.format("1 x 30")),
        (encoded("PNG", PIXELS[:, :1]), TOO_THIN.format("20 x 1")),
        # Not for its size: it is no better with one side more.
        (encoded("JPEG", PIXELS[:1])[:-40], "its JPEG data is damaged or cut off"),
        (encoded("PNG", PIXELS[:1])[:-20], "its PNG data is damaged or cut off"),
    ],
)
def test_why_it_was_not_decoded(content, why, capfd):
    assert image_files.why_not_decoded(content) == why
    assert capfd.readouterr().err == ""  # no line of libjpeg's own


def named(found):
    return [(one.place, getattr(one, "reason", None)) for one in found]


def test_files_of_any_kind(tmp_path):
    """Each is named, in its order, and none waits for ever or fills the memory."""
    (tmp_path / "good.jpg").write_bytes(JPEG)
    (tmp_path / "link.jpg").symlink_to("good.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("nothing")
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(2**40)
    (tmp_path / "text.jpg").write_text("hello")
    missing = "No such file or directory"
    expected = {
        "good.jpg": None,
        "text.jpg": NO_IMAGE,
        "link.jpg": None,
        "nowhere.jpg": missing,
        "none.jpg": missing,
        "ring.jpg": "Too many levels of symbolic links",
        "pipe.jpg": "it is a named pipe",
        "huge.jpg": "it is larger than 512 MiB, no photo",
    }
    found = image_files.read_files(f"{tmp_path}/{name}" for name in expected)
    assert named(found) == [(f"{tmp_path}/{k}", v) for k, v in expected.items()]
    (device,) = image_files.read_files(["/dev/zero"])
    assert device == Unusable("/dev/zero", "it is a device")
    (address,) = image_files.read_files(["http://somewhere/a.jpg"])
    assert address == Unusable(
        "http://somewhere/a.jpg",
        "TensorFlow reads no http:// here; fetch it, and name the file on this machine",
    )


def test_a_folder(tmp_path, capsys):
    for name in (
        "b.jpg",
        "a",
        "sub/c.JPEG",
        "@eaDir/b.jpg",
        "sub/.d.jpg",
        "__MACOSX/x",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(JPEG)
    (tmp_path / "w.webp").write_bytes(encoded("WEBP"))
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / "zero.png").touch()
    (tmp_path / "sub/loop").symlink_to("..")
    (tmp_path / "again").symlink_to("sub")
    os.mkfifo(tmp_path / "pipe")
    with open(os.fsencode(tmp_path) + b"/sub/caf\xe9.png", "wb") as file:
        file.write(PNG)
    assert named(image_files.read_files([f"{tmp_path}/"])) == [
        (f"{tmp_path}/a", None),
        (f"{tmp_path}/b.jpg", None),
        (f"{tmp_path}/w.webp", None),
        (f"{tmp_path}/zero.png", "it is empty"),
        (f"{tmp_path}/again/c.JPEG", None),
        (rf"{tmp_path}/again/caf\xe9.png", None),
    ]
    said = f"{tmp_path}/: 6 images, 3 other files left out\n"
    assert capsys.readouterr().err == said


def test_folders_without_images(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("hello")
    paths = [f"{tmp_path}/{name}" for name in ("empty", "texts")]
    assert named(image_files.read_files(paths)) == [
        (path, "no image lies in this folder") for path in paths
    ]
    assert capsys.readouterr().err == (
        f"{paths[0]}: 0 images\n{paths[1]}: 0 images, 1 other file left out\n"
    )


# Records


def example(content=JPEG, label=3, filename="a.jpg"):
    fields = {"label": label, "height": 1, "width": 1, "synset": "", "text": ""}
    return records.make_example(content, filename=filename, **fields)


def with_feature(name, **lists):
    changed = tf.train.Example.FromString(example())
    changed.features.feature[name].CopyFrom(tf.train.Feature(**lists))
    return changed.SerializeToString()


def texts(*values):
    return {"bytes_list": tf.train.BytesList(value=values)}


def numbers(*values):
    return {"int64_list": tf.train.Int64List(value=values)}


# TensorFlow's fast parser would end the process: a length of 2 GB.
CRASHES = (
    b"\x0a\x1b\x0a\x19\x0a\x0dimage/encoded\x12\x08\x0a\x06\x0a\x80\x80\x80\x80\x08"
)
NO_EXAMPLE = (
    "it is no tf.train.Example with the fields image/encoded and image/class/label"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (example(), Image("a.jpg", JPEG, 3, "shard, record 1 (a.jpg)", True)),
        (
            example(filename=""),
            Image("shard, record 1", JPEG, 3, "shard, record 1", True),
        ),
        (b"hello", Unusable("shard, record 1", NO_EXAMPLE)),
        (b"\x0a\xe9\xff", Unusable("shard, record 1", NO_EXAMPLE)),
        (CRASHES, Unusable("shard, record 1", NO_EXAMPLE)),
        (
            with_feature("image/encoded", **texts(JPEG, JPEG)),
            Unusable("shard, record 1", NO_EXAMPLE),
        ),
        (
            with_feature("image/class/label", **numbers(1, 2)),
            Unusable("shard, record 1", NO_EXAMPLE),
        ),
        (
            b"",
            Unusable("shard, record 1", "the field image/encoded is missing or empty"),
        ),
        (
            with_feature("image/class/label"),
            Image("a.jpg", JPEG, None, "shard, record 1 (a.jpg)", True),
        ),
        (
            with_feature("image/filename", **texts(b"caf\xe9")),
            Image(r"caf\xe9", JPEG, 3, r"shard, record 1 (caf\xe9)", True),
        ),
        (
            example(b"GIF89a"),
            Unusable(
                "shard, record 1 (a.jpg)",
                "the image cannot be used: it is a GIF, which no network here takes: "
                "save it as JPEG or PNG",
            ),
        ),
    ],
)
def test_records(tmp_path, content, expected):
    """One that is broken does not hide those before and behind it."""
    path = str(tmp_path / "shard")
    records.write_shard(path, [example(), content, example()])
    before, found, behind = image_files.read_tfrecords(path)
    assert found == expected
    assert (before.place, behind.place) == (
        "shard, record 0 (a.jpg)",
        "shard, record 2 (a.jpg)",
    )


def damaged(good):
    return (
        "it is not a whole TFRecord file, it is damaged or cut off after "
        f"{good} good record{'s' * (good != 1)}: copy it again"
    )


@pytest.mark.parametrize(
    ("change", "good", "reason"),
    [
        (lambda whole: whole[:-1], 2, damaged(2)),
        (lambda whole: whole[:12], 0, damaged(0)),  # TensorFlow takes it for whole
        (lambda whole: whole[:3], 0, damaged(0)),
        (lambda whole: whole[: len(whole) // 3 + 12], 1, damaged(1)),
        (lambda whole: whole[:100] + b"?" + whole[101:], 0, damaged(0)),
        (lambda whole: whole + b"\0", 3, damaged(3)),
        (lambda whole: struct.pack("<QI", 2**40, 0) + whole, 0, damaged(0)),
        (lambda whole: b"hello" * 99, 0, damaged(0)),
        (lambda whole: b"", 0, "it is empty"),
        (gzip.compress, 0, "it is compressed: unpack it with gunzip"),
    ],
)
def test_files_that_are_not_whole(tmp_path, change, good, reason):
    path = tmp_path / "shard"
    records.write_shard(str(path), [example()] * 3)
    path.write_bytes(change(path.read_bytes()))
    *found, last = image_files.read_tfrecords(str(path))
    assert [type(one) for one in found] == [Image] * good
    assert last == Unusable(str(path), reason)


def test_what_is_no_file_of_records(tmp_path):
    os.mkfifo(tmp_path / "a")
    (tmp_path / "b").mkdir()
    assert list(image_files.read_tfrecords(f"{tmp_path}/*")) == [
        Unusable(f"{tmp_path}/a", "it is a named pipe"),
        Unusable(
            f"{tmp_path}/b", f"it is a folder: name its files, such as '{tmp_path}/b/*'"
        ),
    ]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("nowhere/*", "no TFRecords at nowhere/*"),
        (
            "hdfs://a/*",
            "cannot look for hdfs://a/*: TensorFlow reads no hdfs:// here; fetch it, "
            "and name the file on this machine",
        ),
    ],
)
def test_no_records(pattern, said):
    with pytest.raises(UserError) as error:
        list(image_files.read_tfrecords(pattern))
    assert str(error.value) == said
