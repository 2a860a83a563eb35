"""What a report works out from the results of a search over blocks."""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from search.reports.report_data import median

Row = dict[str, Any]
_BEST = 0.1  # the share whose choices are looked at
_LEAST = 10  # networks, below which a tenth is too few
_TOKEN = re.compile(r"(.*?[^\d.+-])?([+-]?\d[\d.]*)")
# What stands before a number in an encoding, see `search.spaces.Space.encode`.
_FIELDS = {
    "r": "resolution",
    "w": "width factor",
    "d": "depth factor",
    "sec": "squeeze-and-excite factor",
    "stem": "stem channels",
    "head": "head channels",
    "drop": "dropout",
    "k": "kernel",
    "s": "stride",
    "e": "expansion",
    "c": "channels",
    "cx": "channels factor",
    "n": "blocks",
    "se": "squeeze-and-excite",
    "b": "space-to-batch",
}
_WORDS = {
    "fused": "kind",
    "mbconv": "kind",
    "skip": "skip",
    "noskip": "skip",
    "project": "projection",
    "noproject": "projection",
}


def succeeded(results: Iterable[Row]) -> list[Row]:
    """Return the results that have a value."""
    return [row for row in results if row["value"] is not None]


def last_rung(results: Iterable[Row]) -> int:
    """Return the highest rung of any result with a value; 0 where there is none."""
    return max((row["rung"] for row in succeeded(results)), default=0)


def front(results: Iterable[Row], rung: int) -> list[Row]:
    """Return the results of a rung that no other one beats, the fastest first.

    One beats another if it is as fast and as accurate, and better in one of the two. Of
    equal ones the first stands for all.
    """
    known = []
    for row in results:
        top1 = median(row["top1"])
        if row["rung"] == rung and row["ms"] and top1 is not None:
            known.append((row["ms"], -top1, row["number"], row))
    found, best = [], -math.inf
    for _, negative, _, row in sorted(known, key=lambda one: one[:3]):
        if -negative > best:
            found.append(row)
            best = -negative
    return found


def lower_end(values: Iterable[float], share: float) -> float:
    """Return where a picture of values may begin: at most this share is below.

    Where the lowest ones are not far off the others, it begins with them.
    """
    known = sorted(values)
    cut = known[int(share * (len(known) - 1))]
    return cut if cut - known[0] > (known[-1] - cut) / 2 else known[0]


def best_so_far(results: Sequence[Row], rung: int, who: str) -> list[Row]:
    """Return the steps of a rung's best value, with one more at the last number."""
    steps, best = [], -math.inf
    for row in results:
        if row["rung"] == rung and row["value"] is not None and row["value"] > best:
            best = row["value"]
            steps.append({"who": who, "number": row["number"], "best": best})
    if steps and results[-1]["number"] > steps[-1]["number"]:
        steps.append({"who": who, "number": results[-1]["number"], "best": best})
    return steps


def best(results: Iterable[Row], rung: int) -> list[Row]:
    """Return the results of a rung by their value, best first, each network once."""
    mine = [row for row in succeeded(results) if row["rung"] == rung]
    found: dict[str, Row] = {}
    for row in sorted(mine, key=lambda row: (-row["value"], row["number"])):
        found.setdefault(row["digest"], row)
    return list(found.values())


def choices(network: str) -> dict[tuple[int, str], str]:
    """Return what an encoding says, by stage (0 is the network) and field."""
    found = {}
    for group in network.split("/"):
        tokens = group.split()
        stage = int(tokens.pop(0)) if tokens and tokens[0].isdecimal() else 0
        for token in tokens:
            field, value = _choice(token)
            found[stage, field] = value
    return found


def _choice(token: str) -> tuple[str, str]:
    if token in _WORDS:
        return _WORDS[token], token
    if token.startswith("s2d-"):
        return "space-to-depth", token.removeprefix("s2d-")
    if token.startswith("ends-"):
        return "activation of the ends", token.removeprefix("ends-")
    numbered = _TOKEN.fullmatch(token)
    if numbered and (numbered[1] or "") in _FIELDS:
        return _FIELDS[numbered[1] or ""], numbered[2]
    return "activation", token


def shares(results: Sequence[Row], rung: int) -> list[Row]:
    """Return which values the best tenth of a rung's networks have, choice by choice.

    A row is a value of a choice: its share of the best tenth, from `start` to `end` of
    a bar, and its share of all networks of the rung. Choices that all of these agree
    on are left out; so is everything, where there are fewer than ten networks.
    """
    ranked = best(results, rung)
    if len(ranked) < _LEAST:
        return []
    top = ranked[: max(1, round(_BEST * len(ranked)))]
    everywhere, chosen = _counted(ranked), _counted(top)
    rows = []
    stages = Counter(field for _, field in everywhere)
    for key in sorted(everywhere, key=lambda key: (-stages[key[1]], key[1], key[0])):
        values = everywhere[key]
        if len(values) < 2:
            continue
        start = 0.0
        total, of_top = values.total(), chosen[key].total()
        for place, value in enumerate(sorted(values, key=_order)):
            share = chosen[key][value] / of_top if of_top else 0.0
            rows.append(
                {
                    "stage": f"stage {key[0]}" if key[0] else "network",
                    "field": key[1],
                    "value": value,
                    "place": place,
                    "share": share,
                    "all": values[value] / total,
                    "start": start,
                    "end": start + share,
                    "middle": start + share / 2,
                }
            )
            start += share
    return rows


def _counted(results: Iterable[Row]) -> dict[tuple[int, str], Counter[str]]:
    found: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for row in results:
        for key, value in choices(row["network"]).items():
            found[key][value] += 1
    return found


def _order(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def rungs(results: Iterable[Row]) -> list[Row]:
    """Return, for each rung, how many results there are, failed ones, and the best."""
    by_rung: dict[int, list[Row]] = defaultdict(list)
    for row in results:
        by_rung[row["rung"]].append(row)
    return [
        {
            "rung": rung,
            "evaluated": len(rows),
            "failed": len(rows) - len(succeeded(rows)),
            "best": max((row["value"] for row in succeeded(rows)), default=None),
            "seconds": statistics.median(row["seconds"] or 0.0 for row in rows),
        }
        for rung, rows in sorted(by_rung.items())
    ]


def repeated(results: Iterable[Row]) -> list[list[float]]:
    """Return the accuracies of each network that was evaluated more than once.

    Repetitions have the same digest and rung, and a top-1.
    """
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in results:
        top1 = median(row["top1"])
        if top1 is not None:
            found[row["digest"], row["rung"]].append(top1)
    return [samples for samples in found.values() if len(samples) > 1]


def duplicates(results: Iterable[Row]) -> int:
    """Return how many results are of a network that had one of its rung before."""
    keys = Counter((row["digest"], row["rung"]) for row in results)
    return keys.total() - len(keys)


def deviation(repetitions: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of repetitions, pooled over the networks."""
    squares = sum(statistics.variance(one) * (len(one) - 1) for one in repetitions)
    return math.sqrt(squares / sum(len(one) - 1 for one in repetitions))
