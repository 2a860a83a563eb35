"""The blocks of EfficientNet-X: squeeze-and-excite, MBConv and fused MBConv."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from models.batch_norm import BatchNormalization, MeanReducer, has_gradient
from models.initializers import derive_seed, kernel_initializer
from models.layers import SeedGeneratorMaker, SplitGradientConv2D, StochasticDepth
from models.scaling import BlockSpec
from models.space_to_depth import SpaceToDepth
from models.stem_forms import PatchConv2D, PatchStemConv2D

_register = keras.saving.register_keras_serializable(package="efficientnet_x")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerMaker:
    """Makes the layers of a part of the network, with what they have in common.

    Attributes:
      seed: of the part; every kernel's own follows from it and the layer's name.
      dtype: of the layers, a Keras dtype policy.
      padding: "same", or "symmetric" for equal zeros on all four sides, which
        differs where a stride makes their number odd.
      batch_norm: arguments of BatchNormalization, or None for convolutions with a
        bias in its place, as they are when batch norm is folded into them.
    """

    seed: int
    dtype: Any
    padding: str = "same"
    batch_norm: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        seed: int,
        dtype: Any,
        *,
        padding: str,
        fold_batch_norm: bool,
        **batch_norm: Any,
    ) -> "LayerMaker":
        """Make one that leaves batch norm out where it is to be folded."""
        kept = None if fold_batch_norm else batch_norm
        return cls(seed=seed, dtype=dtype, padding=padding, batch_norm=kept)

    def conv(
        self,
        name: str,
        filters: int,
        kernel_size: int = 1,
        *,
        splits_gradient: bool = False,
        **kwargs: Any,
    ):
        """Make a convolution: a list of layers, to be applied one after another."""
        layer = SplitGradientConv2D if splits_gradient else keras.layers.Conv2D
        arguments = {"filters": filters, "kernel_size": kernel_size, **kwargs}
        return self._padded(layer, name, "kernel", **arguments)

    def patch_conv(self, name: str, filters: int) -> list[keras.Layer]:
        """Make a 2x2 stride-2 convolution of an image behind SpaceToDepth(2)."""
        return [self._layer(PatchConv2D, name, "kernel", filters=filters)]

    def patch_stem(self, name: str, filters: int, patch_size: int):
        """Make a 3x3 stride-2 convolution of an image behind SpaceToDepth."""
        arguments = {"filters": filters, "patch_size": patch_size}
        return [self._layer(PatchStemConv2D, name, "kernel", **arguments)]

    def depthwise(self, name: str, kernel_size: int, strides: int):
        """Make a depthwise convolution."""
        arguments = {"kernel_size": kernel_size, "strides": strides}
        return self._padded(
            keras.layers.DepthwiseConv2D, name, "depthwise", **arguments
        )

    def bn(self, name: str, **kwargs: Any) -> list[keras.Layer]:
        """Make the batch normalisation behind the layer `name`, if there is any."""
        if self.batch_norm is None:
            return []
        arguments = {**self.batch_norm, **kwargs}
        return [BatchNormalization(dtype=self.dtype, name=f"{name}_bn", **arguments)]

    def bn_act(self, name: str, activation: str, **kwargs: Any) -> list[keras.Layer]:
        """Make batch normalisation and activation behind the layer `name`."""
        act = keras.layers.Activation(
            activation, dtype=self.dtype, name=f"{name}_activation"
        )
        return [*self.bn(name, **kwargs), act]

    def _padded(self, layer: type[keras.Layer], name: str, kernel: str, **kwargs: Any):
        """Make a convolution with zeros in front where it cannot add them itself."""
        size, strides = kwargs["kernel_size"], kwargs.get("strides", 1)
        # Of an even kernel there is no symmetric padding, and without a stride SAME
        # is symmetric.
        if self.padding == "same" or strides == 1 or size % 2 == 0:
            return [self._layer(layer, name, kernel, padding="same", **kwargs)]
        zeros = keras.layers.ZeroPadding2D(
            (strides - 1 + size - 1) // 2,
            data_format="channels_last",
            dtype=self.dtype,
            name=f"{name}_padding",
        )
        return [zeros, self._layer(layer, name, kernel, padding="valid", **kwargs)]

    def _layer(self, layer: type[keras.Layer], name: str, kernel: str, **kwargs: Any):
        initializer = kernel_initializer(derive_seed(self.seed, name))
        return layer(
            data_format="channels_last",
            dtype=self.dtype,
            name=name,
            **{f"{kernel}_initializer": initializer},
            **{"use_bias": self.batch_norm is None, **kwargs},
        )


@_register
class SqueezeExcite(keras.Layer):
    """Scale each channel by a factor read from the mean of all channels.

    Attributes:
      forward_layers: the layers that hold weights, in the order of the computation.
    """

    def __init__(
        self,
        filters: int,
        se_filters: int,
        *,
        activation: str,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._config = {
            "filters": filters,
            "se_filters": se_filters,
            "activation": activation,
            "seed": seed,
        }
        make = LayerMaker(seed=seed, dtype=self.dtype_policy)
        bias = {"use_bias": True}
        reduce = make.conv("reduce", se_filters, activation=activation, **bias)
        expand = make.conv("expand", filters, activation="sigmoid", **bias)
        self.forward_layers = [*reduce, *expand]
        _share_trainable(self)

    def build(self, input_shape):
        """Build both convolutions, on one pixel."""
        _build_chain(self.forward_layers, (input_shape[0], 1, 1, input_shape[-1]))

    def call(self, inputs, mean=None):
        """Return the inputs scaled; their mean over the pixels may be known."""
        if mean is None:
            mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
            return inputs * run_chain(self.forward_layers, mean)
        factors = ops.cast(run_chain(self.forward_layers, mean), "float32")
        # In float32, so that the factors' gradient is summed as batch norm's sums are:
        # XLA then has one reading for all of them.
        return ops.cast(ops.cast(inputs, "float32") * factors, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Return the inputs' shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), **self._config}


class _Block(keras.Layer):
    """What MBConv and fused MBConv share: all but the expansion.

    Args:
      spec: sizes of the block, or a mapping of BlockSpec's fields.
      stage: number of the block's stage, for who treats stages differently.
      survival_prob: probability that a sample's residual branch survives.
      batch_norm_momentum: of the moving statistics.
      batch_norm_epsilon: added to the variance.
      fold_batch_norm: convolutions with a bias in place of batch norm.
      input_of_patches: the input lies behind SpaceToDepth(2) already, so that the
        learned space-to-depth is a 1x1 convolution.
      split_gradients: see `SplitGradientConv2D`, of fused blocks.
      seed: of the initial weights and of stochastic depth.
      make_seed_generator: from the seed of stochastic depth to what it draws from.
      reduce_mean: see BatchNormalization.
      **kwargs: keras.Layer's.

    Attributes:
      forward_layers: all layers, in the order of the computation.
    """

    def __init__(
        self,
        spec: BlockSpec | Mapping[str, Any],
        *,
        stage: int = 0,
        survival_prob: float = 1.0,
        batch_norm_momentum: float = 0.99,
        batch_norm_epsilon: float = 1e-3,
        fold_batch_norm: bool = False,
        input_of_patches: bool = False,
        split_gradients: bool = False,
        seed: int = 0,
        make_seed_generator: SeedGeneratorMaker = keras.random.SeedGenerator,
        reduce_mean: MeanReducer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec = spec if isinstance(spec, BlockSpec) else BlockSpec(**spec)
        self.stage = stage
        self.survival_prob = survival_prob
        self._config = {
            "batch_norm_momentum": batch_norm_momentum,
            "batch_norm_epsilon": batch_norm_epsilon,
            "fold_batch_norm": fold_batch_norm,
            "input_of_patches": input_of_patches,
            "split_gradients": split_gradients,
            "seed": seed,
        }
        self._make = LayerMaker.of(
            derive_seed(seed, self.name),
            self.dtype_policy,
            padding=self.spec.padding,
            fold_batch_norm=fold_batch_norm,
            momentum=batch_norm_momentum,
            epsilon=batch_norm_epsilon,
            reduce_mean=reduce_mean,
        )
        self._expansion = [
            *self._space_to_depth_layers(input_of_patches),
            *self._expand_layers(),
            *self._squeeze_excite_layers(),
        ]
        self._projection = self._projection_layers()
        self._stochastic_depth = self._make_stochastic_depth(make_seed_generator)
        self.forward_layers = self._expansion + self._projection
        _share_trainable(self)

    def build(self, input_shape):
        """Build every layer."""
        _build_chain(self.forward_layers, input_shape)
        if self._stochastic_depth is not None:
            self._stochastic_depth.build(self.compute_output_shape(input_shape))

    def call(self, inputs, training=None):
        """Expand, project, and add the inputs where the shapes allow it."""
        outputs = run_chain(self._projection, self.expand(inputs, training))
        if self._stochastic_depth is not None:
            outputs = self._stochastic_depth(outputs)
        return outputs + inputs if self.spec.has_skip else outputs

    def expand(self, inputs, training=None):
        """Run the block up to and with squeeze-and-excite, before the projection."""
        if not (training and self._has_joint_gradient()):
            return run_chain(self._expansion, inputs)
        *before, batch_norm, activation, squeeze_excite = self._expansion
        x = run_chain(before, inputs)
        x, mean = batch_norm(x, training=training, activation=activation.activation)
        return squeeze_excite(x, mean)

    def _has_joint_gradient(self) -> bool:
        """Whether batch norm, activation and squeeze-and-excite end the expansion."""
        if self._make.batch_norm is None or not self.spec.se_filters:
            return False
        return has_gradient(self._expansion[-2].activation)

    def compute_output_shape(self, input_shape):
        """Return the shape behind the projection."""
        for layer in self.forward_layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        """Return the constructor's arguments, but for what the trainer passes in."""
        own = {
            "spec": dataclasses.asdict(self.spec),
            "stage": self.stage,
            "survival_prob": self.survival_prob,
        }
        return {**super().get_config(), **own, **self._config}

    def _expand_layers(self) -> list[keras.Layer]:
        """Make what stands between the inputs and squeeze-and-excite."""
        raise NotImplementedError

    def _space_to_depth_layers(self, input_of_patches: bool) -> list[keras.Layer]:
        """Make the space-to-depth, if this block has it."""
        spec, make = self.spec, self._make
        if spec.space_to_depth == "none":
            return []
        if spec.space_to_depth == "reshuffle":
            return [SpaceToDepth(2, name="fold")]
        if input_of_patches:
            conv = make.patch_conv("fold", spec.space_to_depth_filters)
        else:
            conv = make.conv("fold", spec.space_to_depth_filters, 2, strides=2)
        return [*conv, *make.bn_act("fold", spec.activation)]

    def _projection_layers(self) -> list[keras.Layer]:
        if not self.spec.project:
            return []
        conv = self._make.conv("project", self.spec.output_filters)
        return [*conv, *self._make.bn("project")]

    def _make_stochastic_depth(
        self, make_seed_generator: SeedGeneratorMaker
    ) -> StochasticDepth | None:
        if not self.spec.has_skip or self.survival_prob >= 1:
            return None
        return StochasticDepth(
            self.survival_prob,
            parts=self.spec.space_to_batch**2,
            seed=derive_seed(self._make.seed, "stochastic_depth"),
            make_seed_generator=make_seed_generator,
            dtype=self.dtype_policy,
            name="stochastic_depth",
        )

    def _squeeze_excite_layers(self) -> list[keras.Layer]:
        if not self.spec.se_filters:
            return []
        layer = SqueezeExcite(
            self.spec.expanded_filters,
            self.spec.se_filters,
            activation=self.spec.activation,
            seed=derive_seed(self._make.seed, "squeeze_excite"),
            dtype=self.dtype_policy,
            name="squeeze_excite",
        )
        return [layer]


@_register
class MBConv(_Block):
    """Inverted bottleneck: 1x1 expansion, depthwise convolution, 1x1 projection."""

    def _expand_layers(self) -> list[keras.Layer]:
        spec, make = self.spec, self._make
        layers = []
        if spec.has_expansion:
            layers += make.conv("expand", spec.expanded_filters)
            layers += make.bn_act("expand", spec.activation)
        layers += make.depthwise("depthwise", spec.kernel_size, spec.strides)
        return layers + make.bn_act("depthwise", spec.activation)


@_register
class FusedMBConv(_Block):
    """Bottleneck with one dense convolution for both the expansion and the depthwise.

    It has more arithmetic and runs faster: matrix units idle in depthwise convolutions.
    Without a projection that convolution, "expand", makes the outputs.
    """

    def _expand_layers(self) -> list[keras.Layer]:
        spec, make = self.spec, self._make
        size, strides = spec.kernel_size, spec.strides
        layers = make.conv(
            *("expand", spec.expanded_filters, size),
            strides=strides,
            splits_gradient=self._config["split_gradients"],
        )
        return layers + make.bn_act("expand", spec.activation)


def _share_trainable(layer: keras.Layer) -> None:
    """Freeze the parts of a layer that was made frozen, as from a config.

    Keras hands the flag on when it is set, to the parts that are there by then.
    """
    if not layer.trainable:
        for part in layer._flatten_layers(include_self=False, recursive=False):
            part.trainable = False


def _build_chain(layers: list[keras.Layer], input_shape) -> None:
    """Build layers that follow one another."""
    for layer in layers:
        layer.build(input_shape)
        input_shape = layer.compute_output_shape(input_shape)


def run_chain(layers: list[keras.Layer], x):
    """Apply layers one after another; Keras hands `training` on to them."""
    for layer in layers:
        x = layer(x)
    return x
