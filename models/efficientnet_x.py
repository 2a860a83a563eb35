"""A variant -> a Keras model."""

import dataclasses
import functools

import keras

from models import scaling
from models.blocks import FusedMBConv, MBConv, conv
from models.initializers import classifier_initializer, derive_seed
from models.layers import BatchNormalization, Dropout, Normalize, SeedGeneratorMaker
from models.variants import Variant, get_variant, require


def build_model(
    variant: str | Variant,
    *,
    num_classes: int = 1000,
    width_coefficient: float | None = None,
    depth_coefficient: float | None = None,
    resolution: int | None = None,
    dropout_rate: float | None = None,
    survival_prob: float = 0.8,
    batch_norm_momentum: float = 0.99,
    batch_norm_epsilon: float = 1e-3,
    dtype: str | keras.dtype_policies.DTypePolicy | None = None,
    seed: int = 0,
    make_seed_generator: SeedGeneratorMaker = keras.random.SeedGenerator,
) -> keras.Model:
    """Build a variant.

    Args:
        variant: a name in the table of variants, or a Variant of your own.
        num_classes: number of logits.
        width_coefficient: instead of the variant's, as are the next three.
        depth_coefficient: see width_coefficient.
        resolution: height and width of the input in pixels, 32 or more.
        dropout_rate: before the classifier, in [0, 1).
        survival_prob: keep probability of stochastic depth, in (0, 1]: block i of N
            has 1 - (1 - survival_prob) * i / N.
        batch_norm_momentum: of the moving statistics.
        batch_norm_epsilon: added to the variance.
        dtype: Keras dtype policy of every layer, such as "mixed_bfloat16"; None is
            Keras' global policy.
        seed: of the initial weights, and of the random layers.
        make_seed_generator: from the seed of a random layer to what it draws from, for
            a trainer that needs other masks on each replica.

    Returns:
        A model with the variant's name, from "pixels" [batch, resolution, resolution,
        3] in 0..255, of any integer or float type, to float32 logits
        [batch, num_classes].

    Raises:
        ModelError: for an unknown variant, or a value out of range.
    """
    variant = _override(
        get_variant(variant) if isinstance(variant, str) else variant,
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        resolution=resolution,
        dropout_rate=dropout_rate,
    )
    require(num_classes >= 1, f"num_classes must be 1 or more, not {num_classes}")
    require(
        0 < survival_prob <= 1, f"survival_prob must be in (0, 1], not {survival_prob}"
    )
    policy = keras.dtype_policies.get(dtype)
    batch_norm = {"momentum": batch_norm_momentum, "epsilon": batch_norm_epsilon}
    conv_bn_act = functools.partial(
        _conv_bn_act, variant.activation, batch_norm, seed, policy
    )

    # float32, so that neither integers nor fractions of a pixel are lost on the way.
    size = variant.resolution
    pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
    x = Normalize(dtype=policy, name="normalize")(pixels)
    x = conv_bn_act(x, "stem", scaling.stem_filters(variant), 3, strides=2)
    blocks = scaling.block_specs(variant)
    for i, spec in enumerate(blocks):
        block = FusedMBConv if spec.fused else MBConv
        x = block(
            spec,
            survival_prob=1 - (1 - survival_prob) * i / len(blocks),
            batch_norm_momentum=batch_norm_momentum,
            batch_norm_epsilon=batch_norm_epsilon,
            seed=seed,
            make_seed_generator=make_seed_generator,
            dtype=policy,
            name=f"block_{i}",
        )(x)
    x = conv_bn_act(x, "head", scaling.head_filters(variant), 1)
    x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype=policy, name="pooled_features"
    )(x)
    x = Dropout(
        variant.dropout_rate,
        seed=derive_seed(seed, "dropout"),
        make_seed_generator=make_seed_generator,
        dtype=policy,
        name="dropout",
    )(x)
    x = keras.layers.Dense(
        num_classes,
        kernel_initializer=classifier_initializer(derive_seed(seed, "classifier")),
        dtype=policy,
        name="classifier",
    )(x)
    # A layer of its own: softmax needs float32, the matrix product does not.
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(pixels, logits, name=variant.name)


def _override(variant: Variant, **fields: float | None) -> Variant:
    """Replace the fields that are given."""
    given = {name: value for name, value in fields.items() if value is not None}
    return dataclasses.replace(variant, **given)


def _conv_bn_act(
    activation: str,
    batch_norm: dict[str, float],
    seed: int,
    policy: keras.dtype_policies.DTypePolicy,
    x,
    name: str,
    filters: int,
    kernel_size: int,
    strides: int = 1,
):
    """Apply the stem or the head: convolution, batch normalisation, activation."""
    x = conv(
        filters,
        kernel_size,
        strides=strides,
        seed=seed,
        dtype=policy,
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(**batch_norm, dtype=policy, name=f"{name}_bn")(x)
    return keras.layers.Activation(activation, dtype=policy, name=f"{name}_activation")(
        x
    )
