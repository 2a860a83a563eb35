"""What libjpeg fills with grey, and what it reads whole but complains of."""

import io
import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import jpeg_warnings
from input_pipeline.preparation.jpeg import BadImageError, to_rgb_jpeg
from tests.input_pipeline import damaged_jpegs
from tests.input_pipeline.builders import DATA, jpeg

PHOTO = (DATA / "cat.jpg").read_bytes()
SCAN, END = PHOTO.index(b"\xff\xda"), len(PHOTO) - 2
_NOISE = np.random.RandomState(0).randint(1, 250, 2000).astype(np.uint8).tobytes()


def with_size(height: int, width: int) -> bytes:
    place = PHOTO.index(b"\xff\xc0") + 5
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return PHOTO[:place] + sides + PHOTO[place + 4 :]


def saved(**options) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(file, "JPEG", **options)
    return file.getvalue()


PROGRESSIVE = saved(progressive=True)
RESTARTS = saved(restart_marker_rows=1)
CORRUPT = "Corrupt JPEG data: "
ENDS = f"{CORRUPT}premature end of data segment"


def before_end(what: bytes) -> bytes:
    return PHOTO[:END] + what + PHOTO[END:]


HOLE = PHOTO[: SCAN + 2000] + PHOTO[SCAN + 4000 :]
# The file, libjpeg's line, and whether pixels are made up.
CASES = {
    "sound": (PHOTO, "", False),
    "progressive": (PROGRESSIVE, "", False),
    "restarts": (RESTARTS, "", False),
    "bytes behind the end": (PHOTO + _NOISE, "", False),
    "a hole": (HOLE, ENDS, True),
    "cut off, and ended": (PHOTO[: END // 2] + PHOTO[END:], ENDS, True),
    "zeros": (PHOTO[: SCAN + 2000] + bytes(500) + PHOTO[SCAN + 2500 :], ENDS, True),
    "noise": (PHOTO[: SCAN + 500] + _NOISE + PHOTO[SCAN + 2500 :], CORRUPT, True),
    "a progressive hole": (PROGRESSIVE[:7000] + PROGRESSIVE[7300:], CORRUPT, True),
    "a lost restart": (RESTARTS[:7000] + RESTARTS[10_000:], CORRUPT, True),
    "twice as high": (with_size(600, 451), ENDS, True),
    "9999 x 9999": (with_size(9999, 9999), ENDS, True),
    "half as high": (with_size(150, 451), CORRUPT, True),
    "arithmetic coding": (
        PHOTO.replace(b"\xff\xc0", b"\xff\xc9", 1),
        f"{CORRUPT}16313 extraneous bytes before marker 0xd9",
        True,
    ),
    "noise before the end": (before_end(_NOISE), CORRUPT, True),
    "a few bytes before the end": (
        before_end(b"hello world!"),
        f"{CORRUPT}7 extraneous bytes before marker 0xd9",
        False,
    ),
    "padding before the end": (before_end(bytes(4096)), CORRUPT, False),
    "padding, and a phone's film": (
        before_end(bytes(300)) + _NOISE + b"\xff\xd9" + _NOISE,
        CORRUPT,
        False,
    ),
    "a few bytes before a table": (
        PHOTO.replace(b"\xff\xc4", b"\0\0\0\xff\xc4", 1),
        f"{CORRUPT}3 extraneous bytes before marker 0xc4",
        False,
    ),
    "a hole behind an unknown JFIF": (
        HOLE.replace(b"JFIF\0\1", b"JFIF\0\3", 1),
        ENDS,
        True,
    ),
    "a hole behind an odd scan": (
        HOLE.replace(b"\0\x3f\0", b"\1\x3f\0", 1),
        ENDS,
        True,
    ),
    "an odd scan": (
        PHOTO.replace(b"\0\x3f\0", b"\1\x3f\0", 1),
        "Invalid SOS parameters",
        False,
    ),
    "a hole behind stray bytes": (
        HOLE.replace(b"\xff\xc4", b"\0\0\0\xff\xc4", 1),
        ENDS,
        True,
    ),
    "a progressive hole behind both": (
        (PROGRESSIVE[:7000] + PROGRESSIVE[7300:])
        .replace(b"JFIF\0\1", b"JFIF\0\3", 1)
        .replace(b"\xff\xdb", b"\0\0\0\xff\xdb", 1),
        CORRUPT,
        True,
    ),
    "an unknown JFIF": (
        PHOTO.replace(b"JFIF\0\1", b"JFIF\0\3", 1),
        "Warning: unknown JFIF revision number 3.01",
        False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_libjpeg_says(name, capfd):
    encoded, line, is_damage = CASES[name]
    found = jpeg_warnings.decode(encoded)
    assert (found is not None) == (line != "")
    if found is not None:
        assert found.text.startswith(line)
        assert found.is_damage == is_damage
    assert jpeg_warnings.decode(encoded, ratio=8) == found
    assert capfd.readouterr().err == ""


def test_those_of_which_it_says_nothing(capfd):
    found = jpeg_warnings.silent([encoded for encoded, _, _ in CASES.values()])
    assert found == [line == "" for _, line, _ in CASES.values()]
    # Neither an error nor a line of one is taken for the next one's.
    mixed = [PHOTO, b"", HOLE, PHOTO, PHOTO[:END], HOLE, tf.constant(PHOTO)]
    sound = [True, False, False, True, False, False, True]
    assert jpeg_warnings.silent(mixed) == sound
    assert jpeg_warnings.silent([]) == []
    assert capfd.readouterr().err == ""


def verdict(encoded: bytes, **how) -> jpeg_warnings.Complaint | str | None:
    try:
        return jpeg_warnings.decode(encoded, **how)
    except tf.errors.InvalidArgumentError:
        return "an error"


def compare_verdicts(count: int, seed: int) -> dict[str, int]:
    """What libjpeg says of a small grey image against a whole one; how often of each.

    Inverse DCT, chroma and colours can find no fault: those are in the codes before.
    """
    seen = dict.fromkeys(["an error", "nothing", "damage", "oddity"], 0)
    for name, encoded in damaged_jpegs.damaged(count, seed):
        if damaged_jpegs.claims_many_pixels(encoded):
            continue
        whole = verdict(encoded)
        assert verdict(encoded, ratio=8) == whole, name
        # There is no grey of CMYK; whoever asks for it is told of an error.
        grey = verdict(encoded, ratio=8, grey=True)
        assert grey == whole or (name[0] in "CY" and grey == "an error"), name
        assert jpeg_warnings.silent([encoded]) == [grey is None], name
        if isinstance(whole, jpeg_warnings.Complaint):
            seen["damage" if whole.is_damage else "oddity"] += 1
        else:
            seen[whole or "nothing"] += 1
    return seen


def test_a_small_grey_image_tells_as_much_as_a_whole_one():
    assert all(often > 20 for often in compare_verdicts(600, seed=1).values())


@pytest.mark.slow
def test_a_small_grey_image_tells_as_much_of_20_000():
    assert all(often > 1000 for often in compare_verdicts(20_000, seed=2).values())


@pytest.mark.parametrize("name", CASES)
def test_prepare_takes_no_made_up_pixels(name, capfd):
    encoded, line, is_damage = CASES[name]
    if is_damage:
        with pytest.raises(BadImageError, match=f"filled with grey .libjpeg: {line}"):
            to_rgb_jpeg(encoded)
    else:
        assert to_rgb_jpeg(encoded).encoded == encoded
    assert capfd.readouterr().err == ""


def test_a_grey_jpeg_is_looked_at_too():
    file = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).convert("L").save(file, "JPEG")
    whole = file.getvalue()
    assert to_rgb_jpeg(whole).height == 300
    with pytest.raises(BadImageError, match=ENDS):
        to_rgb_jpeg(whole[:5000] + whole[7000:])


def test_other_lines_reach_standard_error_again(capfd):
    with pytest.raises(tf.errors.InvalidArgumentError):
        jpeg_warnings.decode(jpeg(0)[:20])
    print("mine", file=sys.stderr)
    assert capfd.readouterr().err == "mine\n"


def test_where_standard_error_is_closed():
    before = os.dup(2)
    os.close(2)
    try:
        found = jpeg_warnings.decode(CASES["a hole"][0])
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(2)
    finally:
        os.dup2(before, 2)
        os.close(before)
    assert found == (ENDS, True)
