"""The weights of a model: listed in the reference's order, loaded from other people."""

import collections
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import keras
import numpy as np

from models import torch_names
from models.blocks import FusedMBConv, MBConv
from models.errors import ModelError, require
from models.parts import require_built_by_us
from models.reference_variables import variables, variables_of
from models.variants import VARIANTS

_T = TypeVar("_T")

# Attributes that hold a layer's weights, in the order in which the reference makes
# them; no layer has both a kernel and a gamma.
_ROLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def in_reference_order(model: keras.Model) -> list[keras.Variable]:
    """List a model's weights in the order of the reference's checkpoints.

    This is the order of the forward computation, with the moving statistics of a
    batch normalisation after its gamma and beta.

    Args:
      model: what `build_model` returned.

    Returns:
      All its weights, trainable or not; no state of random generators.

    Raises:
      ModelError: if the model was not made by `build_model`.
    """
    # A functional model lists its layers by depth, which for a chain is the order of
    # the computation; inside a block, forward_layers says it.
    layers = getattr(model, "layers", [])
    ours = any(isinstance(layer, MBConv | FusedMBConv) for layer in layers)
    found = [v for layer in layers for v in _variables(layer)]
    require(
        ours and {id(v) for v in found} == {id(v) for v in model.weights},
        f"{getattr(model, 'name', model)!r} was not made by models.build_model",
    )
    return found


def _variables(layer: keras.Layer) -> Iterator[keras.Variable]:
    """Yield a layer's variables, depth first, in the order of the computation."""
    for part in getattr(layer, "forward_layers", ()):
        yield from _variables(part)
    for role in _ROLES:
        variable = getattr(layer, role, None)
        if variable is not None:
            yield variable


def by_reference_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Map the reference's names (`models.reference_variables`) to a model's weights.

    Args:
      model: what `build_model` returned.

    Returns:
      All its weights, in the reference's order.

    Raises:
      ModelError: if the model was not made by `build_model`, or if its batch
        normalisation was folded into the convolutions.
    """
    require_built_by_us(model)
    found = in_reference_order(model)
    blocks = [la.spec for la in model.layers if isinstance(la, MBConv | FusedMBConv)]
    specs = variables_of(
        stem_filters=blocks[0].input_filters,
        blocks=blocks,
        head_filters=model.get_layer("head_conv").filters,
        num_classes=model.get_layer("classifier").units,
    )
    _require_batch_norm(model)
    return {spec.name: v for spec, v in zip(specs, found, strict=True)}


def _require_batch_norm(model: keras.Model) -> None:
    names = {layer.name for layer in model.layers}
    require(
        "stem_conv" not in names or "stem_bn" in names,
        f"{model.name} has its batch normalisation folded into the convolutions; load "
        "into a plain model, then use models.stem_forms.copy_weights",
    )


# Loading: nothing in the model changes before everything is known to fit.


def load_reference(
    model: keras.Model,
    tensors: Mapping[str, Any],
    *,
    averaged: bool = True,
    new_head: bool = False,
) -> None:
    """Load a TF1 checkpoint of the authors' EfficientNet, EfficientNet-X or V2.

    Args:
      model: what `build_model` returned.
      tensors: arrays by their names there, whatever the prefix. Only the network's
        are read: neither an optimizer's slots nor counters.
      averaged: take the moving averages of the weights, where there are any.
      new_head: leave the classifier as it is, for other classes.

    Raises:
      ModelError: if the tensors are not the model's, or have no averages.
    """
    plain, averages = _reference_keys(tensors)
    require(
        bool(plain or averages),
        "no tensor has a name of the authors', such as stem/conv2d/kernel",
    )
    if averaged:
        require(
            bool(averages),
            "the tensors have no averages; averaged=False loads the raw weights",
        )
    else:
        require(bool(plain), "the tensors are averages alone; averaged=True loads them")
    _load(
        model,
        by_reference_name(model),
        {**plain, **averages} if averaged else plain,
        lambda key: np.asarray(tensors[key]),
        classifier="head/dense/",
        new_head=new_head,
    )


def load_timm(
    model: keras.Model, tensors: Mapping[str, Any], *, new_head: bool = False
) -> None:
    """Load a state dict of timm 1.0.31.

    Those of efficientnet_x_b3, efficientnet_x_b5 and efficientnet_h_b5 fit the
    variants efficientnet-x-b3-timm and so on, those of tf_efficientnet_b0 to _b7
    efficientnet-b0 to -b7, and in the same way those of tf_efficientnet_lite0 and
    tf_efficientnetv2_b0 and so on.

    The weights of efficientnet_b0 and so on, without "tf_", have the same names and
    shapes but were trained with other padding and another epsilon. They fit, and are
    right in a model that was built with `dialect="timm", batch_norm_epsilon=1e-5`
    alone.

    Args:
      model: what `build_model` returned.
      tensors: arrays in torch's layout by their names there, whatever the prefix,
        or these under the key "state_dict".
      new_head: leave the classifier as it is, for other classes.

    Raises:
      ModelError: if the tensors are not the model's.
    """
    tensors = tensors.get("state_dict", tensors)
    _load(
        model,
        by_reference_name(model),
        torch_names.timm_keys(tensors),
        lambda key: torch_names.from_torch(key, np.asarray(tensors[key])),
        classifier="head/dense/",
        new_head=new_head,
        layout=" in TensorFlow's layout",
    )


def load_efficientnet_pytorch(
    model: keras.Model, tensors: Mapping[str, Any], *, new_head: bool = False
) -> None:
    """Load a state dict of efficientnet_lite_pytorch 0.1.0 or efficientnet_pytorch.

    Both have converted the authors' checkpoints: those of the first fit the variants
    efficientnet-lite0 and so on, those of the second efficientnet-b0 and so on.

    Args:
      model: what `build_model` returned.
      tensors: arrays in torch's layout by their names there, whatever the prefix.
      new_head: leave the classifier as it is, for other classes.

    Raises:
      ModelError: if the tensors are not the model's.
    """
    _load(
        model,
        by_reference_name(model),
        torch_names.efficientnet_pytorch_keys(tensors),
        lambda key: torch_names.from_torch(key, np.asarray(tensors[key])),
        classifier="head/dense/",
        new_head=new_head,
        layout=" in TensorFlow's layout",
    )


def load_by_path(
    model: keras.Model, tensors: Mapping[str, Any], *, new_head: bool = False
) -> None:
    """Load what was saved from a model of ours, by the paths of its variables.

    Args:
      model: what `build_model` returned.
      tensors: arrays by path, such as "stem_conv/kernel".
      new_head: leave the classifier as it is, for other classes.

    Raises:
      ModelError: if the tensors are not the model's.
    """
    if not any(path.startswith("stem_conv/bias") for path in tensors):
        _require_batch_norm(model)
    _load(
        model,
        {v.path: v for v in model.weights},
        {path: path for path in tensors},
        lambda path: np.asarray(tensors[path]),
        classifier="classifier/",
        new_head=new_head,
    )


def _load(
    model: keras.Model,
    targets: Mapping[str, keras.Variable],
    keys: Mapping[str, str],
    read: Callable[[str], np.ndarray],
    *,
    classifier: str,
    new_head: bool,
    layout: str = "",
) -> None:
    """Fill variables, all or none.

    Args:
      model: for its name.
      targets: the variables by a name.
      keys: by the same name, what the file calls it.
      read: from a key to the tensor, in the variable's layout.
      classifier: how the names of the classifier begin.
      new_head: leave it as it is.
      layout: said of the tensors' shapes.
    """
    if new_head:
        targets, keys = _without(targets, classifier), _without(keys, classifier)
    values = {name: read(key) for name, key in keys.items()}
    mismatches = _mismatches(
        targets, keys, values, f"{layout}, not", f"in {model.name}"
    )
    if mismatches:
        name, words = next(iter(mismatches.items()))
        if name in targets and name in values:
            require(values[name].shape != tuple(targets[name].shape), words)
        if all(name.startswith(classifier) for name in mismatches):
            hint = "all else fits: new_head=True leaves the classifier out"
        else:
            shapes = (v.shape for v in _without(values, classifier).values())
            hint = _fitting(shapes, but=model.name)
        raise ModelError(f"{words}; {hint}")
    for name, variable in targets.items():
        variable.assign(values[name].astype("float32"))


def _mismatches(
    targets: Mapping[str, keras.Variable],
    keys: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    but: str,
    there: str,
) -> dict[str, str]:
    """Say by name what keeps the values from being the variables'."""
    mismatches = {}
    for name, variable in targets.items():
        expected = tuple(variable.shape)
        if name not in values:
            mismatches[name] = f"there is no tensor for {name} of shape {expected}"
        elif not _is_real(values[name]):
            kind = values[name].dtype
            mismatches[name] = (
                f"{keys[name]} holds {kind} that are no finite real numbers"
            )
        elif name.endswith("moving_variance") and (values[name] < 0).any():
            mismatches[name] = f"{keys[name]} holds variances below zero"
        elif values[name].shape != expected:
            shape = values[name].shape
            mismatches[name] = (
                f"{keys[name]} has the shape {shape}{but} {expected} {there}"
            )
    for name in values:
        if name not in targets:
            mismatches[name] = f"{keys[name]} has no place {there}"
    return mismatches


def _is_real(value: np.ndarray) -> bool:
    """Whether these are real numbers that float32 can hold.

    Integers are none: weights of that kind are quantised, and their scale is elsewhere.
    """
    if value.dtype.kind != "f":
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(value.astype("float32")).all())


def _without(entries: Mapping[str, _T], prefix: str) -> dict[str, _T]:
    """Return the entries whose names begin otherwise."""
    return {name: e for name, e in entries.items() if not name.startswith(prefix)}


def _fitting(shapes: Iterable[tuple[int, ...]], but: str) -> str:
    """Say which variants have weights of these shapes, the classifier's left out.

    One of the model's own name has been changed in the model.
    """
    wanted = collections.Counter(shapes)
    fitting = [
        name
        for name, variant in VARIANTS.items()
        if wanted == collections.Counter(v.shape for v in variables(variant)[:-2])
    ]
    if but in fitting:
        return f"{but} as it is in the table would fit: this one was changed"
    return f"of the table, {' or '.join(fitting) or 'no variant'} would fit"


# The authors' names. EfficientNetV2's classifier is the model's own, under a scope that
# TF1's graph calls head_1, for there is a head already.
_NETWORK = re.compile(
    r"(?:^|/)((?:stem|head|blocks_\d+)/.*|(?:head_\d+/)?(?P<classifier>dense/.*))"
)
_AVERAGE = "/ExponentialMovingAverage"
_REFERENCE_ROLES = (*_ROLES, "depthwise_kernel")


def _reference_keys(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys of the raw weights and of the averages, by name."""
    plain: dict[str, str] = {}
    averages: dict[str, str] = {}
    for key in names:
        match = _NETWORK.search(key)
        # What ends otherwise is an optimizer's.
        if match and key.removesuffix(_AVERAGE).split("/")[-1] in _REFERENCE_ROLES:
            own = match["classifier"]
            name = (f"head/{own}" if own else match[1]).removesuffix(_AVERAGE)
            name = re.sub("(tpu_)?batch_normalization", "tpu_batch_normalization", name)
            keys = averages if key.endswith(_AVERAGE) else plain
            torch_names.add(keys, name, key)
    return plain, averages
