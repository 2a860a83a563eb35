"""Records to images, a whole group in one op: what is common, and that with speed.

Where a record is not as `prepare` and most programs write it, or its image is no JPEG
or does not decode, the op says so, and leaves it to TensorFlow's own ops.
"""

from typing import Any

import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.fused.augment import PixelOp, described
from input_pipeline.preprocess import MAX_PIXELS, EvalCrop, central_share
from input_pipeline.randaugment import Policy

Tensors = dict[str, tf.Tensor]


def train_images(
    group: Tensors,
    *,
    ops: Any,
    info: DatasetInfo,
    resolution: int,
    seed: int,
    area_range: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
    flip: bool,
    method: str,
    pixels: str,
    policy: Policy | None,
) -> tuple[Tensors, tf.Tensor]:
    """Make the images of training, all but what a user's own functions do to them.

    Args:
      group: K records, of the stream.
      ops: the module of the fused ops.
      info: of the dataset, for its fields and labels.
      resolution: S.
      seed: of the order, the crops and the augmentation.
      area_range: see `preprocess.train_image`, like all to `method`.
      aspect_ratio_range: see there.
      flip: see there.
      method: see there.
      pixels: "floor" is its `to_uint8`, "nearest" its `nearest_uint8`.
      policy: what is drawn for an image and applied, or None.

    Returns:
      {"image": uint8[K, S, S, 3], "label": int32[K]}, and bool[K], which of them are
      made.
    """
    return _images(
        ops,
        group,
        info,
        resolution,
        policy or Policy((), 0),
        seed=seed,
        crop="random",
        central_share=central_share(resolution),
        area_range=area_range,
        aspect_ratio_range=aspect_ratio_range,
        flip=flip,
        resize=method,
        pixels=pixels,
    )


def eval_images(
    group: Tensors, *, ops: Any, info: DatasetInfo, resolution: int, crop: EvalCrop
) -> tuple[Tensors, tf.Tensor]:
    """Do what `preprocess.eval_image` does; see `train_images`."""
    fraction = crop.crop_fraction
    is_whole = isinstance(fraction, str)
    return _images(
        ops,
        group,
        info,
        resolution,
        Policy((), 0),
        crop="whole" if is_whole else "central",
        central_share=1.0 if is_whole else central_share(resolution, fraction),
        resize=crop.resize,
        pixels={"float32": "float", "uint8": "nearest"}[crop.pixels],
    )


def _images(
    ops: Any,
    group: Tensors,
    info: DatasetInfo,
    resolution: int,
    policy: Policy,
    **attributes: Any,
) -> tuple[Tensors, tf.Tensor]:
    drawn_from = [op.fused(resolution, resolution) for op in policy.ops]
    names, tables = described(drawn_from or [PixelOp("")], resolution**2)
    steps = [step for steps in policy.sub_policies for step in steps]
    image, label, ok = ops.efficientnetx_images(
        group["serialized"],
        group["index"],
        tables,
        **names,
        num_layers=policy.num_layers,
        choices=[number for number, _ in steps],
        chances=[chance for _, chance in steps],
        image_field=info.fields.image,
        label_field=info.fields.label,
        label_offset=info.label_offset,
        num_labels=len(info.label_names),
        max_pixels=MAX_PIXELS,
        size=resolution,
        T=tf.float32 if attributes["pixels"] == "float" else tf.uint8,
        **attributes,
    )
    shape = [*group["serialized"].shape, resolution, resolution, 3]
    image = tf.ensure_shape(image, shape)
    label, ok = (tf.ensure_shape(one, shape[:1]) for one in (label, ok))
    return {"image": image, "label": label}, ok
