"""Transparent images lie on white; what older versions have begun, they go on with."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from input_pipeline import dataset_info, prepare
from input_pipeline.preparation.jpeg import to_rgb_jpeg
from tests.input_pipeline.images import digests, encoded, stored, write_files
from tests.support.commands import status


def cut_out(form: str = "PNG", mode: str = "RGBA") -> bytes:
    """A red square of 16 pixels on what is transparent, with blue below."""
    image = Image.new("RGBA", (48, 48), (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), (16, 16, 32, 32))
    output = io.BytesIO()
    image.convert(mode).save(output, form, lossless=True, exact=True)
    return output.getvalue()


def colours(jpeg: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the corner and of the middle, of a quality-95 JPEG: near the true ones."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
    return tuple(pixels[2, 2]), tuple(pixels[24, 24])


def near(colour: tuple[int, ...], want: tuple[int, ...]) -> bool:
    # A flat block has its mean alone, which quality 95 keeps to 2 of 8 * 256 levels,
    # and the way there and back to YCbCr, rounded, to 2 more.
    return max(abs(a - b) for a, b in zip(colour, want, strict=True)) <= 3


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_what_is_transparent_is_white(form):
    data = cut_out(form)
    corner, middle = colours(to_rgb_jpeg(data, on_white=True).encoded)
    assert near(corner, (255, 255, 255))
    assert near(middle, (255, 0, 0))
    plain = to_rgb_jpeg(data)
    assert near(colours(plain.encoded)[0], (0, 0, 255))
    assert plain.transparent
    # Without transparency the bytes are the same.
    opaque = encoded(3, "PNG")
    assert to_rgb_jpeg(opaque, on_white=True) == to_rgb_jpeg(opaque)
    assert not to_rgb_jpeg(opaque).transparent


def test_half_transparent_and_palettes():
    half = Image.new("RGBA", (32, 32), (0, 0, 0, 128))
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([0, 0, 0, 0, 200, 0])
    grey = Image.new("LA", (32, 32), (0, 0))
    for image, options, want in (
        (half, {}, (127, 127, 127)),
        (palette, {"transparency": 1}, (255, 255, 255)),
        (palette, {"transparency": 0}, (0, 200, 0)),
        (grey, {}, (255, 255, 255)),
    ):
        output = io.BytesIO()
        image.save(output, "PNG", **options)
        jpeg = to_rgb_jpeg(output.getvalue(), on_white=True).encoded
        assert near(tuple(np.asarray(Image.open(io.BytesIO(jpeg)))[9, 9]), want)


def run(source, output, *flags: str) -> int:
    folders = f"--source={source}", f"--output={output}"
    work = "--workers=1", "--shards=2"
    return status(prepare.main, "imagefolder", *folders, *work, *flags)


FILES = {f"{name}/{n}.png": cut_out() for name in "ab" for n in range(5)}


def test_a_new_folder_has_a_validation_split_and_white(tmp_path, capsys):
    source, output = write_files(tmp_path / "in", FILES), tmp_path / "out"
    assert run(source, output) == 0
    said = capsys.readouterr()
    assert "wrote" in said.out
    assert said.out.splitlines()[-1] == (
        "10 images of those written now have transparent parts, which are white in the "
        "records"
    )
    assert "note: no folder of images to validate on: 20% of each class" in said.err
    info = dataset_info.load_info(str(output))
    assert {name: split.total for name, split in info.splits.items()} == {
        "train": 8,
        "validation": 2,
    }
    before = digests(output)
    assert run(source, output) == 0
    assert "holds the whole dataset already" in capsys.readouterr().out
    assert digests(output) == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_an_older_version_goes_on_as_it_began(
    finished, tmp_path, capsys, monkeypatch
):
    """It had no validation split unless it was told to, and nothing on white."""
    source, output = write_files(tmp_path / "in", FILES), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("input_pipeline.preparation.commands.put_on_white", lambda x: x)
        assert run(source, output, "--validation_fraction=0") == 0
    plan = json.loads((output / "prepare_plan.json").read_text())
    assert "transparency" not in plan
    before = digests(output)
    if not finished:
        (output / "dataset_info.json").unlink()
        (output / "train-00000-of-00002").unlink()
    capsys.readouterr()
    assert run(source, output) == 0
    assert digests(output) == before
    blue = (0, 0, 255)
    jpeg = next(iter(stored(output, "train").values()))[2]
    assert near(colours(jpeg)[0], blue)
    said = capsys.readouterr()
    assert "no folder of images to validate on" not in said.err
    assert ("show the colour below them" in said.out) == (not finished)
