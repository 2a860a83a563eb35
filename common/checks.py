"""What makes sense as a setting, and which known name a wrong one is nearest to."""

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

from common import home
from common.errors import UserError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_LONGEST = 200  # characters of a value that a message shows


class Call(NamedTuple):
    """How a function that is a setting is called.

    Attributes:
      positional: how many arguments come without a name.
      keywords: names of the others.
    """

    positional: int = 0
    keywords: frozenset[str] = frozenset()


class Rule(NamedTuple):
    """Which values make sense.

    Attributes:
      holds: whether a value is one of them.
      what: which they are, in words.
      call: how the value will be called, if it is a function.
      of_path: whether a text is a path, in which ~ is the home folder.
    """

    holds: Callable[[Any], bool]
    what: str
    call: Call | None = None
    of_path: bool = False

    def read(self, value: Any) -> Any:
        """Return a value as a config means it: a path with the home folder for ~."""
        is_path = self.of_path and isinstance(value, str)
        return home.expand(value) if is_path else value


def is_number(value: Any) -> bool:
    """Whether a value is a real number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold; not a number compares so."""
    return is_number(value) and abs(value) <= sys.float_info.max


def number(within: Callable[[float], bool], what: str) -> Rule:
    """Make a rule of finite numbers; `what` is as in "above 0"."""
    return Rule(lambda value: _is_finite(value) and within(value), f"a number {what}")


def positive(most: float) -> Rule:
    """Make a rule of numbers above 0."""
    return number(lambda x: 0 < x <= most, f"above 0 and up to {most:,}")


def between(least: float, most: float) -> Rule:
    """Make a rule of numbers with a smallest and a largest one."""
    return number(lambda x: least <= x <= most, f"from {least} to {most:,}")


def whole(least: int, most: int | None = None) -> Rule:
    """Make a rule of whole numbers."""
    if most is None:
        return Rule(
            lambda value: type(value) is int and value >= least,
            f"a whole number >= {least}",
        )
    return Rule(
        lambda value: type(value) is int and least <= value <= most,
        f"a whole number from {least:,} to {most:,}",
    )


def interval(within: Callable[[float, float], bool], what: str) -> Rule:
    """Make a rule of a smallest and a largest number; `what` is as in "above 0"."""
    return Rule(
        lambda value: (
            isinstance(value, tuple | list)
            and len(value) == 2
            and all(map(_is_finite, value))
            and within(*value)
        ),
        f"the smallest and the largest of two numbers {what}",
    )


def one_of(*values: Any) -> Rule:
    """Make a rule of these values alone."""
    *others, last = map(repr, values)
    return Rule(
        lambda value: any(type(value) is type(one) and value == one for one in values),
        f"{', '.join(others)} or {last}" if others else last,
    )


def items(holds: Callable[[Any], bool], what: str, *, least: int = 0) -> Rule:
    """Make a rule of lists of `least` items or more, of which `holds` is true."""
    return Rule(
        lambda value: (
            isinstance(value, tuple | list)
            and len(value) >= least
            and all(map(holds, value))
        ),
        what,
    )


def mapping(
    is_key: Callable[[Any], bool], is_value: Callable[[Any], bool], what: str
) -> Rule:
    """Make a rule of mappings; `what` says of what to what."""
    return Rule(
        lambda value: (
            isinstance(value, Mapping)
            and all(map(is_key, value))
            and all(map(is_value, value.values()))
        ),
        f"a mapping {what}",
    )


def optional(rule: Rule) -> Rule:
    """Make a rule of None, beside what another allows."""
    return Rule(
        lambda value: value is None or rule.holds(value),
        f"None or {rule.what}",
        rule.call,
        rule.of_path,
    )


def function(positional: int = 0, keywords: Iterable[str] = ()) -> Rule:
    """Make a rule of functions; arguments are those of `Call`."""
    call = Call(positional, frozenset(keywords))
    return Rule(callable, "a function, as in @module.function", call)


def accepts(function: Any, call: Call, *, completely: bool = False) -> bool:
    """Whether a function may be called so; of one that cannot tell, that it may.

    Args:
      function: any.
      call: its arguments.
      completely: whether they have to be all that it needs.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one of C
        return True
    try:
        bind = signature.bind if completely else signature.bind_partial
        bind(*[None] * call.positional, **dict.fromkeys(call.keywords))
    except TypeError:
        return False
    return True


def _is_text(value: Any) -> bool:
    """Whether a value is a text that may be a path; a lone surrogate is none."""
    if type(value) is not str or not value.strip() or "\0" in value:
        return False
    return value.isascii() or value.encode(errors="ignore").decode() == value


FRACTION = number(lambda x: 0 <= x <= 1, "from 0 to 1")
BELOW_ONE = number(lambda x: 0 <= x < 1, "from 0 to below 1")
BETWEEN = number(lambda x: 0 < x < 1, "between 0 and 1")
# One that is added to a divisor: float32 holds it, and one over it.
EPSILON = between(1e-30, 1)
COUNT = whole(1)
# Of an image: TensorFlow's sampler of crops takes no share that float32 makes 0 of.
SHARES = interval(lambda low, high: 1e-6 <= low <= high <= 1, "from 0.000001 to 1")
RATIOS = interval(lambda low, high: 0.01 <= low <= high <= 100, "from 0.01 to 100")
SWITCH = one_of(True, False)
TEXT = Rule(_is_text, "a text in quotes")
PATH = TEXT._replace(of_path=True)
FUNCTION = Rule(callable, "a function, as in @module.function")


def shown(value: Any) -> str:
    """Return a value as a message shows it, whatever it is and however long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python writes
        return "(a value too long to be written)"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy's, and paths, as what a config would have."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    to_python = getattr(value, "tolist", None)
    return to_python() if callable(to_python) else value


def broken(name: str, value: Any, rule: Rule) -> str:
    """Return the line that says which rule a value breaks, and what may be meant."""
    line = f"{name} = {shown(value)}: it has to be {rule.what}"
    is_share = rule.holds(0.5) and not rule.holds(1.5)
    if is_share and is_number(value) and 2 <= value <= 100:
        return f"{line}; {value:g} % is {value / 100:g}"
    return next((f"{line}; write {m}" for m in _meant(value) if rule.holds(m)), line)


def _meant(value: Any) -> Iterator[Any]:
    """Yield what a text, or a number with a point, may have been meant to be."""
    if type(value) is str and len(value) <= _LONGEST:
        with contextlib.suppress(ValueError, SyntaxError, TypeError):
            yield ast.literal_eval(value.strip())
    if type(value) is float and value.is_integer():
        yield int(value)


def require(
    owner: str,
    settings: Mapping[str, Any],
    rules: Mapping[str, Rule],
    error: type[UserError] = UserError,
) -> None:
    """Raise an error at the first setting that breaks its rule.

    Args:
      owner: whose they are, as gin writes it: "optimizer.adamw"; "" is nobody.
      settings: value by name.
      rules: by name; a setting without one may be anything.
      error: what is raised.

    Raises:
      UserError: the error.
    """
    for name, value in settings.items():
        rule = rules.get(name)
        if rule is not None and not rule.holds(value):
            raise error(broken(f"{owner}.{name}".lstrip("."), value, rule))


def require_fields(
    settings: Any, owner: str | None = None, error: type[UserError] = UserError
) -> None:
    """Check a new dataclass's fields by the rules of its class; make each plain.

    Args:
      settings: an object; it may be frozen.
      owner: as of `require`; None is the object's class.
      error: as of `require`.

    Raises:
      UserError: the error.
    """
    owner = _gin_name(type(settings)) if owner is None else owner
    known = rules_of(settings)
    for name, rule in known.items():
        value = rule.read(plain(getattr(settings, name)))
        object.__setattr__(settings, name, value)
    require(owner, vars(settings), known, error)


def rules_of(function: Any) -> Mapping[str, Rule]:
    """Return the rules of a function or a class by setting; none where it has none."""
    fields = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    found = {f.name: f.metadata["rule"] for f in fields if "rule" in f.metadata}
    return found or getattr(function, "rules", {})


def _gin_name(function: Any) -> str:
    """Return a function or a class as gin writes it: with its module's last name."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def rules(
    error: type[UserError] = UserError, /, **by_name: Rule
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a decorator that gives a function the rules of its settings.

    They are checked at every call, and stand as `rules` beside the function for a
    config that is checked before anything is called.

    Args:
      error: what a wrong setting raises.
      **by_name: a rule for each parameter that a config may set.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        owner = _gin_name(function)
        names = list(inspect.signature(function).parameters)
        any_function: Callable[..., _R] = function  # of arguments made plain

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            given = dict(zip(names, args, strict=False)) | kwargs
            settings = {
                n: rule.read(plain(given[n]))
                for n, rule in by_name.items()
                if n in given
            }
            require(owner, settings, by_name, error)
            first = [settings.get(n, v) for n, v in zip(names, args, strict=False)]
            named = {n: settings.get(n, v) for n, v in kwargs.items()}
            return any_function(*first, *args[len(names) :], **named)

        vars(checked)["rules"] = by_name
        return checked

    return decorate


def nearest_names(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of the names like this one; of equally near ones the first."""

    def likeness(known: str) -> tuple[float, float]:
        in_lower_case = difflib.SequenceMatcher(None, name.lower(), known.lower())
        return in_lower_case.ratio(), difflib.SequenceMatcher(None, name, known).ratio()

    # get_close_matches breaks ties by the alphabet backwards: b7 before b0.
    near = [known for known in names if likeness(known)[0] > 0.6]
    return sorted(near, key=likeness, reverse=True)[:3]
