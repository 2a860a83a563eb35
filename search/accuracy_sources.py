"""Sources of accuracies, by the names that gin files use.

    scaling_search.Scaling.accuracy = @accuracy_sources.surrogate()
    accuracy_sources.surrogate.family = "v2"

Each function returns a callable of a Variant and the rung of its training, which
returns a `Score`. Imports no framework, and what is slow only when it is asked for.
"""

import csv
import dataclasses
import importlib
import io
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import checks
from common.checks import is_number, nearest_names
from common.errors import UserError, first_line
from models.errors import ModelError
from models.variants import Variant
from search.accuracies.training import Trained
from search.results import FUNCTION_NAME, Accuracy, Score

_TEXTS = checks.Rule(
    lambda value: (
        checks.TEXT.holds(value) or checks.items(checks.TEXT.holds, "").holds(value)
    ),
    "a text in quotes, or a list of such",
)


@checks.rules(
    family=checks.TEXT,
    rows=checks.optional(checks.PATH),
    recalled=checks.SWITCH,
    forms=checks.items(checks.TEXT.holds, "a list of names of forms", least=1),
    resamples=checks.whole(1, 10_000),
    seed=checks.whole(0, 2**63 - 1),
    extrapolate=checks.SWITCH,
)
def surrogate(
    *,
    family: str = "efficientnet-x",
    rows: str | None = None,
    recalled: bool = False,
    forms: Sequence[str] = ("additive", "product", "bottleneck"),
    resamples: int = 40,
    seed: int = 0,
    extrapolate: bool = False,
) -> Accuracy:
    """Predict from published results; see `accuracies.prediction`.

    Args:
      family: "x", "efficientnet", "lite", "v2", or one of the rows'.
      rows: a CSV file of rows of your own.
      recalled: whether to fit rows that were remembered, too.
      forms: of `search.accuracies.error_forms`.
      resamples: of the families.
      seed: of the resamples.
      extrapolate: whether to predict beyond what the rows cover; the source says so.

    Raises:
      UserError: a setting makes no sense, or a file cannot be read.
    """
    from search.accuracies.prediction import Surrogate, Trust

    return Surrogate(
        family=family,
        rows=rows,
        recalled=recalled,
        forms=forms,
        resamples=resamples,
        seed=seed,
        trust=None if extrapolate else Trust(),
    )


@checks.rules(
    gin_files=_TEXTS,
    epochs=checks.items(checks.positive(10**6).holds, "a list of numbers above 0"),
    search_dir=checks.optional(checks.PATH),
    gin_params=_TEXTS,
    score=checks.TEXT,
    seconds=checks.optional(checks.positive(10**7)),
)
def trained(
    *,
    gin_files: Sequence[str],
    epochs: Sequence[float],
    search_dir: str | None = None,
    gin_params: Sequence[str] = (),
    score: str = "ema_top1",
    seconds: float | None = None,
) -> Accuracy:
    """Train by `train/`, in rungs; arguments as of `accuracies.training.Trained`."""
    return Trained(
        gin_files=_texts(gin_files),
        epochs=tuple(epochs),
        search_dir=search_dir,
        gin_params=_texts(gin_params),
        score=score,
        seconds=seconds,
    )


@checks.rules(path=checks.PATH)
def table(path: str) -> Accuracy:
    """Look accuracies up that were trained elsewhere.

    Args:
      path: of a CSV file with the columns `network` and `top1`, others are not looked
        at; or of a JSON file of one object, {"network": top1}, or a list of several.
        A network goes by the digest of its blocks (`search.spaces.digest`) or by its
        name; top1 is in %. Several lines of one network are several trainings.

    Raises:
      UserError: the file cannot be read; says the line and what is wrong.
    """
    return AccuracyTable(path, _read_table(path))


@checks.rules(name=FUNCTION_NAME)
def function(name: str) -> Accuracy:
    """Call a function of your own.

    Args:
      name: "module:function", imported when the first network comes. It is called with
        a Variant and the rung, and returns a `Score`, top-1 in %, or several of it.
        What it raises, or returns beyond 0 to 100, costs this network alone.

    Raises:
      UserError: the name is not of this form.
    """
    module, _, attribute = name.partition(":")
    return OwnAccuracy(module, attribute)


def in_folder(source: Accuracy, search_dir: str) -> Accuracy:
    """Return a source that keeps its files in a search's folder, if it has any."""
    if isinstance(source, Trained) and source.search_dir is None:
        return source.in_folder(search_dir)
    return source


@dataclasses.dataclass(frozen=True)
class AccuracyTable:
    """A table of accuracies; a callable of a variant and a rung, which it ignores.

    Attributes:
      path: that it comes from.
      samples: by digest or name, top-1 in %.
    """

    path: str
    samples: Mapping[str, tuple[float, ...]]

    def __call__(self, variant: Variant, rung: int = 0) -> Score:
        """Return what the table says of a network, by its digest, else by its name."""
        from search.spaces import digest

        source = f"table {self.path}"
        try:
            found = digest(variant)
        except ModelError as error:
            return Score((), source, f"cannot be built: {first_line(error)}")
        for key in (found, variant.name):
            if key in self.samples:
                return Score(self.samples[key], source)
        reason = f"neither {found} nor {variant.name} is in {self.path}"
        return Score((), source, reason)


@dataclasses.dataclass(frozen=True)
class OwnAccuracy:
    """A function of the user's; a callable of a variant and a rung.

    Attributes:
      module: that it is imported from.
      attribute: its name there.
    """

    module: str
    attribute: str

    def __call__(self, variant: Variant, rung: int = 0) -> Score:
        """Return what the function says of a network; a reason where that is no top-1.

        Raises:
          UserError: there is no such function.
        """
        name, function = f"{self.module}:{self.attribute}", self._function()
        try:
            found = function(variant, rung)
        except Exception as error:
            # Whatever a user's own code raises costs this network alone.
            return Score((), name, f"the function raised {_typed(error)}")
        if not isinstance(found, Score):
            samples = _samples(found)
            return Score(samples, name, "" if samples else _no_top1(found))
        if not found.samples or _samples(found.samples):
            return found
        return Score((), found.source, _no_top1(found.samples))

    def _function(self) -> Callable[[Variant, int], Any]:
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            raise UserError(
                f"{self.module}:{self.attribute}: {error}; the module has to lie in "
                "the folder where the command runs, or on PYTHONPATH"
            ) from error
        except Exception as error:
            # Whatever the user's module raises, as a SyntaxError.
            raise UserError(
                f"{self.module}:{self.attribute}: the import ended with {_typed(error)}"
            ) from error
        found = getattr(module, self.attribute, None)
        if not callable(found):
            near = nearest_names(self.attribute, vars(module))
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise UserError(f"{self.module} has no function {self.attribute!r}{hint}")
        return found


def _samples(found: Any) -> tuple[float, ...]:
    """Return what a function returned as top-1 in %; nothing where it is none."""
    values = found if isinstance(found, list | tuple) else (found,)
    try:
        samples = tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        return ()
    return samples if all(0 <= one <= 100 for one in samples) else ()  # nor is NaN


def _no_top1(found: Any) -> str:
    text = reprlib.repr(found)  # a long one shortened
    return f"the function returned {text}; top-1 is a number from 0 to 100, in %"


def _typed(error: Exception) -> str:
    """Return an error's type and first line; the type alone where it says nothing."""
    name, text = type(error).__name__, first_line(error)
    return name if text == name else f"{name}: {text}"


def _texts(value: Sequence[str]) -> tuple[str, ...]:
    """Return texts; one alone counts as a list of it."""
    return (value,) if isinstance(value, str) else tuple(value)


def _read_table(path: str) -> dict[str, tuple[float, ...]]:
    try:
        # Excel begins a file with a BOM.
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a table of top-1") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text, as a table has to be") from error
    entries = _json_entries if text.lstrip().startswith("{") else _csv_entries
    found: dict[str, tuple[float, ...]] = {}
    for place, network, value in entries(path, text):
        if not (is_number(value) and 0 <= value <= 100):  # nor is NaN
            raise UserError(f"{place}: top1 is {value!r}, not a number from 0 to 100")
        found[network] = (*found.get(network, ()), float(value))
    if not found:
        raise UserError(f"{path} has no network")
    return found


def _json_entries(path: str, text: str) -> Iterator[tuple[str, str, Any]]:
    """Yield where a value stands, its network and the value."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    for network, values in table.items():
        for value in values if isinstance(values, list) else [values]:
            yield f"{path}, {network!r}", network, value


def _csv_entries(path: str, text: str) -> Iterator[tuple[str, str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if missing := {"network", "top1"} - set(reader.fieldnames or ()):
            raise UserError(f"{path}, line 1: no column {', '.join(sorted(missing))}")
        for line in reader:
            place = f"{path}, line {reader.line_num}"
            network, value = (line["network"] or "").strip(), line["top1"] or ""
            if not network:
                raise UserError(f"{place}: it names no network")
            yield place, network, _number(value)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
