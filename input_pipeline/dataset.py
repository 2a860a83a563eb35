"""Records to batches: what the trainer reads."""

from collections.abc import Callable

import tensorflow as tf

from input_pipeline.errors import DataError
from input_pipeline.faults import MASKED, POLICIES, Tensors, explain, load_group
from input_pipeline.preprocess import eval_image, train_image
from input_pipeline.records import DatasetInfo, load_info, parse
from input_pipeline.stream import finite, host_share, stream

__all__ = ["eval_dataset", "explain", "train_dataset"]

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Records decoded under one guard: the guard's cost per image falls with it, the memory
# of a group and the latency of the first batch grow.
_GROUP = 32

# Which of an image's two seeds.
_CROP, _AUGMENT = 0, 1


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
    augment: Augment | None = None,
    shuffle_buffer: int = 10_000,
    on_bad_record: str = "stop",
) -> tf.data.Dataset:
    """This host's training batches, without end.

    Element k depends on the data and (seed, start + k, num_hosts, host) alone, so that
    a run resumed with `start` continues bit for bit.

    Args:
      data_dir: a folder that input_pipeline.prepare wrote, or a bucket.
      split: a split of that dataset.
      resolution: S, the side of the images in pixels.
      batch_size: B, of this host.
      seed: of the order, the crops and the augmentation.
      start: images that this host has consumed already.
      num_hosts: how many hosts share the data.
      host: which of them this one is, from 0.
      patch_size: n, in pixels; n > 1 moves patches of n x n pixels into the channels.
      layout: of the images, "NHWC" or "HWCN"; H and W are S / n, C is 3 * n * n.
      area_range: smallest and largest share of an image in a crop.
      aspect_ratio_range: smallest and largest width / height of a crop.
      flip: whether to mirror half of the images.
      augment: (uint8[S, S, 3], seed int64[2]) -> uint8[S, S, 3], or None.
      shuffle_buffer: records held in memory to shuffle.
      on_bad_record: "stop" raises InvalidArgumentError, which `explain` turns into one
        line; "skip" prints that line and yields a black image labelled -1.

    Returns:
      A dataset of {"image": uint8[B, S, S, 3], "label": int32[B]}, labels from 0; the
      images' shape is another where patch_size and layout say so.

    Raises:
      DataError: no prepared dataset in `data_dir`, or an unknown split, policy or
        layout.
    """
    info = _checked_info(data_dir, split, on_bad_record, layout)

    def load(element: Tensors) -> Tensors:
        encoded, label = _checked_fields(element, info)
        image = train_image(
            encoded,
            resolution,
            _image_seed(seed, element["index"], _CROP),
            area_range=area_range,
            aspect_ratio_range=aspect_ratio_range,
            flip=flip,
        )
        return {"image": image, "label": label}

    records = stream(
        info,
        data_dir,
        split,
        seed=seed,
        start=start,
        num_hosts=num_hosts,
        host=host,
        shuffle_buffer=shuffle_buffer,
    )
    images = _load(
        records, load, info, resolution, min(_GROUP, batch_size), on_bad_record
    )
    images = images.map(
        lambda element: _finish(element, seed, augment),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return _batches(images, batch_size, patch_size, layout)


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
    on_bad_record: str = "stop",
) -> tf.data.Dataset:
    """This host's share of a split once, in file order, padded to whole batches.

    Args:
      data_dir: a folder that input_pipeline.prepare wrote, or a bucket.
      split: a split of that dataset.
      resolution: S, the side of the images in pixels.
      batch_size: B, of this host.
      num_batches: how many batches to yield, the last ones wholly padding, so that all
        hosts and replicas take equally many; just enough for this host if None.
      num_hosts: how many hosts share the data.
      host: which of them this one is, from 0.
      patch_size: as in `train_dataset`, like the next two.
      layout: see patch_size.
      on_bad_record: see patch_size.

    Returns:
      A dataset of {"image": uint8[B, S, S, 3], "label": int32[B]}; padding is black and
      labelled -1.

    Raises:
      DataError: no prepared dataset in `data_dir`, or an unknown split, policy or
        layout.
      ValueError: `num_batches` batches do not hold this host's share.
    """
    info = _checked_info(data_dir, split, on_bad_record, layout)
    share = host_share(info.split(split).total, num_hosts, host)
    needed = -(-share // batch_size)
    num_batches = needed if num_batches is None else num_batches
    if num_batches < needed:
        raise ValueError(
            f"{num_batches} batches of {batch_size} do not hold this host's {share} "
            f"records: {needed} are needed"
        )

    def load(element: Tensors) -> Tensors:
        encoded, label = _checked_fields(element, info)
        return {"image": eval_image(encoded, resolution), "label": label}

    records = finite(info, data_dir, split, num_hosts=num_hosts, host=host)
    images = _load(
        records, load, info, resolution, min(_GROUP, batch_size), on_bad_record
    )
    blank = {
        "image": tf.zeros([resolution, resolution, 3], tf.uint8),
        "label": tf.constant(MASKED),
    }
    padding = tf.data.Dataset.from_tensors(blank)
    padding = padding.repeat(num_batches * batch_size - share)
    images = images.map(lambda element: _finish(element, 0, augment=None))
    return _batches(images.concatenate(padding), batch_size, patch_size, layout)


def _checked_info(
    data_dir: str, split: str, on_bad_record: str, layout: str
) -> DatasetInfo:
    if layout not in ("NHWC", "HWCN"):
        raise DataError(f"layout is {layout!r}: choose NHWC or HWCN")
    if on_bad_record not in POLICIES:
        raise DataError(
            f"on_bad_record is {on_bad_record!r}: choose {' or '.join(POLICIES)}"
        )
    info = load_info(data_dir)
    info.split(split)
    return info


def _checked_fields(element: Tensors, info: DatasetInfo) -> tuple[tf.Tensor, tf.Tensor]:
    """The JPEG bytes and the label from 0; raises where load_group shall report."""
    example = parse(element["serialized"])
    label = example["label"] - info.label_offset
    sound = (label >= 0) & (label < len(info.label_names))
    sound &= tf.image.is_jpeg(example["encoded"])
    with tf.control_dependencies([tf.debugging.Assert(sound, ["a bad field"])]):
        return tf.identity(example["encoded"]), tf.cast(label, tf.int32)


@tf.autograph.experimental.do_not_convert
def _finish(element: Tensors, seed: int, augment: Augment | None) -> Tensors:
    """Augments what is not masked and drops the index."""
    image, label = element["image"], element["label"]
    if augment is not None:
        key = _image_seed(seed, element["index"], _AUGMENT)
        image = tf.cond(label == MASKED, lambda: image, lambda: augment(image, key))
    return {"image": image, "label": label}


def _image_seed(seed: int, index: tf.Tensor, purpose: int) -> tf.Tensor:
    """int64[2], a function of its arguments alone."""
    key = tf.stack([tf.constant(seed, tf.int64), index])
    return tf.random.stateless_uniform([2, 2], key, 0, 2**31 - 1, tf.int64)[purpose]


def _load(
    records: tf.data.Dataset,
    load: Callable[[Tensors], Tensors],
    info: DatasetInfo,
    resolution: int,
    group_size: int,
    on_bad_record: str,
) -> tf.data.Dataset:
    """Records to {"image", "label", "index"}, one by one, in the same order."""

    # Nothing below is written for AutoGraph, and converting it takes seconds.
    @tf.autograph.experimental.do_not_convert
    def load_records(group: Tensors) -> Tensors:
        return load_group(
            group, load, info, resolution=resolution, on_bad_record=on_bad_record
        )

    groups = records.batch(group_size)
    return groups.map(load_records, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def _batches(
    images: tf.data.Dataset, batch_size: int, patch_size: int, layout: str
) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # The hosts have shared the records out already.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    batches = images.batch(
        batch_size, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE
    )
    if (patch_size, layout) != (1, "NHWC"):
        batches = batches.map(
            lambda batch: _rearranged(batch, patch_size, layout),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


@tf.autograph.experimental.do_not_convert
def _rearranged(batch: Tensors, patch_size: int, layout: str) -> Tensors:
    """Moves patches into the channels and the batch to the end, for the accelerator."""
    images = batch["image"]
    if patch_size > 1:
        images = tf.nn.space_to_depth(images, patch_size)
    if layout == "HWCN":
        images = tf.transpose(images, [1, 2, 3, 0])
    return {**batch, "image": images}
