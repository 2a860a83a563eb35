"""Numbers that make sense as settings."""

from collections.abc import Callable, Mapping
from typing import Any

from train.errors import UserError

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
