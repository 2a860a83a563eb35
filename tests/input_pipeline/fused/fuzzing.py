"""Calls the fused ops with whatever a fuzzer thinks of; python -m, by test_sanitizer.

    python -m tests.input_pipeline.fused.fuzzing LIBRARY SECONDS

Under AddressSanitizer each read or write outside ends the process. Prints how many
calls were made, and how many of them gave an image.
"""

import sys
import time

import numpy as np
import tensorflow as tf

from tests.input_pipeline.fused.test_images import FORMS, jpeg

HUGE = b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"  # a frame of 65,535 x 65,535 pixels
NAMES = (
    "AutoContrast,Equalize,Invert,Rotate,Posterize,Solarize,Color,Contrast,Brightness,"
    "Sharpness,ShearX,Cutout,SolarizeAdd,"
)


def damaged(rng: np.random.RandomState, content: bytes) -> bytes:
    """Return a JPEG cut off, with other bytes, or with a header that claims a lot."""
    kind = rng.randint(5)
    if kind == 0:
        return content[: rng.randint(len(content) + 1)]
    if kind == 1:
        begin = content.find(b"\xff\xc0")
        return content[:begin] + HUGE + content[begin + len(HUGE) :]
    broken = bytearray(content)
    for place in rng.randint(0, len(content), rng.randint(0, 6) * (kind > 2)):
        broken[place] = rng.randint(256)
    return bytes(broken)


def crop_resize(ops, rng: np.random.RandomState, originals: list[bytes]) -> None:
    """Make an image of a window that may be anywhere."""
    window = rng.randint(0, 140, 4)
    if rng.randint(8) == 0:
        window[rng.randint(4)] = rng.choice([-(2**31), -1, 65_535, 65_536, 2**31 - 1])
    pixels = ("float", "floor", "nearest")[rng.randint(3)]
    ops.efficientnetx_crop_resize(
        tf.constant(damaged(rng, originals[rng.randint(len(originals))])),
        tf.constant(window, tf.int32),
        tf.constant(bool(rng.randint(2))),
        size=int(rng.choice([1, 2, 3, 31, 64, 225])),
        resize=("bicubic", "bilinear", "bilinear_half_pixels")[rng.randint(3)],
        pixels=pixels,
        T=tf.float32 if pixels == "float" else tf.uint8,
    )


def augment(ops, rng: np.random.RandomState) -> None:
    """Change an image of any size by ops of any strength."""
    height, width = rng.randint(1, 70, 2)
    names = NAMES.split(",")
    count = rng.randint(5)
    parameters = rng.choice([0.0, 0.1, 1.0, 4.0, 19.9, 128.0, 300.0, -7.0], len(names))
    top = height * width + 1 + (rng.randint(8) == 0)
    ops.efficientnetx_augment(
        tf.constant(rng.randint(0, 256, [height, width, 3]), tf.uint8),
        tf.constant(rng.randint(0, len(names), count), tf.int32),
        tf.constant(rng.uniform(0, 1, [count, 3]), tf.float32),
        tf.constant(rng.randint(0, top, [2, height * width]), tf.int32),
        ops=NAMES,
        parameters=parameters.tolist(),
        tables=[0] * len(names),
    )


def main(path: str, seconds: float) -> None:
    """Call them for so long."""
    ops = tf.load_op_library(path)
    sides = [(1, 1), (2, 9), (48, 65), (130, 97)]
    originals = [jpeg(form, *side) for form in FORMS for side in sides]
    rng, calls, images = np.random.RandomState(0), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        calls += 1
        try:
            if rng.randint(2):
                crop_resize(ops, rng, originals)
            else:
                augment(ops, rng)
            images += 1
        except tf.errors.InvalidArgumentError:
            pass
    print(calls, images)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
