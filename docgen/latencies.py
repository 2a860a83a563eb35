"""Tables and a picture of what latencies say before any accuracy is known."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import files
from docgen.markdown import table, three_digits

Report = Mapping[str, Any]

# By name, whether it is for a page at night.
PICTURES = {"stage_choices.png": False, "stage_choices-dark.png": True}


def stage_choices(report: Report, note: str) -> str:
    """Return the milliseconds of each stage by kind of block, a table a generation.

    Args:
      report: of benchmarks.stage_choices.
      note: the line below.
    """
    settings = report["settings"]
    parts = [
        f"Estimated ms of each stage of {report['base']} with other blocks, batch "
        f"{settings['batch']}, {settings['dtype']}: the sum of its blocks, each "
        "compiled by itself. Of fused and depthwise the faster is bold; a star marks "
        "what the network has:"
    ]
    for topology in settings["topologies"]:
        mine = [row for row in report["rows"] if row["topology"] == topology]
        parts.append(_stages(topology, mine))
    return "\n\n".join([*parts, note])


def _stages(topology: str, rows: Sequence[Report]) -> str:
    kernels = sorted({row["kernel_size"] for row in rows})
    heads = [f"{kernel}x{kernel}" for kernel in kernels]
    lines, other = [], ""
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        widest = max(row["expand_ratio"] for row in mine)
        full = [row for row in mine if row["expand_ratio"] == widest]
        small = [row for row in mine if row["expand_ratio"] < widest]
        cells = [
            cell
            for kernel in kernels
            for cell in _pair([row for row in full if row["kernel_size"] == kernel])
        ]
        if small:
            other = f"expansion {small[0]['expand_ratio']}, own kernel"
        lines.append((f"{stage}", *cells, *_pair(small)))
    head = [f"{topology}, stage"]
    head += [f"{kind} {name}" for name in heads for kind in ("fused", "depthwise")]
    head += [f"{other}: fused", "depthwise"]
    return table(head, lines, right=" " + "r" * (len(head) - 1))


def _pair(rows: Sequence[Report]) -> Iterator[str]:
    """Yield the cells of fused and depthwise blocks that are otherwise alike."""
    known = [row["ms"] for row in rows if row["ms"] is not None]
    for fused in (True, False):
        (row,) = [one for one in rows if one["fused"] == fused] or [None]
        if row is None or row["ms"] is None:
            yield "-"
            continue
        text = three_digits(row["ms"]) + r"\*" * row["of_x_b0"]
        yield f"**{text}**" if row["ms"] == min(known) and len(known) > 1 else text


def tile_model(report: Report, note: str) -> str:
    """Return how far the tile model is off, a row a generation.

    Args:
      report: of benchmarks.tile_model.
      note: the line below.
    """
    rows = [
        (
            one["topology"],
            f"{len(one['networks'])}",
            ", ".join(name.replace("_", " ") for name in one["features"]),
            _percent(one["rms"]),
            f"{100 * one['worst']:+.1f}",
            _percent(one["choice_left_out"]),
            _percent(one["another_base"]),
            _percent(one["error_of_sums"]),
        )
        for one in report["generations"]
    ]
    head = (
        *("one device of", "networks", "features", "left out: rms %", "worst %"),
        *("choice left out, too %", "another base %", "sums of parts: rms %"),
    )
    settings = report["settings"]
    return "\n\n".join(
        [
            "How far the tile model is off whole compiled networks, each left out of "
            f"the fit, batch {settings['batch']}, {settings['dtype']}; with the choice "
            "of its four features left out, too; and networks of a base of which the "
            "fit has none, for which it therefore says nothing:",
            table(head, rows, right=" r rrrrr"),
            note,
        ]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def mark(report: Report) -> str:
    """Return what a picture says of its origin: the command and the figures' digest."""
    figures = files.digest(json.dumps(report["rows"]).encode())
    return f"docgen.pictures of {figures}"


def draw(report: Report, folder: Path) -> None:
    """Draw the pictures of benchmarks.stage_choices.

    Args:
      report: of the benchmark.
      folder: to write them to.
    """
    from performance import stage_plots  # loads matplotlib

    settings = report["settings"]
    title = (
        "Which blocks the stages of EfficientNet-X-B0 want, by latency alone\n"
        f"batch {settings['batch']}, {settings['dtype']}"
    )
    paint = functools.partial(
        stage_plots.stage_choices, rows=report["rows"], title=title
    )
    for name, dark in PICTURES.items():
        with files.writing(folder / name) as path:
            paint(path, dark=dark, command=mark(report))
