"""Calls the fused ops with whatever a fuzzer thinks of; python -m, by test_sanitizer.

    python -m tests.input_pipeline.fused.fuzzing LIBRARY SECONDS

Under AddressSanitizer each read or write outside ends the process. Prints how many
images were asked for, and how many of them were made.
"""

import sys
import time

import numpy as np
import tensorflow as tf

from input_pipeline.preprocess import MAX_PIXELS
from tests.input_pipeline.builders import example
from tests.input_pipeline.fused.test_images import FORMS, RANGES, jpeg

HUGE = b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"  # a frame of 65,535 x 65,535 pixels
NAMES = (
    "AutoContrast,Equalize,Invert,Rotate,Posterize,Solarize,Color,Contrast,Brightness,"
    "Sharpness,ShearX,Cutout,SolarizeAdd,"
)
COUNT = len(NAMES.split(","))


def damaged(rng: np.random.RandomState, content: bytes) -> bytes:
    """Return bytes cut off, or others, or with a header that claims a lot."""
    kind = rng.randint(5)
    if kind == 0:
        return content[: rng.randint(len(content) + 1)]
    if kind == 1:
        begin = content.find(b"\xff\xc0")
        return content[:begin] + HUGE + content[begin + len(HUGE) :]
    broken = bytearray(content)
    for place in rng.randint(0, len(content), rng.randint(0, 6) * (kind > 2)):
        broken[place] = rng.randint(256)
    if kind == 4:  # around the image
        for place in [*rng.randint(0, min(200, len(content)), 2), -1 - rng.randint(99)]:
            broken[place] = rng.randint(256)
    return bytes(broken)


def drawn_from(rng: np.random.RandomState, pixels: int) -> dict:
    """Return ops of any strength."""
    top = pixels + 1 + (rng.randint(8) == 0)
    strengths = [0.0, 0.1, 1.0, 4.0, 19.9, 128.0, 300.0, -7.0]
    return {
        "sources": tf.constant(rng.randint(0, top, [2, pixels]), tf.int32),
        "ops": NAMES,
        "parameters": rng.choice(strengths, COUNT).tolist(),
        "tables": [0] * COUNT,
    }


def images(ops, rng: np.random.RandomState, records: list[bytes]) -> tuple[int, int]:
    """Make images of a group of records, sound and damaged."""
    group = [damaged(rng, records[rng.randint(len(records))]) for _ in range(8)]
    pixels = ("float", "floor", "nearest")[rng.randint(3)]
    size, layers = int(rng.choice([1, 2, 3, 31, 64])), int(rng.randint(4))
    areas, ratios = RANGES[rng.randint(len(RANGES))]
    rows = layers * int(rng.randint(3))
    made = ops.efficientnetx_images(
        serialized=tf.constant(group),
        index=tf.constant(rng.randint(0, 2**40, len(group)), tf.int64),
        image_field="image/encoded",
        label_field="image/class/label",
        label_offset=1,
        num_labels=5,
        max_pixels=MAX_PIXELS,
        seed=int(rng.randint(2**40)),
        size=size,
        resize=("bicubic", "bilinear", "bilinear_half_pixels")[rng.randint(3)],
        pixels=pixels,
        crop=("random", "central", "whole")[rng.randint(3)],
        central_share=float(rng.uniform(0.01, 1)),
        area_range=areas,
        aspect_ratio_range=ratios,
        flip=bool(rng.randint(2)),
        T=tf.float32 if pixels == "float" else tf.uint8,
        num_layers=0 if pixels == "float" else layers,
        choices=[] if pixels == "float" else rng.randint(0, COUNT, rows).tolist(),
        chances=[] if pixels == "float" else rng.uniform(0, 1, rows).tolist(),
        **drawn_from(rng, size * size),
    )
    return len(group), int(np.count_nonzero(made.ok))


def augment(ops, rng: np.random.RandomState) -> tuple[int, int]:
    """Change an image of any size."""
    height, width = rng.randint(1, 70, 2)
    count = rng.randint(5)
    ops.efficientnetx_augment(
        tf.constant(rng.randint(0, 256, [height, width, 3]), tf.uint8),
        tf.constant(rng.randint(0, COUNT, count), tf.int32),
        tf.constant(rng.uniform(0, 1, [count, 3]), tf.float32),
        **drawn_from(rng, height * width),
    )
    return 1, 1


def main(path: str, seconds: float) -> None:
    """Call them for so long."""
    ops = tf.load_op_library(path)
    sides = [(1, 1), (2, 9), (48, 65), (130, 97)]
    records = [
        example(3, encoded=jpeg(form, *side)) for form in FORMS for side in sides
    ]
    rng, asked, made = np.random.RandomState(0), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            some = images(ops, rng, records) if rng.randint(2) else augment(ops, rng)
        except tf.errors.InvalidArgumentError:  # of tables that name too much
            some = 1, 0
        asked, made = asked + some[0], made + some[1]
    print(asked, made)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
