"""What another config does to the learning rate of a run that goes on."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from common import checks
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from train import stage_rows
from train.experiment import Experiment
from train.settings.functions import FUNCTIONS
from train.settings.gin_text import literals

_E, _SCHEDULES = "experiment.Experiment", "train.schedule"
# Fields of Experiment that a schedule follows, beside the schedule itself.
_FIELDS = ("epochs", "global_batch_size")


def describe(
    saved: str, experiment: Experiment, info: DatasetInfo, step: int
) -> str | None:
    """Return the learning rate before and now, at the first step where they differ.

    Args:
      saved: the config that the run had, as `Resolver.text` wrote it.
      experiment: the one that it has now.
      info: of its data.
      step: at which it goes on; the next ones that are looked at are the last.

    Returns:
      A line; None where nothing that a schedule follows has changed, or the one before
      is not of this project.
    """
    try:
        old = _before(literals(saved), experiment)
        if old is None:
            return None
        new = dataclasses.replace(
            experiment, progressive=_of_the_rate(experiment.progressive)
        )
        rates = [one.make_learning_rate(info) for one in (old, new)]
    except UserError:  # a rule is younger than the run: there is nothing to compare
        return None
    lasts = sorted(one.train_steps(info) - 1 for one in (old, new))
    for place in (step, *(last for last in lasts if last > step)):
        before, now = (float(rate(place)) for rate in rates)  # the trainer's own
        if before != now:
            return (
                f"learning rate at step {place:,}: {before:.6g} before, {now:.6g} now"
            )
    if _follows(old) == _follows(new):
        return None
    return f"learning rate at step {step:,}: {float(rates[1](step)):.6g}, as before"


def _follows(experiment: Experiment) -> tuple[Any, ...]:
    """Return what the learning rates of an experiment follow from."""
    schedule = experiment.learning_rate
    function = getattr(schedule, "func", schedule), getattr(schedule, "keywords", {})
    fields = (getattr(experiment, field) for field in (*_FIELDS, "progressive"))
    return *function, *fields


def _of_the_rate(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a schedule follows of stages: the rest may not fit together now."""
    return [
        {stage_rows.UNTIL: end, "warmup_epochs": stage.warmup_epochs or 0}
        for end, stage in stage_rows.read(stages).items()
    ]


def _before(settings: Mapping[str, Any], experiment: Experiment) -> Experiment | None:
    """Return an experiment with the schedule that the settings say, None for none."""
    reference = settings.get(f"{_E}.learning_rate")
    if not isinstance(reference, tuple) or reference[:1] != ("@",):
        return None
    owner = reference[1]  # with gin's scopes in front
    module, _, name = owner.rpartition("/")[2].rpartition(".")
    if module != "schedule" or name not in FUNCTIONS[_SCHEDULES]:
        return None
    schedule = getattr(importlib.import_module(_SCHEDULES), name)
    values = {
        parameter: settings[f"{owner}.{parameter}"]
        for parameter in checks.rules_of(schedule)
        if f"{owner}.{parameter}" in settings
    }
    fields = {
        field: settings[f"{_E}.{field}"]
        for field in _FIELDS
        if f"{_E}.{field}" in settings
    }
    return dataclasses.replace(
        experiment,
        learning_rate=functools.partial(schedule, **values),
        progressive=_of_the_rate(settings.get(f"{_E}.progressive") or ()),
        **fields,
    )
