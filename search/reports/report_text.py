"""Numbers and settings in a report, in words."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_DIGITS = re.compile(r"\d[\d.,]*\d|\d")
_LONG = 600  # characters of a setting
# As a browser does not break it.
TENTHS = "10\u201190\u00a0%"
_GLUE = "\u00a0"  # a space that is no place to break a line


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals; "" for none."""
    return "" if value is None else f"{value:,.{digits}f}"


def signed(value: float | None) -> str:
    """Return a number with its sign; "" for none."""
    return "" if value is None else f"{value:+.2f}"


def spread(ends: Iterable[float] | None) -> str:
    """Return an interval; "" for none."""
    return "" if ends is None else " to ".join(f"{end:.2f}" for end in ends)


def accuracy_label(sources: Iterable[str]) -> str:
    """Return what a column of top-1 is called; whatever was predicted is called so."""
    known = list(dict.fromkeys(filter(None, sources)))
    predicted = [one for one in known if "predicted" in one]
    if predicted and len(predicted) == len(known):
        return f"predicted top-1,{_GLUE}%"
    if predicted:
        return f"top-1, in part predicted,{_GLUE}%"
    return f"top-1,{_GLUE}%"


def without_percent(label: str) -> str:
    """Return a label of `accuracy_label` for what is no per cent, such as a gain."""
    return label.removesuffix(f",{_GLUE}%")


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested settings as pairs of a name and a text, a line for each leaf.

    What is not set is left out; so are texts of several lines, see `texts`.
    """
    lines = []
    for name, value in found.items():
        if value is None or (isinstance(value, str) and "\n" in value):
            continue
        if isinstance(value, Mapping) and value:
            lines += [(f"{name}: {inner}", text) for inner, text in facts(value)]
            continue
        lines.append((str(name), _leaf(value)))
    return [(name.replace("_", " "), text) for name, text in lines]


def texts(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that are texts of several lines, by name."""
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and "\n" in value
    }


def _leaf(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(_leaf(one) for one in value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]} ..."


def reasons(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Count reasons; those that differ in numbers alone are one, named by the first."""
    counted: Counter[str] = Counter()
    first: dict[str, str] = {}
    for text in texts:
        form = _DIGITS.sub("#", text)
        counted[form] += 1
        first.setdefault(form, text or "no reason given")
    return [(first[form], n) for form, n in counted.most_common()]
