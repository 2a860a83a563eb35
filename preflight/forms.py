"""Other forms of a run's network: the same numbers by programs of another speed.

The stem may compute on patches of pixels, which the device or the host moves into the
channels, and the images may come with the batch last: see `models.stem_forms`. In
training, gradients of fused blocks may be split: see `models.layers`. All forms hold
the same variables, so a run may be in any of them.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from models import efficientnet_x, scaling
from models.efficientnet_x import StemForm, build_model
from models.errors import ModelError
from models.layers import has_split_gradient
from models.variants import Variant
from performance.segments import least_with_stem
from train.experiment import Experiment
from train.stage_rows import Stage


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of a network.

    Attributes:
      patch_size: of the stem's patches, in pixels; 1 is none.
      rearranged_by: who makes them, "device" or "host".
      layout: of the images, "NHWC" or "HWCN".
      split_gradients: whether they are, in fused blocks where it pays.
    """

    patch_size: int = 1
    rearranged_by: str = "device"
    layout: str = "NHWC"
    split_gradients: bool = False

    def __str__(self) -> str:
        pixels = "no patches"
        if self.patch_size > 1:
            pixels = f"patches of {self.patch_size}x{self.patch_size} by the "
            pixels += self.rearranged_by
        return f"{pixels}, {self.layout}" + ", gradients split" * self.split_gradients

    def of_stem(self, other: "Form") -> "Form":
        """Return the form with the stem, and the images, of another."""
        split = self.split_gradients
        return dataclasses.replace(other, split_gradients=split)


_SETTINGS = {  # of `build_model`, by the field of a Form
    "patch_size": "stem_block_size",
    "rearranged_by": "stem_reshuffle",
    "layout": "input_layout",
    "split_gradients": "split_gradients",
}
STEMS = tuple(
    Form(patch_size, rearranged_by, layout)
    for patch_size, rearranged_by in (
        *((1, "device"), (2, "device"), (4, "device")),
        *((2, "host"), (4, "host")),
    )
    for layout in ("NHWC", "HWCN")
)
# What there is of a network in the least one with its stem.
_PARTS = frozenset({"stem", "stage_1", "head", "classifier"})
# Arguments of `build_model` that say which network it is.
_NETWORK = (
    *("variant", "stages", "blocks"),
    *("width_coefficient", "depth_coefficient", "resolution", "dropout_rate"),
    *("batch_norm_momentum", "batch_norm_epsilon", "dialect"),
)


def why_none(experiment: Experiment) -> str | None:
    """Return why nothing is known of a run's network in other forms; None if it is."""
    made_by = experiment.build_model
    if getattr(made_by, "func", made_by) is build_model:
        return None
    name = f"{made_by.__module__}.{made_by.__name__}" if _is_named(made_by) else made_by
    return f"other forms are known of models.build_model's networks, not of {name}'s"


def _is_named(function: Any) -> bool:
    return hasattr(function, "__module__") and hasattr(function, "__name__")


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Return the arguments of `build_model` that the config gives."""
    return dict(getattr(experiment.build_model, "keywords", {}))


def variant_of(experiment: Experiment) -> Variant:
    """Return the network of a run."""
    return efficientnet_x.variant_of(settings_of(experiment))


def form_of(experiment: Experiment) -> Form:
    """Return the form in which a config has its network."""
    known, plain = settings_of(experiment), vars(Form())
    return Form(
        **{field: known.get(name, plain[field]) for field, name in _SETTINGS.items()}
    )


def as_settings(form: Form) -> dict[str, Any]:
    """Return a form as arguments of `build_model`."""
    return {name: vars(form)[field] for field, name in _SETTINGS.items()}


def as_inference(form: Form) -> dict[str, Any]:
    """Return those of them that inference depends on."""
    settings = as_settings(form)
    del settings["split_gradients"]
    return settings


def splits_gradients(variant: Variant) -> bool:
    """Whether a network has gradients to split."""
    return any(
        spec.fused
        and has_split_gradient(
            spec.kernel_size, spec.strides, spec.input_filters, spec.expanded_filters
        )
        for spec in scaling.block_specs(variant)
    )


def changes(form: Form, written: Form) -> dict[str, Any]:
    """Return those settings of a form that are not as the config has them."""
    old = as_settings(written)
    return {name: v for name, v in as_settings(form).items() if v != old[name]}


def gin_lines(settings: Mapping[str, Any]) -> list[str]:
    """Return the lines of a config that set arguments of `build_model`."""
    return [f"efficientnet_x.build_model.{k} = {v!r}" for k, v in settings.items()]


def why_not(form: Form, variant: Variant, resolutions: Iterable[int]) -> str | None:
    """Return why a network has no such form; None if it has.

    Args:
      form: of whose stem it is asked.
      variant: the network.
      resolutions: of the images of all stages of the run, in pixels.
    """
    try:
        StemForm(form.patch_size, form.rearranged_by, form.layout).check(variant)
        for resolution in resolutions:
            scaling.check_patches(form.patch_size, resolution)
    except ModelError as error:
        return str(error)
    return None


def in_form(experiment: Experiment, form: Form) -> Experiment:
    """Return a run with its network in another form."""
    return _building(experiment, settings_of(experiment) | as_settings(form))


def first_layers(experiment: Experiment) -> Experiment:
    """Return a run of a network that has the same stem and first block alone.

    That is all that differs from form to form. The rest is as small as can be.
    """
    kept = {k: v for k, v in settings_of(experiment).items() if k not in _NETWORK}
    kept["variant"] = least_with_stem(variant_of(experiment))
    kept["frozen"] = _frozen(kept.get("frozen", ()))
    least = _building(experiment, kept)
    return dataclasses.replace(
        least, learning_rate_factors={}, progressive=(), policy=None
    )


def first_layers_of(stage: Stage) -> Stage:
    """Return what a stage is for `first_layers`."""
    parts = {
        name: None if (given := getattr(stage, name)) is None else _frozen(given)
        for name in ("frozen", "frozen_batch_norm")
    }
    return dataclasses.replace(stage, **parts)


def _frozen(parts: Iterable[str]) -> tuple[str, ...]:
    """Return those of the frozen parts that are there, and never all.

    The classifier is no part of what is compared; something has to learn.
    """
    return tuple(part for part in parts if part in _PARTS - {"classifier"})


def _building(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    build = functools.partial(build_model, **settings)
    return dataclasses.replace(experiment, build_model=build)
