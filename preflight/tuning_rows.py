"""What is found of a network's forms, in typed rows."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from preflight.forms import Form

# What is compiled of a network in some form.
Extent = Literal["first layers", "train step", "first layers, inference", "inference"]

ENOUGH = 0.05  # of a time: what estimates of two networks tell apart
NOTE = (
    "All forms compute the same sums from the same variables: weights and checkpoints "
    "stay as they are, results but for rounding, and a run under way goes on in "
    "another form by --accept_config_changes. The gain is the compiler's count of the "
    "whole, once as written and once in the other form; no TPU has confirmed it, and "
    "what the host does to move the pixels is not in it."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkippedForms:
    """Forms that are not compiled.

    Attributes:
      reasons: why, a line each, by what is skipped; in words for all.
    """

    reasons: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormEstimate:
    """What the compiler says of a form.

    Attributes:
      form: of the network.
      extent: what was compiled of it.
      as_written: whether the config has it so.
      milliseconds: None where it does not compile or fit.
      problem: why it does not.
      folded: whether batch norm is.
    """

    form: Form
    extent: Extent
    as_written: bool
    milliseconds: float | None
    problem: str | None = None
    folded: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastestForm:
    """The fastest form of a train step, or of inference.

    Attributes:
      extent: "train step" or "inference".
      best: None where nothing compiles and fits.
      written: as the config has it.
      images: of a replica, in a step.
    """

    extent: Extent
    best: FormEstimate | None
    written: FormEstimate
    images: int

    @property
    def gain(self) -> float | None:
        """Share of the time as written that the best saves; None is unknown."""
        best = self.best
        if best is None or best.milliseconds is None:
            return None
        if self.written.milliseconds is None:
            return None
        return 1 - best.milliseconds / self.written.milliseconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherBatch:
    """The train step with other images at a time, which is another recipe.

    Attributes:
      images: of a replica, in a step.
      micro_batches: into which these are cut.
      milliseconds: of a step; None where it does not compile or fit.
      known: milliseconds of an image as the config has it, in the same form.
      problem: why it does not.
    """

    images: int
    micro_batches: int
    milliseconds: float | None
    known: float
    problem: str | None = None

    @property
    def gain(self) -> float | None:
        """Share of the time of an image that is saved; None is unknown."""
        if self.milliseconds is None:
            return None
        return 1 - self.milliseconds / self.images / self.known


TuningFinding = SkippedForms | FormEstimate | FastestForm | OtherBatch
