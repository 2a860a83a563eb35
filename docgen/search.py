"""What searches have found: benchmarks.tpu.scaling, samplers in benchmarks.search."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docgen.markdown import table, three_digits

Report = Mapping[str, Any]

_RIVALS = ("efficientnet", "x-tpu", "x-gpu", "fast", "random")
_BASE = "efficientnet"  # whose scaling is of one objective


def scaling(report: Report, note: str) -> str:
    """Return families, what they gain and what stands beside them, by generation.

    Args:
      report: of benchmarks.tpu.scaling.
      note: the line below.
    """
    parts = []
    for topology, family in report["families"].items():
        outcomes = family["outcomes"]
        model = family["tile_model"]
        parts += [
            f"At the times of {outcomes[0]['target']} to "
            f"{outcomes[-1]['target'].rpartition('-')[2]} on one device of {topology}, "
            f"batch {report['settings']['batch']}, {report['settings']['dtype']}; the "
            f"tile model is fitted to {model['networks']} networks, each of which the "
            f"fit to the others misses by {model['leave_one_out']:.1%} rms:",
            _found(outcomes),
            _edges(outcomes),
            "What ours is predicted to gain over others at the same time, in points of "
            "top-1, and from where to where in 80 % of the fits; bold where that is "
            "above zero:",
            _gains(outcomes),
            _sentences(outcomes),
            "What stands beside them, as it is:",
            _beside(family["references"]),
        ]
    return "\n\n".join([*parts, note])


def _found(outcomes: Sequence[Report]) -> str:
    head = (
        *("target", "ms", "network", "blocks", "width", "px", "GMACs"),
        *("ms: tile model", "sum of parts", "whole", "top-1 %, predicted"),
        "time for EfficientNet's",
    )
    rows = []
    for outcome in outcomes:
        one = outcome["chosen"]
        time = next(
            r["time_at_equal_top1"] for r in outcome["rivals"] if r["name"] == _BASE
        )
        rows.append(
            (
                outcome["target"],
                three_digits(outcome["ms"]),
                f"`{one['name']}`",
                f"{one['blocks']}",
                f"{one['width']:g}",
                f"{one['resolution']}",
                f"{one['gmacs']:.2f}",
                three_digits(one["cheap_ms"]),
                three_digits(one["parts_ms"]),
                three_digits(one["exact_ms"]),
                _spread(one["top1"], one["top1_spread"]),
                "-" if time is None else f"{time:.0%}",
            )
        )
    return table(head, rows, right=" r rrrrrrrrr")


def _gains(outcomes: Sequence[Report]) -> str:
    rows = []
    for outcome in outcomes:
        by_name = {rival["name"]: rival["gain"] for rival in outcome["rivals"]}
        rows.append([outcome["target"], *(_gain(by_name.get(n)) for n in _RIVALS)])
    return table(["target", *_RIVALS], rows, right=" " + "r" * len(_RIVALS))


def _gain(gain: Report | None) -> str:
    if gain is None:
        return "-"
    low, high = gain["spread"]
    text = f"{gain['top1']:+.2f}"
    return f"{f'**{text}**' if low > 0 else text} ({low:+.2f} to {high:+.2f})"


def _sentences(outcomes: Sequence[Report]) -> str:
    """Return what each form of the surrogate says of the axes."""
    return "\n".join(f"- {one}" for one in _said(outcomes))


def _said(outcomes: Sequence[Report]) -> Iterator[str]:
    for outcome in outcomes:
        forms = outcome["by_form"]
        base = next(r["network"] for r in outcome["rivals"] if r["name"] == _BASE)
        if not forms or base is None or not base["shares"]:
            continue
        theirs = base["shares"]["resolution"]
        shares = [one["shares"].get("resolution", 0) for one in forms.values()]
        sizes = "; ".join(
            f"{form} {one['blocks']} blocks, width {one['width']:g}, "
            f"{one['resolution']} px"
            for form, one in forms.items()
        )
        sides = "below" if max(shares) < theirs else "NOT below in every form"
        yield (
            f"{outcome['target']}: resolution has {min(shares):.0%} to "
            f"{max(shares):.0%} of the growth, EfficientNet's scaling gives it "
            f"{theirs:.0%} ({sides}). By form: {sizes}."
        )


def _edges(outcomes: Sequence[Report]) -> str:
    """Return which networks are at the end of the trust region."""
    ends = [
        f"`{one['chosen']['name']}` ({', '.join(one['edges'])})"
        for one in outcomes
        if one["edges"]
    ]
    if not ends:
        return "None of them is at the end of the trust region."
    return f"At the end of the trust region: {', '.join(ends)}."


def _beside(references: Sequence[Report]) -> str:
    rows = []
    for one in references:
        published = one["published_top1"]
        recalled = bool(one["published_remark"])
        rows.append(
            (
                f"`{one['name']}`",
                f"{one['resolution']}",
                f"{one['gmacs']:.2f}",
                three_digits(one["ms"]),
                _spread(one["predicted_top1"], one["predicted_spread"]),
                "-"
                if published is None
                else f"{published:.1f}" + " (recalled)" * recalled,
            )
        )
    head = ("network", "px", "GMACs", "ms", "top-1 %, predicted", "published")
    return table(head, rows, right=" rrrrr")


def _spread(value: float | None, spread: Sequence[float] | None) -> str:
    if value is None or spread is None:
        return "-"
    return f"{value:.1f} ({spread[0]:.1f} to {spread[1]:.1f})"


def samplers(report: Report, note: str) -> str:
    """Return how near samplers came to the best network of planted problems.

    Args:
      report: of benchmarks.search.
      note: the line below.
    """
    rows = [
        (
            row["engine"],
            f"{row['near']} of {row['runs']}",
            f"{row['mean_gap']:.2f}",
            f"{row['worst_gap']:.2f}",
            _evaluations(row["median_evaluations_until_near"]),
            three_digits(row["ms_per_ask"]),
        )
        for row in report["rows"]
    ]
    settings, conditions = report["settings"], report["conditions"]
    near = f"within {settings['near']}"
    head = (
        *("sampler", f"{near} of the best", "mean gap", "worst gap"),
        *(f"evaluations until {near}, median", "CPU ms an ask"),
    )
    return "\n\n".join(
        [
            f"Points from the best network, which is known, after "
            f"{settings['evaluations']:,} evaluations. The problem: "
            f"{conditions['problem']}. Ageing evolution: "
            f"{conditions['ageing evolution']}. Optuna: {conditions['Optuna']}.",
            table(head, rows, right=" rrrrr"),
            *_streams(report["rows"]),
            note,
        ]
    )


def _evaluations(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _streams(rows: Sequence[Report]) -> Iterator[str]:
    """Yield how far runs on the same problems differ."""
    for row in rows[:1]:
        parts = [
            f"{one['near']} of {one['runs']} (mean gap {one['mean_gap']:.2f})"
            for one in row.get("streams", ())
        ]
        if parts:
            yield (
                f"The same problems with other random numbers, {row['engine']}: "
                f"{'; '.join(parts)}."
            )
