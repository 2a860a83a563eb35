"""Pictures of the analysis: layers under the roof, and time by kind of layer."""

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from common import files
from performance.analysis import RooflineRow
from performance.roofline_text import COMMAND

# Okabe and Ito's colours, told apart by the colour-blind, too.
_COLORS = {
    "stem": "black",
    "space_to_depth": "#56b4e9",
    "fused": "#0072b2",
    "conv_1x1": "#009e73",
    "depthwise": "#d55e00",
    "squeeze_excite": "#cc79a7",
    "classifier": "#999999",
    "reshuffle": "#e69f00",
    "other": "#f0e442",
}
_STAR: dict[str, Any] = {
    "linestyle": "",
    "marker": "*",
    "markersize": 14,
    "color": "gold",
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
}
_DARK = "#0d1117"  # GitHub's page at night
_LIGHT_INK = "#e6edf3"
_AT_NIGHT: Any = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), _DARK),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _LIGHT_INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _LIGHT_INK),
    "legend.edgecolor": "0.4",
    "grid.color": "0.2",
}
_BY_DAY: Any = {"grid.color": "0.92"}
_COLUMNS = 3  # panels beside one another
_PANEL = (4.3, 3.9)  # inches
_LEAST_WIDTH = 7.0  # that a legend needs
_DPI = 150


def roofline(
    path: Path,
    rows: Sequence[RooflineRow],
    title: str,
    *,
    dark: bool = False,
    command: str = COMMAND,
) -> None:
    """Draw every network's layers under the roof by what they achieve.

    A layer whose time is not known, or is in another's, is drawn at the roof.

    Args:
      path: of the PNG.
      rows: of networks on the same device.
      title: of the picture.
      dark: for a page at night.
      command: that draws it, for its mark.
    """
    with page(dark):
        save(_roofline(rows, title), path, command)


def _roofline(rows: Sequence[RooflineRow], title: str) -> Figure:
    networks = list(dict.fromkeys(row.network for row in rows))
    columns = min(_COLUMNS, len(networks))
    lines = math.ceil(len(networks) / columns)
    size = max(_PANEL[0] * columns, _LEAST_WIDTH), _PANEL[1] * lines + 1.2
    figure = Figure(size, layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for panel, network in zip(panels.flat, networks, strict=False):
        _roof(panel, rows)
        mine = [row for row in rows if row.network == network]
        _points(panel, mine)
        panel.set_title(_panel_title(network, mine), fontsize=10)
        panel.set_xlabel("operational intensity (FLOPs per byte)")
        panel.tick_params(labelbottom=True)  # also where none stands below
    for panel in panels.flat[len(networks) :]:
        panel.remove()
    for panel in panels[:, 0]:
        panel.set_ylabel("TFLOP/s")
    figure.suptitle(f"Roofline: {title}")
    figure.legend(
        handles=_roofline_legend(rows),
        loc="outside lower center",
        ncols=min(5, 3 * columns),
        fontsize=9,
        columnspacing=1.2,
        handletextpad=0.2,
        title="circles: layers, their area the share of the network's FLOPs",
    )
    return figure


def latency(path: Path, rows: Sequence[RooflineRow], title: str) -> None:
    """Draw every network's time by kind of layer as a bar: ideal, and as estimated.

    Args:
      path: of the PNG.
      rows: of networks on the same device.
      title: of the picture.
    """
    layers = [row for row in rows if row.level == "layer"]
    networks = list(dict.fromkeys(row.network for row in rows))
    panels: dict[str, Callable[[RooflineRow], float]] = {
        "ideal: every layer at the roof": lambda row: row.ideal_seconds
    }
    if any(row.estimated_seconds for row in layers):
        title_of_estimates = "estimated: a fusion counts for the layer of its root"
        panels[title_of_estimates] = lambda row: row.estimated_seconds or 0.0
    size = _LEAST_WIDTH * len(panels), 2.2 + 0.45 * len(networks)
    figure = Figure(size, layout="constrained")
    figure.suptitle(f"Latency by kind of layer: {title}")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (name, seconds) in zip(axes, panels.items(), strict=True):
        panel.set_title(name, fontsize=11)
        _bars(panel, networks, layers, seconds)
    axes[0].invert_yaxis()  # the first network on top
    present = {row.kind for row in layers if row.ideal_seconds or row.estimated_seconds}
    figure.legend(
        handles=[
            Patch(color=color, label=_words(kind))
            for kind, color in _COLORS.items()
            if kind in present
        ],
        loc="outside lower center",
        ncols=4 * len(panels),
        frameon=False,
    )
    save(figure, path, COMMAND)


def _roof(panel: Any, rows: Sequence[RooflineRow]) -> None:
    """Draw the roof over all intensities of the rows, and its ridge."""
    drawn = [row for row in rows if row.flops]
    peak, ridge = drawn[0].peak_flops / 1e12, drawn[0].ridge
    low = min(row.intensity for row in drawn) / 2
    high = max(ridge * 4, max(row.intensity for row in drawn) * 2)
    panel.loglog(
        [low, ridge, high],
        [low * peak / ridge, peak, peak],
        color=ink(),
        linewidth=1.2,
        zorder=1,
    )
    panel.axvline(ridge, color="0.6", linestyle=":", linewidth=1, zorder=0)
    bandwidth = drawn[0].bytes_per_second / 1e9
    panel.annotate(
        f"roof: {peak:g} TFLOP/s, {bandwidth:g} GB/s",
        (0, 1),
        xycoords="axes fraction",
        xytext=(6, -6),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    panel.annotate(
        f"ridge {ridge:.0f}",
        (ridge, 0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 5),
        textcoords="offset points",
        fontsize=8,
        color="0.5",
    )
    panel.set_xlim(low, high)
    points = [row.achieved_flops or row.ideal_flops for row in drawn]
    panel.set_ylim(min(points) / 2e12, peak * 2.5)
    panel.set_axisbelow(True)
    panel.grid(which="major")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _points(panel: Any, rows: Sequence[RooflineRow]) -> None:
    """Draw a network and its layers at what they achieve."""
    layers = [row for row in rows if row.level == "layer" and row.flops]
    total = sum(row.flops for row in layers)
    for row in layers:
        panel.scatter(
            row.intensity,
            (row.achieved_flops or row.ideal_flops) / 1e12,
            s=12 + 1500 * row.flops / total,
            facecolors="none" if row.fused_into else _color(row.kind),
            edgecolors=_color(row.kind) if row.fused_into else "white",
            linewidths=0.9 if row.fused_into else 0.4,
            alpha=0.65,
            zorder=2,
        )
    (network,) = (row for row in rows if row.level == "network")
    if network.achieved_flops is not None:
        point = network.intensity, network.achieved_flops / 1e12
        panel.plot(*point, zorder=3, **_STAR)


def _panel_title(network: str, rows: Sequence[RooflineRow]) -> str:
    """Return the network, its time, and at what height its layers are drawn."""
    (whole,) = (row for row in rows if row.level == "network")
    if whole.estimated_seconds is None:
        return f"{network}: layers at the roof"
    return f"{network}: layers as estimated, {whole.estimated_seconds * 1e3:.1f} ms"


def _roofline_legend(rows: Sequence[RooflineRow]) -> list[Line2D]:
    """Return an entry for all that is in the picture."""

    def circle(label: str, color: str, **style: Any) -> Line2D:
        circle: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 8}
        return Line2D([], [], label=label, color=color, **circle, **style)

    present = {row.kind for row in rows if row.level == "layer" and row.flops}
    entries = [
        circle(_words(kind), _color(kind), alpha=0.7)
        for kind in _COLORS
        if kind in present
    ]
    if any(row.fused_into for row in rows):
        label = "in another layer's fusion, at the roof"
        entries.append(circle(label, "0.5", markerfacecolor="none"))
    if any(row.estimated_seconds for row in rows):
        entries.append(Line2D([], [], label="whole network", **_STAR))
    return entries


def _bars(
    panel: Any,
    networks: Sequence[str],
    rows: Sequence[RooflineRow],
    seconds: Callable[[RooflineRow], float],
) -> None:
    """Stack the milliseconds of each kind, a bar for each network."""
    for position, network in enumerate(networks):
        end = 0.0
        for kind, color in _COLORS.items():
            some = [row for row in rows if (row.network, row.kind) == (network, kind)]
            width = 1e3 * sum(map(seconds, some))
            if width:  # the limits would stick to a bar without any
                panel.barh(position, width, 0.65, end, color=color)
            end += width
        panel.annotate(
            f"{end:.2f}" if end else "no estimate",
            (end, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    panel.set_yticks(range(len(networks)), networks)
    panel.margins(x=0.12)
    panel.set_xlim(left=0)
    panel.set_xlabel("ms")


def ink() -> str:
    """Return the colour of what is written and drawn by lines."""
    return matplotlib.rcParams["text.color"]


def _color(kind: str) -> str:
    return ink() if _COLORS[kind] == "black" else _COLORS[kind]


def _words(kind: str) -> str:
    return "conv 1x1" if kind == "conv_1x1" else kind.replace("_", "-")


def page(dark: bool) -> AbstractContextManager[None]:
    """Draw for a page by day, or at night; a context."""
    return matplotlib.rc_context(_AT_NIGHT if dark else _BY_DAY)


def save(figure: Figure, path: Path, command: str) -> None:
    """Write a figure as a PNG that says which command has drawn it."""
    FigureCanvasAgg(figure)  # no window system is asked
    png = io.BytesIO()
    figure.savefig(png, dpi=_DPI, format="png", metadata={"Software": None})
    path.write_bytes(files.marked_png(png.getvalue(), command))
