"""A picture of what the code costs as something grows: seconds by number, by axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from performance import plots

_COLUMNS, _PANEL = 2, (4.8, 4.0)  # inches
# Okabe and Ito's colours, as performance.plots has them.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "0.5")
_MARKERS = "osD^vP*"

Case = Mapping[str, Any]


def growth(
    path: Path, cases: Sequence[Case], *, dark: bool = False, command: str
) -> None:
    """Draw the CPU seconds of each case, a panel for what there is more and more of.

    Args:
      path: of the PNG.
      cases: of benchmarks.growth.
      dark: for a page at night.
      command: that draws it, for its mark.
    """
    with plots.page(dark):
        plots.save(_figure(cases), path, command)


def _figure(cases: Sequence[Case]) -> Figure:
    axes = list(dict.fromkeys(case["axis"] for case in cases))
    lines = -(-len(axes) // _COLUMNS)
    figure = Figure((_COLUMNS * _PANEL[0], lines * _PANEL[1]), layout="constrained")
    figure.suptitle("CPU seconds by how many there are; the thin line is linear")
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for panel, axis in zip(panels, axes, strict=False):
        _panel(panel, axis, [case for case in cases if case["axis"] == axis])
    for panel in panels[len(axes) :]:
        panel.set_visible(False)
    return figure


def _panel(panel: Any, axis: str, cases: Sequence[Case]) -> None:
    for number, case in enumerate(cases):
        sizes = [row["size"] for row in case["rows"]]
        panel.plot(
            sizes,
            [row["seconds"] for row in case["rows"]],
            color=_COLORS[number % len(_COLORS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linewidth=1,
            label=f"{case['name']}: {case['exponent']:.2f}",
        )
    every = [(row["size"], row["seconds"]) for case in cases for row in case["rows"]]
    size, seconds = max(every, key=lambda one: one[1])
    least = min(one[0] for one in every)
    panel.plot(
        [least, size], [seconds * least / size, seconds], color="0.6", linewidth=0.6
    )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(axis)
    # Above the lines, wherever they run.
    panel.legend(fontsize=6, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3)
    panel.grid(which="major")
