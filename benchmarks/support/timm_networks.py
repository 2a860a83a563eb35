"""Networks of timm's as StableHLO, from timm's own code and without weights.

torch.export gives a network's graph. Its operations, of which these networks use
twenty, are written here in terms of jax, which gives StableHLO. Weights are arguments
of the program, so it does not depend on their values.
"""

import operator
from collections.abc import Callable
from typing import Any

# pyright: reportMissingImports=false
import jax
import jax.numpy as jnp
import timm
import torch
from jax import lax
from timm.models import regnet

from common.checks import nearest_names

_LANES = 128  # channels that a TPU's matrix unit takes at once

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_GROUPED = "conv2.conv.weight"
# The other tensors of RegNet's block that have its grouped channels, and on which axis.
_BESIDE = {
    "conv1.conv.weight": 0,
    **{f"conv1.bn.{name}": 0 for name in _BATCH_NORM},
    **{f"conv2.bn.{name}": 0 for name in _BATCH_NORM},
    "se.fc1.weight": 1,
    "se.fc2.weight": 0,
    "se.fc2.bias": 0,
    "conv3.conv.weight": 1,
}


def pad_groups(network: torch.nn.Module) -> None:
    """Give all groups of a RegNet's convolutions 128 channels, or a multiple.

    As many groups as fit become one, between which the kernel is zero, and zeros fill
    the rest. The channels added are zero from the convolution before the grouped one to
    the one behind it, so the logits stay as they are. A TPU is faster by it.

    Args:
      network: timm's, of RegNet's blocks with squeeze-and-excite; changed in place.

    Raises:
      ValueError: it has none, or others, too; it is as it was.
    """
    blocks = [m for m in network.modules() if isinstance(m, regnet.Bottleneck)]
    expected = {_GROUPED, *_BESIDE}
    if not blocks or any(expected - block.state_dict().keys() for block in blocks):
        raise ValueError(
            "only RegNets with squeeze-and-excite, as RegNetY, have groups that can be "
            "padded here"
        )
    for block in blocks:
        _pad_block(block)


def _pad_block(block: torch.nn.Module) -> None:
    convolution = block.conv2.conv
    tensors = block.state_dict(keep_vars=True)
    kernel = tensors[_GROUPED]
    narrow, device = kernel.shape[1], kernel.device
    wide = -(-narrow // _LANES) * _LANES
    together = wide // narrow
    channels = torch.arange(convolution.out_channels, device=device)
    group, within = channels // narrow, channels % narrow
    start = group % together * narrow  # of an old group in its new one
    positions = group // together * wide + start + within
    convolution.groups = -(-convolution.groups // together)
    size = convolution.groups * wide
    for name, axis in _BESIDE.items():
        tensors[name].data = _spread(tensors[name].data, axis, positions, size)
    inputs = start[:, None] + torch.arange(narrow, device=device)
    empty = kernel.new_zeros(size, wide, *kernel.shape[2:])
    kernel.data = empty.index_put((positions[:, None], inputs), kernel.data)


def _spread(
    tensor: torch.Tensor, axis: int, positions: torch.Tensor, size: int
) -> torch.Tensor:
    """Return zeros, so many on the axis, with the tensor at these positions of it."""
    shape = list(tensor.shape)
    shape[axis] = size
    return tensor.new_zeros(shape).index_copy(axis, positions, tensor)


def _convolution(images, kernel, bias=None, strides=1, padding=0, dilation=1, groups=1):
    """Convolve NCHW images by an HWIO kernel."""
    result = lax.conv_general_dilated(
        images,
        kernel,
        _pair(strides),
        [(side, side) for side in _pair(padding)],
        rhs_dilation=_pair(dilation),
        dimension_numbers=("NCHW", "HWIO", "NCHW"),
        feature_group_count=groups,
    )
    return result if bias is None else result + bias[:, None, None]


def _batch_norm(images, gamma, beta, mean, variance, momentum, epsilon):
    """Normalise by the moving statistics; torch returns two more results."""
    scale = gamma * lax.rsqrt(variance + epsilon)
    shift = beta - mean * scale
    return (images * scale[:, None, None] + shift[:, None, None],)


def _pool(images, size, strides, padding, start, reduce):
    sides = [(0, 0), (0, 0), *((side, side) for side in _pair(padding))]
    window, steps = (1, 1, *_pair(size)), (1, 1, *_pair(strides))
    return lax.reduce_window(images, start, reduce, window, steps, sides)


def _max_pool(images, size, strides, padding=0):
    return _pool(images, size, strides, padding, -jnp.inf, lax.max)


def _mean_pool(images, size, strides, padding=0, ceil_mode=False, count_padding=True):
    """Average windows, all of them whole: the last two arguments do not matter."""
    for pixels, side, step in zip(
        images.shape[2:], _pair(size), _pair(strides), strict=True
    ):
        if ceil_mode and (pixels + 2 * _pair(padding)[0] - side) % step:
            raise NotImplementedError(f"average pooling of {pixels} pixels by {step}")
    if _pair(padding) != (0, 0) and not count_padding:
        raise NotImplementedError("average pooling that leaves the padding out")
    total = _pool(images, size, strides, padding, 0.0, lax.add)
    return total / (_pair(size)[0] * _pair(size)[1])


def _mean_of_image(images, size):
    if tuple(size) != (1, 1):
        raise NotImplementedError(f"adaptive pooling to {size}")
    return jnp.mean(images, (2, 3), keepdims=True)


def _pair(value) -> tuple[int, int]:
    """Return what torch means by one number or a list for both axes."""
    both = value if isinstance(value, list | tuple) else [value]
    return (both[0], both[-1])


_OPERATIONS: dict[Any, Callable[..., Any]] = {
    operator.getitem: operator.getitem,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _batch_norm,
    torch.ops.aten.adaptive_avg_pool2d.default: _mean_of_image,
    torch.ops.aten.add.Tensor: jnp.add,
    torch.ops.aten.avg_pool2d.default: _mean_pool,
    torch.ops.aten.clone.default: lambda values, **_: values,
    torch.ops.aten.conv2d.default: _convolution,
    torch.ops.aten.linear.default: lambda x, kernel, bias: x @ kernel.T + bias,
    torch.ops.aten.max_pool2d.default: _max_pool,
    torch.ops.aten.mean.dim: lambda x, axes, keep=False: jnp.mean(
        x, tuple(axes), keepdims=keep
    ),
    torch.ops.aten.mul.Tensor: jnp.multiply,
    torch.ops.aten.relu.default: jax.nn.relu,
    torch.ops.aten.sigmoid.default: jax.nn.sigmoid,
    torch.ops.aten.silu.default: jax.nn.silu,
    torch.ops.aten.softmax.int: jax.nn.softmax,
    torch.ops.aten.sum.dim_IntList: lambda x, axes: jnp.sum(x, tuple(axes)),
    torch.ops.aten.transpose.int: jnp.swapaxes,
    torch.ops.aten.view.default: jnp.reshape,
}


class _Translation(torch.fx.Interpreter):
    """Runs a graph of torch's by operations of jax's."""

    def call_function(self, target, args, kwargs):
        """Run one operation."""
        if target not in _OPERATIONS:
            raise NotImplementedError(f"{target} in terms of jax")
        return _OPERATIONS[target](*args, **kwargs)


def translate(
    model: torch.nn.Module, images: torch.Tensor
) -> tuple[Callable[..., jax.Array], list[torch.Tensor]]:
    """Translate a network.

    Args:
      model: in evaluation mode; on torch's device "meta" it needs no memory.
      images: an example [batch, 3, height, width] on the same device.

    Returns:
      A function of jax's, from the weights and images to logits, one argument each,
      and the weights that it takes, convolutions' kernels turned to HWIO.

    Raises:
      NotImplementedError: when the function is called: an operation that is not here.
    """
    exported = torch.export.export(model, (images,)).run_decompositions({})
    graph = exported.graph_module
    convolutions = graph.graph.find_nodes(
        op="call_function", target=torch.ops.aten.conv2d.default
    )
    kernels = {node.args[1].name for node in convolutions}
    weights = [
        exported.state_dict[spec.target].permute(2, 3, 1, 0)
        if spec.arg.name in kernels
        else exported.state_dict[spec.target]
        for spec in exported.graph_signature.input_specs
        if spec.target is not None
    ]

    def logits(*arguments: jax.Array) -> jax.Array:
        return _Translation(graph).run(*arguments)[0]

    return logits, weights


def stablehlo(
    network: str, *, batch: int, resolution: int, dtype: str, padded: bool
) -> str:
    """Return the text of a network in inference, for a TPU.

    Args:
      network: timm's name.
      batch: images.
      resolution: their height and width in pixels.
      dtype: of weights and images: "bfloat16" or "float32".
      padded: a RegNet with its groups filled up, see `pad_groups`.

    Raises:
      ValueError: timm has no such network, or its groups cannot be padded.
      NotImplementedError: it has an operation that is not here.
      RuntimeError: of torch's: the network cannot be run on such images.
    """
    if not timm.is_model(network):
        nearest = nearest_names(network, timm.list_models())
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        raise ValueError(f"timm has no such network{hint}")
    torch_type = getattr(torch, dtype)
    with torch.device("meta"):
        model = timm.create_model(network).eval().to(torch_type)
        images = torch.zeros(batch, 3, resolution, resolution, dtype=torch_type)
    if padded:
        pad_groups(model)
    logits, weights = translate(model, images)
    shapes = [
        jax.ShapeDtypeStruct(tensor.shape, str(tensor.dtype).removeprefix("torch."))
        for tensor in [*weights, images]
    ]
    return jax.jit(logits).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()
