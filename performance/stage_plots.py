"""A picture of what each stage of a network costs with other blocks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from performance import plots

_PANEL = (4.8, 4.0)  # inches
# Okabe and Ito's colours, as performance.plots has them, by whether blocks are fused.
_COLORS = {True: "#0072b2", False: "#d55e00"}
_NAMES = {True: "fused", False: "depthwise"}
_MARKERS = {3: "s", 5: "o"}  # by kernel
_SIZE = 6.5
_STEP = 0.16  # between the points of a stage

Row = Mapping[str, Any]


def stage_choices(
    path: Path,
    rows: Sequence[Row],
    title: str,
    *,
    dark: bool = False,
    command: str,
) -> None:
    """Draw the milliseconds of every stage with every kind of block, by device.

    Args:
      path: of the PNG.
      rows: of benchmarks.tpu.stage_choices; those without milliseconds are left out.
      title: of the picture.
      dark: for a page at night.
      command: that draws it, for its mark.
    """
    with plots.page(dark):
        plots.save(_figure([row for row in rows if row["ms"]], title), path, command)


def _figure(rows: Sequence[Row], title: str) -> Figure:
    topologies = list(dict.fromkeys(row["topology"] for row in rows))
    size = _PANEL[0] * len(topologies), _PANEL[1] + 1.0
    figure = Figure(size, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(topologies), squeeze=False)[0]
    for panel, topology in zip(panels, topologies, strict=True):
        mine = [row for row in rows if row["topology"] == topology]
        _points(panel, mine)
        panel.set_title(f"one device of {topology}", fontsize=10)
        panel.set_xlabel("stage")
    panels[0].set_ylabel("ms of the stage's blocks, compiled one by one")
    figure.legend(
        handles=_legend(rows),
        loc="outside lower center",
        ncols=4,
        fontsize=9,
        columnspacing=1.2,
        handletextpad=0.2,
    )
    return figure


def _points(panel: Any, rows: Sequence[Row]) -> None:
    """Draw the choices of every stage beside one another, the first on the left."""
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        widest = max(row["expand_ratio"] for row in mine)
        for number, row in enumerate(mine):
            position = stage + _STEP * (number - (len(mine) - 1) / 2)
            hollow = row["expand_ratio"] < widest
            color = _COLORS[row["fused"]]
            panel.plot(
                position,
                row["ms"],
                linestyle="",
                marker=_MARKERS.get(row["kernel_size"], "D"),
                markersize=_SIZE,
                color=color,
                markerfacecolor="none" if hollow else color,
            )
            if row["of_x_b0"]:
                panel.plot(position, row["ms"], **_own())
    stages = sorted({row["stage"] for row in rows})
    panel.set_xticks(stages)
    for left in stages[1:]:
        panel.axvline(left - 0.5, color="0.6", linewidth=0.6, zorder=0)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_axisbelow(True)
    panel.grid(which="major", axis="y")


def _own() -> dict[str, Any]:
    """Return the ring around the network's own choice, in the page's ink."""
    return {
        "linestyle": "",
        "marker": "o",
        "markersize": 2 * _SIZE,
        "color": plots.ink(),
        "markerfacecolor": "none",
    }


def _legend(rows: Sequence[Row]) -> list[Line2D]:
    """Return an entry for all that is in the picture."""

    def entry(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, linestyle="", markersize=_SIZE, **style)

    entries = [
        entry(
            f"{_NAMES[fused]}, {kernel}x{kernel}",
            marker=_MARKERS.get(kernel, "D"),
            color=_COLORS[fused],
        )
        for fused in (True, False)
        for kernel in sorted({row["kernel_size"] for row in rows})
    ]
    if len({row["expand_ratio"] for row in rows if row["stage"] > 1}) > 1:
        least = min(row["expand_ratio"] for row in rows if row["stage"] > 1)
        label = f"hollow: expansion {least}"
        entries.append(entry(label, marker="s", color="0.5", markerfacecolor="none"))
    entries.append(Line2D([], [], label="what X-B0 has", **_own()))
    return entries
