"""Photos are turned upright, unless a flag or an older folder says otherwise."""

import io
import shutil
import struct

import pytest
from PIL import Image

from input_pipeline import prepare
from input_pipeline.images import exif
from input_pipeline.preparation.jpeg import to_rgb_jpeg
from tests.input_pipeline.images import digests, encoded, picture, stored, write_files
from tests.support.commands import status


def turned(seed: int, form: str, orientation: int) -> bytes:
    output, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = orientation
    picture(seed, 16, 20).save(output, form, exif=tags)
    return output.getvalue()


FILES = {
    "a/0.jpg": encoded(0),
    "a/1.jpg": turned(1, "JPEG", 6),
    "b/0.webp": turned(2, "WEBP", 8),
    "b/1.jpg": turned(3, "JPEG", 1),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("source"), FILES)


def run(source, output, *flags: str) -> int:
    return status(
        prepare.main,
        *("imagefolder", f"--source={source}", f"--output={output}", "--workers=1"),
        *("--validation_fraction=0", *flags),
    )


def test_photos_are_turned_or_counted(source, tmp_path, capsys):
    plain, upright = tmp_path / "plain", tmp_path / "upright"
    assert run(source, plain, "--no_apply_orientation") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "2 images of those written now carry an EXIF orientation, and are stored as "
        "they lie: --apply_orientation turns them upright"
    )
    assert run(source, upright) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "2 images of those written now carry an EXIF orientation, which has turned "
        "them upright"
    )
    for name, data in FILES.items():
        as_it_is, up = (stored(f, "train")[name][2] for f in (plain, upright))
        assert as_it_is == to_rgb_jpeg(data).encoded
        assert up == to_rgb_jpeg(data, apply_orientation=True).encoded
        assert (up == as_it_is) == (name in ("a/0.jpg", "b/1.jpg"))
        assert exif.orientation(up) == 1
    # Done already, nothing is counted, and nothing changes.
    before = digests(upright)
    for flags in ([], ["--apply_orientation"]):
        assert run(source, upright, *flags) == 0
        said = capsys.readouterr()
        assert "EXIF" not in said.out
        assert "note" not in said.err
        assert digests(upright) == before


def test_turned_and_other_photos_do_not_mix(source, tmp_path, capsys):
    """Also in a folder that somebody has to finish."""
    first = tmp_path / "first"
    turned, as_stored = "--apply_orientation", "--no_apply_orientation"
    for begun, goes_on in (as_stored, turned), (turned, as_stored):
        assert run(source, first, begun) == 0
        (first / "dataset_info.json").unlink()
        before = digests(first)
        assert run(source, first, goes_on) == 2
        there = "applied there, nothing now", "nothing there, applied now"
        said = there[begun == as_stored]
        assert f"(EXIF orientation: {said})" in capsys.readouterr().err
        assert digests(first) == before
        shutil.rmtree(first)


@pytest.mark.parametrize("left", ["all", "no description", "a shard"])
def test_a_folder_of_a_version_before_stays_as_it_is(source, tmp_path, capsys, left):
    """Its plan says nothing of EXIF; whole or cut short, the same command knows it."""
    older = tmp_path / "older"
    assert run(source, older, "--no_apply_orientation", "--shards=2") == 0
    whole = digests(older)
    if left != "all":
        (older / "dataset_info.json").unlink()
    if left == "a shard":
        (older / "train-00001-of-00002").unlink()
    capsys.readouterr()
    assert run(source, older, "--shards=2") == 0
    said = f"note: {older} was begun with photos as they are stored, and stays so"
    assert said in capsys.readouterr().err
    assert digests(older) == whole


def test_the_two_flags_exclude_each_other(source, tmp_path, capsys):
    assert run(source, tmp_path, "--apply_orientation", "--no_apply_orientation") == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "form"), [(3, "HH"), (4, "I"), (2, "4s")])
def test_the_tag_as_a_short_and_as_a_long(order, kind, form):
    value = {"HH": (6, 0), "I": (6,), "4s": (b"6",)}[form]
    entry = struct.pack(f"{order}HHHI{form}", 1, 0x0112, kind, 1, *value)
    mark = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    data = encoded(0)
    exif_block = b"Exif\0\0" + mark + entry
    segment = b"\xff\xe1" + struct.pack(">H", len(exif_block) + 2) + exif_block
    assert exif.orientation(data[:2] + segment + data[2:]) == (1 if kind == 2 else 6)
