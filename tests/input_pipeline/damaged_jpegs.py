"""JPEGs of all kinds with random damage, the same ones every time."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from input_pipeline import jpeg_warnings

_MARKERS = [*range(0xC0, 0xD0), *range(0xD0, 0xDE), 0xE0, 0xE1, 0xEE, 0xFE, 0x00, 0x01]


def _pixels(height: int, width: int) -> Image.Image:
    """A picture in which colours and grain differ from place to place."""
    random = np.random.RandomState(3)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + c) * 60 + np.cos(y / (4 + c)) * 50 + 120 for c in range(3)]
    grain = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(
        (np.stack(waves, -1) + grain).clip(0, 255).astype(np.uint8), "RGB"
    )


def _saved(mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    _pixels(61, 83).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def _with_adobe(encoded: bytes, transform: int) -> bytes:
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    return encoded[:2] + marker + encoded[2:]


def kinds() -> dict[str, bytes]:
    """Sound ones, and such as the decoder does not know."""
    colour, grey = _saved(), _saved("L")
    frame = colour.index(b"\xff\xc0")
    return {
        "4:2:0": colour,
        "4:4:4": _saved(subsampling=0, quality=92),
        "4:2:2": _saved(subsampling=1),
        "own tables": _saved(optimize=True, quality=30),
        "restarts": _saved(restart_marker_blocks=3),
        "rows of restarts": _saved(restart_marker_rows=1, subsampling=0),
        "progressive": _saved(progressive=True),
        "progressive 4:4:4": _saved(progressive=True, subsampling=0, quality=92),
        "progressive, restarts": _saved(progressive=True, restart_marker_blocks=5),
        "grey": grey,
        "progressive grey": _saved("L", progressive=True),
        "CMYK": _saved("CMYK"),
        "YCCK": _with_adobe(_saved("CMYK"), 2),
        "RGB without a transform": _with_adobe(colour, 0),
        "EXIF": colour[:2] + b"\xff\xe1\0\x10Exif\0\0MM\0*\0\0\0\x08" + colour[2:],
        "arithmetic coding": colour.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "12 bits": colour[: frame + 4] + b"\x0c" + colour[frame + 5 :],
        "two behind each other": colour + grey,
    }


def _flip(data: bytearray, place: int, random: np.random.RandomState) -> None:
    data[place] ^= 1 << random.randint(8)


def _replace(data: bytearray, place: int, random: np.random.RandomState) -> None:
    size = random.choice([1, 2, 4, 30, 200])
    data[place : place + size] = random.bytes(size)


def _delete(data: bytearray, place: int, random: np.random.RandomState) -> None:
    del data[place : place + random.choice([1, 2, 3, 16, 100, 400])]


def _insert(data: bytearray, place: int, random: np.random.RandomState) -> None:
    data[place:place] = random.bytes(random.choice([1, 2, 7, 64, 300]))


def _zeros(data: bytearray, place: int, random: np.random.RandomState) -> None:
    size = random.choice([1, 2, 8, 100])
    data[place : place + size] = bytes([random.choice([0, 0xFF])]) * size


def _marker(data: bytearray, place: int, random: np.random.RandomState) -> None:
    data[place : place + 2] = bytes([0xFF, random.choice(_MARKERS)])


def _cut(data: bytearray, place: int, random: np.random.RandomState) -> None:
    del data[place:]
    data += random.choice([b"", b"\xff\xd9", b"\xff", b"\0" * 9])


def _repeat(data: bytearray, place: int, random: np.random.RandomState) -> None:
    data[place:place] = data[place : place + random.choice([2, 20, 200])]


_DAMAGES: list[Callable[[bytearray, int, np.random.RandomState], None]] = [
    *(_flip, _replace, _delete, _insert, _zeros, _marker, _cut, _repeat),
]


def damaged(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield so many, each with one damage to three, a third of them in headers."""
    random = np.random.RandomState(seed)
    known = [*kinds().items()]
    for number in range(count):
        name, sound = known[number % len(known)]
        data = bytearray(sound)
        scan = sound.index(b"\xff\xda")
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            in_header = random.randint(3) == 0
            place = random.randint(2, scan + 20 if in_header else len(sound))
            damage = _DAMAGES[random.randint(len(_DAMAGES))]
            damage(data, min(place, len(data) - 1), random)
        yield f"{name}, {number}", bytes(data)


def claims_many_pixels(encoded: bytes) -> bool:
    """Whether so many that decoding all would take gigabytes: that is not done."""
    try:
        read = jpeg_warnings.listen(lambda: tf.image.extract_jpeg_shape(encoded))
    except tf.errors.InvalidArgumentError:
        return False
    height, width, _ = read[1].numpy().tolist()
    return height * width > 1_000_000
