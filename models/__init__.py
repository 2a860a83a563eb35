"""EfficientNet-X in Keras 3: `build_model`, the table of variants, the weights."""

import importlib
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.variants import VARIANTS, StageSpec, Variant, change, get_variant

if TYPE_CHECKING:
    from models import stem_forms, transfer, weight_loading
    from models.efficientnet_x import build_model

__all__ = [
    "VARIANTS",
    "ModelError",
    "StageSpec",
    "Variant",
    "build_model",
    "change",
    "get_variant",
    "stem_forms",
    "transfer",
    "weight_loading",
]


def __getattr__(name: str) -> Any:
    """Import Keras, which takes seconds, only for the names that need it."""
    if name == "build_model":
        return importlib.import_module("models.efficientnet_x").build_model
    if name in ("stem_forms", "transfer", "weight_loading"):
        return importlib.import_module(f"models.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
