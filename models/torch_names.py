"""What torch's libraries call the variables of a network, and their layout."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from models.errors import require

# timm's names.
_OUTER_LAYERS = {
    "conv_stem": "stem/conv2d",
    "bn1": "stem/tpu_batch_normalization",
    "conv_head": "head/conv2d",
    "bn2": "head/tpu_batch_normalization",
    "classifier": "head/dense",
}
# One table for its four kinds of block, as none of them has both of a name.
_BLOCK_LAYERS = {
    "conv_s2d": "space2depth/conv2d",
    "bn_s2d": "space2depth/tpu_batch_normalization",
    "conv_exp": "conv2d",
    "conv": "conv2d",
    "conv_pw": "conv2d",
    "conv_dw": "depthwise_conv2d",
    "conv_pwl": "conv2d_1",
    "bn1": "tpu_batch_normalization",
    "bn2": "tpu_batch_normalization_1",
    "bn3": "tpu_batch_normalization_2",
    "se.conv_reduce": "se/conv2d",
    "se.conv_expand": "se/conv2d_1",
}
_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")
_BATCH_NORM_ROLES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def timm_keys(names: Iterable[str]) -> dict[str, str]:
    """Return timm's keys of a network's variables by the reference's names.

    Args:
      names: of a state dict; whatever stands before conv_stem.weight stands before all
        of the network's.

    Raises:
      ModelError: there is not one conv_stem.weight, or two names have one meaning.
    """
    keys = _network_keys(names, "conv_stem.weight", "timm's EfficientNets")
    # timm numbers the blocks of each stage anew; the reference has no stages.
    places = {match.groups() for match in map(_TIMM_BLOCK.match, keys) if match}
    in_order = sorted(places, key=lambda place: tuple(map(int, place)))
    numbers = {place: i for i, place in enumerate(in_order)}
    found: dict[str, str] = {}
    for name, key in keys.items():
        add(found, _name_of_timm(name, numbers), key)
    return found


def _name_of_timm(name: str, numbers: Mapping[tuple[str, ...], int]) -> str:
    """Return the reference's name for timm's, or timm's own where there is none."""
    match = _TIMM_BLOCK.match(name)
    scope = f"blocks_{numbers[match.groups()]}/" if match else ""
    layer, _, role = name[match.end() if match else 0 :].rpartition(".")
    layers = _BLOCK_LAYERS if match else _OUTER_LAYERS
    return _name(scope, layers.get(layer), role) or name


# Those of efficientnet_pytorch, and of efficientnet_lite_pytorch after it.
_EFFICIENTNET_PYTORCH = {
    "_conv_stem": "stem/conv2d",
    "_bn0": "stem/tpu_batch_normalization",
    "_conv_head": "head/conv2d",
    "_bn1": "head/tpu_batch_normalization",
    "_fc": "head/dense",
}
_IN_BLOCK = {
    "_expand_conv": "conv2d",
    "_bn0": "tpu_batch_normalization",
    "_depthwise_conv": "depthwise_conv2d",
    "_bn1": "tpu_batch_normalization_1",
    "_se_reduce": "se/conv2d",
    "_se_expand": "se/conv2d_1",
    "_project_conv": "conv2d_1",
    "_bn2": "tpu_batch_normalization_2",
}
# What comes behind the expansion has the first number where there is none.
_IN_BLOCK_WITHOUT_EXPANSION = {
    **_IN_BLOCK,
    "_bn1": "tpu_batch_normalization",
    "_project_conv": "conv2d",
    "_bn2": "tpu_batch_normalization_1",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.")


def efficientnet_pytorch_keys(names: Iterable[str]) -> dict[str, str]:
    """Return efficientnet_pytorch's keys of variables by the reference's names.

    Args:
      names: of a state dict; whatever stands before _conv_stem.weight stands before all
        of the network's.

    Raises:
      ModelError: there is not one _conv_stem.weight, or two names have one meaning.
    """
    keys = _network_keys(names, "_conv_stem.weight", "efficientnet_pytorch's networks")
    expanded = {
        match[1]
        for name in keys
        if (match := _BLOCK.match(name))
        if name.endswith("._expand_conv.weight")
    }
    found: dict[str, str] = {}
    for name, key in keys.items():
        match = _BLOCK.match(name)
        layers, scope = _EFFICIENTNET_PYTORCH, ""
        if match:
            whole = match[1] in expanded
            layers = _IN_BLOCK if whole else _IN_BLOCK_WITHOUT_EXPANSION
            scope = f"blocks_{int(match[1])}/"
        layer, _, role = name[match.end() if match else 0 :].rpartition(".")
        add(found, _name(scope, layers.get(layer), role) or name, key)
    return found


def _network_keys(names: Iterable[str], stem: str, whose: str) -> dict[str, str]:
    """Return the keys of a network by their names without what stands before all."""
    names = [name for name in names if not name.endswith("num_batches_tracked")]
    stems = [name for name in names if name.endswith(stem)]
    require(bool(stems), f"there is no {stem} as in {whose}")
    prefix = stems[0].removesuffix(stem)
    require(
        len(stems) == 1,
        f"there are several networks, {' and '.join(stems[:3])}: save the tensors of "
        "one of them alone",
    )
    return {key.removeprefix(prefix): key for key in names if key.startswith(prefix)}


def _name(scope: str, layer: str | None, role: str) -> str | None:
    """Return the reference's name of a variable, None where it has no such layer."""
    if layer is None:
        return None
    if "batch_normalization" in layer:
        role = _BATCH_NORM_ROLES.get(role, role)
    elif role == "weight":
        role = "depthwise_kernel" if layer == "depthwise_conv2d" else "kernel"
    return f"{scope}{layer}/{role}"


def from_torch(key: str, value: np.ndarray) -> np.ndarray:
    """Return a tensor in TensorFlow's layout.

    Args:
      key: its name, by which a depthwise kernel is known.
      value: in torch's layout.
    """
    if value.ndim == 2:
        return value.T
    if value.ndim == 4:
        # [outputs, inputs, height, width]; a depthwise one has no inputs but itself.
        depthwise = key.endswith(("conv_dw.weight", "_depthwise_conv.weight"))
        return value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return value


def add(keys: dict[str, str], name: str, key: str) -> None:
    """Note a key by its name."""
    require(name not in keys, f"{keys.get(name)} and {key} are both {name}")
    keys[name] = key
