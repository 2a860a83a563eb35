"""What makes sense as a setting, and which known name a wrong one is nearest to."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common.errors import UserError

# Whether a number is within, and in words which are.
Range = tuple[Callable[[float], bool], str]

POSITIVE: Range = (lambda x: x > 0, "above 0")
NOT_NEGATIVE: Range = (lambda x: x >= 0, "0 or larger")
FRACTION: Range = (lambda x: 0 <= x <= 1, "from 0 to 1")
BELOW_ONE: Range = (lambda x: 0 <= x < 1, "from 0 to below 1")
BETWEEN: Range = (lambda x: 0 < x < 1, "between 0 and 1")


def require(
    owner: str, settings: Mapping[str, Any], ranges: Mapping[str, Range]
) -> None:
    """Raises UserError where a setting that has a range is no number within it.

    Args:
      owner: whose they are, as gin writes it: "optimizer.adamw".
      settings: value by name.
      ranges: by name; a setting without one may be anything.
    """
    for name in settings.keys() & ranges.keys():
        is_within, what = ranges[name]
        value = settings[name]
        if type(value) not in (int, float) or not is_within(value):
            raise UserError(f"{owner}.{name} = {value!r}: it has to be a number {what}")


def is_number(value: Any) -> bool:
    """Whether a value is a real number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def nearest_names(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of the names like this one; of equally near ones the first."""

    def likeness(known: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), known).ratio()

    # get_close_matches breaks ties by the alphabet backwards: b7 before b0.
    near = [known for known in names if likeness(known) > 0.6]
    return sorted(near, key=likeness, reverse=True)[:3]
