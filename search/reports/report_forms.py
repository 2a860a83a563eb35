"""What family.json has to look like to be drawn: a file may be older, or changed."""

from collections.abc import Mapping
from typing import Any

NUMBER = "a number"
ABOVE_ZERO = "a number above 0"
TEXT = "a text"
BOOL = "true or false"
ANYTHING = "anything"
_TESTS = {
    NUMBER: lambda value: type(value) in (int, float),
    ABOVE_ZERO: lambda value: type(value) in (int, float) and value > 0,
    TEXT: lambda value: isinstance(value, str),
    BOOL: lambda value: isinstance(value, bool),
    ANYTHING: lambda value: True,
}


class Maybe:
    """A value that may be null.

    Attributes:
      form: of one that is not.
      missing: whether it may be left out, too.
    """

    def __init__(self, form: Any, *, missing: bool = False):
        self.form, self.missing = form, missing


class Named:
    """An object of any names, whose values are of one form."""

    def __init__(self, form: Any):
        self.form = form


_SPREAD = Maybe((NUMBER, NUMBER))
_STAGE = {
    "stage": NUMBER,
    "kind": TEXT,
    "blocks": NUMBER,
    "channels": NUMBER,
    "resolution": ABOVE_ZERO,
}
_NETWORK = {
    **dict.fromkeys(("name", "top1_source", "top1_reason"), TEXT),
    **dict.fromkeys(("depth", "width", "resolution", "blocks"), NUMBER),
    **dict.fromkeys(("gmacs", "params_m"), NUMBER),
    **dict.fromkeys(("cheap_ms", "parts_ms", "exact_ms"), Maybe(ABOVE_ZERO)),
    "top1": Maybe(NUMBER),
    "top1_spread": _SPREAD,
    "stages": Maybe([_STAGE], missing=True),
}
_GAIN = {
    "top1": NUMBER,
    "spread": _SPREAD,
    "above": Maybe(NUMBER),
    "equal": Maybe(BOOL),
}
_RIVAL = {
    "name": TEXT,
    "network": Maybe(_NETWORK),
    "gain": Maybe(_GAIN),
    "time_at_equal_top1": Maybe(ABOVE_ZERO),
}
_OUTCOME = {
    "target": TEXT,
    "ms": ABOVE_ZERO,
    "reached": BOOL,
    "chosen": _NETWORK,
    "finalists": [ANYTHING],
    "rivals": [_RIVAL],
    "by_form": Named(_NETWORK),
    "asked": NUMBER,
    "failures": Named(TEXT),
}
_REFERENCE = {
    **dict.fromkeys(("name", "reason", "predicted_reason", "published_remark"), TEXT),
    **dict.fromkeys(("resolution", "gmacs"), NUMBER),
    "ms": Maybe(ABOVE_ZERO),
    **dict.fromkeys(("predicted_top1", "published_top1"), Maybe(NUMBER)),
    "predicted_spread": _SPREAD,
}
FAMILY = {
    "name": TEXT,
    "base": TEXT,
    "about": Named(ANYTHING),
    "outcomes": [_OUTCOME],
    "references": [_REFERENCE],
}


def wrong(value: Any, form: Any = FAMILY, place: str = "it") -> str:
    """Return what of a value is not of a form, in words; "" for nothing.

    Args:
      value: of JSON.
      form: one of the names above; [form] is a list, (form, ...) one of that length, a
        dictionary an object that may have more names; Maybe and Named, see there.
      place: of the value.
    """
    if isinstance(form, str):
        return "" if _TESTS[form](value) else f"{place} is not {form}"
    if isinstance(form, Maybe):
        return "" if value is None else wrong(value, form.form, place)
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{place} is not a list"
        return _first((wrong(v, form[0], f"{place}[{i}]") for i, v in enumerate(value)))
    if isinstance(form, tuple):
        if not isinstance(value, list) or len(value) != len(form):
            return f"{place} is not a list of {len(form)}"
        return _first(wrong(v, f, place) for v, f in zip(value, form, strict=True))
    if not isinstance(value, dict):
        return f"{place} is not an object"
    if isinstance(form, Named):
        return _first(wrong(v, form.form, f"{place}.{k}") for k, v in value.items())
    return _first(_wrong_field(value, name, form[name], place) for name in form)


def _wrong_field(value: Mapping[str, Any], name: str, form: Any, place: str) -> str:
    if name in value:
        return wrong(value[name], form, f"{place}.{name}")
    left_out = isinstance(form, Maybe) and form.missing
    return "" if left_out else f"{place} has no {name}"


def _first(texts: Any) -> str:
    return next(filter(None, texts), "")
