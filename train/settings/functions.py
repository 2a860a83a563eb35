"""The functions of this project that a config may speak of."""

import functools
import importlib

from common import checks
from common.checks import Call

# What every .gin file of ours may speak of, by module; the modules go by the names that
# the files use. A saved config may say no more. They make networks, batches, updates,
# rates. None writes a file, and what they call is what they have been handed of
# this same table.
FUNCTIONS = {
    "input_pipeline.autoaugment": ("auto_augment",),
    "input_pipeline.dataset": ("train_dataset", "eval_dataset"),
    "input_pipeline.erasing": ("random_erasing",),
    "input_pipeline.mixing": ("mixup_cutmix",),
    "input_pipeline.randaugment": ("rand_augment",),
    "models.efficientnet_x": ("build_model",),
    "models.variants": ("StageSpec", "Variant", "change", "get_variant"),
    "train.experiment": ("Experiment",),
    "train.optimizer": ("adamw", "lamb", "lars", "lion", "rmsprop", "sgd"),
    "train.schedule": ("constant", "cosine", "exponential", "polynomial"),
}
MODULES = tuple(FUNCTIONS)
MAKES_VALUES = "models.variants"  # whose functions a config calls itself, with ()


@functools.cache
def names_for(call: Call) -> tuple[str, ...]:
    """Return the functions that the trainer may call so, as gin writes them."""
    return tuple(
        f"@{module.rpartition('.')[2]}.{name}"
        for module, names in FUNCTIONS.items()
        if module not in (MAKES_VALUES, "train.experiment")
        for name in names
        if checks.accepts(
            getattr(importlib.import_module(module), name),
            call,
            completely=bool(call.positional),
        )
    )
