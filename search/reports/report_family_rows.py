"""The rows that a report draws and tabulates of family.json."""

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
OURS = "ours"
# How it is known how long a network takes: the best that there is of it counts.
TIMES = {"exact_ms": "whole", "parts_ms": "parts", "cheap_ms": "model"}
# Of a family's `about`: what the search has done. The rest are its conditions.
SEARCH_FACTS = (
    *("grid", "trust_region", "strategy", "tolerance", "asked_in_all", "invalid"),
)
PREDICTED, PUBLISHED, RECALLED = "predicted", "published", "published, as recalled"
_RECALLED = ("remembered", "recalled")


def networks(family: Row) -> list[Row]:
    """Return ours and each strategy's network of each target, in their order.

    A row has what `search.families.family.Member.as_json` says, and besides: `who`,
    `target`, `asked` (milliseconds), `ms` and `by`, the best that is known of its time.
    """
    rows = []
    for outcome in family["outcomes"]:
        rows.append(_row(OURS, outcome, outcome["chosen"]))
        rows += [
            _row(rival["name"], outcome, rival["network"])
            for rival in outcome["rivals"]
            if rival["network"] is not None
        ]
    return rows


def forms(family: Row) -> list[Row]:
    """Return what each form of the surrogate would take, by target, as `networks`."""
    return [
        _row(form, outcome, network)
        for outcome in family["outcomes"]
        for form, network in outcome["by_form"].items()
    ]


def _row(who: str, outcome: Row, network: Row) -> Row:
    by = next((name for name in TIMES if network[name]), None)
    low, high = network["top1_spread"] or (None, None)
    kept = {k: v for k, v in network.items() if k not in ("stages", "top1_spread")}
    return {
        **kept,
        "who": who,
        "target": outcome["target"],
        "asked": outcome["ms"],
        "ms": network[by] if by else None,
        "by": TIMES[by] if by else "",
        "low": low,
        "high": high,
        "mark": PREDICTED,
    }


def references(family: Row) -> list[Row]:
    """Return the references that have a published top-1 and a time."""
    return [
        {
            "who": "references",
            "name": one["name"],
            "resolution": one["resolution"],
            "gmacs": one["gmacs"],
            "ms": one["ms"],
            "top1": one["published_top1"],
            "remark": one["published_remark"],
            "mark": RECALLED if is_recalled(one) else PUBLISHED,
        }
        for one in family["references"]
        if one["ms"] and one["published_top1"] is not None
    ]


def is_recalled(reference: Row) -> bool:
    """Whether the published accuracy of a reference is from memory."""
    return any(word in reference["published_remark"] for word in _RECALLED)


def gains(family: Row) -> list[Row]:
    """Return what ours gains over each strategy, by target; those that are known."""
    return [
        {
            "who": rival["name"],
            "target": outcome["target"],
            "gain": gain["top1"],
            "low": low,
            "high": high,
            "above": gain["above"],
            "verdict": _verdict(gain),
        }
        for outcome, rival, gain in _known(family, "gain")
        for low, high in [gain["spread"] or (gain["top1"], gain["top1"])]
    ]


def _verdict(gain: Row) -> str:
    if gain["equal"] is None:
        return "spread not known"
    if gain["equal"]:
        return "equal: the data cannot tell them apart"
    return "ours predicted better" if gain["top1"] > 0 else "ours predicted worse"


def times(family: Row) -> list[Row]:
    """Return what ours needs for a strategy's predicted top-1; where that is known."""
    return [
        {"who": rival["name"], "target": outcome["target"], "share": share}
        for outcome, rival, share in _known(family, "time_at_equal_top1")
    ]


def _known(family: Row, field: str) -> Iterator[tuple[Row, Row, Any]]:
    for outcome in family["outcomes"]:
        for rival in outcome["rivals"]:
            if rival[field] is not None:
                yield outcome, rival, rival[field]
