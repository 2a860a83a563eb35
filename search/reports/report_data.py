"""What lies in a search's folder, read for its report from plain files alone.

A file may be missing, half written or written to while it is read: what cannot be read
is passed over and said.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from search.reports import report_nas_data
from search.reports.report_nas_data import NasData
from search.results import Result

SEARCH, FAMILY = "search.json", "family.json"
RESULTS, RANDOM = "results.jsonl", "random"
LATENCIES = "latency.jsonl"
# Of more samples than these, a page holds the nine deciles alone.
MOST_SAMPLES = 9
_DIGITS = 300  # of a whole number that is still one of floating point, too
_SHARED = ("sources", "reason", "worker")  # few different values in many results
_SHOWN = 20  # lines that cannot be read, by name
# What a line, or a file, raises that is none, or of another form.
BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchData:
    """What a search has written so far.

    Attributes:
      folder: of the search.
      search: search.json, the conditions; None where there is none.
      family: family.json, see `search.families.family.Family.as_json`; None likewise.
      results: by number, as in `search.results.Result`, but of more than nine samples
        of top-1 the deciles, and None for a number that is not finite.
      random: those of the folder "random": a search of the same space without a plan.
      evaluated_twice: results whose number another worker had finished before.
      latencies: answers of the latency sources that are kept.
      conditions: that these were given under, each once.
      nas: of `search.nas`; None where there is none.
      unreadable: what was passed over, a sentence each.
    """

    folder: Path
    search: Row | None = None
    family: Row | None = None
    results: list[Row] = dataclasses.field(default_factory=list)
    random: list[Row] = dataclasses.field(default_factory=list)
    evaluated_twice: int = 0
    latencies: int = 0
    conditions: list[Row] = dataclasses.field(default_factory=list)
    nas: NasData | None = None
    unreadable: list[str] = dataclasses.field(default_factory=list)

    def as_json(self) -> Row:
        """Return what the page holds, once; `rows` reads its tables."""
        return {
            "search": self.search,
            "family": self.family,
            **({} if self.nas is None else {"nas": self.nas.as_json()}),
            "results": _table(self.results),
            "random": _table(self.random),
        }


def _table(rows: Sequence[Row]) -> Row:
    """Return rows without the names, and without what many of them repeat.

    Both together are half of a file of results.
    """
    columns = [field.name for field in dataclasses.fields(Result)]
    words: dict[str, list[Any]] = {}
    places: dict[str, dict[str, int]] = {}
    for name in _SHARED:
        known = {json.dumps(row[name]): row[name] for row in rows}
        words[name] = list(known.values())
        places[name] = {text: place for place, text in enumerate(known)}

    def cell(row: Row, name: str) -> Any:
        value = row[name]
        return places[name][json.dumps(value)] if name in places else value

    return {
        "columns": columns,
        "words": words,
        "rows": [[cell(row, name) for name in columns] for row in rows],
    }


def rows(table: Row) -> list[Row]:
    """Return the rows of a table of `SearchData.as_json`."""
    words = table["words"]
    found = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [
        {name: words[name][v] if name in words else v for name, v in row.items()}
        for row in found
    ]


def read(folder: Path) -> SearchData:
    """Read a search's folder.

    Raises:
      UserError: there is no such folder, it holds nothing of a search, or a file of it
        may not be read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; --search_dir names a search's")
    skipped: list[str] = []
    search = _object(folder / SEARCH, skipped)
    family = _object(folder / FAMILY, skipped)
    nas = report_nas_data.read(folder, _object, skipped)
    own = folder if nas is None else report_nas_data.results_folder(folder)
    results, twice = _results(own, skipped)
    baseline, _ = _results(folder / RANDOM, skipped)
    latencies = [line for _, line in _lines(folder / LATENCIES, skipped)]
    if not (search or family or results or nas or skipped):
        raise UserError(
            f"{folder} holds no search: neither {SEARCH} nor {FAMILY} nor {RESULTS}"
        )
    if len(skipped) > _SHOWN:
        more = len(skipped) - _SHOWN
        skipped = [*skipped[:_SHOWN], f"and {more:,} more that cannot be read"]
    return SearchData(
        folder=folder,
        search=search,
        family=family,
        results=results,
        random=baseline,
        evaluated_twice=twice,
        latencies=len(latencies),
        conditions=_conditions(latencies),
        nas=nas,
        unreadable=skipped,
    )


def median(samples: Iterable[float | None]) -> float | None:
    """Return the median of the samples that are numbers; None where there is none."""
    known = [one for one in samples if one is not None]
    return statistics.median(known) if known else None


def _finite(text: str) -> float | None:
    """Return a number of JSON; browsers know neither NaN nor infinity."""
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | float | None:
    return int(text) if len(text) <= _DIGITS else _finite(text)


def _parse(text: bytes) -> Any:
    return json.loads(
        text, parse_float=_finite, parse_int=_whole, parse_constant=lambda _: None
    )


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; mend that") from error


def _object(path: Path, skipped: list[str]) -> Row | None:
    """Return the object of a file of JSON; None where there is none."""
    data = _read_bytes(path)
    if data is None:
        return None
    try:
        found = _parse(data)
    except BROKEN:
        found = None
    if isinstance(found, dict):
        return found
    skipped.append(f"{path.name} cannot be read, and is left out.")
    return None


def _results(folder: Path, skipped: list[str]) -> tuple[list[Row], int]:
    """Return all results by number, and how many were a number's second.

    The first to finish counts: the merged file has it, and else the worker's file that
    comes first by name.
    """
    found: dict[int, Row] = {}
    twice = 0
    for path in (folder / RESULTS, *sorted((folder / "results").glob("*.jsonl"))):
        for place, line in _lines(path, skipped):
            try:
                row = _result(line)
            except BROKEN:
                skipped.append(f"{place} is no result, and is left out.")
                continue
            first = found.setdefault(row["number"], row)
            twice += first["worker"] != row["worker"]
    return [found[number] for number in sorted(found)], twice


def _conditions(lines: Iterable[Any]) -> list[Row]:
    """Return the conditions that lines were written under, each once."""
    found: list[Row] = []
    for line in lines:
        one = line.get("conditions") if isinstance(line, dict) else None
        if isinstance(one, dict) and one not in found:
            found.append(one)
    return found


def _lines(path: Path, skipped: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield what the lines of a file say, with the line's place."""
    data = _read_bytes(path) or b""
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path.parent.name}/{path.name}, line {number},"
        try:
            yield place, _parse(line)
        except BROKEN:
            torn = number == len(lines)
            why = "is half written" if torn else "cannot be read"
            skipped.append(f"{place} {why}, and is left out.")


def _result(line: Any) -> Row:
    """Return a line as a row of the page.

    Raises:
      One of BROKEN: it is none.
    """
    result = Result.of_json(line)
    for name in ("number", "rung", "attempt"):
        if type(getattr(result, name)) is not int:
            raise TypeError(name)
    for name in ("network", "digest", "reason", "worker"):
        if not isinstance(getattr(result, name), str):
            raise TypeError(name)
    numbers = (result.value, result.ms, result.seconds, *result.top1)
    if not all(one is None or type(one) in (int, float) for one in numbers):
        raise TypeError("a number")
    top1 = [one for one in result.top1 if one is not None]
    in_range = all(0 <= one <= 100 for one in top1) and len(result.sources) == 2
    if not in_range or (result.ms is not None and result.ms <= 0):
        raise ValueError("out of range")
    if len(top1) > MOST_SAMPLES:
        deciles = statistics.quantiles(top1, n=10, method="inclusive")
        top1 = [round(one, 4) for one in deciles]
    sources = [str(one) for one in result.sources]
    return {**result.as_json(), "top1": top1, "sources": sources}
