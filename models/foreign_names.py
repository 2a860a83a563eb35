"""What other libraries call variants and arguments, and what stands for it here."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from common.checks import nearest_names

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Arguments of keras.applications, timm and the reference: what does the same here.
_WEIGHTS = (
    "weights are loaded into a model that is built: models.weight_loading.load_timm or "
    "load_reference, or Experiment.pretrained in training; none is fetched by name"
)
_HEADLESS = (
    "keras.Model(network.input, network.get_layer('pooled_features').output) ends "
    "before the classifier; models.transfer.feature_extractor has the maps of all sizes"
)
_CLASSES = "write num_classes"
_ARGUMENTS = {
    "weights": _WEIGHTS,
    "pretrained": _WEIGHTS,
    "checkpoint_path": _WEIGHTS,
    "include_top": f"the classifier is always there: {_HEADLESS}",
    "classes": _CLASSES,
    "n_classes": _CLASSES,
    "nb_classes": _CLASSES,
    "input_shape": "write resolution, the height and width in pixels; images have 3 "
    "channels, and the input is [batch, resolution, resolution, 3]",
    "input_tensor": "call the model that is built: network(tensor)",
    "in_chans": "images have 3 channels; repeat a grey one",
    "img_size": "write resolution, the height and width in pixels",
    "image_size": "write resolution, the height and width in pixels",
    "pooling": f"features are averaged over the image; {_HEADLESS}",
    "global_pool": f"features are averaged over the image; {_HEADLESS}",
    "classifier_activation": "the model returns logits: keras.ops.softmax makes "
    "probabilities of them",
    "drop_connect_rate": "write survival_prob, which is 1 - drop_connect_rate",
    "drop_path_rate": "write survival_prob, which is 1 - drop_path_rate",
    "dropout": "write dropout_rate",
    "drop_rate": "write dropout_rate",
    "bn_momentum": "write batch_norm_momentum",
    "bn_epsilon": "write batch_norm_epsilon",
    "bn_eps": "write batch_norm_epsilon",
    "width_mult": "write width_coefficient",
    "depth_mult": "write depth_coefficient",
    "trainable": "write frozen, the parts that do not learn, as ('stem', 'stage_1')",
    "name": "the model has the variant's name; that of a Variant of your own is its "
    "first field",
    "model_name": "write variant",
    "include_preprocessing": "the model takes pixels of 0..255 and scales them itself",
    "rescale": "the model takes pixels of 0..255 and scales them itself",
}
_LETTERS = re.compile(r"[^a-z0-9]")
_PREFIXES = ("tf", "timm", "keras", "hfhubtimm")  # of names elsewhere


def refuse_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function that lacks an argument say what stands for it.

    Returns:
      The function; it raises TypeError, as Python does, with better words.
    """
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def refusing(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if unknown := [name for name in kwargs if name not in known]:
            said = "; ".join(f"{name!r}: {_instead(name, known)}" for name in unknown)
            raise TypeError(f"{function.__name__}() has no argument {said}")
        return function(*args, **kwargs)

    return refusing


def _instead(name: str, known: Iterable[str]) -> str:
    if text := _ARGUMENTS.get(name):
        return text
    known = list(known)
    near = nearest_names(name, known)
    return f"nearest: {', '.join(near)}" if near else f"it has: {', '.join(known)}"


def nearest_variants(name: str, variants: Iterable[str]) -> list[str]:
    """Return the variants that a name may mean, the likeliest first; three at most.

    Args:
      name: as elsewhere: "EfficientNetV2S", "tf_efficientnet_b0", "b0".
      variants: names here.
    """
    variants = list(variants)
    plain = _plain(name)
    same = [one for one in variants if _plain(one) == plain]
    ends = [one for one in variants if plain and _plain(one).endswith(plain)]
    return same or sorted(ends, key=len)[:3] or nearest_names(name, variants)


def _plain(name: str) -> str:
    """Return letters and digits alone, without what a library puts in front."""
    name = name.partition(".")[0] if name.startswith(("tf_", "timm/")) else name
    plain = _LETTERS.sub("", name.lower())
    for prefix in _PREFIXES:
        if plain.startswith(f"{prefix}efficientnet"):
            return plain.removeprefix(prefix)
    return plain
