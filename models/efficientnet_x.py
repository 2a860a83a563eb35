"""A variant -> a Keras model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from common import checks
from common.checks import Rule, nearest_names, optional
from models import foreign_names, scaling, transfer
from models.batch_norm import MeanReducer
from models.blocks import FusedMBConv, LayerMaker, MBConv, run_chain
from models.errors import ModelError, require
from models.initializers import classifier_initializer, derive_seed
from models.input_form import InputForm
from models.layers import Dropout, FromHWCN, Normalize, SeedGeneratorMaker
from models.parts import PARTS
from models.space_to_depth import BatchToSpace, SpaceToBatch, SpaceToDepth
from models.variants import CHANGES, Dialect, Variant, change, get_variant

_VARIANT = checks.rules_of(Variant)


_OF_VARIANT = (  # what build_model may change of it
    "width_coefficient",
    "depth_coefficient",
    "resolution",
    "dropout_rate",
    "batch_norm_momentum",
    "batch_norm_epsilon",
    "dialect",
)


@foreign_names.refuse_arguments
@checks.rules(
    ModelError,
    variant=Rule(
        lambda value: isinstance(value, Variant) or checks.TEXT.holds(value),
        "a name or a Variant, as @variants.Variant() with the parentheses",
    ),
    num_classes=optional(checks.whole(1, 10**6)),
    **{name: optional(_VARIANT[name]) for name in _OF_VARIANT},
    stages=CHANGES,
    blocks=CHANGES,
    survival_prob=checks.number(lambda x: 0 < x <= 1, "above 0 and up to 1"),
    fold_batch_norm=checks.SWITCH,
    stem_block_size=checks.one_of(1, 2, 4),
    stem_reshuffle=checks.one_of("device", "host"),
    input_layout=checks.one_of("NHWC", "HWCN"),
    split_gradients=checks.SWITCH,
    frozen=PARTS,
)
def build_model(
    variant: str | Variant,
    *,
    num_classes: int | None = 1000,
    width_coefficient: float | None = None,
    depth_coefficient: float | None = None,
    resolution: int | None = None,
    dropout_rate: float | None = None,
    stages: Mapping[int, Mapping[str, Any]] | None = None,
    blocks: Mapping[int, Mapping[str, Any]] | None = None,
    survival_prob: float = 0.8,
    batch_norm_momentum: float | None = None,
    batch_norm_epsilon: float | None = None,
    dialect: Dialect | None = None,
    fold_batch_norm: bool = False,
    stem_block_size: int = 1,
    stem_reshuffle: str = "device",
    input_layout: str = "NHWC",
    split_gradients: bool = False,
    frozen: Sequence[str] = (),
    dtype: str | keras.dtype_policies.DTypePolicy | None = None,
    seed: int = 0,
    make_seed_generator: SeedGeneratorMaker = keras.random.SeedGenerator,
    reduce_mean: MeanReducer | None = None,
) -> keras.Model:
    """Build a variant.

    Args:
      variant: a name in the table of variants, or a Variant of your own.
      num_classes: number of logits; in a config, None is as many as the data have
        classes.
      width_coefficient: factor of all channels; None is the variant's, as of the next
        three.
      depth_coefficient: factor of the blocks in each stage.
      resolution: height and width of the input in pixels.
      dropout_rate: before the classifier, in [0, 1).
      stages: fields to change, by number of the stage: see `models.change`.
      blocks: fields to change, by index of the block: see `models.change`.
      survival_prob: keep probability of stochastic depth, in (0, 1]: block i of N
        has 1 - (1 - survival_prob) * i / N.
      batch_norm_momentum: of the moving statistics; None is the variant's.
      batch_norm_epsilon: added to the variance; None is the variant's.
      dialect: "reference" or "timm", see `models.Variant`; None is the variant's.
      fold_batch_norm: convolutions with a bias in place of batch norm. The weights
        come from a model that has it, through `models.stem_forms.copy_weights`.
      stem_block_size: n > 1 computes the stem on patches of n x n pixels: the same
        numbers by another convolution of the same weights, see `models.stem_forms`.
        2 suits every variant, 4 those whose block 0 has the learned
        space-to-depth. It has to divide the resolution.
      stem_reshuffle: who moves the pixels of a patch into the channels: the
        "device", or the "host" before they are fed
        (`models.stem_forms.to_patches`).
      input_layout: "NHWC", or "HWCN" for pixels with the batch last, as a TPU
        keeps them. Keras' own fit and predict take the first axis for the batch:
        they refuse such a model.
      split_gradients: in training, the inputs' gradient of fused blocks with few
        channels by two convolutions, one row and one column of the kernel long: the
        same sums in another order, see `models.layers.SplitGradientConv2D`.
      frozen: parts that do not learn: "stem", "stage_1" ..., "head", "classifier".
        Their batch norm uses the moving statistics in training, too.
      dtype: Keras dtype policy of every layer, such as "mixed_bfloat16"; None is
        Keras' global policy.
      seed: of the initial weights, and of the random layers.
      make_seed_generator: from the seed of a random layer to what it draws from, for
        a trainer that needs other masks on each replica.
      reduce_mean: from a replica's means to those of several, for batch norm over
        more than one replica.

    Returns:
      A model with the variant's name, from "pixels" [batch, resolution, resolution,
      3] in 0..255, of any integer or float type, to float32 logits
      [batch, num_classes].

    Raises:
      ModelError: for an unknown variant, or a value out of range.
      TypeError: for an argument that there is not; what stands for those of
        keras.applications and timm, such as weights or include_top, is said.
    """
    if num_classes is None:
        raise ModelError(
            "num_classes = None is for the config of a run, which has data to count "
            "the classes of: give a number"
        )
    variant = _changed(
        variant,
        stages,
        blocks,
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        resolution=resolution,
        dropout_rate=dropout_rate,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        dialect=dialect,
    )
    _check_activations(variant)
    form = StemForm(stem_block_size, stem_reshuffle, input_layout)
    form.check(variant)
    shared = _Shared(
        seed=seed,
        dtype=keras.dtype_policies.get(dtype),
        batch_norm_momentum=variant.batch_norm_momentum,
        batch_norm_epsilon=variant.batch_norm_epsilon,
        fold_batch_norm=fold_batch_norm,
        split_gradients=split_gradients,
        make_seed_generator=make_seed_generator,
        reduce_mean=reduce_mean,
    )
    make = shared.layer_maker(scaling.block_specs(variant)[0].padding)
    layers = [
        *form.stem(make, variant),
        *_in_batch_domain(_blocks(variant, survival_prob, form, shared)),
        *head_layers(make, variant),
        shared.dropout(variant.dropout_rate),
        *classifier_layers(make, num_classes),
    ]
    pixels = form.of_input(variant.resolution).pixels()
    model = keras.Model(pixels, run_chain(layers, pixels), name=variant.name)
    transfer.freeze(model, frozen)
    return model


def variant_of(settings: Mapping[str, Any]) -> Variant:
    """Return the network that `build_model` makes of these settings, without making it.

    Raises:
      ModelError: for an unknown variant, or a value out of range.
    """
    given = {name: settings.get(name) for name in _OF_VARIANT}
    parts = settings.get("stages"), settings.get("blocks")
    return _changed(settings["variant"], *parts, **given)


def _changed(
    variant: str | Variant,
    stages: Mapping[int, Mapping[str, Any]] | None,
    blocks: Mapping[int, Mapping[str, Any]] | None,
    **fields: float | str | None,
) -> Variant:
    """Return the variant with the fields that are given, of itself and of its parts."""
    if isinstance(variant, str):
        variant = get_variant(variant)
    given = {name: value for name, value in fields.items() if value is not None}
    require(
        not (variant.block_changes and "depth_coefficient" in given),
        f"{variant.name} has changes to single blocks, which another "
        "depth_coefficient would move to others; change the blocks after the depth",
    )
    return change(dataclasses.replace(variant, **given), stages, blocks)


def _check_activations(variant: Variant) -> None:
    specs = scaling.block_specs(variant)
    for name in (variant.activation, *(spec.activation for spec in specs)):
        check_activation(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shared:
    """What all layers have in common: `build_model`'s arguments of these names."""

    seed: int
    dtype: keras.dtype_policies.DTypePolicy
    batch_norm_momentum: float
    batch_norm_epsilon: float
    fold_batch_norm: bool
    split_gradients: bool
    make_seed_generator: SeedGeneratorMaker
    reduce_mean: MeanReducer | None

    def layer_maker(self, padding: str) -> LayerMaker:
        """Return what makes the layers outside the blocks."""
        return LayerMaker.of(
            self.seed,
            self.dtype,
            padding=padding,
            fold_batch_norm=self.fold_batch_norm,
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
            reduce_mean=self.reduce_mean,
        )

    def dropout(self, rate: float) -> Dropout:
        """Make the layer in front of the classifier."""
        return Dropout(
            rate,
            seed=derive_seed(self.seed, "dropout"),
            make_seed_generator=self.make_seed_generator,
            dtype=self.dtype,
            name="dropout",
        )


def _blocks(
    variant: Variant, survival_prob: float, form: "StemForm", shared: _Shared
) -> list[keras.Layer]:
    """Make all blocks; only the first one sees the stem's patches."""
    specs = scaling.block_specs(variant)
    stages = scaling.stage_of_block(variant)
    return [
        (FusedMBConv if spec.fused else MBConv)(
            spec,
            stage=stage,
            survival_prob=1 - (1 - survival_prob) * i / len(specs),
            input_of_patches=form.patch_size == 4 and i == 0,
            name=f"block_{i}",
            **vars(shared),
        )
        for i, (spec, stage) in enumerate(zip(specs, stages, strict=True))
    ]


@dataclasses.dataclass(frozen=True)
class StemForm:
    """In what form pixels arrive and the stem computes."""

    patch_size: int
    rearranged_by: str  # "device" or "host"
    layout: str

    def check(self, variant: Variant) -> None:
        """Refuse what this variant's stem cannot be rewritten to."""
        scaling.check_stem(variant, self.patch_size)
        require(
            self.patch_size > 1 or self.rearranged_by == "device",
            'stem_reshuffle = "host" has nothing to move at stem_block_size = 1',
        )

    def of_input(self, resolution: int) -> InputForm:
        """Return what the model is fed with."""
        patch_size = self.patch_size if self.rearranged_by == "host" else 1
        return InputForm(resolution, patch_size, self.layout)

    def stem(self, make: LayerMaker, variant: Variant) -> list[keras.Layer]:
        """Make the layers from the input to the first activation."""
        filters = scaling.stem_filters(variant)
        layers: list[keras.Layer] = []
        if self.layout == "HWCN":
            shape = self.of_input(variant.resolution).image_shape
            layers.append(FromHWCN(shape, name="from_hwcn"))
        colors = variant.mean_rgb, variant.std_rgb
        layers.append(Normalize(*colors, dtype=make.dtype, name="normalize"))
        if self.patch_size > 1 and self.rearranged_by == "device":
            layers.append(SpaceToDepth(self.patch_size, name="stem_patches"))
        if self.patch_size > 1:
            conv = make.patch_stem("stem_conv", filters, self.patch_size)
        else:
            conv = make.conv("stem_conv", filters, 3, strides=2)
        groups = 4 if self.patch_size == 4 else 1
        norm = make.bn_act("stem", variant.activation, groups=groups)
        return [*layers, *conv, *norm]


def _in_batch_domain(blocks: Sequence[keras.Layer]) -> list[keras.Layer]:
    """Put space-to-batch around the blocks that ask for it, once around neighbours."""
    layers: list[keras.Layer] = []
    moves = scaling.batch_domain_moves([block.spec for block in blocks])
    for i, (block, (enters, leaves)) in enumerate(zip(blocks, moves, strict=True)):
        n = block.spec.space_to_batch
        if enters:
            layers.append(SpaceToBatch(n, name=f"space_to_batch_{i}"))
        layers.append(block)
        if leaves:
            layers.append(BatchToSpace(n, name=f"batch_to_space_{i + 1}"))
    return layers


def head_layers(make: LayerMaker, variant: Variant) -> list[keras.Layer]:
    """Make the layers from the last block to the pooled features."""
    pool = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype=make.dtype, name="pooled_features"
    )
    conv = make.conv("head_conv", scaling.head_filters(variant))
    return [*conv, *make.bn_act("head", variant.activation), pool]


def classifier_layers(make: LayerMaker, num_classes: int) -> list[keras.Layer]:
    """Make the layers from the pooled features to the logits."""
    initializer = classifier_initializer(derive_seed(make.seed, "classifier"))
    dense = keras.layers.Dense(
        num_classes,
        kernel_initializer=initializer,
        dtype=make.dtype,
        name="classifier",
    )
    # A layer of its own: softmax needs float32, the matrix product does not.
    return [dense, keras.layers.Activation("linear", dtype="float32", name="logits")]


# Functions beside Keras' activations, and those that need more than a tensor or that
# change its shape.
_NO_ACTIVATIONS = ("get", "serialize", "deserialize", "threshold", "glu")


def check_activation(name: Any) -> None:
    """Refuse what Keras does not know by this name."""
    known = [
        key
        for key, value in vars(keras.activations).items()
        if callable(value) and key not in _NO_ACTIVATIONS
    ]
    near = nearest_names(str(name), known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {known}"
    require(name in known, f"unknown activation {name!r}; {hint}")
