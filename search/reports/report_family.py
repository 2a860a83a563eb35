"""The part of a report that shows a scaling search. Loads Altair."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.console import count
from search.reports import report_family_charts as charts
from search.reports import report_family_rows as rows_of
from search.reports import report_networks
from search.reports.report_family_rows import OURS, PREDICTED, RECALLED, Row
from search.reports.report_page import Page
from search.reports.report_text import (
    TENTHS,
    accuracy_label,
    facts,
    number,
    signed,
    spread,
    without_percent,
)

_TIMES = (
    "Times are of one batch. Model: what the source that ranks all sizes says. Parts: "
    "the sum of the network's parts, each asked for by itself. Whole: what the source "
    "that decides says of the whole network. An empty place was not asked."
)
_PREDICTED = (
    "A predicted top-1 was computed from published accuracies of other networks; "
    f"nothing was trained for it. The {TENTHS} spread holds eight tenths of the "
    "predictions, over the surrogate's forms and resampled data. It says how far the "
    "predictions differ among themselves; all of them together may be off by about a "
    "point."
)


def write(page: Page, family: Row) -> None:
    """Add all that is known of a family to a page.

    Args:
      page: to add to.
      family: see `search.families.family.Family.as_json`, checked.
    """
    if not family["outcomes"]:
        page.paragraph("No target has been searched yet.")
        return
    found = rows_of.networks(family)
    label = accuracy_label(row["top1_source"] for row in found)
    _targets(page, family, label)
    _pareto(page, family, found, label)
    _axes(page, family, found)
    _gains(page, family, label)
    _times(page, family, label)
    _all_networks(page, found, label)
    _references(page, family)
    _drawn(page, family)
    _search(page, family)


def _targets(page: Page, family: Row, label: str) -> None:
    page.heading("What was asked for, and what was found")
    missed = [one["target"] for one in family["outcomes"] if not one["reached"]]
    if missed:
        page.paragraph(
            f"Not reached: {', '.join(missed)}. No network was found whose time is "
            "within the tolerance of what was asked.",
            "warning",
        )
    head = (
        *("target", "network", "reached", "asked, ms", "model, ms", "parts, ms"),
        *("whole, ms", "blocks", "width", "px", "MACs, 10^9"),
        *("parameters, 10^6", label, TENTHS),
    )
    lines = []
    for one in family["outcomes"]:
        chosen = one["chosen"]
        lines.append(
            (
                *(one["target"], chosen["name"], "yes" if one["reached"] else "NO"),
                number(one["ms"]),
                *(number(chosen[f"{by}_ms"]) for by in ("cheap", "parts", "exact")),
                *_size(chosen),
                *(number(chosen["gmacs"]), number(chosen["params_m"], 1)),
                *(number(chosen["top1"]), spread(chosen["top1_spread"])),
            )
        )
    page.table(head, lines, left=3)
    page.paragraph(_TIMES, "note")
    if PREDICTED in label:
        page.paragraph(_PREDICTED, "note")


def _size(network: Row) -> tuple[str, str, str]:
    width = f"{network['width']:.4g}"
    return str(network["blocks"]), width, str(network["resolution"])


def _pareto(page: Page, family: Row, found: Sequence[Row], label: str) -> None:
    page.heading("Accuracy and time")
    drawn = [row for row in found if row["ms"] and row["top1"] is not None]
    if not drawn:
        page.paragraph("No network has both a time and a top-1: there is no picture.")
        return
    beside = rows_of.references(family)
    page.paragraph(
        "Further up is more accurate, further left is faster. A point shows its "
        f"network when the pointer is on it. The bars are the {TENTHS} spread. A "
        "hollow circle: its time is the model's alone, which was not checked."
    )
    if beside:
        page.paragraph(
            "Black marks are other networks with the top-1 that their authors have "
            "published: measured with recipes of their own, not predicted, and so not "
            "on one scale with the circles."
            + _because(
                any(row["mark"] == RECALLED for row in beside),
                " A cross: the published figure is recalled, not read, and proves "
                "nothing.",
            ),
        )
    else:
        page.paragraph("No reference has a published top-1 and a time.", "note")
    page.chart("pareto", charts.pareto(drawn, beside, label))
    left = len(found) - len(drawn)
    if left:
        page.paragraph(
            f"{count(left, 'network')} without a time or a top-1 cannot be drawn; see "
            "the table of every network.",
            "note",
        )


def _because(condition: bool, text: str) -> str:
    return text if condition else ""


def _axes(page: Page, family: Row, found: Sequence[Row]) -> None:
    page.heading("Depth, width and resolution by target")
    page.paragraph(
        "What each strategy spends its time on. Depth counts blocks, as they are "
        "built: the coefficient of depth is rounded up stage by stage."
    )
    page.chart("axes", charts.axes(found, "whose network"))
    forms = rows_of.forms(family)
    if not forms:
        page.paragraph(
            "The accuracy comes from one source without several forms, so there is "
            "nothing to compare.",
            "note",
        )
        return
    page.heading("What each form of the surrogate would take", level=3)
    page.paragraph(
        "The published accuracies fit several formulas about equally well. Where their "
        "lines part, the data do not decide the size of the network; where they lie "
        "together, they do."
    )
    ours = [row for row in found if row["who"] == OURS]
    page.chart("forms", charts.axes([*ours, *forms], "taken by"))


def _gains(page: Page, family: Row, label: str) -> None:
    page.heading("What ours gains at the same time")
    found = rows_of.gains(family)
    if not found:
        page.paragraph("Ours was compared with nothing that has a top-1.")
        return
    unit = without_percent(label)
    page.paragraph(
        f"Points of {unit} of ours above another strategy's network that takes "
        "as long. Both are predicted by the same fits, and the difference is taken fit "
        "by fit, so that it is known better than either. A bar that holds zero: equal, "
        "as far as these data can tell."
    )
    targets = [one["target"] for one in family["outcomes"]]
    page.chart("gains", charts.gains(found, targets, f"points of {unit}"))
    head = ("target", "ours over", "result", "points", TENTHS, "fits above zero")
    lines = [
        (
            *(row["target"], row["who"], row["verdict"], signed(row["gain"])),
            "" if row["above"] is None else f"{row['low']:+.2f} to {row['high']:+.2f}",
            "" if row["above"] is None else f"{row['above']:.0%}",
        )
        for row in found
    ]
    page.table(head, lines, left=3)
    for one in family["outcomes"]:
        none = [r["name"] for r in one["rivals"] if r["network"] is None]
        if none:
            page.paragraph(
                f"{one['target']}: no network of {', '.join(none)} takes that time.",
                "note",
            )
        unknown = [r["name"] for r in one["rivals"] if r["network"] and not r["gain"]]
        if unknown:
            page.paragraph(
                f"{one['target']}: the gain over {', '.join(unknown)} is not known, as "
                "one of the two networks has no top-1.",
                "note",
            )


def _times(page: Page, family: Row, label: str) -> None:
    page.heading(f"Time at equal {without_percent(label)}")
    found = rows_of.times(family)
    if not found:
        page.paragraph(
            "Nowhere is it known how much time ours needs for another strategy's top-1."
        )
        return
    page.paragraph(
        "How long ours takes to be as good as a strategy's network is predicted to be, "
        "as a share of that network's time: 90 % is a tenth faster. By the model and "
        "the middle of the predictions; where the gain above is equal, so is the time."
    )
    targets = [one["target"] for one in family["outcomes"]]
    page.chart("times", charts.times(found, targets))
    total = sum(len(one["rivals"]) for one in family["outcomes"])
    if total > len(found):
        page.paragraph(
            f"{count(total - len(found), 'comparison')} left out: the top-1 is beyond "
            "what was looked at, or there is no network.",
            "note",
        )


def _all_networks(page: Page, found: Sequence[Row], label: str) -> None:
    page.heading("Every network of every strategy")
    head = (
        *("target", "whose", "network", "model, ms", "parts, ms", "whole, ms"),
        *("blocks", "width", "px", "MACs, 10^9", label, TENTHS),
    )
    lines = [
        (
            *(row["target"], row["who"], row["name"]),
            *(number(row[f"{by}_ms"]) for by in ("cheap", "parts", "exact")),
            *_size(row),
            number(row["gmacs"]),
            number(row["top1"]),
            spread((row["low"], row["high"]) if row["low"] is not None else None),
        )
        for row in found
    ]
    own = [place for place, row in enumerate(found) if row["who"] == OURS]
    page.table(head, lines, left=3, own=own)
    page.paragraph(
        "random: the best of as many random sizes as the search has asked for.", "note"
    )
    _reasons(
        page,
        "No top-1",
        [(f"{r['who']}, {r['target']}", r["top1_reason"]) for r in found
         if r["top1"] is None],
    )  # fmt: skip


def _reasons(page: Page, what: str, found: Sequence[tuple[str, str]]) -> None:
    """Say why there is no number, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, why in found:
        by_reason.setdefault(why or "no reason is given", []).append(name)
    for why, names in by_reason.items():
        page.paragraph(f"{what}: {'; '.join(names)}: {why}.", "note")


def _references(page: Page, family: Row) -> None:
    page.heading("Other networks beside them")
    if not family["references"]:
        page.paragraph("No references were named.")
        return
    head = (
        *("network", "published top-1: remark", "px", "MACs, 10^9", "ms"),
        *("predicted top-1, %", TENTHS, "published top-1, %"),
    )
    lines = []
    for one in family["references"]:
        remark = one["published_remark"]
        if one["published_top1"] is None:
            remark = "none known"
        lines.append(
            (
                *(one["name"], remark, str(one["resolution"]), number(one["gmacs"])),
                *(number(one["ms"]), number(one["predicted_top1"])),
                spread(one["predicted_spread"]),
                number(one["published_top1"], 1),
            )
        )
    page.table(head, lines, left=2)
    page.paragraph(
        "Published: by others, with their recipes; nothing of it was reproduced here.",
        "note",
    )
    for what, number_of, why in (
        ("No time", "ms", "reason"),
        ("No prediction", "predicted_top1", "predicted_reason"),
    ):
        missing = [one for one in family["references"] if one[number_of] is None]
        _reasons(page, what, [(one["name"], one[why]) for one in missing])


def _drawn(page: Page, family: Row) -> None:
    page.heading("The networks, stage by stage")
    chosen = [one for one in family["outcomes"] if one["chosen"].get("stages")]
    if not chosen:
        page.paragraph("This family.json does not say what the stages are.")
        return
    page.paragraph(report_networks.LEGEND, "note")
    for one in chosen:
        network = one["chosen"]
        title = f"{network['name']}, {one['target']}"
        page.heading(title, level=3)
        page.paragraph(
            f"{network['blocks']} blocks, images of {network['resolution']} px, "
            f"{number(network['params_m'], 1)} million parameters"
        )
        page.drawing(report_networks.drawing(network["stages"], title))


def _search(page: Page, family: Row) -> None:
    page.heading("How it was searched")
    page.paragraph(
        "The trust region is how far sizes were looked at: beyond it, no published "
        "accuracy says what would come. The grid is all sizes within it."
    )
    known = [name for name in rows_of.SEARCH_FACTS if name in family["about"]]
    about = {name: family["about"][name] for name in known if name != "invalid"}
    grid = about.pop("grid", None)
    lines = facts(about)
    if isinstance(grid, dict):
        lines += [(f"grid: {name}", _steps(value)) for name, value in grid.items()]
    page.table(("setting", "value"), lines, left=2)
    lines = [
        (one["target"], f"{one['asked']:,}", f"{len(one['finalists']):,}",
         f"{len(one['failures']):,}")
        for one in family["outcomes"]
    ]  # fmt: skip
    page.table(("target", "points asked", "finalists", "failures"), lines)
    _failures(page, family)


def _steps(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return str(value)
    return f"{len(value):,}, from {value[0]} to {value[-1]}"


def _failures(page: Page, family: Row) -> None:
    """Count what has no time, by its reason."""
    found = Counter(
        reason for one in family["outcomes"] for reason in one["failures"].values()
    )
    invalid = family["about"].get("invalid")
    if isinstance(invalid, dict):
        found.update(str(reason) for reason in invalid.values())
    if not found:
        page.paragraph("No network has failed.")
        return
    page.heading("Networks that have failed", level=3)
    page.table(
        ("reason", "networks"),
        [(why or "no reason given", f"{n:,}") for why, n in found.most_common()],
    )
