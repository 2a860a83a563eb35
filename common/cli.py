"""Types of command line arguments, for argparse."""

import argparse
import ast
from typing import Any

_LARGEST = 2**31 - 1  # what a size in a compiler's shapes is sure to hold

_LARGEST_FIELD = 2**16  # of a block or a stage: more than that is a slip
# What Python's parser of literals raises, and what is no dictionary of dictionaries.
_NO_CHANGES = (
    ValueError,
    SyntaxError,
    TypeError,
    MemoryError,
    RecursionError,
    AttributeError,
)


def positive(text: str) -> int:
    """Return a whole number of 1 to 2**31 - 1.

    Raises:
        ArgumentTypeError: the text is none.
    """
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    if number > _LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is more than {_LARGEST:,}")
    return number


def names(text: str) -> list[str]:
    """Return the names between commas, each once, in their order.

    Raises:
        ArgumentTypeError: there is none.
    """
    found = [name for name in map(str.strip, text.split(",")) if name]
    if not found:
        raise argparse.ArgumentTypeError("no name given")
    return list(dict.fromkeys(found))


def changes(text: str) -> dict[Any, dict[Any, Any]]:
    """Return the fields to change by stage or block, as `models.change` takes them.

    Args:
        text: of a dictionary of dictionaries: "{3: {'kernel_size': 3}}". Numbers and
            names of fields are for `models.change` to check.

    Raises:
        ArgumentTypeError: it is none, or a value can be none of a field's.
    """
    try:
        found = ast.literal_eval(text)
        values = [value for fields in found.values() for value in fields.values()]
    except _NO_CHANGES:
        raise argparse.ArgumentTypeError(
            f"{text} is not of the form {{3: {{'kernel_size': 3}}}}"
        ) from None
    for value in values:
        number = isinstance(value, int | float)
        if not (abs(value) <= _LARGEST_FIELD if number else isinstance(value, str)):
            raise argparse.ArgumentTypeError(
                f"{value!r} is no name, True, False or number up to {_LARGEST_FIELD:,}"
            )
    return found
