"""Records as no writer makes them: lengths that lie, fields twice, random damage."""

import numpy as np

from tests.input_pipeline.builders import example, jpeg

JPEG = jpeg(0)
LABEL, IMAGE = b"image/class/label", b"image/encoded"
_BYTES, _FLOATS, _INTS = 1, 2, 3  # the kinds of a Feature
_LENGTHS = [
    *(0, 1, len(JPEG) - 1, len(JPEG) + 1, 2**14, 2**28, 2**30, 2**31 - 1, 2**31),
    *(2**31 + 5, 2**32 - 1, 2**32, 2**33, 2**40, 2**63, 2**64 - 1, 2**70),
]


def varint(number: int) -> bytes:
    result = b""
    while number > 127:
        result += bytes([number & 127 | 128])
        number >>= 7
    return result + bytes([number])


def block(field: int, data: bytes, length: int | None = None) -> bytes:
    """A field of bytes, and a length that may lie."""
    return (
        varint(field << 3 | 2) + varint(len(data) if length is None else length) + data
    )


def entry(name: bytes, value: bytes) -> bytes:
    return block(1, block(1, name) + block(2, value))


def feature(name: bytes, kind: int, values: bytes, length: int | None = None) -> bytes:
    return entry(name, block(kind, values, length))


def record(*entries: bytes, length: int | None = None) -> bytes:
    return block(1, b"".join(entries), length)


LABELLED = feature(LABEL, _INTS, block(1, b"\1"))
SHOWN = feature(IMAGE, _BYTES, block(1, JPEG))
SOUND = record(LABELLED, SHOWN)
_ONE, _PICTURE = block(_INTS, block(1, b"\1")), block(_BYTES, block(1, JPEG))

# A bytes list whose one value says that it has 2 GB: SIGSEGV in TensorFlow 2.20's
# parser where that reads a single value.
CRASHING = record(entry(IMAGE, block(_BYTES, b"\x0a" + varint(2**31))))

_TAILS = {
    "varint": b"\x48\x05",
    "fixed64": b"\x49" + b"x" * 8,
    "fixed32": b"\x4d" + b"x" * 4,
    "group": b"\x4b\x4c",
    "open group": b"\x4b",
    "end of a group": b"\x4c",
    "groups": b"\x4b" * 50 + b"\x4c" * 50,
    "many groups": b"\x4b" * 200 + b"\x4c" * 200,
    "wire 6": b"\x4e",
    "wire 7": b"\x4f",
    "field 0": b"\x02\x00",
    "large field": b"\xfa\xff\xff\xff\x0f\x01x",
    "too large a field": b"\xfa\xff\xff\xff\x7f\x01x",
    "zero": b"\0",
    "long varint": b"\x48" + b"\x80" * 9 + b"\x01",
    "too long a varint": b"\x48" + b"\x80" * 11 + b"\x01",
}


def _with_lengths() -> dict[str, bytes]:
    made = {}
    for n in _LENGTHS:
        made |= {
            f"image {n}": record(LABELLED, feature(IMAGE, _BYTES, block(1, JPEG, n))),
            f"images {n}": record(LABELLED, feature(IMAGE, _BYTES, block(1, JPEG), n)),
            f"no image {n}": record(
                LABELLED, feature(IMAGE, _BYTES, b"\x0a" + varint(n))
            ),
            f"label {n}": record(SHOWN, feature(LABEL, _INTS, block(1, b"\1", n))),
            f"labels {n}": record(SHOWN, feature(LABEL, _INTS, block(1, b"\1"), n)),
            f"features {n}": record(LABELLED, SHOWN, length=n),
            f"key {n}": record(LABELLED, SHOWN, block(1, block(1, b"z", n))),
            f"other {n}": record(
                LABELLED, SHOWN, feature(b"image/filename", _BYTES, block(1, b"x", n))
            ),
            f"unknown {n}": SOUND + block(9, b"abc", n),
        }
    return made


def _with_tails() -> dict[str, bytes]:
    made = {}
    for name, tail in _TAILS.items():
        made |= {
            f"{name} behind": SOUND + tail,
            f"{name} before": tail + SOUND,
            f"{name} in features": record(LABELLED, SHOWN, tail),
            f"{name} in an entry": record(
                LABELLED, block(1, block(1, IMAGE) + block(2, _PICTURE) + tail)
            ),
            f"{name} in a list": record(
                SHOWN, feature(LABEL, _INTS, block(1, b"\1") + tail)
            ),
            f"{name} in a feature": record(SHOWN, entry(LABEL, _ONE + tail)),
            f"{name} begins a feature": record(SHOWN, entry(LABEL, tail + _ONE)),
        }
    return made


def _label(values: bytes) -> bytes:
    return record(SHOWN, feature(LABEL, _INTS, values))


def _image(value: bytes) -> bytes:
    return record(LABELLED, entry(IMAGE, value))


CRAFTED = {
    "sound": SOUND,
    "crashing": CRASHING,
    **_with_lengths(),
    **_with_tails(),
    **{
        f"label of {n}": _label(block(1, varint(n)))
        for n in (0, 1, 5, 6, 2**31, 2**63, 2**64 - 1)
    },
    **{f"unpacked {n}": _label(b"\x08" + varint(n)) for n in (0, 1, 5, 6, 2**63)},
    "two labels": _label(block(1, b"\1\2")),
    "two labels, unpacked": _label(b"\x08\1\x08\2"),
    "labels in both ways": _label(b"\x08\1" + block(1, b"")),
    "no labels": _label(b""),
    "a label of 11 bytes": _label(block(1, b"\x81" + b"\x80" * 9 + b"\x00")),
    "a label cut off": _label(block(1, b"\x80")),
    "a fixed label": _label(b"\x09\1" + b"\0" * 7),
    "a label of bytes": record(SHOWN, feature(LABEL, _BYTES, block(1, b"1"))),
    "a label of floats": record(SHOWN, feature(LABEL, _FLOATS, block(1, b"\0\0\x80?"))),
    "two images": _image(block(_BYTES, block(1, JPEG) + block(1, JPEG))),
    "no images": _image(block(_BYTES, b"")),
    "an image of nothing": _image(b""),
    "an image of numbers": _image(_ONE),
    "image, then number": _image(_PICTURE + _ONE),
    "number, then image": _image(_ONE + _PICTURE),
    "an image twice": _image(_PICTURE + _PICTURE),
    "an image, then none": _image(_PICTURE + block(_BYTES, b"")),
    "a field twice": record(LABELLED, SHOWN, SHOWN),
    "another image": record(LABELLED, SHOWN, feature(IMAGE, _BYTES, block(1, jpeg(1)))),
    "another label": record(LABELLED, SHOWN, feature(LABEL, _INTS, block(1, b"\x09"))),
    "another label first": record(
        feature(LABEL, _INTS, block(1, b"\x09")), LABELLED, SHOWN
    ),
    "features twice": record(LABELLED) + record(SHOWN),
    "a name twice": record(
        LABELLED, block(1, block(1, b"x") + block(1, IMAGE) + block(2, _PICTURE))
    ),
    "value before name": record(
        LABELLED, block(1, block(2, _PICTURE) + block(1, IMAGE))
    ),
    "two values": record(
        LABELLED, block(1, block(1, IMAGE) + block(2, _PICTURE) + block(2, _ONE))
    ),
    **{
        f"a field {name!r}": record(
            LABELLED, SHOWN, feature(name, _BYTES, block(1, b"x"))
        )
        for name in (b"\xff\xfe", IMAGE + b"\xff", b"\xed\xa0\x80", b"a\0b", b"")
    },
    "nothing": b"",
    "no features": block(1, b""),
    "a long tag": b"\x8a\x00" + SOUND[1:],
    "a long length": b"\x0a\x80\x80\x00",
}


def mutated(count: int) -> dict[str, bytes]:
    """Records with random damage, the same ones every time."""
    random = np.random.RandomState(7)
    sound = example(0)
    begin = sound.index(JPEG)
    head = [n for n in range(len(sound)) if not begin <= n < begin + len(JPEG)]
    made = {}
    for number in range(count):
        content, place = bytearray(sound), random.randint(len(sound))
        if number % 5 == 0:
            content[place] = random.randint(256)
        elif number % 5 == 1:
            del content[place:]
        elif number % 5 == 2:
            content[place:place] = random.bytes(random.randint(1, 9))
        elif number % 5 == 3:
            del content[place : place + random.randint(1, 9)]
        else:
            for _ in range(random.randint(1, 4)):
                place = head[random.randint(len(head))]
                content[place] = random.choice([0, 0x80, 0xFF, 0x7F, 0x0A, 0x12, 8])
        made[f"mutation {number}"] = bytes(content)
    return made
