"""Records to images in one op: what TensorFlow's several make, bit for bit."""

import functools
import io
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import preprocess
from input_pipeline.autoaugment import POLICIES, auto_augment
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.fused import check, images
from input_pipeline.randaugment import policy_of, rand_augment
from input_pipeline.records import parse
from tests.input_pipeline.builders import LABEL_NAMES, example

INFO = DatasetInfo("tiny", label_offset=1, label_names=LABEL_NAMES, splits={})
USUAL = {
    "area_range": (0.08, 1.0),
    "aspect_ratio_range": (3 / 4, 4 / 3),
    "flip": True,
    "method": "bicubic",
}
# Of areas and aspect ratios; of the last four, windows fit seldom, or never.
RANGES = [
    ((0.08, 1.0), (3 / 4, 4 / 3)),
    ((0.3, 0.9), (0.1, 10.0)),
    ((1e-6, 1.0), (0.01, 100.0)),
    ((0.1, 0.1001), (0.5, 2.0)),
    ((1.0, 1.0), (1.0, 1.0)),
    ((0.99, 1.0), (0.01, 0.02)),
    ((1e-6, 1e-6), (50.0, 100.0)),
    ((1e-6, 0.05), (1.0, 1.0)),
]
FORMS = {
    "4:2:0": ("RGB", {"quality": 90}),
    "4:2:2": ("RGB", {"quality": 75, "subsampling": 1}),
    "4:4:4": ("RGB", {"quality": 98, "subsampling": 0}),
    "progressive": ("RGB", {"quality": 85, "progressive": True}),
    "grey": ("L", {"quality": 80}),
    "four colours": ("CMYK", {"quality": 80}),
    "optimised": ("RGB", {"quality": 10, "optimize": True}),
}
SIDES = [(1, 1), (2, 9), (17, 16), (48, 65), (130, 97)]


def jpeg(form: str, height: int, width: int) -> bytes:
    """A gradient with noise, so that neither is all that is tested."""
    mode, options = FORMS[form]
    ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    noise = np.random.RandomState(height).randint(0, 56, ramp.shape)
    output = io.BytesIO()
    image = Image.fromarray((ramp + noise).astype(np.uint8)).convert(mode)
    image.save(output, "JPEG", **options)
    return output.getvalue()


def in_group(records: Sequence[bytes], first: int = 0) -> images.Tensors:
    """Records as the stream has them."""
    indices = tf.range(first, first + len(records), dtype=tf.int64)
    return {"serialized": tf.constant(records, tf.string), "index": indices}


def train(ops, group, size, seed=3, augment=None, **crop):
    """Of the fused op."""
    return images.train_images(
        group,
        ops=ops,
        info=INFO,
        resolution=size,
        seed=seed,
        pixels="floor" if augment else "nearest",
        policy=augment and policy_of(augment, size),
        **{**USUAL, **crop},
    )


def different(ops, encoded, size, indices, seed=3, augment=None, **crop) -> list[int]:
    """The indices of which the fused op makes another image than TensorFlow's ops."""
    group = in_group([example(0, encoded=encoded, label=2)] * len(indices), indices[0])
    made, ok = train(ops, group, size, seed, augment, **crop)
    assert np.all(ok)
    assert np.all(made["label"] == 1)
    plain = functools.partial(
        check.train_image,
        tf.constant(encoded),
        size,
        seed,
        augment=augment,
        **{**USUAL, **crop},
    )
    wanted = tf.data.Dataset.from_tensor_slices(group["index"])
    wanted = wanted.map(tf.autograph.experimental.do_not_convert(lambda i: plain(i)))
    pairs = zip(indices, made["image"].numpy(), wanted.as_numpy_iterator(), strict=True)
    return [i for i, got, want in pairs if not np.array_equal(got, want)]


@pytest.mark.parametrize("form", FORMS)
def test_images_are_tensorflows(ops, form):
    assert not different(ops, jpeg(form, 48, 65), 32, range(7))


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_thousands_of_images_are_tensorflows(ops, form):
    """10,080 in all: 7 forms, 5 sizes, 4 resolutions, 3 methods, 24 windows."""
    for side, size, method in itertools.product(
        SIDES, (1, 7, 64, 131), preprocess.RESIZES
    ):
        indices, is_flipped = range(size, size + 24), size != 7
        encoded = jpeg(form, *side)
        assert not different(
            ops, encoded, size, indices, method=method, flip=is_flipped
        )


@pytest.mark.long
@pytest.mark.parametrize("ranges", RANGES)
def test_thousands_of_windows_are_tensorflows(ops, ranges):
    """14,400 in all, of images of all proportions; and seeds of any sign and size."""
    areas, ratios = ranges
    sides = [(1, 1), (1, 90), (90, 1), (61, 56), (300, 7), (64, 64)]
    for side, seed in zip(sides, (0, -1, 2**62, -(2**40), 5, 2**31), strict=True):
        indices = range(2**33, 2**33 + 300)
        encoded = jpeg("4:4:4", *side)
        assert not different(
            ops,
            encoded,
            5,
            indices,
            seed,
            area_range=areas,
            aspect_ratio_range=ratios,
        )


@pytest.mark.long
@pytest.mark.parametrize(
    "augment",
    [
        functools.partial(rand_augment, num_layers=layers, magnitude=magnitude)
        for layers, magnitude in ((1, 0), (2, 10), (3, 28), (5, 100))
    ]
    + [
        functools.partial(rand_augment, ops=["Equalize", "ShearX", "Equalize"]),
        *(functools.partial(auto_augment, policy=policy) for policy in POLICIES),
    ],
    ids=lambda augment: str(augment.keywords),
)
def test_thousands_of_augmented_images_are_tensorflows(ops, augment):
    """3,500 in all, of each policy 500."""
    encoded = jpeg("4:2:0", 48, 65)
    assert not different(ops, encoded, 33, range(500), augment=augment)


def test_no_layer_at_all(ops):
    """The fraction of a level is dropped nevertheless."""
    augment = functools.partial(rand_augment, num_layers=0)
    assert not different(ops, jpeg("grey", 9, 16), 11, range(5), augment=augment)


@pytest.mark.parametrize("size", [1, 2, 31, 32])
def test_groups_of_each_size(ops, size):
    """What a record becomes does not depend on the others."""
    records = [example(i, encoded=jpeg("4:2:0", 9, 9 + i)) for i in range(size)]
    made, ok = train(ops, in_group(records), 8)
    assert made["image"].shape == (size, 8, 8, 3)
    assert np.all(ok)
    for i, record in enumerate(records):
        alone, _ = train(ops, in_group([record], i), 8)
        np.testing.assert_array_equal(made["image"][i], alone["image"][0])
        assert made["label"][i] == i % 5


def test_a_group_of_none(ops):
    made, ok = train(ops, in_group([]), 8)
    assert made["image"].shape == (0, 8, 8, 3)
    assert ok.shape == (0,)


def evaluate(ops, records, size, crop):
    group = in_group(records)
    return images.eval_images(group, ops=ops, info=INFO, resolution=size, crop=crop)


@pytest.mark.parametrize("form", FORMS)
def test_evaluation_is_tensorflows(ops, form):
    for side, size in itertools.product(SIDES, (1, 32, 51)):
        encoded = jpeg(form, *side)
        for method, taken, pixels in itertools.product(
            preprocess.RESIZES, (0.875, 1.0, 0.01, "squash"), ("float32", "uint8")
        ):
            crop = preprocess.EvalCrop(method, taken, pixels)
            made, ok = evaluate(ops, [example(0, encoded=encoded)], size, crop)
            want = preprocess.eval_image(tf.constant(encoded), size, crop)
            assert ok[0]
            assert made["image"].dtype == want.dtype
            np.testing.assert_array_equal(made["image"][0], want)


@pytest.mark.long
def test_every_fraction_of_a_level_is_rounded_as_tensorflow_does(ops):
    """Where halves lie, floats are coarser or finer: a pixel of each kind."""
    flat = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    encoded = tf.io.encode_jpeg(flat, quality=100, chroma_downsampling=False).numpy()
    # Without ops that are drawn; both are of the whole image, or nearly.
    floor = functools.partial(rand_augment, num_layers=0)
    for size in (31, 63, 127, 255):  # scales with fractions of a half and near it
        for method in preprocess.RESIZES:
            for augment in (floor, None):
                assert not different(
                    ops,
                    encoded,
                    size,
                    range(2),
                    augment=augment,
                    area_range=(1.0, 1.0),
                    method=method,
                )
            for pixels in ("float32", "uint8"):
                crop = preprocess.EvalCrop(method, "squash", pixels)
                made, _ = evaluate(ops, [example(0, encoded=encoded)], size, crop)
                want = preprocess.eval_image(tf.constant(encoded), size, crop)
                np.testing.assert_array_equal(made["image"][0], want)


def made_plainly(function) -> np.ndarray | None:
    try:
        return function().numpy()
    except tf.errors.InvalidArgumentError:
        return None


def test_what_is_cut_off_or_damaged_is_read_as_tensorflow_reads_it(ops):
    """In both something is made up, or neither gives an image."""
    whole = jpeg("4:2:0", 48, 65)
    rng, cases = np.random.RandomState(0), []
    for end in range(0, len(whole), 61):
        cases.append(whole[:end])
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.randint(2, len(whole), 3):
            broken[place] = rng.randint(256)
        cases.append(bytes(broken))
    records = [example(0, encoded=content) for content in cases]
    made, ok = train(ops, in_group(records), 24)
    wanted = [
        made_plainly(
            lambda content=content, i=i: check.train_image(
                tf.constant(content), 24, 3, tf.constant(i, tf.int64), None, **USUAL
            )
        )
        for i, content in enumerate(cases)
    ]
    assert ok.numpy().tolist() == [want is not None for want in wanted]
    for got, want in zip(made["image"].numpy(), wanted, strict=True):
        np.testing.assert_array_equal(
            got, np.zeros(got.shape) if want is None else want
        )
    assert 20 < sum(want is None for want in wanted) < len(cases) - 20  # both happen


def texts(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def numbers(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats(*values: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def serialized(
    *entries: tuple[str, tf.train.Feature | bytes], behind: bytes = b""
) -> bytes:
    """An Example of these features in this order, each as often as it is there."""
    content = b""
    for name, one in entries:
        one = one if isinstance(one, bytes) else one.SerializeToString()
        content += part(1, part(1, name.encode()) + part(2, one))
    return part(1, content) + behind


def part(number: int, content: bytes) -> bytes:
    """A field of a message, with its tag and length."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


IMAGE = ("image/encoded", texts(jpeg("4:2:0", 9, 7)))
LABEL = ("image/class/label", numbers(4))
OTHERS = [
    ("image/height", numbers(9, 9)),
    ("a", floats(0.5)),
    ("", texts()),
]
UNPACKED = part(3, b"\x08\x04")  # 4 in an Int64List
USUAL_RECORDS = {
    "as prepare has it": example(3, encoded=jpeg("4:2:0", 9, 7), label=4),
    "in another order": serialized(LABEL, *OTHERS, IMAGE),
    "alone": serialized(IMAGE, LABEL),
}
RARE_RECORDS = {
    "the image twice": serialized(IMAGE, LABEL, IMAGE),
    "the label twice": serialized(LABEL, LABEL, IMAGE),
    "two images": serialized(
        ("image/encoded", texts(*[jpeg("grey", 2, 2)] * 2)), LABEL
    ),
    "two labels": serialized(IMAGE, ("image/class/label", numbers(4, 4))),
    "no label": serialized(IMAGE, *OTHERS),
    "no image": serialized(LABEL, *OTHERS),
    "a label of another type": serialized(IMAGE, ("image/class/label", floats(4.0))),
    "an image of another type": serialized(("image/encoded", numbers(4)), LABEL),
    "no feature": serialized(),
    "a label that is not packed": serialized(IMAGE, ("image/class/label", UNPACKED)),
    "something behind it": serialized(IMAGE, LABEL, behind=b"\x12\x01a"),
    "cut off": serialized(IMAGE, LABEL)[:-1],
    "a label below": serialized(IMAGE, ("image/class/label", numbers(0))),
    "a label above": serialized(IMAGE, ("image/class/label", numbers(6))),
    "a label of many bits": serialized(
        IMAGE, ("image/class/label", numbers(4 + 2**33))
    ),
    "nothing": b"",
    "no example": b"\xff" * 9,
}


def test_which_records_are_made(ops):
    records = {**USUAL_RECORDS, **RARE_RECORDS}
    made, ok = train(ops, in_group([*records.values()]), 8)
    found = dict(zip(records, ok.numpy().tolist(), strict=True))
    assert found == {
        **dict.fromkeys(USUAL_RECORDS, True),
        **dict.fromkeys(RARE_RECORDS, False),
    }
    assert made["label"].numpy().tolist() == [3] * 3 + [0] * len(RARE_RECORDS)


@pytest.mark.long
def test_what_is_made_is_what_tensorflow_reads(ops):
    """4,000 records, of which some bytes are others: whatever they say then."""
    rng, records = np.random.RandomState(1), []
    originals = [*USUAL_RECORDS.values(), *RARE_RECORDS.values()]
    for _ in range(4000):
        record = bytearray(originals[rng.randint(len(originals) - 2)])
        # Most of the bytes are the image's: half of the places lie around it.
        for end in (90, len(record)):
            place = rng.randint(min(end, len(record)))
            record[place] = rng.choice([rng.randint(256), record[place] ^ 1])
        records.append(bytes(record))
    crop = preprocess.EvalCrop("bicubic", "squash", "uint8")
    made, ok = evaluate(ops, records, 4, crop)
    ok = ok.numpy()
    for i, record in enumerate(records):
        if ok[i]:
            fields = parse(tf.constant(record), INFO.fields, image_required=True)
            assert int(made["label"][i]) == int(fields["label"]) - 1
            want = preprocess.eval_image(fields["encoded"], 4, crop)
            np.testing.assert_array_equal(made["image"][i], want)
    assert 200 < np.count_nonzero(ok) < 3800


def call(module, **changes):
    arguments = {
        "serialized": tf.constant([USUAL_RECORDS["alone"]]),
        "index": tf.constant([0], tf.int64),
        "sources": tf.ones([2, 16], tf.int32),
        "image_field": "image/encoded",
        "label_field": "image/class/label",
        "label_offset": 0,
        "num_labels": 9,
        "max_pixels": preprocess.MAX_PIXELS,
        "size": 4,
        "resize": "bicubic",
        "pixels": "floor",
        "crop": "random",
        "central_share": 0.5,
        "T": tf.uint8,
        "ops": "ShearX,Invert",
        "parameters": [0.3, 0.0],
        "tables": [0, 0],
        "num_layers": 1,
        **changes,
    }
    return module.efficientnetx_images(**arguments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serialized": tf.constant("")}, "serialized is a vector"),
        ({"index": tf.constant([0, 1], tf.int64)}, "each record has an index"),
        ({"sources": tf.ones([2, 15], tf.int32)}, "sources has the shape"),
        ({"sources": tf.fill([2, 16], 17)}, "sources name pixels"),
        ({"sources": tf.fill([2, 16], -1)}, "sources name pixels"),
        ({"sources": tf.ones([1, 16], tf.int32)}, "no such table: 1"),
        ({"size": 0, "sources": tf.ones([2, 0], tf.int32)}, "size has to be"),
        ({"resize": "lanczos"}, "unknown resize"),
        ({"pixels": "half"}, "unknown pixels"),
        ({"crop": "left"}, "unknown crop"),
        ({"T": tf.float32}, "T is not what pixels gives"),
        ({"pixels": "float", "T": tf.float32}, "ops are for whole levels"),
        ({"central_share": 0.0}, "central_share"),
        ({"area_range": [0.5]}, "area_range"),
        ({"area_range": [0.5, 0.4]}, "area_range"),
        ({"area_range": [0.0, 1.0]}, "area_range"),
        ({"aspect_ratio_range": [1.0, 1e9]}, "aspect_ratio_range"),
        ({"ops": "ShearX,Shears"}, "unknown op"),
        ({"num_layers": -1}, "num_layers"),
        ({"choices": [0, 1], "chances": [0.5]}, "choices and chances"),
        ({"num_layers": 2, "choices": [0], "chances": [0.5]}, "choices and chances"),
        ({"choices": [2], "chances": [0.5]}, "choices are numbers of ops"),
    ],
)
def test_what_makes_no_sense_is_refused(ops, changes, said):
    assert call(ops).ok.numpy().tolist() == [True]
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        call(ops, **changes)


def test_an_image_of_more_pixels_than_are_allowed_is_left(ops):
    for allowed, is_made in ((9 * 7, True), (9 * 7 - 1, False)):
        assert call(ops, max_pixels=allowed).ok.numpy().tolist() == [is_made]


def own(image, seed):
    return tf.reverse(rand_augment(image, seed), [1])


def of_another_seed(image, seed):
    return auto_augment(image, seed + 1)


def twice(image, seed):
    return rand_augment(rand_augment(image, seed), seed)


def checked(image, seed):
    tf.raw_ops.Assert(condition=tf.reduce_max(image) > 0, data=["black"])
    return rand_augment(image, seed)


@pytest.mark.parametrize("function", [own, of_another_seed, twice, checked])
def test_what_does_more_than_a_policy_is_none(function):
    assert policy_of(function, 8) is None


def test_a_policy_is_known_behind_other_functions():
    policy = policy_of(lambda image, seed: rand_augment(image, seed, magnitude=3), 8)
    assert policy is not None
    assert {op.magnitude for op in policy.ops} == {3}
    assert (len(policy.ops), policy.num_layers, policy.sub_policies) == (16, 2, ())
    policy = policy_of(auto_augment, 8)
    assert policy is not None
    assert len(policy.sub_policies) == 25
    assert (policy.num_layers, policy.sub_policies[0][0][1]) == (2, 0.8)
