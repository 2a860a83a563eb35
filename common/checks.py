"""What makes sense as a setting, and which known name a wrong one is nearest to."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common.errors import UserError

# Whether a value makes sense, and in words which do.
Rule = tuple[Callable[[Any], bool], str]


def is_number(value: Any) -> bool:
    """Whether a value is a real number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(within: Callable[[float], bool], what: str) -> Rule:
    """Make a rule of finite numbers; `what` is as in "above 0"."""
    return (
        lambda value: is_number(value) and math.isfinite(value) and within(value),
        f"a number {what}",
    )


def whole(least: int) -> Rule:
    """Make a rule of whole numbers."""
    return (
        lambda value: type(value) is int and value >= least,
        f"a whole number >= {least}",
    )


def interval(within: Callable[[float, float], bool], what: str) -> Rule:
    """Make a rule of a smallest and a largest number; `what` is as in "above 0"."""
    return (
        lambda value: (
            isinstance(value, tuple | list)
            and len(value) == 2
            and all(is_number(one) and math.isfinite(one) for one in value)
            and within(*value)
        ),
        f"the smallest and the largest of two numbers {what}",
    )


def one_of(*values: Any) -> Rule:
    """Make a rule of these values alone."""
    *others, last = map(repr, values)
    return (
        lambda value: any(type(value) is type(one) and value == one for one in values),
        f"{', '.join(others)} or {last}" if others else last,
    )


def optional(rule: Rule) -> Rule:
    """Make a rule of None, beside what another allows."""
    holds, what = rule
    return lambda value: value is None or holds(value), f"None or {what}"


POSITIVE = number(lambda x: x > 0, "above 0")
NOT_NEGATIVE = number(lambda x: x >= 0, "0 or larger")
FRACTION = number(lambda x: 0 <= x <= 1, "from 0 to 1")
BELOW_ONE = number(lambda x: 0 <= x < 1, "from 0 to below 1")
BETWEEN = number(lambda x: 0 < x < 1, "between 0 and 1")
COUNT = whole(1)
SHARES = interval(lambda low, high: 0 < low <= high <= 1, "above 0 and up to 1")
RATIOS = interval(lambda low, high: 0 < low <= high, "above 0")
SWITCH = one_of(True, False)
TEXT: Rule = (lambda value: type(value) is str and value != "", "a text in quotes")
FUNCTION: Rule = (callable, "a function, as in @module.function")


def require(owner: str, settings: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Raise UserError where a setting breaks its rule.

    Args:
      owner: whose they are, as gin writes it: "optimizer.adamw".
      settings: value by name.
      rules: by name; a setting without one may be anything.
    """
    for name in settings.keys() & rules.keys():
        holds, what = rules[name]
        value = settings[name]
        if not holds(value):
            raise UserError(f"{owner}.{name} = {value!r}: it has to be {what}")


def nearest_names(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of the names like this one; of equally near ones the first."""

    def likeness(known: str) -> tuple[float, float]:
        in_lower_case = difflib.SequenceMatcher(None, name.lower(), known.lower())
        return in_lower_case.ratio(), difflib.SequenceMatcher(None, name, known).ratio()

    # get_close_matches breaks ties by the alphabet backwards: b7 before b0.
    near = [known for known in names if likeness(known)[0] > 0.6]
    return sorted(near, key=likeness, reverse=True)[:3]
