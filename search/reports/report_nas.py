"""The part of a report that shows a neural architecture search. Loads Altair."""

import shlex
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from search.reports import report_nas_charts as charts
from search.reports import report_nas_data
from search.reports import report_networks as networks
from search.reports.report_data import BROKEN, SearchData
from search.reports.report_nas_data import NasData
from search.reports.report_page import Page
from search.reports.report_text import number, signed
from search.stages import stage_text, trust

Row = dict[str, Any]
_FIRST_CURVES = ("reward", "entropy", "ms", "baseline")  # of what a policy tells
_MOST_CURVES = 6


def write(page: Page, data: SearchData) -> None:
    """Add all that is known of a search to a page.

    Args:
      page: to add to.
      data: with `nas`.
    """
    nas = data.nas
    if nas is None:
        return
    for draw in (_stages, _found, _finals, _trust, _random, _latency, _controller):
        _guarded(page, draw, data, nas)


def _guarded(
    page: Page,
    draw: Callable[[Page, SearchData, NasData], None],
    data: SearchData,
    nas: NasData,
) -> None:
    """Draw a section; of files that somebody has changed it says so."""
    try:
        draw(page, data, nas)
    except BROKEN as error:
        page.paragraph(
            f"A file in stages/ is not as search.nas writes it, and is not drawn: "
            f"{type(error).__name__} {error}",
            "warning",
        )


def _stages(page: Page, data: SearchData, nas: NasData) -> None:
    page.heading("What was done, and what was not")
    rows = []
    for name in nas.command["stages"]:
        found = nas.stages.get(name)
        lines = ["NOT YET"] if found is None else stage_text.lines(name, found)
        short = lines[:1] if name == "found" else lines
        rows.append((name, stage_text.purpose(name, nas.command["method"]), short))
    for name, why in nas.command["skipped"].items():
        purpose = stage_text.purpose(name, nas.command["method"])
        rows.append((name, purpose, [why.upper()]))
    rows = [(name, purpose, "; ".join(said)) for name, purpose, said in rows]
    page.table(("stage", "what it is", "what came of it"), rows, left=3, breaks=True)


def _found(page: Page, data: SearchData, nas: NasData) -> None:
    found = nas.stages.get("found")
    page.heading("The found network")
    if found is None:
        page.paragraph("The search has not found one yet.")
        return
    page.drawing(networks.drawing(found["stages"], found["network"]))
    page.paragraph(networks.LEGEND, "note")
    page.facts(
        [
            ("network", found["network"]),
            ("ms", f"{number(found['ms'], 4)} ({found['source']})"),
            ("target, ms", number(found["target_ms"], 4) or "none"),
            ("gin file", found["gin_file"]),
            *_weights(found),
        ]
    )
    page.text(f"{found['row']}\n\n{shlex.join(found['train'])}")


def _weights(found: Row) -> list[tuple[str, str]]:
    """Return what is known of the weights that the supernet has for a network."""
    alone = found.get("alone")
    if alone is None:
        return []
    return [
        ("its weights out of the supernet", found["weights"]),
        ("top-1 % of these alone", number(alone["top1"])),
        ("to begin a training with them", found["fine_tune"]),
    ]


def _finals(page: Page, data: SearchData, nas: NasData) -> None:
    page.heading("Trained from scratch")
    final = nas.stages.get("final")
    rows = nas.finals if final is None else final["rows"]
    if not rows:
        page.paragraph("No network was trained by the whole recipe.")
        return
    shown = [{**row, "who": stage_text.who(row["name"])} for row in rows]
    if final is None:
        page.paragraph("Not all of these trainings are done.", "warning")
    page.chart("seeds", charts.seeds(shown))
    by_name: dict[str, list[float]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row["top1"])
    times = _times(nas)
    against = {} if final is None else final["against"]
    page.table(
        ("network", "top-1 % of each seed", "mean", "sd", "ms", "found is", "by"),
        [_final_row(name, each, times, against) for name, each in by_name.items()],
        left=2,
        own=[i for i, name in enumerate(by_name) if name == "found"],
    )
    for line in stage_text.conclusions(final) if final is not None else ():
        page.paragraph(line[0].upper() + line[1:] + ".")
    points = _points(by_name, times, nas)
    if points:
        page.heading("Accuracy and time", level=3)
        page.paragraph(
            "Means of the seeds, and lines from the lowest to the highest. Further up "
            "is more accurate, further left is faster."
        )
        page.chart("pareto", charts.pareto(points, "top-1 %"))


def _final_row(
    name: str, each: Sequence[float], times: dict[str, float], against: Row
) -> tuple[str, ...]:
    compared = against.get(name) or {}
    return (
        stage_text.who(name),
        ", ".join(number(one) for one in each),
        number(statistics.fmean(each)),
        number(statistics.stdev(each)) if len(each) > 1 else "",
        number(times.get(name), 4),
        signed(compared.get("difference")),
        compared.get("verdict", ""),
    )


def _times(nas: NasData) -> dict[str, float]:
    """Return the ms of each network by the source that was searched by."""
    found = {
        row["network"]: row["ms"]
        for row in nas.rows("latency")
        if row["role"] == "searched by" and row["ms"] is not None
    }
    first = nas.stages.get("found")
    if first is not None and first["ms"] is not None:
        found.setdefault("found", first["ms"])
    return found


def _points(
    by_name: dict[str, list[float]], times: dict[str, float], nas: NasData
) -> list[Row]:
    return [
        {
            "who": stage_text.who(name),
            "network": nas.stages.get(name, {}).get("network", ""),
            "ms": times[name],
            "top1": statistics.fmean(each),
            "low": min(each),
            "high": max(each),
        }
        for name, each in by_name.items()
        if name in times
    ]


def _trust(page: Page, data: SearchData, nas: NasData) -> None:
    found = nas.stages.get("trust")
    page.heading("Is the supernet to be trusted?")
    if found is None or found.get("not_done"):
        why = (found or {}).get("not_done", "It was not looked at.")
        page.paragraph(why[0].upper() + why[1:].rstrip(".") + ".")
        return
    is_trusted = found["tau"] is not None and found["tau"] >= trust.LEAST
    page.paragraph(found["verdict"] + ".", "" if is_trusted else "warning")
    page.paragraph(
        "Each point is a random network: its top-1 with the supernet's weights, and by "
        "a short training of its own, which is itself a guess at what the whole recipe "
        "makes of it. In a supernet that ranks well they rise together.",
        "note",
    )
    if rows := found["rows"]:
        page.chart("trust", charts.trust(rows))


def _random(page: Page, data: SearchData, nas: NasData) -> None:
    found = nas.stages.get("random")
    page.heading("Random search of equal budget")
    if found is None:
        page.paragraph("There was none, so nobody knows how much of this is luck.")
    else:
        budget, spent = found["budget"], found["seconds"]
        page.paragraph(
            "Random networks, of those that are about as fast as is wanted, were "
            "trained for as long as the search itself has trained. It is the time of "
            "training steps that counts, of all devices together, without start, "
            "compilation and evaluation."
        )
        page.table(
            ("", "minutes of training steps", "images"),
            [
                ("search", number(budget["seconds"] / 60), f"{budget['images']:,}"),
                ("random search", number(spent / 60), f"{found['images']:,}"),
            ],
        )
        for line in stage_text.lines("random", found):
            page.paragraph(line[0].upper() + line[1:] + ".")
    rows = [
        {
            "who": "random networks",
            "network": row["network"],
            "ms": row["ms"],
            "top1": row["top1"][0],
            "low": row["top1"][0],
            "high": row["top1"][0],
        }
        for row in data.random
        if row["ms"] and row["top1"] and row["top1"][0] is not None
    ]
    if rows:
        page.chart("random", charts.pareto(rows, "top-1 %, trained a little"))


def _latency(page: Page, data: SearchData, nas: NasData) -> None:
    page.heading("Predicted and asked again")
    rows = nas.rows("latency")
    if not rows:
        page.paragraph("No other source was asked for the found network's time.")
        return
    first = _times(nas)
    page.table(
        ("network", "asked as", "source", "ms", "to the prediction, %"),
        [
            (
                stage_text.who(row["network"]),
                row["role"],
                row["source"] if row["ms"] is not None else row["reason"],
                number(row["ms"], 4),
                _share(row["ms"], first.get(row["network"])),
            )
            for row in rows
        ],
        left=3,
        breaks=True,
    )


def _share(ms: float | None, predicted: float | None) -> str:
    return "" if not ms or not predicted else f"{100 * (ms / predicted - 1):+.1f}"


def _controller(page: Page, data: SearchData, nas: NasData) -> None:
    if nas.command["method"] != "supernet":
        return
    page.heading("The controller")
    if not nas.history:
        page.paragraph("The supernet's training has not begun.")
        return
    names = _curves(nas.history)
    titles = {name: name.replace("_", " ") for name in names}
    titles |= {"top1": "top-1 of the training batches"}
    rows = [{name: row.get(name) for name in ("step", *titles)} for row in nas.history]
    page.paragraph(
        "Over the steps of the supernet's training: a step trains what the controller "
        "has drawn. A falling entropy means that it has made up its mind."
    )
    page.chart("controller", charts.curves(rows, titles))
    shares = report_nas_data.probabilities(nas)
    if not shares:
        page.paragraph("The probabilities of its choices were not written down.")
        return
    page.heading("What it thought of each choice", level=3)
    page.chart("choices", charts.probabilities(shares), marks=len(shares))


def _curves(history: Sequence[Row]) -> list[str]:
    """Return the names of the numbers that are worth a curve, the best known first."""
    known = {
        name
        for row in history
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("step", "top1", "loss")
    }
    first = [name for name in _FIRST_CURVES if name in known]
    return [*first, *sorted(known - set(first))][: _MOST_CURVES - 1]
