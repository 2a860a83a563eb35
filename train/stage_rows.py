"""The stages of progressive learning, as the rows of a config."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from common import checks
from common.checks import Rule, nearest_names, rules_of
from common.errors import UserError
from input_pipeline.mixing import mixup_cutmix
from input_pipeline.randaugment import rand_augment
from models.parts import PARTS
from models.variants import Variant

UNTIL = "until_epoch"
_OF_PARTS = {"frozen", "frozen_batch_norm"}  # settings that name parts of the model
OWN = frozenset({*_OF_PARTS, "warmup_epochs"})  # that are beside a recipe's own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage sets in place of the recipe; None is the recipe's own setting.

    Of `OWN` None is nothing: what they add to the recipe, a stage has or has not.

    Attributes:
      resolution: height and width of the training images in pixels.
      magnitude: of the augmentation that `train_data` has.
      dropout_rate: before the classifier.
      mixup_alpha: of `mixing`.
      cutmix_alpha: of `mixing`.
      frozen: parts of the model that stand still in this stage, beside those that
        `build_model` freezes for the whole run: neither weights nor batch norm's
        statistics move, and their blocks are computed as in inference.
      frozen_batch_norm: parts that learn, but whose batch norm normalises by its moving
        statistics, which stand still; their blocks are computed as in inference, too.
      warmup_epochs: in which the learning rate rises from zero again, as the stage
        begins; 0 is none.
    """

    resolution: int | None = None
    magnitude: float | None = None
    dropout_rate: float | None = None
    mixup_alpha: float | None = None
    cutmix_alpha: float | None = None
    frozen: tuple[str, ...] | None = None
    frozen_batch_norm: tuple[str, ...] | None = None
    warmup_epochs: float | None = None

    def given(self, *names: str) -> dict[str, Any]:
        """Return those settings, of all or of `names`, that are not the recipe's."""
        fields = {n: v for n, v in vars(self).items() if not names or n in names}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def program(self) -> "Stage":
        """What its step is compiled from: stages of the same share a program."""
        return dataclasses.replace(self, warmup_epochs=None)

    @property
    def still_statistics(self) -> tuple[str, ...]:
        """Parts whose batch norm is as in inference."""
        return (self.frozen or ()) + (self.frozen_batch_norm or ())


BASE_STAGE = Stage()  # the recipe's own settings


def read(rows: Sequence[Mapping[str, Any]]) -> dict[float, Stage]:
    """Return the stages by the epoch that ends them.

    Args:
      rows: see `Experiment.progressive`.

    Raises:
      UserError: names the row, and what is wrong with it.
    """
    if not isinstance(rows, list | tuple):
        raise _fault(f"= {checks.shown(rows)}: it has to be a list of mappings")
    stages: dict[float, Stage] = {}
    for number, row in enumerate(rows, start=1):
        _check(row, where := f"stage {number}")
        settings = dict(row)
        end = settings.pop(UNTIL)
        for name in _OF_PARTS & settings.keys():
            settings[name] = tuple(settings[name])
        before = max(stages, default=0)
        if end <= before:
            raise _fault(f"{where}: {UNTIL} {end} has to be above {before}")
        stages[end] = Stage(**settings)
    return stages


def by_last_step(
    stages: Mapping[float, Stage], steps_per_epoch: float, train_steps: int
) -> dict[int, Stage]:
    """Return the stages of a whole run by the number of steps that ends them.

    Args:
      stages: by the epoch that ends them; what is left of the run is one more stage
        under the recipe's own settings.
      steps_per_epoch: as a float; the ends are rounded to whole steps.
      train_steps: of the run.

    Raises:
      UserError: no step falls into a stage.
    """
    ends: dict[int, Stage] = {}
    for number, (epoch, stage) in enumerate(stages.items(), start=1):
        end = min(round(epoch * steps_per_epoch), train_steps)
        if end <= max(ends, default=0):
            raise _fault(
                f"stage {number} ends at epoch {epoch}, which is step {end}: no step "
                f"falls into it, an epoch having {steps_per_epoch:.6g}; a smaller "
                "Experiment.global_batch_size, or more images, give it steps"
            )
        ends[end] = stage
    ends.setdefault(train_steps, Stage())
    return ends


def warmups(stages: Mapping[int, Stage], steps_per_epoch: float) -> dict[int, int]:
    """Return the steps of each warmup of a stage by the step that begins the stage.

    Args:
      stages: by the step that ends each, see `by_last_step`.
      steps_per_epoch: as a float; a warmup is rounded to whole steps, and ends with its
        stage at the latest.
    """
    found = {}
    for first, (last, stage) in zip((0, *stages), stages.items(), strict=False):
        steps = min(round((stage.warmup_epochs or 0) * steps_per_epoch), last - first)
        if steps:
            found[first] = steps
    return found


def _check(row: Mapping[str, Any], where: str) -> None:
    """Refuse a row that is not of known keys and values in range."""
    if not isinstance(row, Mapping):
        raise _fault(
            f"{where}: {checks.shown(row)} is no mapping, as in {{'{UNTIL}': 50, ...}}"
        )
    for name, value in row.items():
        if not isinstance(name, str) or name not in _RULES:
            near = nearest_names(str(name), _RULES) or list(_RULES)
            raise _fault(
                f"{where} has no {checks.shown(name)}; nearest: {', '.join(near)}"
            )
        if not _RULES[name].holds(value):
            raise _fault(f"{where}: {checks.broken(name, value, _RULES[name])}")
    if UNTIL not in row:
        raise _fault(f"{where} does not say its {UNTIL}")


_RULES: dict[str, Rule] = {
    UNTIL: checks.positive(10**6),
    "resolution": rules_of(Variant)["resolution"],
    "magnitude": rules_of(rand_augment)["magnitude"],
    "dropout_rate": rules_of(Variant)["dropout_rate"],
    "mixup_alpha": rules_of(mixup_cutmix)["mixup_alpha"],
    "cutmix_alpha": rules_of(mixup_cutmix)["cutmix_alpha"],
    **dict.fromkeys(_OF_PARTS, PARTS),
    "warmup_epochs": checks.between(0, 10**6),
}


def _fault(text: str) -> UserError:
    joint = " " if text.startswith("=") else ", "
    return UserError(f"Experiment.progressive{joint}{text}")
