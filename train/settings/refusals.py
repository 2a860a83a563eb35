"""Settings that a run cannot have: functions of another kind, and missing ones."""

from collections.abc import Sequence
from typing import Any

from gin.config import Configurable, ConfigurableReference

from common import checks
from common.checks import Rule, shown
from common.errors import UserError
from train import schedule
from train.settings.functions import FUNCTIONS, MAKES_VALUES, names_for
from train.settings.gin_text import full_name

RATE = "@schedule.constant"  # the schedule of a rate that is a number
_PEAK = "peak_per_256"


def broken(name: str, raw: Any, rule: Rule) -> str:
    """Return the line that says what a setting has to be, functions by their names."""
    line = checks.broken(name, raw, rule)
    if rule.call is None or not (known := names_for(rule.call)):
        return line
    return f"{line}: {', '.join(known)}{_instead(name, raw, known)}"


def _instead(name: str, raw: Any, known: Sequence[str]) -> str:
    """Return the flag to write in place of a word or a number, "" for neither."""
    if RATE in known and checks.rules_of(schedule.constant)[_PEAK].holds(raw):
        return (
            f"; for a batch of 256: --gin_param={name}={RATE} "
            f"--gin_param={RATE[1:]}.{_PEAK}={raw!r} "
            f"--gin_param={RATE[1:]}.warmup_epochs=0"
        )
    if not isinstance(raw, str):
        return ""
    by_word = {one.rpartition(".")[2]: one for one in known}
    word = raw.strip("@() ").rpartition(".")[2].lower()
    near = checks.nearest_names(word, by_word)
    return f"; write --gin_param={name}={by_word[near[0]]}" if near else ""


def refuse_other_function(
    reference: ConfigurableReference, name: str, rule: Rule
) -> None:
    """Raise UserError where a setting cannot be this function, or what it makes.

    Args:
      reference: the setting's value.
      name: of the setting.
      rule: of its values.
    """
    target: Configurable = reference.configurable
    module, _, function = full_name(target).rpartition(".")
    is_ours = function in FUNCTIONS.get(module, ())
    if rule.call is None:
        fits = reference.evaluate and (not is_ours or module == MAKES_VALUES)
    elif is_ours:  # none of which makes functions
        fits = f"@{module.rpartition('.')[2]}.{function}" in names_for(rule.call)
    else:
        fits = reference.evaluate or checks.accepts(target.wrapped, rule.call)
    if not fits and rule.call is not None and not is_ours:
        raise UserError(
            f"{name} = {shown(reference)}: it has to take {_arguments(rule.call)}, as "
            f"of {', '.join(names_for(rule.call))}"
        )
    if not fits:
        raise UserError(broken(name, reference, rule))
    if is_ours and reference.evaluate and rule.call is not None:
        written = shown(reference)
        raise UserError(
            f"{name} = {written}: write {written.removesuffix('()')}, without the "
            "parentheses: the trainer calls it"
        )


def _arguments(call: checks.Call) -> str:
    """Return in words how the trainer calls a function."""
    if call.keywords:
        return f"the arguments {', '.join(sorted(call.keywords))}"
    return f"{call.positional} arguments without a name"


def refuse_missing(missing: list[str], left: list[str]) -> None:
    """Raise UserError where a setting has no value.

    Args:
      missing: settings that nothing sets.
      left: those that a file leaves to the user.
    """
    if left:
        raise UserError(
            f"the config leaves to you: {', '.join(left)}; set each, as in "
            f'--gin_param="{left[0]} = ..."'
        )
    if "efficientnet_x.build_model.variant" in missing:
        raise UserError(
            "the config names no model; put one of gin_configs/models in front, as in "
            "--gin_file=gin_configs/models/efficientnet_x_b0.gin"
        )
    if missing:
        raise UserError(
            f"the config does not set {missing[0]}; set it in a .gin file or with "
            f'--gin_param="{missing[0]} = ..."'
        )
