"""Encoded bytes to pixels: the crops, the resize and the flip.

The functions equal the authors' TF1 reference (tensorflow/tpu,
models/official/efficientnet/preprocessing.py), with pixels in 0..255; the model
normalises them. Evaluation is given the reference's float32. Training is given uint8:
of its images the reference itself drops the fraction before AutoAugment and
RandAugment, see `to_uint8`; without these, `nearest_uint8` loses less.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import tensorflow as tf

from common import checks
from common.checks import Rule
from input_pipeline.image_formats import PNG

_CROP_FRACTION = 0.875  # of the shorter side
SQUASH = "squash"  # no crop: the whole image, whatever its proportions
_MAX_ATTEMPTS = 10

CROP, AUGMENT, ERASE = range(3)  # which of an image's seeds
_MIN_COVERED = 0.1

# A header can claim any size and decoding allocates it. ImageNet's largest image has
# 61 million pixels; this allows 300 MB.
MAX_PIXELS = 100_000_000
# Signature, and the length and the name of the chunk that holds width and height.
_PNG = PNG + b"\0\0\0\rIHDR"
_PNG_BITS = 24  # where its bits a sample are, or of a palette's index

CUBIC_COEFFICIENT = -0.75  # of TF1's kernel for bicubic; most programs' is -0.5
# TF1's images lie half a pixel off: its ops have their corners at the pixels' centres.
RESIZES: Mapping[str, Callable[..., tf.Tensor]] = {
    "bicubic": functools.partial(tf.raw_ops.ResizeBicubic, half_pixel_centers=False),
    "bilinear": functools.partial(tf.raw_ops.ResizeBilinear, half_pixel_centers=False),
    "bilinear_half_pixels": functools.partial(
        tf.raw_ops.ResizeBilinear, half_pixel_centers=True
    ),
}
RESIZE_RULE = checks.one_of(*RESIZES)
_SHARE = checks.between(0.01, 1)


@dataclasses.dataclass(frozen=True)
class EvalCrop:
    """What evaluation, export and classify make of a photo.

    Attributes:
      resize: "bicubic" and "bilinear" are TF1's, without half pixels;
        "bilinear_half_pixels" is TF2's and most other programs'. None is antialiased.
      crop_fraction: side of the centre square that is taken, as a share of the photo's
        shorter side; "squash" takes all of it, whatever its proportions.
      pixels: "float32", as the reference has them: bicubic overshoots 0..255; or
        "uint8", the nearest in 0..255.

    Raises:
      UserError: for another value.
    """

    resize: str = "bicubic"
    crop_fraction: float | str = _CROP_FRACTION
    pixels: str = "float32"

    rules: ClassVar[Mapping[str, Rule]] = {
        "resize": RESIZE_RULE,
        "crop_fraction": Rule(
            lambda value: value == SQUASH or _SHARE.holds(value),
            f"{_SHARE.what}, or {SQUASH!r}",
        ),
        "pixels": checks.one_of("float32", "uint8"),
    }

    def __post_init__(self):
        checks.require_fields(self)

    def window(self, shape: tf.Tensor, resolution: int) -> tf.Tensor:
        """Return what is taken of an image, int32[4] (top, left, height, width)."""
        if isinstance(self.crop_fraction, str):
            return tf.concat([[0, 0], shape[:2]], axis=0)
        return central_window(shape, resolution, self.crop_fraction)


THE_REFERENCE = EvalCrop()


def jpeg_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Read int32[3], height, width, channels, from a JPEG's header.

    Raises:
      InvalidArgumentError: no JPEG header, or one that claims more than MAX_PIXELS.
    """
    shape = tf.ensure_shape(tf.image.extract_jpeg_shape(encoded), [3])
    # Two sides of 16 bits each.
    pixels = tf.reduce_prod(tf.cast(shape[:2], tf.int64))
    return _unless(pixels > MAX_PIXELS, shape)


def _unless(too_large: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Return a value, or an error where its image is too large."""
    # The bare op: tf.debugging's assertions cost as much as drawing the crop.
    within = tf.raw_ops.Assert(
        condition=tf.logical_not(too_large),
        data=[f"image has more than {MAX_PIXELS} pixels"],
    )
    with tf.control_dependencies([within] if within is not None else []):
        return tf.identity(value)


def padding(resolution: int, fraction: float) -> int:
    """Return how many pixels are cut off, of an image of them and the resolution."""
    return round(resolution * (1 / fraction - 1))


def central_share(resolution: int, fraction: float = _CROP_FRACTION) -> float:
    """Return which share of an image's shorter side the evaluation crop takes."""
    return resolution / (resolution + padding(resolution, fraction))


def central_window(
    shape: tf.Tensor, resolution: int, fraction: float = _CROP_FRACTION
) -> tf.Tensor:
    """Return the evaluation crop, int32[4] (top, left, height, width), a square."""
    sides = shape[:2]
    shorter = tf.cast(tf.reduce_min(sides), tf.float32)
    side = tf.cast(central_share(resolution, fraction) * shorter, tf.int32)
    side = tf.maximum(side, 1)  # of an image one pixel high or wide
    return tf.concat([(sides - side + 1) // 2, [side, side]], axis=0)


def random_window(
    shape: tf.Tensor,
    resolution: int,
    seed: tf.Tensor,
    *,
    area_range: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
) -> tf.Tensor:
    """Draw the training crop, int32[4]; the central window where no attempt fitted."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=_MIN_COVERED,
        aspect_ratio_range=aspect_ratio_range,
        area_range=area_range,
        max_attempts=_MAX_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    # The sampler answers with the whole image when it fails.
    failed = tf.reduce_all(tf.equal(size[:2], shape[:2]))
    return tf.where(failed, central_window(shape, resolution), window)


def resize(pixels: tf.Tensor, resolution: int, method: str = "bicubic") -> tf.Tensor:
    """Resize uint8[h, w, 3] to float32[S, S, 3], by a method of `EvalCrop.resize`."""
    size = [resolution, resolution]
    if method == "bicubic":
        # Its kernel converts a pixel each time that it reads it, which takes longer
        # than to convert all at once. Of large images the bilinear one reads few.
        pixels = tf.cast(pixels, tf.float32)
    return RESIZES[method](images=pixels[None], size=size, align_corners=False)[0]


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """Clip to 0..255 and drop the fraction, as the reference does to augment."""
    # The op below rounds halves up: half a level less comes to dropping the fraction.
    return nearest_uint8(pixels - 0.5)


def nearest_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """Round to the nearest level of 0..255, halves up."""
    # In one pass, for half the time of clip_by_value and cast.
    quantized, _, _ = tf.raw_ops.QuantizeV2(
        input=pixels,
        min_range=0.0,
        max_range=255.0,
        T=tf.quint8,
        round_mode="HALF_AWAY_FROM_ZERO",
    )
    return tf.bitcast(quantized, tf.uint8)


def cropped(
    encoded: tf.Tensor, window_of: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Decode a part of an image: the one place that says what records may hold.

    Args:
      encoded: string scalar, a file of image_formats.IN_RECORDS: a JPEG of any colour
        space, or a PNG. Of a PNG 16 bits become the upper 8, what is transparent lies
        on white, and of frames the first is taken.
      window_of: from int32[3], height, width, channels, to the part, int32[4]: top,
        left, height, width.

    Returns:
      uint8[h, w, 3].

    Raises:
      InvalidArgumentError: another file, one that does not decode, or a header that
        claims more than MAX_PIXELS.
    """
    return tf.cond(
        tf.image.is_jpeg(encoded),
        lambda: cropped_jpeg(encoded, window_of),
        lambda: _cropped_png(encoded, window_of),
    )


def cropped_jpeg(
    encoded: tf.Tensor, window_of: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Do what `cropped` does, of a JPEG alone: without the branch, which has a cost."""
    # Fused decode and crop, as the reference: slicing a decoded image differs at the
    # window's edge, where chroma upsampling sees other neighbours.
    window = window_of(jpeg_shape(encoded))
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)


def _cropped_png(
    encoded: tf.Tensor, window_of: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    whole = _unless(is_too_large(png_shape(encoded)), encoded)
    image = _opaque_of_few_bits(tf.io.decode_png(whole, channels=4), whole)
    shape = tf.concat([tf.shape(image)[:2], [3]], 0)
    begin, size = tf.split(window_of(shape), 2)
    window = tf.slice(image, tf.pad(begin, [[0, 1]]), tf.concat([size, [4]], 0))
    return on_white(window)


def _opaque_of_few_bits(image: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Undo that the decoder takes 1, 3 or 15 for opaque, of 255.

    Where a PNG of less than 8 bits a pixel has no transparency, it fills alpha with the
    largest number of so many bits; on white, nothing of the image would be left.

    Args:
      image: uint8[H, W, 4].
      encoded: the PNG, whose header is known to be one.
    """
    with tf.control_dependencies([image]):  # of one that is cut off, decoding tells
        depth = tf.strings.substr(encoded, _PNG_BITS, 1)
    bits = tf.io.decode_raw(depth, tf.uint8)[0]
    opaque = tf.bitwise.left_shift(tf.constant(1, tf.uint8), tf.minimum(bits, 7)) - 1
    colours, alpha = tf.split(image, [3, 1], axis=-1)
    # Transparency that is noted has other values, too, or nobody would see the image.
    is_filled = (bits < 8) & tf.reduce_all(alpha == opaque)
    alpha = tf.where(is_filled, tf.constant(255, tf.uint8), alpha)
    return tf.concat([colours, alpha], axis=-1)


def on_white(image: tf.Tensor) -> tf.Tensor:
    """Put an image on white, in whole levels: what is opaque stays bit for bit.

    Args:
      image: uint8[H, W, 4]: RGB, and how opaque each pixel is.

    Returns:
      uint8[H, W, 3].
    """
    wide = tf.cast(image, tf.uint16)  # no product or sum below is above 65,152
    colours, opaque = tf.split(wide, [3, 1], axis=-1)
    summed = colours * opaque + 255 * (255 - opaque)
    return tf.cast((summed + 127) // 255, tf.uint8)


def png_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Read int64[2], height and width, from a PNG's first chunk.

    Raises:
      InvalidArgumentError: no PNG; tf.io.decode_png would also take a GIF, whose first
        bytes do not tell how much there is to decode.
    """
    is_png = tf.strings.substr(encoded, 0, 16) == _PNG
    known = tf.raw_ops.Assert(condition=is_png, data=["image is no JPEG and no PNG"])
    with tf.control_dependencies([known] if known is not None else []):
        sides = tf.strings.substr(encoded, 16, 8)
    width_height = tf.io.decode_raw(sides, tf.int32, little_endian=False)
    width_height = tf.ensure_shape(width_height, [2])  # fewer where it is cut off
    return tf.cast(tf.bitcast(width_height, tf.uint32)[::-1], tf.int64)


def is_too_large(sides: tf.Tensor) -> tf.Tensor:
    """Whether an image of int64[2], height and width, has more than MAX_PIXELS."""
    # Of 32 bits each, so that the product of what is left has 64.
    return tf.reduce_prod(tf.minimum(sides, MAX_PIXELS + 1)) > MAX_PIXELS


def eval_pixels(
    encoded: tf.Tensor,
    resolution: int,
    crop: EvalCrop = THE_REFERENCE,
    decode: Callable[[tf.Tensor, Callable], tf.Tensor] = cropped,
) -> tf.Tensor:
    """Make the evaluation image in full, whatever `crop.pixels` says.

    Args:
      encoded: string scalar, as in `cropped`.
      resolution: S, the side of the result in pixels.
      crop: how it is made.
      decode: as in `eval_image`.

    Returns:
      float32[S, S, 3].
    """
    window_of = functools.partial(crop.window, resolution=resolution)
    pixels = resize(decode(encoded, window_of), resolution, crop.resize)
    return tf.ensure_shape(pixels, [resolution, resolution, 3])


def eval_image(
    encoded: tf.Tensor,
    resolution: int,
    crop: EvalCrop = THE_REFERENCE,
    decode: Callable[[tf.Tensor, Callable], tf.Tensor] = cropped,
) -> tf.Tensor:
    """Preprocess for evaluation, also in the exported model.

    Args:
      encoded: string scalar, as in `cropped`.
      resolution: S, the side of the result in pixels.
      crop: how it is made.
      decode: `cropped`, or `orientation.cropped_upright` for files that people hand in.

    Returns:
      [S, S, 3] of the type that `crop.pixels` names.
    """
    pixels = eval_pixels(encoded, resolution, crop, decode)
    return nearest_uint8(pixels) if crop.pixels == "uint8" else pixels


def train_image(
    encoded: tf.Tensor,
    resolution: int,
    seed: tf.Tensor,
    *,
    area_range: tuple[float, float] = (0.08, 1.0),
    aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    method: str = "bicubic",
    quantize: Callable[[tf.Tensor], tf.Tensor] = to_uint8,
    crop: Callable[[tf.Tensor, Callable], tf.Tensor] = cropped,
) -> tf.Tensor:
    """Crop at random, resize and flip.

    Args:
      encoded: string scalar, as in `cropped`.
      resolution: S, the side of the result in pixels.
      seed: int32 or int64 [2]; the result depends on it and the bytes alone.
      area_range: smallest and largest share of the image in a crop.
      aspect_ratio_range: smallest and largest width / height of a crop.
      flip: whether to mirror left and right with probability 1/2.
      method: of the resize, as `EvalCrop.resize`.
      quantize: from float32 to uint8: `to_uint8` before what the reference augments
        by, else `nearest_uint8`.
      crop: `cropped`, or `cropped_jpeg` where it is known to be one.

    Returns:
      uint8[S, S, 3].
    """
    window_of = functools.partial(
        random_window,
        resolution=resolution,
        seed=seed,
        area_range=area_range,
        aspect_ratio_range=aspect_ratio_range,
    )
    image = quantize(resize(crop(encoded, window_of), resolution, method))
    if flip:
        mirrored = is_mirrored(seed)
        image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.ensure_shape(image, [resolution, resolution, 3])


def image_seeds(seed: int, index: tf.Tensor) -> tf.Tensor:
    """Draw int64[3, 2], a row for each purpose, from the arguments alone."""
    key = tf.stack([tf.constant(seed, tf.int64), index])
    return tf.random.stateless_uniform([3, 2], key, 0, 2**31 - 1, tf.int64)


def is_mirrored(seed: tf.Tensor) -> tf.Tensor:
    """Draw whether the image of a crop's seed is mirrored left and right."""
    # Not the crop's own seed: one seed gives one sequence of numbers.
    return tf.random.stateless_uniform([], seed + 1) < 0.5
