"""A family that was found, in words and tables for a person."""

import collections
from collections.abc import Sequence

from common import console
from search.families.family import Family, Member, Outcome, Rival

_HEAD = (
    *("target", "ms", "network", "blocks", "width", "px", "MACs G"),
    *("ms: cheap", "parts", "exact", "top-1 %", "10-90 %"),
)
_PREDICTED = (
    "top-1 is predicted: nothing was trained. The spread is of the surrogate's forms "
    "and of resampled families; networks of a family that it has not seen are off by a "
    "point."
)
_GAINS = (
    "gain: ours over the strategy at the same time; equal: the interval holds zero; -: "
    "the strategy has no such network; not known: its top-1 is not known. time: what "
    "ours needs for the strategy's top-1."
)


def text(family: Family) -> str:
    """Return the tables of a family."""
    lines = console.table(
        [_HEAD, *map(_row, family.outcomes)], right=range(3, len(_HEAD))
    )
    lines += ["", *_gains(family.outcomes), ""]
    lines += _forms(family.outcomes)
    if family.references:
        lines += ["", *_references(family)]
    lines += [
        f"{o.target}: {o.chosen.variant.name} is at the end of the trust region: "
        f"{', '.join(o.edges)}"
        for o in family.outcomes
        if o.edges
    ]
    lines += [_missed(o) for o in family.outcomes if not o.reached]
    lines += [
        f"{outcome.target}: left out {name}: {why}"
        for outcome in family.outcomes
        for name, why in outcome.failures.items()
    ]
    return "\n".join([*lines, "", *map(console.wrap, _notes(family))])


def _notes(family: Family) -> list[str]:
    """Return what has to be known to read the tables."""
    sources = {outcome.chosen.score.source for outcome in family.outcomes}
    predicted = all(source.startswith("predicted") for source in sources)
    notes = [
        _PREDICTED if predicted else f"top-1: {', '.join(sorted(sources))}.",
        _GAINS,
    ]
    reasons = collections.Counter(family.about.get("invalid", {}).values())
    for reason, count in reasons.most_common(3):
        notes.append(f"no time for {console.count(count, 'size')}: {reason}")
    return notes


def _row(outcome: Outcome) -> tuple[str, ...]:
    chosen = outcome.chosen
    data = chosen.as_json()
    return (
        outcome.target,
        f"{outcome.ms:.2f}",
        chosen.variant.name,
        f"{data['blocks']}",
        f"{data['width']:g}",
        f"{data['resolution']}",
        f"{data['gmacs']:.2f}",
        *(_ms(data[key]) for key in ("cheap_ms", "parts_ms", "exact_ms")),
        _top1(chosen),
        _spread(chosen.score.spread),
    )


def _gains(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a table of what ours gains over each strategy, by target."""
    names = list(dict.fromkeys(r.name for o in outcomes for r in o.rivals))
    rows = [["gain over", *names]]
    times = [["time", *names]]
    for outcome in outcomes:
        by_name = {rival.name: rival for rival in outcome.rivals}
        cells = [by_name.get(name) for name in names]
        rows.append([outcome.target, *map(_gain, cells)])
        times.append(
            [
                outcome.target,
                *(f"{c.time:.0%}" if c and c.time is not None else "-" for c in cells),
            ]
        )
    return [*console.table(rows, right=True), "", *console.table(times, right=True)]


def _forms(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what each form of the surrogate would take: blocks, width, pixels."""
    names = list(dict.fromkeys(name for o in outcomes for name in o.by_form))
    if not names:
        return []
    rows = [["taken by", *names]]
    for outcome in outcomes:
        sizes = [
            _size(outcome.by_form[n]) if n in outcome.by_form else "-" for n in names
        ]
        rows.append([outcome.target, *sizes])
    return console.table(rows, right=True)


def _references(family: Family) -> list[str]:
    rows = [["beside them", "px", "MACs G", "ms", "predicted", "published %"]]
    for one in family.references:
        remark = " *" if one["published_remark"] else ""
        published = one["published_top1"]
        rows.append(
            [
                one["name"],
                f"{one['resolution']}",
                f"{one['gmacs']:.2f}",
                _ms(one["ms"]),
                "-"
                if one["predicted_top1"] is None
                else f"{one['predicted_top1']:.2f}",
                "-" if published is None else f"{published:.1f}{remark}",
            ]
        )
    remarks = dict.fromkeys(
        one["published_remark"] for one in family.references if one["published_remark"]
    )
    return [*console.table(rows, right=True), *(f"* {remark}" for remark in remarks)]


def _missed(outcome: Outcome) -> str:
    ms = outcome.chosen.ms
    return (
        f"{outcome.target}: not reached: {outcome.chosen.variant.name} takes "
        f"{_ms(ms)} ms for {outcome.ms:.2f}"
    )


def _gain(rival: Rival | None) -> str:
    if rival is None or rival.member is None:
        return "-"
    gain = rival.gain
    if gain is None:
        return "not known"
    if gain.spread is None:
        return f"{gain.top1:+.2f}"
    word = "equal " * bool(gain.equal)
    return f"{word}{gain.top1:+.2f} ({gain.spread[0]:+.2f} to {gain.spread[1]:+.2f})"


def _size(member: Member) -> str:
    data = member.as_json()
    return f"{data['blocks']}, {data['width']:g}, {data['resolution']}"


def _top1(member: Member) -> str:
    return "-" if member.score.top1 is None else f"{member.score.top1:.2f}"


def _spread(spread: tuple[float, float] | None) -> str:
    return "-" if spread is None else f"{spread[0]:.1f}-{spread[1]:.1f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
