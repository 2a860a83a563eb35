"""A picture of families of networks: accuracy against latency on several devices."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from performance import plots

_COLUMNS = 2  # panels beside one another
_PANEL = (4.6, 3.7)  # inches
_LEAST_WIDTH = 7.5  # that title and legend need
_MARKER: dict[str, Any] = {"marker": "o", "markersize": 5.5}
# Where a label stands beside its point, in points, and which of its sides is there.
_LABELS: dict[str, dict[str, Any]] = {
    "above": {"xytext": (-4, 3), "ha": "right"},
    "below": {"xytext": (4, -10), "ha": "left"},
}


@dataclasses.dataclass(frozen=True)
class Point:
    """A network.

    Attributes:
      label: that stands beside it.
      milliseconds: on the panel's device.
      top1: in percent.
      assumed: whether the accuracy is another network's: drawn hollow, without label.
    """

    label: str
    milliseconds: float
    top1: float
    assumed: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks on one line.

    Attributes:
      name: for the legend.
      color: one of matplotlib's.
      points: in the order of the line.
      style: of the line, one of matplotlib's.
      labels: whether they stand above their points on the left, or below on the right.
    """

    name: str
    color: str
    points: Sequence[Point]
    style: Literal["-", ":"] = "-"
    labels: Literal["above", "below"] = "below"


def accuracy(
    path: Path,
    panels: Mapping[str, Sequence[Family]],
    title: str,
    note: str,
    *,
    dark: bool = False,
    command: str,
) -> None:
    """Draw every family's top-1 against its milliseconds, a panel for each device.

    Args:
      path: of the PNG.
      panels: families by the device's name; one without points stays empty.
      title: of the picture.
      note: below the legend.
      dark: for a page at night.
      command: that draws it, for its mark.
    """
    with plots.page(dark):
        plots.save(_accuracy(panels, title, note), path, command)


def _accuracy(panels: Mapping[str, Sequence[Family]], title: str, note: str) -> Figure:
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    size = max(_PANEL[0] * columns, _LEAST_WIDTH), _PANEL[1] * lines + 1.2
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axis, (name, families) in zip(axes.flat, panels.items(), strict=False):
        axis.set_title(name, fontsize=11)
        _panel(axis, families)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("published top-1, %")
    figure.suptitle(title)
    figure.legend(
        handles=_legend(panels),
        loc="outside lower center",
        ncols=min(4, 3 * columns),
        fontsize=9,
        frameon=False,
        title=note,
        title_fontsize=8.5,
    )
    return figure


def _panel(axis: Any, families: Sequence[Family]) -> None:
    axis.set_xscale("log")
    for family in families:
        _line(axis, family)
    if not any(family.points for family in families):
        axis.annotate("not compiled", (0.5, 0.5), xycoords="axes fraction", ha="center")
    axis.set_xlabel("estimated ms, logarithmic")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_axisbelow(True)
    axis.grid(which="major")
    axis.tick_params(labelleft=True)
    axis.margins(x=0.09, y=0.08)


def _line(axis: Any, family: Family) -> None:
    points = family.points
    xs, ys = [one.milliseconds for one in points], [one.top1 for one in points]
    style = {"color": family.color, "linestyle": family.style}
    axis.plot(xs, ys, linewidth=1.6, zorder=2, **style)
    for one in points:
        face = axis.get_facecolor() if one.assumed else family.color
        axis.plot(
            one.milliseconds,
            one.top1,
            color=family.color,
            markerfacecolor=face,
            zorder=3,
            **_MARKER,
        )
        if not one.assumed:
            axis.annotate(
                one.label,
                (one.milliseconds, one.top1),
                textcoords="offset points",
                fontsize=8,
                color=family.color,
                **_LABELS[family.labels],
            )


def _legend(panels: Mapping[str, Sequence[Family]]) -> list[Line2D]:
    """Return an entry for each family; those of the fullest panel come first."""
    fullest = sorted(panels.values(), key=len, reverse=True)
    shown = {one.name: one for families in fullest for one in families}
    return [
        Line2D(
            [],
            [],
            label=family.name,
            color=family.color,
            linestyle=family.style,
            markerfacecolor="none" if family.points[-1].assumed else family.color,
            **_MARKER,
        )
        for family in shown.values()
    ]
