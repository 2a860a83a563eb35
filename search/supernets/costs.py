"""Milliseconds of all networks of a space, as tables that a graph can sum up.

A source of latencies (`search.latency_sources`) is asked for whole networks, as few as
determine what each part costs; the tables then say what it would say of any network of
the space, exactly, if its answers are sums of parts. Whether they are is tried out on
networks that were not asked for: a source that is not additive is refused. Imports no
framework.
"""

import dataclasses
import json
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import console, files
from common.errors import UserError
from search.networks.layout import Layout, Network
from search.networks.space import Space
from search.results import Estimate, Latency
from search.supernets.cost_parts import Term, Terms
from search.supernets.linear_costs import Equations

CHECKED = 20  # networks, beside those asked for
MOST_QUESTIONS = 5_000
MOST_DIFFERENCE = 0.01  # of what a source says
_SPANNED = 200  # networks in a row that have to say nothing new
_LOOKED_AT = 1_000  # networks that have to be valid
# Below that share of a table's largest number, two of its numbers are one: what is left
# of rounding float64 in a sum of some hundred terms.
_EQUAL = 1e-10
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """What a stage costs, by the choices that it depends on.

    Attributes:
      places: of the choices in the space's order, ascending.
      ms: float64[sizes of these].
    """

    places: tuple[int, ...]
    ms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Costs:
    """The latency of every network of a space, in milliseconds of a batch.

    Attributes:
      tables: one of each stage and the head; a network costs the sum of its entries.
      source: the name of what said so.
      questions: networks that it was asked for.
      checked: networks on which the tables were compared with it.
      difference: the largest there, as a share of what the source says.
    """

    tables: tuple[Table, ...]
    source: str
    questions: int
    checked: int
    difference: float

    def ms(self, network: Network) -> float:
        """Return a network's milliseconds."""
        return sum(
            float(table.ms[tuple(network[place] for place in table.places)])
            for table in self.tables
        )

    def describe(self) -> str:
        """Return one line for a person."""
        entries = sum(table.ms.size for table in self.tables)
        return (
            f"latencies of {self.source}: {entries:,} entries from "
            f"{self.questions:,} networks; on {self.checked} others the largest "
            f"difference is {self.difference:.2%}"
        )


def make(
    space: Space,
    latency: Latency,
    *,
    checked: int = CHECKED,
    most_questions: int = MOST_QUESTIONS,
    most_difference: float = MOST_DIFFERENCE,
    seed: int = 0,
) -> Costs:
    """Ask a source for as many networks as the tables need, and try them out.

    Args:
      space: of the networks, all of which have to be valid.
      latency: the source.
      checked: random networks on which the tables are compared with it.
      most_questions: that it may be asked.
      most_difference: the largest share by which the tables may be off there.
      seed: of the random networks.

    Raises:
      UserError: a network of the space is not valid, too many questions are needed, the
        source has no answer, or it is not the sum of its parts.
    """
    rng = random.Random(seed)
    refuse_invalid(space, rng)
    terms = Terms(space)
    asked, equations = _questions(space, terms, rng)
    name = getattr(latency, "name", type(latency).__name__)
    total = len(asked) + checked
    if total > most_questions:
        raise UserError(
            f"{space.name}: the table of latencies needs {total:,} networks of "
            f"{name}, more than {most_questions:,}: leave out choices, or allow more"
        )
    console.say(f"asking {name} for {total:,} networks of {space.name}")
    others = [draw(space, rng) for _ in range(checked)]
    answers = _ask(space, latency, [*asked, *others])
    parts = equations.solve(answers[: len(asked)])
    costs = Costs(
        tuple(_table(term, parts) for term in terms.terms), name, len(asked), checked, 0
    )
    pairs = zip(others, answers[len(asked) :], strict=True)
    off = max((abs(costs.ms(one) / ms - 1) for one, ms in pairs), default=0.0)
    costs = dataclasses.replace(costs, difference=off)
    if not off <= most_difference:
        raise UserError(
            f"{costs.describe()}, more than {most_difference:.2%}: {name} is not the "
            "sum of a network's parts, as latency_sources.sum_of_parts is; search with "
            "such a source, and ask this one for what was found"
        )
    console.say(costs.describe())
    return costs


def refuse_invalid(space: Space, rng: random.Random) -> None:
    """Refuse a space with networks that are not valid: a graph cannot leave them out.

    All are looked at where they are 1,000 or fewer, else 1,000 random ones. What these
    miss `Terms` finds, if it is a block that cannot be built: it goes through all
    combinations of every stage. It is only a constraint of the space that may be broken
    by a network too rare to be drawn.

    Raises:
      UserError: one of these networks is not; says how many, and why.
    """
    looked_at, what = _some(space, rng)
    reasons = [space.why_not(network) for network in looked_at]
    wrong = [reason for reason in reasons if reason]
    if wrong:
        raise UserError(
            f"{space.name}: {len(wrong):,} of {len(looked_at):,} {what} are not valid, "
            f"and the controller cannot avoid them: {wrong[0]}. Leave such values out, "
            "bind them by `when`, or leave the limit to the objective"
        )


def _some(space: Space, rng: random.Random) -> tuple[list[Network], str]:
    """Return networks to be looked at, and what they are: all of a small space."""
    if space.count() > _LOOKED_AT:
        return [draw(space, rng) for _ in range(_LOOKED_AT)], "random networks"
    found = [network := space.first()]
    while (network := space.following(network)) is not None:
        found.append(network)
    return found, "networks"


def draw(space: Space, rng: random.Random) -> Network:
    """Return a random network, valid or not."""
    return Layout(space.choices).complete([], rng)


def _questions(
    space: Space, terms: Terms, rng: random.Random
) -> tuple[list[Network], Equations]:
    """Return networks whose latencies determine those of all others.

    Raises:
      UserError: the terms do not say of a network what is built.
    """
    equations, asked = Equations(), []
    for network in terms.examples():
        if equations.add(terms.counts(network)):
            asked.append(network)
    known = 0
    while known < _SPANNED:
        network = draw(space, rng)
        counts = terms.counts(network)
        if counts != terms.counts_of(space.build(network)):
            raise UserError(
                f"{space.name}: a stage costs what the choices of other stages decide "
                f"in {space.encode(network)}: the table of latencies cannot say that"
            )
        known += 1
        if equations.add(counts):
            asked.append(network)
            known = 0
    return asked, equations


def _ask(space: Space, latency: Latency, networks: Sequence[Network]) -> list[float]:
    """Return a source's milliseconds of networks.

    Raises:
      UserError: it has none of one.
    """
    variants = [space.build(network) for network in networks]
    many = getattr(latency, "many", None)
    found: list[Estimate] = many(variants) if many else [*map(latency, variants)]
    for network, one in zip(networks, found, strict=True):
        if one.ms is None:
            raise UserError(
                f"{space.name}: {one.source} has no latency of "
                f"{space.encode(network)}: {one.reason}"
            )
    return [float(one.ms or 0) for one in found]


def _table(term: Term, parts: dict[int, float]) -> Table:
    """Return a term's table, without the choices that change nothing there."""
    of_rows = np.array(
        [
            math.fsum(count * parts.get(part, 0.0) for part, count in counts.items())
            for counts in term.counts
        ]
    )
    ms, places = of_rows[term.rows], list(term.places)
    least = _EQUAL * np.abs(ms).max(initial=0.0)
    for axis in reversed(range(ms.ndim)):
        if np.ptp(ms, axis=axis).max(initial=0.0) <= least:
            ms = ms.take(0, axis=axis)
            del places[axis]
    return Table(tuple(places), ms)


def kept(path: str, space: Space, latency: Latency, **settings: Any) -> Costs:
    """Return the costs that a file has, or make them and write it.

    Args:
      path: of the file; "" keeps nothing.
      space: of the networks.
      latency: the source.
      **settings: of `make`.

    Raises:
      UserError: as `make`, or the file is of another space or source, or none.
    """
    if not path:
        return make(space, latency, **settings)
    name = getattr(latency, "name", type(latency).__name__)
    conditions = getattr(latency, "conditions", None)
    of = {
        "format": _FORMAT,
        "space": space.fingerprint,
        "source": name,
        "conditions": str(conditions) if conditions else "",
    }
    if os.path.exists(path):
        costs = _read(path, of)
        console.say(f"{path}: {costs.describe()}")
        return costs
    costs = make(space, latency, **settings)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, json.dumps(of | _as_json(costs)).encode())
    return costs


def _as_json(costs: Costs) -> dict[str, Any]:
    fields = {f.name: getattr(costs, f.name) for f in dataclasses.fields(costs)}
    fields["tables"] = [
        {"places": list(table.places), "ms": table.ms.tolist()}
        for table in costs.tables
    ]
    return fields


def _read(path: str, of: dict[str, Any]) -> Costs:
    """Return the costs of a file.

    Raises:
      UserError: it is none, or of something else.
    """
    try:
        found = json.loads(Path(path).read_bytes())
        differ = [name for name, value in of.items() if found[name] != value]
        tables = tuple(
            Table(tuple(one["places"]), np.asarray(one["ms"], np.float64))
            for one in found["tables"]
        )
        if not differ:
            rest = ("source", "questions", "checked", "difference")
            return Costs(tables, *(found[name] for name in rest))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no table of latencies ({error}); remove it, or name another"
        ) from error
    raise UserError(
        f"{path} is of another {' and '.join(differ)}: name another file, or remove it"
    )
