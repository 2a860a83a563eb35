"""What a person reads of a search: how far it is, what fails, what is best."""

import collections
import re
import textwrap
from collections.abc import Iterable, Sequence

from common import console
from search.results import Result

SHOWN = 10  # networks of the table
_KINDS = 5  # of failures in the line
_LONGEST = 80  # characters of a reason in the line
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def best(results: Iterable[Result], count: int = SHOWN) -> list[Result]:
    """Return the best networks, each once, the winner first.

    What was trained longest comes first: values of different rungs do not compare. Of
    equal values the smaller number wins.
    """
    good = [result for result in results if result.value is not None]
    ranked = sorted(good, key=lambda r: (-r.rung, -(r.value or 0.0), r.number))
    found: dict[str, Result] = {}
    for result in ranked:
        found.setdefault(result.digest, result)
    return list(found.values())[:count]


def failures(results: Iterable[Result]) -> dict[str, int]:
    """Return how many failed, by the reason, most frequent first.

    Reasons that differ in numbers alone are one, named by the first.
    """
    counts: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    for result in results:
        if result.value is None:
            kind = _NUMBER.sub("#", result.reason)
            counts[kind] += 1
            first.setdefault(kind, result.reason or "no reason is given")
    return {first[kind]: count for kind, count in counts.most_common()}


def line(results: Sequence[Result], evaluations: int | None) -> str:
    """Return one line: done of all, the best so far, failures by reason.

    Args:
      results: so far.
      evaluations: how many there will be; None where that is not known.
    """
    fewer = evaluations is None or evaluations < len(results)  # than there are already
    of_all = "" if fewer else f" of {evaluations:,}"
    parts = [f"{len(results):,}{of_all} evaluated"]
    if winner := best(results, 1):
        parts.append(f"best: {_value(winner[0])}, number {winner[0].number:,}")
    if failed := failures(results):
        total = sum(failed.values())
        kinds = list(failed.items())[:_KINDS]
        listed = "; ".join(f"{n:,} {_shortened(why)}" for why, n in kinds)
        more = "; ..." * (len(failed) > _KINDS)
        parts.append(f"{total:,} failed ({listed}{more})")
    distinct = len({(result.digest, result.rung) for result in results})
    if distinct < len(results):
        parts.append(f"{console.count(len(results) - distinct, 'repetition')}")
    return "; ".join(parts)


def table(results: Sequence[Result]) -> list[str]:
    """Return the best networks as lines; none where none could be evaluated."""
    winners = best(results)
    if not winners:
        return []
    rungs = len({result.rung for result in winners}) > 1
    head = ("value", "top-1 %", "ms", *["rung"] * rungs, "number", "network")
    rows = [
        (
            f"{result.value:.5g}",
            _top1(result),
            f"{result.ms:.4g}" if result.ms is not None else "",
            *[str(result.rung)] * rungs,
            f"{result.number:,}",
            console.escaped(result.network),
        )
        for result in winners
    ]
    top1, ms = winners[0].sources
    sources = f"top-1: {top1}; latency: {ms}" if top1 or ms else ""
    lines = console.table([head, *rows], right=range(len(head) - 1))
    return [*lines, *[console.escaped(sources)] * bool(sources)]


def _shortened(reason: str) -> str:
    line = console.escaped(reason)
    short = textwrap.shorten(line, _LONGEST, placeholder=" ...")
    # One word alone may be longer than all that is allowed.
    return short if short != "..." else f"{line[:_LONGEST]}..."


def _value(result: Result) -> str:
    ms = f" in {result.ms:.4g} ms" if result.ms is not None else ""
    return f"{result.value:.5g} ({_top1(result)} %{ms})"


def _top1(result: Result) -> str:
    """Return the median of the samples, with their spread if they are several."""
    from search.results import Score

    score = Score(result.top1, "")
    if score.top1 is None or score.spread is None:
        return ""
    low, high = score.spread
    return f"{score.top1:.2f}" + f" ({low:.2f}-{high:.2f})" * (len(result.top1) > 1)
