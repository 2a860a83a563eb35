"""The part of a report that shows a search over a space of blocks. Loads Altair."""

from collections.abc import Sequence

from common.console import count
from search.reports import report_block_charts as charts
from search.reports import report_block_rows as rows_of
from search.reports.report_block_rows import Row
from search.reports.report_data import SearchData, median
from search.reports.report_page import Page
from search.reports.report_text import accuracy_label, number, reasons

_BEST = 10  # networks in the table
_REASONS = 20
_LEFT_OUT = 0.1  # of the points, at most: the lowest ones, where they are far off
_OURS, _RANDOM = "this search", "random search"


def write(page: Page, data: SearchData) -> None:
    """Add all that is known of a search's results to a page.

    Args:
      page: to add to.
      data: of the search, with a result or more.
    """
    rung = rows_of.last_rung(data.results)
    known = rows_of.succeeded(data.results)
    label = accuracy_label(row["sources"][0] for row in known)
    _counts(page, data)
    if known:
        _pareto(page, data, rung, label)
        _best(page, data.results, rung, label)
        _history(page, data, rung)
        _choices(page, data.results, rung)
    else:
        page.paragraph("No network has a value yet: there is nothing to draw.")
    _failures(page, data.results)
    _repetitions(page, data.results)


def _counts(page: Page, data: SearchData) -> None:
    page.heading("What was evaluated")
    results = data.results
    failed = len(results) - len(rows_of.succeeded(results))
    attempts = sum(row["attempt"] > 1 for row in results)
    hours = sum(row["seconds"] or 0.0 for row in results) / 3600
    networks = len({row["digest"] for row in results})
    page.table(
        ("what", "number"),
        [
            ("evaluations that are finished", f"{len(results):,}"),
            ("different networks among them", f"{networks:,}"),
            ("evaluations of a network that had one of its rung before",
             f"{rows_of.duplicates(results):,}"),
            ("failed", f"{failed:,}"),
            ("finished by a second worker, as the first one died", f"{attempts:,}"),
            ("numbers that two workers have finished; the first one counts",
             f"{data.evaluated_twice:,}"),
            ("evaluations of the random search", f"{len(data.random):,}"),
            ("hours of evaluating, over all workers", f"{hours:,.2f}"),
        ],
    )  # fmt: skip
    found = rows_of.rungs(results)
    if len(found) < 2:
        return
    page.heading("Rungs", level=3)
    page.paragraph(
        "Every network is trained a little, on the first rung; the best go on to the "
        "next one, where they are trained further. Values of different rungs are not "
        "comparable."
    )
    page.table(
        ("rung", "evaluations", "failed", "best value", "seconds, median"),
        [
            (
                *(str(one["rung"]), f"{one['evaluated']:,}", f"{one['failed']:,}"),
                *(number(one["best"], 4), number(one["seconds"], 1)),
            )
            for one in found
        ],
    )


def _pareto(page: Page, data: SearchData, rung: int, label: str) -> None:
    page.heading("Accuracy and time")
    drawn = [
        (row["ms"], top1)
        for row in (*data.results, *data.random)
        if row["ms"] and (top1 := median(row["top1"])) is not None
    ]
    if not drawn:
        page.paragraph("No network has both a time and a top-1: there is no picture.")
        return
    front = rows_of.front(data.results, rung)
    page.paragraph(
        "Further up is more accurate, further left is faster. A point shows its "
        "network when the pointer is on it. Diamonds: the "
        f"{count(len(front), 'network')} of the last rung that no other one beats in "
        "both. " + ("Faint points are of rungs before the last." if rung else "")
    )
    if not data.random:
        page.paragraph(_NO_RANDOM, "note")
    lowest = rows_of.lower_end([top1 for _, top1 in drawn], _LEFT_OUT)
    below = sum(top1 < lowest for _, top1 in drawn)
    if below:
        page.paragraph(
            f"Not drawn: the {below:,} points below a top-1 of {lowest:.1f} %.", "note"
        )
    times = [ms for ms, top1 in drawn if top1 >= lowest]
    spec = charts.pareto(
        front,
        (min(times), max(times)),
        lowest,
        label,
        rung=rung,
        random=bool(data.random),
    )
    names = ["results", "random"] if data.random else ["results"]
    page.chart("pareto", spec, names=names, marks=len(drawn))


_NO_RANDOM = (
    "There is no random search of the same space in the folder random, so it is not "
    "shown how much of this is luck."
)


def _best(page: Page, results: Sequence[Row], rung: int, label: str) -> None:
    page.heading("The best networks", level=3)
    ranked = rows_of.best(results, rung)[:_BEST]
    page.table(
        ("network", "said by", "number", "ms", label, "lowest", "highest", "value"),
        [
            (
                *(row["network"], "; ".join(filter(None, row["sources"]))),
                *(f"{row['number']:,}", number(row["ms"])),
                number(median(row["top1"])),
                number(min(row["top1"], default=None)),
                number(max(row["top1"], default=None)),
                number(row["value"], 4),
            )
            for row in ranked
        ],
        left=2,
        breaks=True,
    )
    page.paragraph(
        "Lowest and highest: of repeated trainings; of a surrogate's fits, eight "
        "tenths lie between them.",
        "note",
    )


def _history(page: Page, data: SearchData, rung: int) -> None:
    page.heading("The best so far")
    found = rows_of.rungs(data.results)
    steps = []
    for one in found:
        who = _OURS if one["rung"] == rung else f"{_OURS}, rung {one['rung']}"
        steps += rows_of.best_so_far(data.results, one["rung"], who)
    if data.random:
        steps += rows_of.best_so_far(data.random, rung, _RANDOM)
    values = [row["value"] for row in rows_of.succeeded(data.results)]
    lowest = min(rows_of.lower_end(values, _LEFT_OUT), *(row["best"] for row in steps))
    below = sum(value < lowest for value in values)
    page.paragraph(
        "The value is that of the search's objective, which trades accuracy for time. "
        "Lines: the best value so far. Points: every evaluation"
        + (f", but for the {below:,} lowest ones." if below else ".")
    )
    page.chart(
        "history",
        charts.history(steps, lowest),
        names=["results"],
        marks=len(data.results),
    )
    _against_random(page, data, rung)


def _against_random(page: Page, data: SearchData, rung: int) -> None:
    """Compare with the random search at as many evaluations."""
    if not data.random:
        return
    budget = min(len(data.results), len(data.random))
    ours, others = (
        rows_of.best(rows[:budget], rung) for rows in (data.results, data.random)
    )
    if not ours or not others:
        page.paragraph("Of the last rung, one of the two searches has no value yet.")
        return
    difference = ours[0]["value"] - others[0]["value"]
    page.paragraph(
        f"After {budget:,} evaluations each, the best of this search is worth "
        f"{ours[0]['value']:.4f} and the best of the random one "
        f"{others[0]['value']:.4f}: {difference:+.4f}. One run of each does not say "
        "how much of that is luck."
    )


def _choices(page: Page, results: Sequence[Row], rung: int) -> None:
    page.heading("What the best tenth has chosen")
    rows = rows_of.shares(results, rung)
    if not rows:
        page.paragraph("There are too few networks, or they do not differ.")
        return
    page.paragraph(
        "Of each choice: the share of the best tenth of all networks that has each of "
        "its values. Where one value fills the bar, the best agree; where all have a "
        "part, the choice hardly matters, or was not settled. The pointer tells how "
        "common a value is among all that were evaluated."
    )
    page.chart("choices", charts.choices(rows))


def _failures(page: Page, results: Sequence[Row]) -> None:
    page.heading("Networks that have failed")
    found = reasons(row["reason"] for row in results if row["value"] is None)
    if not found:
        page.paragraph("None has failed.")
        return
    shown = [(why, f"{n:,}") for why, n in found[:_REASONS]]
    if more := sum(n for _, n in found[_REASONS:]):
        shown.append(("other reasons", f"{more:,}"))
    page.table(("reason; of those that differ in numbers alone, the first",
                "networks"), shown, breaks=True)  # fmt: skip
    page.paragraph("They count as worse than every network with a value.", "note")


def _repetitions(page: Page, results: Sequence[Row]) -> None:
    page.heading("Spread between repetitions")
    found = rows_of.repeated(results)
    if not found:
        page.paragraph(
            "No network was evaluated twice, so it is not known how far the same one "
            "would be off itself."
        )
        return
    deviation = rows_of.deviation(found)
    widest = max(max(one) - min(one) for one in found)
    page.paragraph(
        f"{count(len(found), 'network')} evaluated more than once. The standard "
        f"deviation of top-1 is {deviation:.3f} points, the widest range {widest:.3f}. "
        f"Networks that differ by less than {2 * deviation:.2f} points, twice that, "
        "count as equal."
    )
