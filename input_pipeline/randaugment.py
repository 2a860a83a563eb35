"""RandAugment (Cubuk et al., 2020), bit-equal to the authors' TF1 reference.

The reference is tensorflow/tpu, models/official/efficientnet/autoaugment.py. Images are
uint8[H, W, 3] of static shape. A magnitude of 10 is level 1; larger ones are allowed.
"""

import contextvars
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from common import checks
from common.checks import nearest_names
from input_pipeline.errors import DataError
from input_pipeline.fused import library
from input_pipeline.fused.augment import PixelOp
from input_pipeline.fused.augment import in_turn as fused_in_turn

_LUMA = (0.2989, 0.587, 0.114)  # the weights of red, green and blue in grey
_FILL = 128  # grey of the pixels that a geometric op uncovers, and of Cutout

_Matrix = Callable[[tf.Tensor], list]  # from the sign


class _Draw(NamedTuple):
    """What an op draws at random."""

    sign: tf.Tensor  # -1 or 1
    center: tf.Tensor  # of Cutout, (y, x)


def _size(image: tf.Tensor) -> tuple[int, int]:
    height, width, _ = image.shape
    if height is None or width is None:
        raise ValueError("RandAugment needs images of a static shape")
    return height, width


def _blend(start: tf.Tensor | float, pixels: tf.Tensor, factor: float) -> tf.Tensor:
    """Move from whole numbers (factor 0) to the pixels (1) and beyond; to uint8."""
    mixed = start + factor * (pixels - start)
    if factor > 1:
        mixed = tf.clip_by_value(mixed, 0.0, 255.0)
    return tf.cast(mixed, tf.uint8)


def _auto_contrast(image: tf.Tensor) -> tf.Tensor:
    height, width = _size(image)
    rows = tf.cast(tf.reshape(image, [height, width * 3]), tf.float32)
    low, high = (
        reduce(tf.reshape(reduce(rows, axis=0), [width, 3]), axis=0)
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    scale = tf.where(high > low, 255.0 / (high - low), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    # From 0 to 255 and a rounding error: there is nothing to clip.
    stretched = rows * tf.tile(scale, [width]) + tf.tile(offset, [width])
    return tf.reshape(tf.cast(stretched, tf.uint8), image.shape)


def _equalize(image: tf.Tensor) -> tf.Tensor:
    height, width = _size(image)
    # One histogram, and one table, of 256 levels for each channel in turn.
    first = tf.tile(tf.constant([0, 256, 512]), [width])
    bins = tf.cast(tf.reshape(image, [height, width * 3]), tf.int32) + first
    counts = tf.math.bincount(tf.reshape(bins, [-1]), minlength=768, maxlength=768)
    below = tf.cumsum(tf.reshape(counts, [3, 256]), axis=1, exclusive=True)
    # All pixels but the brightest.
    fewer = tf.where(below < height * width, below, 0)
    step = tf.reduce_max(fewer, axis=1, keepdims=True) // 255
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256)[None])
    table = tf.reshape(tf.cast(table, tf.uint8), [-1])
    return tf.reshape(tf.gather_nd(table, tf.expand_dims(bins, -1)), image.shape)


def _posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    # The reference's shift wraps to uint8 and the kernel clamps it to 7: no bits and
    # more than 8 bits both leave one.
    shift = min((8 - bits) % 256, 7)
    return tf.bitwise.bitwise_and(image, tf.constant(255 >> shift << shift, tf.uint8))


def _solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    # In the reference too the threshold wraps to uint8: 256 inverts everything.
    threshold %= 256
    if threshold == 0:
        return 255 - image
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(image >= threshold, tf.uint8))


def _solarize_add(image: tf.Tensor, addition: int) -> tf.Tensor:
    gain = tf.minimum(255 - image, min(addition, 255)) if addition > 128 else addition
    return image + tf.cast(image < 128, tf.uint8) * gain


def _color(image: tf.Tensor, factor: float) -> tf.Tensor:
    # tf.image.rgb_to_grayscale, with a sum whose order is the same on every CPU.
    height, width = _size(image)
    channels = tf.transpose(tf.reshape(image, [-1, 3]))
    scaled = tf.unstack(tf.cast(channels, tf.float32) * np.float32(1 / 255))
    red, green, blue = (s * w for s, w in zip(scaled, _LUMA, strict=True))
    grey = tf.floor((red + green + blue) * 255.5)
    # To three channels by a product with ones and zeros: exact, and faster than tile.
    group = math.gcd(height * width, 8)
    repeat = np.kron(np.eye(group), np.ones([1, 3])).astype(np.float32)
    grey = tf.reshape(tf.reshape(grey, [-1, group]) @ repeat, image.shape)
    return _blend(grey, tf.cast(image, tf.float32), factor)


def _contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    # The reference takes the mean of the histogram's bins, not of the pixels.
    height, width = _size(image)
    grey = int(min(height * width / 256.0, 255.0))
    return _blend(float(grey), tf.cast(image, tf.float32), factor)


def _brightness(image: tf.Tensor, factor: float) -> tf.Tensor:
    return tf.cast(tf.minimum(tf.cast(image, tf.float32) * factor, 255.0), tf.uint8)


def _sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    # The mean of nine pixels, the middle one five times. Many a sum is a whole number
    # but for its last bit, by which it is cut off to one grey level or another, so the
    # order counts. A convolution's depends on the CPU; that of additions, which a graph
    # gathers into one AddN, on the buffers that are free. Hence subtractions.
    height, width = _size(image)
    if min(height, width) < 3:
        return image
    rows = tf.reshape(image, [height, width * 3])
    # Rows of the pixels at x, x + 1 and x + 2: what they wrap round to at the end is
    # dropped, and slices of whole rows need no copy.
    flat = tf.pad(tf.reshape(image, [-1]), [[0, 6]])
    left, middle, right = (
        tf.cast(tf.reshape(flat[i : i + height * width * 3], rows.shape), tf.float32)
        for i in (0, 3, 6)
    )
    weight = np.float32(-1) / np.float32(13)
    columns = [left * weight, middle * weight, right * weight]
    terms = [column[i : i + height - 2] for i in range(3) for column in columns]
    middle = middle[1:-1]
    terms[4] = middle * (np.float32(-5) / np.float32(13))
    smooth = tf.floor(functools.reduce(tf.subtract, terms[1:], -terms[0]))
    inner = _blend(smooth, middle, factor)[:, :-6]
    inner = tf.concat([rows[1:-1, :3], inner, rows[1:-1, -3:]], axis=1)
    sharp = tf.concat([rows[:1], inner, rows[-1:]], axis=0)
    return tf.reshape(sharp, image.shape)


def _sources(height: int, width: int, matrix: _Matrix) -> list[np.ndarray]:
    """Return each output pixel's input pixel from 1, 0 for none, for both signs.

    They are known before the first image: the reference's kernel tells them by moving
    the pixels' numbers. On a CPU, as a GPU rounds differently.
    """
    with tf.init_scope(), tf.device("CPU:0"):
        numbers = tf.reshape(1 + tf.range(height * width), [1, height, width, 1])
        moved = [
            tf.raw_ops.ImageProjectiveTransformV3(
                images=numbers,
                transforms=tf.stack([[*matrix(tf.constant(sign)), 0.0, 0.0]]),
                output_shape=[height, width],
                fill_value=0.0,
                interpolation="NEAREST",
                fill_mode="CONSTANT",
            )
            for sign in (1.0, -1.0)
        ]
        return [tf.reshape(sources, [-1, 1]).numpy() for sources in moved]


def _moved(image: tf.Tensor, sign: tf.Tensor, matrix: _Matrix) -> tf.Tensor:
    """Show at (x, y) the input's pixel (a x + b y + c, d x + e y + f), nearest."""
    forth, back = _sources(*_size(image), matrix)
    sources = tf.cond(sign > 0, lambda: tf.constant(forth), lambda: tf.constant(back))
    grey = tf.fill([1, 3], tf.constant(_FILL, tf.uint8))
    pixels = tf.concat([grey, tf.reshape(image, [-1, 3])], axis=0)
    # A third faster than tf.gather.
    return tf.reshape(tf.gather_nd(pixels, sources), image.shape)


def _rotation(degrees: float, height: int, width: int) -> _Matrix:
    """Turn about the centre of the image."""
    bottom, right = height - 1.0, width - 1.0

    def matrix(sign: tf.Tensor) -> list:
        cos = tf.cos(degrees * sign * (math.pi / 180.0))
        sin = tf.sin(degrees * sign * (math.pi / 180.0))
        left = (right - (cos * right - sin * bottom)) / 2.0
        top = (bottom - (sin * right + cos * bottom)) / 2.0
        return [cos, -sin, left, sin, cos, top]

    return matrix


def _shear(share: float, axis: int) -> _Matrix:
    if axis == 1:
        return lambda sign: [1.0, share * sign, 0.0, 0.0, 1.0, 0.0]
    return lambda sign: [1.0, 0.0, 0.0, share * sign, 1.0, 0.0]


def _translation(pixels: float, axis: int) -> _Matrix:
    y, x = (pixels, 0.0) if axis == 0 else (0.0, pixels)
    return lambda sign: [1.0, 0.0, x * sign, 0.0, 1.0, y * sign]


def _translate(
    image: tf.Tensor, sign: tf.Tensor, pixels: float, axis: int
) -> tf.Tensor:
    """Move the image up (axis 0) or left (axis 1), or the other way if sign is -1."""
    if not pixels.is_integer():
        return _moved(image, sign, _translation(pixels, axis))
    height, width = _size(image)
    shape = [height, width * 3]
    moved = min(int(pixels) * (1, 3)[axis], shape[axis])
    begin = tf.where(sign > 0, moved, 0)
    kept = slice(begin, begin + shape[axis] - moved)
    rows = tf.reshape(image, shape)
    rows = rows[kept] if axis == 0 else rows[:, kept]
    uncovered = [moved - begin, begin]
    around = [uncovered, [0, 0]] if axis == 0 else [[0, 0], uncovered]
    return tf.reshape(tf.pad(rows, around, constant_values=_FILL), image.shape)


def _cutout(image: tf.Tensor, half_side: int, center: tf.Tensor) -> tf.Tensor:
    top, left = tf.unstack(tf.maximum(center - half_side, 0))
    bottom, right = tf.unstack(tf.minimum(center + half_side, _size(image)))
    hole = tf.fill([bottom - top, right - left, 3], tf.constant(_FILL, tf.uint8))
    band = image[top:bottom]
    band = tf.concat([band[:, :left], hole, band[:, right:]], axis=1)
    return tf.concat([image[:top], band, image[bottom:]], axis=0)


class AtLevel(NamedTuple):
    """An op and how strong it is.

    Attributes:
      name: one of OP_NAMES.
      magnitude: RandAugment's M, 0 or more.
      translate_const: pixels that Translate moves the image by at magnitude 10.
      cutout_const: half of Cutout's side in pixels at magnitude 10.
    """

    name: str
    magnitude: float
    translate_const: float = 100.0
    cutout_const: float = 40.0

    @property
    def level(self) -> float:
        """The magnitude, of 1."""
        return self.magnitude / 10

    @property
    def parameter(self) -> float:
        """What `_OPS` makes of the level; 0 of an op that has none."""
        make = _OPS[self.name].parameter
        return 0.0 if make is None else make(self)

    def sources(self, height: int, width: int) -> list[np.ndarray]:
        """Return `_sources`, for both signs; nothing of an op that moves no pixels."""
        matrix = _OPS[self.name].matrix
        if matrix is None:
            return []
        return _sources(height, width, matrix(self.parameter, height, width))

    def fused(self, height: int, width: int) -> PixelOp:
        """Return what the fused ops are told of it, for images of that size."""
        return PixelOp(self.name, self.parameter, self.sources(height, width))


class Policy(NamedTuple):
    """What is drawn for an image, and applied.

    Attributes:
      ops: what is drawn from.
      num_layers: how many are drawn, one after another.
      sub_policies: of an op's number and its chance for each layer; one is drawn for an
        image. None at all: each layer draws from all ops, with equal chances.
    """

    ops: Sequence[AtLevel]
    num_layers: int
    sub_policies: Sequence[Sequence[tuple[int, float]]] = ()


class _Op(NamedTuple):
    apply: Callable[[tf.Tensor, Any, _Draw], tf.Tensor]  # with the parameter
    parameter: Callable[[AtLevel], float] | None = None
    matrix: Callable[[float, int, int], _Matrix] | None = None  # what moves pixels


def _factor(op: AtLevel) -> float:
    return op.level * 1.8 + 0.1


def _pixels(op: AtLevel) -> float:
    return float(np.float32(op.level * op.translate_const))


def _moving(matrix: Callable[[float, int, int], _Matrix]) -> Callable:
    return lambda im, p, draw: _moved(im, draw.sign, matrix(p, *_size(im)))


def _shearing(axis: int) -> _Op:
    def matrix(share: float, height: int, width: int) -> _Matrix:
        return _shear(share, axis)

    return _Op(_moving(matrix), lambda op: op.level * 0.3, matrix)


def _translating(axis: int) -> _Op:
    return _Op(
        lambda im, pixels, draw: _translate(im, draw.sign, pixels, axis),
        _pixels,
        lambda pixels, height, width: _translation(pixels, axis),
    )


# In the reference's order.
_OPS: dict[str, _Op] = {
    "AutoContrast": _Op(lambda im, _, draw: _auto_contrast(im)),
    "Equalize": _Op(lambda im, _, draw: _equalize(im)),
    "Invert": _Op(lambda im, _, draw: 255 - im),
    "Rotate": _Op(_moving(_rotation), lambda op: op.level * 30.0, _rotation),
    "Posterize": _Op(
        lambda im, bits, draw: _posterize(im, bits), lambda op: int(op.level * 4)
    ),
    "Solarize": _Op(
        lambda im, least, draw: _solarize(im, least), lambda op: int(op.level * 256)
    ),
    "Color": _Op(lambda im, factor, draw: _color(im, factor), _factor),
    "Contrast": _Op(lambda im, factor, draw: _contrast(im, factor), _factor),
    "Brightness": _Op(lambda im, factor, draw: _brightness(im, factor), _factor),
    "Sharpness": _Op(lambda im, factor, draw: _sharpness(im, factor), _factor),
    "ShearX": _shearing(axis=1),
    "ShearY": _shearing(axis=0),
    "TranslateX": _translating(axis=1),
    "TranslateY": _translating(axis=0),
    "Cutout": _Op(
        lambda im, half_side, draw: _cutout(im, half_side, draw.center),
        lambda op: int(op.level * op.cutout_const),
    ),
    "SolarizeAdd": _Op(
        lambda im, gain, draw: _solarize_add(im, gain), lambda op: int(op.level * 110)
    ),
}
OP_NAMES = tuple(_OPS)


def apply_op(
    image: tf.Tensor,
    name: str,
    magnitude: float,
    sign: float | tf.Tensor = 1.0,
    center: tuple[int, int] | tf.Tensor | None = None,
    *,
    translate_const: float = 100.0,
    cutout_const: float = 40.0,
) -> tf.Tensor:
    """Apply one op with nothing left to chance.

    Args:
      image: uint8[H, W, 3] of static shape.
      name: one of OP_NAMES.
      magnitude: RandAugment's M, 0 or more.
      sign: 1 or -1, the direction of Rotate, Shear and Translate.
      center: (y, x) of Cutout; the image's middle if None.
      translate_const: pixels that Translate moves the image by at magnitude 10.
      cutout_const: half of Cutout's side in pixels at magnitude 10.

    Returns:
      uint8[H, W, 3].

    Raises:
      DataError: an unknown name.
    """
    if name not in _OPS:
        near = nearest_names(name, OP_NAMES) or OP_NAMES
        raise DataError(
            f"RandAugment has no op {name!r}: did you mean {' or '.join(near)}?"
        )
    height, width = _size(image)
    if center is None:
        center = (height // 2, width // 2)
    op = AtLevel(name, magnitude, translate_const, cutout_const)
    draw = _Draw(tf.cast(sign, tf.float32), tf.convert_to_tensor(center, tf.int32))
    return _applied(op, image, draw)


def _applied(op: AtLevel, image: tf.Tensor, draw: _Draw) -> tf.Tensor:
    changed = _OPS[op.name].apply(image, op.parameter, draw)
    return tf.ensure_shape(changed, image.shape)


def in_turn(
    image: tf.Tensor,
    ops: Sequence[AtLevel | None],
    chosen: tf.Tensor,
    draws: tf.Tensor,
) -> tf.Tensor:
    """Apply drawn ops, one after another.

    Args:
      image: uint8[H, W, 3] of static shape.
      ops: what is drawn from; None leaves an image as it is.
      chosen: int32[N], their numbers; N is static.
      draws: float32[N, 3] in [0, 1), of which the sign and Cutout's centre are made.

    Returns:
      uint8[H, W, 3].
    """
    height, width = _size(image)
    module = library.in_use()
    if module is not None:
        fused = [op.fused(height, width) if op else PixelOp("") for op in ops]
        return fused_in_turn(module, image, fused, chosen, draws)
    layer = _one_of(ops, (height, width, 3))
    for index, draw in zip(tf.unstack(chosen), tf.unstack(draws), strict=True):
        image = layer(image, index, draw)
    return image


def _one_of(ops: Sequence[AtLevel | None], shape: tuple[int, int, int]) -> Callable:
    """Build the choice of an op by its index.

    tf.switch_case would do, but takes a quarter of a millisecond longer: it spreads the
    branches out in the graph, whose executor then visits all nodes of all of them.

    Args:
      ops: as of `in_turn`.
      shape: of the images, (H, W, 3).

    Returns:
      A function of an image, the index and float32[3] in [0, 1), which it spends on the
      sign and the centre.
    """
    signature = (
        tf.TensorSpec(shape, tf.uint8),
        tf.TensorSpec([], tf.float32),
        tf.TensorSpec([2], tf.int32),
    )

    def branch(op: AtLevel | None) -> Any:
        def apply(image: tf.Tensor, sign: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
            return _applied(op, image, _Draw(sign, center)) if op else image

        return tf.function(apply, autograph=False).get_concrete_function(*signature)

    branches = [branch(op) for op in ops]

    def apply(image: tf.Tensor, index: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        sign = tf.where(draw[0] < 0.5, -1.0, 1.0)
        center = tf.cast(draw[1:] * tf.constant(shape[:2], tf.float32), tf.int32)
        (result,) = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=[image, sign, center],
            Tout=[tf.uint8],
            branches=branches,
            output_shapes=[shape],
        )
        return result

    return apply


# Who wants to know a policy instead of having it applied, see `policy_of`.
_asked: contextvars.ContextVar[Callable[..., tf.Tensor] | None] = (
    contextvars.ContextVar("policy_asked", default=None)
)


def draw(image: tf.Tensor, seed: tf.Tensor, policy: Policy) -> tf.Tensor:
    """Draw from a policy for an image, and apply what is drawn.

    Args:
      image: uint8[H, W, 3] of static shape.
      seed: int32 or int64 [2].
      policy: what is drawn.

    Returns:
      uint8[H, W, 3].
    """
    if (asked := _asked.get()) is not None:
        return asked(image, seed, policy)
    ops, rows = policy.ops, policy.sub_policies
    draws = tf.random.stateless_uniform([policy.num_layers + bool(rows), 4], seed)
    if not rows:
        chosen = tf.cast(draws[:, 0] * len(ops), tf.int32)
        return in_turn(image, ops, chosen, draws[:, 1:])
    row = tf.cast(draws[0, 0] * len(rows), tf.int32)
    numbers, chances = ([[one[k] for one in row] for row in rows] for k in range(2))
    is_drawn = draws[1:, 0] < tf.gather(chances, row)
    chosen = tf.where(is_drawn, tf.gather(numbers, row), len(ops))
    return in_turn(image, [*ops, None], chosen, draws[1:, 1:])


def policy_of(
    function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], side: int
) -> Policy | None:
    """Return a policy that a function draws from, or None if it does anything else.

    An assertion on the image is something else, too.

    Args:
      function: of an image and its seed, as `rand_augment` with its settings.
      side: of the images, in pixels.
    """
    found = []

    def traced(image: tf.Tensor, seed: tf.Tensor) -> None:
        answers = []

        def answer(given: tf.Tensor, by: tf.Tensor, policy: Policy) -> tf.Tensor:
            drawn = tf.identity(given)
            answers.append((given is image and by is seed, drawn, policy))
            return drawn

        begin = len(image.graph.get_operations())
        token = _asked.set(answer)
        try:
            result = function(image, seed)
        finally:
            _asked.reset(token)
        does = image.graph.get_operations()[begin:]
        found.extend(
            policy
            for is_first, drawn, policy in answers
            if is_first and result is drawn and does == [drawn.op]
        )

    tf.function(traced, autograph=False).get_concrete_function(
        tf.TensorSpec([side, side, 3], tf.uint8), tf.TensorSpec([2], tf.int64)
    )
    return found[0] if found else None


# The authors go up to 31. At 100 the strongest op turns an image by 300 degrees.
@checks.rules(
    num_layers=checks.whole(0, 16),
    magnitude=checks.between(0, 100),
    ops=checks.items(
        checks.one_of(*OP_NAMES).holds, f"names from {', '.join(OP_NAMES)}", least=1
    ),
)
def rand_augment(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    num_layers: int = 2,
    magnitude: float = 10,
    ops: Sequence[str] = OP_NAMES,
) -> tf.Tensor:
    """Apply `num_layers` ops, each drawn from all of `ops` with equal chances.

    Args:
      image: uint8[H, W, 3] of static shape.
      seed: int32 or int64 [2]; the result depends on it and the image alone.
      num_layers: RandAugment's N.
      magnitude: RandAugment's M.
      ops: what is drawn from, by name: all 16 as published, or those that leave the
        data what they are. A name that is there twice is drawn twice as often.

    Returns:
      uint8[H, W, 3].

    Raises:
      UserError: a setting makes no sense.
    """
    at_level = [AtLevel(name, magnitude) for name in ops]
    return draw(image, seed, Policy(at_level, num_layers))
