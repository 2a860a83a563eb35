"""The blocks of EfficientNet-X: squeeze-and-excite, MBConv and fused MBConv."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from models.initializers import derive_seed, kernel_initializer
from models.layers import BatchNormalization, SeedGeneratorMaker, StochasticDepth
from models.scaling import BlockSpec

_register = keras.saving.register_keras_serializable(package="efficientnet_x")


def conv(
    filters: int, kernel_size: int = 1, *, seed: int, name: str, **kwargs: Any
) -> keras.layers.Conv2D:
    """Make a convolution with SAME padding and, unless asked for, no bias."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        data_format="channels_last",
        kernel_initializer=kernel_initializer(derive_seed(seed, name)),
        name=name,
        **{"use_bias": False, **kwargs},
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
        bias = {"use_bias": True, "dtype": self.dtype_policy}
        reduce = conv(
            se_filters, seed=seed, name="reduce", activation=activation, **bias
        )
        expand = conv(filters, seed=seed, name="expand", activation="sigmoid", **bias)
        self.forward_layers = [reduce, expand]

    def build(self, input_shape):
        """Build both convolutions, on one pixel."""
        _build_chain(self.forward_layers, (input_shape[0], 1, 1, input_shape[-1]))

    def call(self, inputs):
        """Return the inputs scaled."""
        mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return inputs * _run_chain(self.forward_layers, mean)

    def compute_output_shape(self, input_shape):
        """Same shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), **self._config}


class _Block(keras.Layer):
    """What MBConv and fused MBConv share: all but the expansion.

    Args:
        spec: sizes of the block, or a mapping of BlockSpec's fields.
        survival_prob: probability that a sample's residual branch survives.
        batch_norm_momentum: of the moving statistics.
        batch_norm_epsilon: added to the variance.
        seed: of the initial weights and of stochastic depth.
        make_seed_generator: from the seed of stochastic depth to what it draws from.
        **kwargs: keras.Layer's.

    Attributes:
        forward_layers: all layers, in the order of the computation.
    """

    def __init__(
        self,
        spec: BlockSpec | Mapping[str, Any],
        *,
        survival_prob: float = 1.0,
        batch_norm_momentum: float = 0.99,
        batch_norm_epsilon: float = 1e-3,
        seed: int = 0,
        make_seed_generator: SeedGeneratorMaker = keras.random.SeedGenerator,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec = spec if isinstance(spec, BlockSpec) else BlockSpec(**spec)
        self.survival_prob = survival_prob
        self.batch_norm_momentum = batch_norm_momentum
        self.batch_norm_epsilon = batch_norm_epsilon
        self.seed = seed
        self._seed = derive_seed(seed, self.name)
        self._expansion = [
            *self._fold_layers(),
            *self._expand_layers(),
            *self._squeeze_excite_layers(),
        ]
        self._projection = self._conv_bn("project", self.spec.output_filters)
        self._stochastic_depth = None
        if self.spec.has_skip and survival_prob < 1:
            self._stochastic_depth = StochasticDepth(
                survival_prob,
                seed=derive_seed(self._seed, "stochastic_depth"),
                make_seed_generator=make_seed_generator,
                dtype=self.dtype_policy,
                name="stochastic_depth",
            )
        self.forward_layers = self._expansion + self._projection

    def build(self, input_shape):
        """Build every layer."""
        _build_chain(self.forward_layers, input_shape)
        if self._stochastic_depth is not None:
            self._stochastic_depth.build(self.compute_output_shape(input_shape))

    def call(self, inputs):
        """Expand, project, and add the inputs where the shapes allow it."""
        outputs = _run_chain(self._projection, self.expand(inputs))
        if self._stochastic_depth is not None:
            outputs = self._stochastic_depth(outputs)
        return outputs + inputs if self.spec.has_skip else outputs

    def expand(self, inputs):
        """Run the block up to and with squeeze-and-excite, before the projection."""
        return _run_chain(self._expansion, inputs)

    def compute_output_shape(self, input_shape):
        """Shape after the projection."""
        for layer in self.forward_layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        """Return the constructor's arguments, but for a generator from outside."""
        own = {
            "spec": dataclasses.asdict(self.spec),
            "survival_prob": self.survival_prob,
            "batch_norm_momentum": self.batch_norm_momentum,
            "batch_norm_epsilon": self.batch_norm_epsilon,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}

    def _expand_layers(self) -> list[keras.Layer]:
        """Make what stands between the inputs and squeeze-and-excite."""
        raise NotImplementedError

    def _fold_layers(self) -> list[keras.Layer]:
        """Make the learned space-to-depth, if this block has it."""
        if not self.spec.space_to_depth:
            return []
        return self._conv_bn_act("fold", self.spec.expanded_filters, 2, strides=2)

    def _squeeze_excite_layers(self) -> list[keras.Layer]:
        if not self.spec.se_filters:
            return []
        layer = SqueezeExcite(
            self.spec.expanded_filters,
            self.spec.se_filters,
            activation=self.spec.activation,
            seed=derive_seed(self._seed, "squeeze_excite"),
            dtype=self.dtype_policy,
            name="squeeze_excite",
        )
        return [layer]

    def _conv_bn(self, name: str, filters: int, *args: Any, **kwargs: Any):
        layer = conv(
            filters,
            *args,
            seed=self._seed,
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )
        return [layer, self._batch_norm(name)]

    def _conv_bn_act(self, name: str, filters: int, *args: Any, **kwargs: Any):
        return [*self._conv_bn(name, filters, *args, **kwargs), self._activation(name)]

    def _batch_norm(self, name: str) -> BatchNormalization:
        return BatchNormalization(
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
            dtype=self.dtype_policy,
            name=f"{name}_bn",
        )

    def _activation(self, name: str) -> keras.Layer:
        return keras.layers.Activation(
            self.spec.activation, dtype=self.dtype_policy, name=f"{name}_activation"
        )


@_register
class MBConv(_Block):
    """Inverted bottleneck: 1x1 expansion, depthwise convolution, 1x1 projection."""

    def _expand_layers(self) -> list[keras.Layer]:
        layers = []
        if self.spec.expand_ratio != 1:
            layers += self._conv_bn_act("expand", self.spec.expanded_filters)
        depthwise = keras.layers.DepthwiseConv2D(
            self.spec.kernel_size,
            strides=self.spec.strides,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            depthwise_initializer=kernel_initializer(
                derive_seed(self._seed, "depthwise")
            ),
            dtype=self.dtype_policy,
            name="depthwise",
        )
        return [
            *layers,
            depthwise,
            self._batch_norm("depthwise"),
            self._activation("depthwise"),
        ]


@_register
class FusedMBConv(_Block):
    """Bottleneck with one dense convolution for both the expansion and the depthwise.

    It has more arithmetic and runs faster: matrix units idle in depthwise convolutions.
    """

    def _expand_layers(self) -> list[keras.Layer]:
        spec = self.spec
        return self._conv_bn_act(
            "expand", spec.expanded_filters, spec.kernel_size, strides=spec.strides
        )


def _build_chain(layers: list[keras.Layer], input_shape) -> None:
    """Build layers that follow one another."""
    for layer in layers:
        layer.build(input_shape)
        input_shape = layer.compute_output_shape(input_shape)


def _run_chain(layers: list[keras.Layer], x):
    """Apply layers one after another; Keras hands `training` on to them."""
    for layer in layers:
        x = layer(x)
    return x
