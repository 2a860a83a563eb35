"""Records to batches: what the trainer reads."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from common import checks
from input_pipeline.bad_records import (
    POLICIES,
    Together,
    augmentation_name,
    blank_image,
    decode_group,
    function_name,
    limited,
)
from input_pipeline.dataset_info import DatasetInfo, load_info
from input_pipeline.errors import DataError
from input_pipeline.fused import images, library
from input_pipeline.in_order import finite
from input_pipeline.preprocess import (
    AUGMENT,
    CROP,
    ERASE,
    RESIZE_RULE,
    THE_REFERENCE,
    EvalCrop,
    cropped_jpeg,
    eval_image,
    image_seeds,
    nearest_uint8,
    to_uint8,
    train_image,
)
from input_pipeline.randaugment import policy_of
from input_pipeline.records import parse
from input_pipeline.service import distributed
from input_pipeline.stream import (
    InputHost,
    Records,
    Tensors,
    read_buffer,
    stream,
)

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Images decoded under one guard, in one call of a function.
_GROUP = 32
# Batches of evaluation that are in the making at a time. One in float32 may have
# gigabytes, and a core more would hold one more.
_EVAL_BATCHES = 2

_SEED_OF = {"augment": AUGMENT, "erase": ERASE}  # which of an image's

_MOST_NUMBERS = 2**31 - 1  # in a tensor, for many of TensorFlow's kernels
_AUGMENT_RULE = checks.optional(checks.function(positional=2))
_RULES = {  # of both functions below
    "batch_size": checks.COUNT,
    "layout": checks.one_of("NHWC", "HWCN"),
    "on_bad_record": checks.one_of(*POLICIES),
    "max_bad_records": checks.whole(0, 10**9),
    "resize": checks.optional(RESIZE_RULE),
    "fused_ops": checks.optional(checks.SWITCH),
}


@checks.rules(
    **_RULES,
    area_range=checks.SHARES,
    aspect_ratio_range=checks.RATIOS,
    flip=checks.SWITCH,
    augment=_AUGMENT_RULE,
    erase=_AUGMENT_RULE,
    shuffle_buffer=checks.whole(1, 2**17),
    service=checks.optional(checks.TEXT),
    service_window=checks.whole(1, 2**16),
)
def train_dataset(
    *,
    data_dir: str,
    split: str = "train",
    resolution: int,
    batch_size: int,
    seed: int,
    start: int = 0,
    num_hosts: int = 1,
    host: int = 0,
    patch_size: int = 1,
    layout: str = "NHWC",
    area_range: tuple[float, float] = (0.08, 1.0),
    aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    resize: str | None = None,
    augment: Augment | None = None,
    erase: Augment | None = None,
    shuffle_buffer: int = 1024,
    on_bad_record: str = "stop",
    max_bad_records: int = 100,
    service: str | None = None,
    service_window: int = 64,
    fused_ops: bool | None = None,
) -> tf.data.Dataset:
    """Return the training batches of an input host, without end.

    Element k depends on the data and (seed, start + k, num_hosts, host) alone, so that
    a run resumed with `start` continues bit for bit, wherever images are decoded.

    Args:
      data_dir: a folder that input_pipeline.prepare wrote, or a bucket.
      split: a split of that dataset, or some of its shards, as in "train[20shard:]".
      resolution: S, the side of the images in pixels.
      batch_size: B, of this input host.
      seed: of the order, the crops and the augmentation.
      start: images that this input host has consumed already.
      num_hosts: how many input hosts share the data.
      host: which of them this one is, from 0.
      patch_size: n, in pixels; n > 1 moves patches of n x n pixels into the channels.
      layout: of the images, "NHWC" or "HWCN"; H and W are S / n, C is 3 * n * n.
      area_range: smallest and largest share of an image in a crop.
      aspect_ratio_range: smallest and largest width / height of a crop.
      flip: whether to mirror half of the images.
      resize: "bicubic", "bilinear" or "bilinear_half_pixels", see
        `preprocess.EvalCrop`. None is as the network's authors resize, where the run
        has a network of the table, else "bicubic".
      augment: (uint8[S, S, 3], seed int64[2]) -> uint8[S, S, 3], or None. Before it
        the fraction of a level is dropped, as in the reference; without it pixels are
        rounded to the nearest level.
      erase: the same, applied behind `augment`.
      shuffle_buffer: records that are shuffled at a time, from chunks of 16 that are
        drawn from everywhere in the split; four such buffers are in memory.
      on_bad_record: "stop" raises InvalidArgumentError, which `bad_records.explain`
        turns into one line; "skip" prints that line and yields a black image that is
        labelled -1.
      max_bad_records: how many this input host may skip in a pass over its share.
      service: "grpc://host:port" of a tf.data service dispatcher whose workers shall
        read and decode; `data_dir` has to mean the same there.
      service_window: buffers that the workers may be ahead of one that is missing, see
        `input_pipeline.service.distributed`.
      fused_ops: whether JPEGs and RandAugment's ops go through the C++ ops of
        `input_pipeline.fused`, which give the same images in less time. None is
        wherever they are built, but not on a service, whose workers all need them.

    Returns:
      A dataset of {"image": uint8[B, S, S, 3], "label": int32[B]}, labels from 0; the
      images' shape is another where patch_size and layout say so.

    Raises:
      UserError: no prepared dataset in `data_dir`, an unknown split, a setting that
        makes no sense, or no dispatcher at `service`.
    """
    _check_size(batch_size, resolution)
    if start < 0:
        raise ValueError(f"start is {start}: nobody has consumed that many images")
    info = load_info(data_dir)
    records = Records(info, data_dir, split)
    input_host = InputHost(host, num_hosts)
    crop_and_flip = {
        "resolution": resolution,
        "area_range": area_range,
        "aspect_ratio_range": aspect_ratio_range,
        "flip": flip,
        "method": resize or THE_REFERENCE.resize,
    }
    quantize = nearest_uint8 if augment is None else to_uint8
    train_any = functools.partial(train_image, **crop_and_flip, quantize=quantize)
    train_jpeg = _of_jpeg(functools.partial(train_any, crop=cropped_jpeg))
    element = functools.partial(_train_element, info=info, seed=seed)
    ops = library.choose(fused_ops, service)
    decode = _group_decoder(
        functools.partial(element, crop_and_flip=train_jpeg),
        info,
        records,
        resolution,
        on_bad_record,
        augmentations=_augmentations(ops, augment=augment, erase=erase),
        decode_rare=functools.partial(element, crop_and_flip=train_any),
        together=ops
        and _train_together(
            augment, erase, ops=ops, info=info, seed=seed, **crop_and_flip
        ),
    )
    size = _divisor(batch_size)
    order = {"seed": seed, "input_host": input_host}
    if service is None:
        elements = stream(records, start=start, shuffle_buffer=shuffle_buffer, **order)
        groups = _decoded(elements.batch(size, drop_remainder=True), decode)
    else:
        read = functools.partial(read_buffer, records, size=shuffle_buffer, **order)
        decoded = _from_service(
            read, decode, service, start, shuffle_buffer, service_window
        )
        groups = decoded.batch(size, drop_remainder=True)
    groups = limited(groups, max_bad_records, input_host.share(records.total))
    return _batches(groups, batch_size // size, patch_size, layout)


@checks.rules(
    **_RULES,
    crop_fraction=checks.optional(EvalCrop.rules["crop_fraction"]),
    pixels=EvalCrop.rules["pixels"],
)
def eval_dataset(
    *,
    data_dir: str,
    split: str = "validation",
    resolution: int,
    batch_size: int,
    num_batches: int | None = None,
    num_hosts: int = 1,
    host: int = 0,
    patch_size: int = 1,
    layout: str = "NHWC",
    resize: str | None = None,
    crop_fraction: float | str | None = None,
    pixels: str = "float32",
    on_bad_record: str = "stop",
    max_bad_records: int = 100,
    fused_ops: bool | None = None,
) -> tf.data.Dataset:
    """Return an input host's share of a split once, in file order, in whole batches.

    Args:
      data_dir: a folder that input_pipeline.prepare wrote, or a bucket.
      split: a split of that dataset, or some of its shards, as in "train[:20shard]".
      resolution: S, the side of the images in pixels.
      batch_size: B, of this input host.
      num_batches: how many batches to yield, the last ones wholly padding, so that all
        input hosts and replicas take equally many; just enough for this one if None.
      num_hosts: how many input hosts share the data.
      host: which of them this one is, from 0.
      patch_size: as in `train_dataset`, like the next one.
      layout: see patch_size.
      resize: as in `train_dataset`.
      crop_fraction: side of the centre square, as a share of the image's shorter side,
        or "squash" for the whole image, whatever its proportions. None is as the
        network's authors score it, where the run has a network of the table, else
        0.875.
      pixels: "float32" is the reference's image to the last bit; "uint8" rounds it to
        the nearest of 0..255, for a quarter of the bytes.
      on_bad_record: "stop" or "skip", as in `train_dataset`.
      max_bad_records: how many this input host may skip in a pass over its share.
      fused_ops: as in `train_dataset`.

    Returns:
      A dataset of {"image": float32 or uint8 [B, S, S, 3], "label": int32[B]}; padding
      is black and labelled -1.

    Raises:
      UserError: no prepared dataset in `data_dir`, an unknown split, or a setting that
        makes no sense.
      ValueError: `num_batches` batches do not hold this host's share.
    """
    _check_size(batch_size, resolution)
    info = load_info(data_dir)
    records = Records(info, data_dir, split)
    input_host = InputHost(host, num_hosts)
    share = input_host.share(records.total)
    needed = -(-share // batch_size)
    num_batches = needed if num_batches is None else num_batches
    if num_batches < needed:
        raise ValueError(
            f"{num_batches} batches of {batch_size} do not hold this host's {share} "
            f"records: {needed} are needed"
        )
    given = {"resize": resize, "crop_fraction": crop_fraction}
    given = {name: value for name, value in given.items() if value is not None}
    crop = EvalCrop(pixels=pixels, **given)
    make = functools.partial(eval_image, resolution=resolution, crop=crop)
    ops, together = library.choose(fused_ops), None
    if ops:
        fused = functools.partial(
            images.eval_images, ops=ops, info=info, resolution=resolution, crop=crop
        )
        together = Together(fused, {})
    decode = _group_decoder(
        functools.partial(_eval_element, info=info, make=make),
        info,
        records,
        resolution,
        on_bad_record,
        together=together,
        pixels=pixels,
    )
    size = _divisor(batch_size)
    elements = finite(records, input_host=input_host)
    groups = limited(_decoded(elements.batch(size), decode), max_bad_records, share)
    padding = tf.data.Dataset.from_tensors(blank_image(resolution, pixels))
    padding = padding.repeat(num_batches * batch_size - share)
    groups = groups.unbatch().concatenate(padding).batch(size, drop_remainder=True)
    return _batches(groups, batch_size // size, patch_size, layout, _EVAL_BATCHES)


def _check_size(batch_size: int, resolution: int) -> None:
    """Refuse a batch that TensorFlow would end the process for, not raise."""
    numbers = 3 * resolution**2 * batch_size
    if numbers > _MOST_NUMBERS:
        raise DataError(
            f"a batch of {batch_size:,} images of {resolution} px has {numbers:,} "
            f"numbers, and a tensor {_MOST_NUMBERS:,} at most: take a smaller batch, "
            "or more replicas"
        )


def _train_element(
    element: Tensors,
    *,
    info: DatasetInfo,
    seed: int,
    crop_and_flip: Callable[..., tf.Tensor],
) -> Tensors:
    """Make an element of the stream {"image", "label", "seeds"}, not yet augmented."""
    encoded, label = _checked_fields(element, info)
    seeds = image_seeds(seed, element["index"])
    image = crop_and_flip(encoded, seed=seeds[CROP])
    return {"image": image, "label": label, "seeds": seeds}


def _of_jpeg(decode: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Make what decodes a JPEG fail before libjpeg complains of what is none."""

    def checked(encoded: tf.Tensor, **settings: Any) -> tf.Tensor:
        is_jpeg = tf.image.is_jpeg(encoded)
        # The bare op: see `preprocess`.
        known = tf.raw_ops.Assert(condition=is_jpeg, data=["not a JPEG"])
        with tf.control_dependencies([known]):
            return decode(tf.identity(encoded), **settings)

    return checked


def _train_together(
    augment: Augment | None,
    erase: Augment | None,
    *,
    ops: Any,
    seed: int,
    resolution: int,
    **settings: Any,
) -> Together:
    """Decode by the fused ops, and augment by them if that is a policy of ours."""
    policy = policy_of(augment, resolution) if augment else None
    decode = functools.partial(
        images.train_images,
        ops=ops,
        seed=seed,
        resolution=resolution,
        pixels="floor" if augment else "nearest",
        policy=policy,
        **settings,
    )
    left = _augmentations(ops, augment=None if policy else augment, erase=erase)

    def with_seeds(change: Callable[[Tensors], Tensors], decoded: Tensors) -> Tensors:
        seeds = image_seeds(seed, decoded["index"])
        return {**change({**decoded, "seeds": seeds}), "index": decoded["index"]}

    return Together(
        decode,
        {name: functools.partial(with_seeds, change) for name, change in left.items()},
    )


def _augmentations(ops: Any, **functions: Augment | None) -> dict[str, Callable]:
    """Return what is done to a sound image, by what explains its failure."""
    return {
        augmentation_name(setting, function): functools.partial(
            _augmented, ops=ops, setting=setting, function=function
        )
        for setting, function in functions.items()
        if function is not None
    }


def _augmented(
    decoded: Tensors, *, ops: Any, setting: str, function: Augment
) -> Tensors:
    """Put another image in the place of the one that `_train_element` made."""
    before = decoded["image"]
    with library.use(ops):
        image = function(before, decoded["seeds"][_SEED_OF[setting]])
    image = tf.convert_to_tensor(image)
    if image.dtype != before.dtype or not before.shape.is_compatible_with(image.shape):
        raise DataError(
            f"{setting} ({function_name(function)}) gives {image.dtype.name} of the "
            f"shape {image.shape}: it has to give {before.dtype.name} of the shape "
            f"{before.shape}, as it takes"
        )
    return {**decoded, "image": tf.ensure_shape(image, before.shape)}


def _eval_element(
    element: Tensors, *, info: DatasetInfo, make: Callable[[tf.Tensor], tf.Tensor]
) -> Tensors:
    encoded, label = _checked_fields(element, info)
    return {"image": make(encoded), "label": label}


def _checked_fields(element: Tensors, info: DatasetInfo) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the image's bytes and the label from 0; raise where a field is bad."""
    example = parse(element["serialized"], info.fields, image_required=True)
    label = example["label"] - info.label_offset
    sound = (label >= 0) & (label < len(info.label_names))
    with tf.control_dependencies([tf.debugging.Assert(sound, ["a bad field"])]):
        return tf.identity(example["encoded"]), tf.cast(label, tf.int32)


def _divisor(size: int) -> int:
    """Return the largest group that a batch or buffer of this size is made of."""
    return max(n for n in range(1, min(size, _GROUP) + 1) if size % n == 0)


def _group_decoder(
    decode_element: Callable[[Tensors], Tensors],
    info: DatasetInfo,
    records: Records,
    resolution: int,
    on_bad_record: str,
    augmentations: dict[str, Callable] | None = None,
    decode_rare: Callable[[Tensors], Tensors] | None = None,
    together: Together | None = None,
    pixels: str = "uint8",
) -> Callable[[Tensors], Tensors]:
    """Make the function from a group of records to {"image", "label"}."""

    # Nothing below is written for AutoGraph, and converting it takes seconds.
    @tf.autograph.experimental.do_not_convert
    def decode(group: Tensors) -> Tensors:
        return decode_group(
            group,
            decode_element,
            info,
            records,
            resolution=resolution,
            on_bad_record=on_bad_record,
            pixels=pixels,
            augmentations=augmentations,
            decode_rare=decode_rare,
            together=together,
        )

    return decode


def _decoded(
    groups: tf.data.Dataset, decode: Callable[[Tensors], Tensors]
) -> tf.data.Dataset:
    return groups.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _from_service(
    read: Callable[[tf.Tensor], Tensors],
    decode: Callable[[Tensors], Tensors],
    service: str,
    start: int,
    shuffle_buffer: int,
    window: int,
) -> tf.data.Dataset:
    """Return decoded images from `start` on."""
    first, skipped = divmod(start, shuffle_buffer)
    groups = distributed(
        read,
        decode,
        service=service,
        first=first,
        buffer_size=shuffle_buffer,
        group_size=_divisor(shuffle_buffer),
        window=window,
    )
    return groups.unbatch().skip(skipped)


def _batches(
    groups: tf.data.Dataset,
    per_batch: int,
    patch_size: int,
    layout: str,
    at_a_time: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Put groups together, in the form that the accelerator wants."""
    options = tf.data.Options()
    options.deterministic = True
    # tf.data's tuner ends with its iterator only when its next look is due, up to a
    # minute later: a run would stand still behind each stage, and before its end.
    options.autotune.enabled = False
    # In place of its 16: as many parallel calls as there are cores.
    options.autotune.initial_parallelism = 1 << 16
    # The input hosts have shared the records out already.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    batches = groups.batch(per_batch, drop_remainder=True).map(
        lambda groups: _rearranged(groups, patch_size, layout),
        num_parallel_calls=at_a_time,
        deterministic=True,
    )
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


@tf.autograph.experimental.do_not_convert
def _rearranged(groups: Tensors, patch_size: int, layout: str) -> Tensors:
    """Flatten groups to a batch; move patches into the channels, the batch last."""
    batch = {
        name: tf.reshape(value, [-1, *value.shape[2:]])
        for name, value in groups.items()
    }
    images = batch["image"]
    if patch_size > 1:
        images = tf.nn.space_to_depth(images, patch_size)
    if layout == "HWCN":
        images = tf.transpose(images, [1, 2, 3, 0])
    return {**batch, "image": images}
