"""Pictures of the analysis: layers under the roof, and time by kind of layer."""

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from search.analysis import Row

# Okabe and Ito's colours, told apart by the colour-blind, too.
_COLORS = {
    "stem": "#000000",
    "space_to_depth": "#56b4e9",
    "fused": "#0072b2",
    "conv_1x1": "#009e73",
    "depthwise": "#d55e00",
    "squeeze_excite": "#cc79a7",
    "classifier": "#999999",
    "reshuffle": "#e69f00",
}
_OF_PARTS = {
    "stem": _COLORS["stem"],
    "depthwise": _COLORS["depthwise"],
    "fused": _COLORS["fused"],
    "head": _COLORS["classifier"],
}
_COLUMNS = 3  # panels beside one another
_PANEL = (5.2, 4.4)  # inches
_DPI = 150


def roofline(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw every network's layers at the roof, and what its blocks make of it.

    Args:
        path: of the PNG.
        rows: of networks on the same device.
        title: of the picture.
    """
    networks = list(dict.fromkeys(row.network for row in rows))
    columns = min(_COLUMNS, len(networks))
    lines = math.ceil(len(networks) / columns)
    figure = Figure(
        (_PANEL[0] * columns, _PANEL[1] * lines + 1.2), layout="constrained"
    )
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for panel, network in zip(panels.flat, networks, strict=False):
        _roof(panel, rows)
        _points(panel, [row for row in rows if row.network == network])
        panel.set_title(network, fontsize=11)
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
        title="circles: layers at the roof, their area the share of the FLOPs",
    )
    _save(figure, path)


def latency(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw every network's time as a bar: ideal by layers, and estimated by blocks.

    Args:
        path: of the PNG.
        rows: of networks on the same device.
        title: of the picture.
    """
    blocks = [row for row in rows if row.level == "block" and row.estimated_seconds]
    layers = [row for row in rows if row.level == "layer"]
    networks = len({row.network for row in rows})
    columns = 2 if blocks else 1
    figure = Figure((7.0 * columns, 2.2 + 0.45 * networks), layout="constrained")
    figure.suptitle(f"Latency: {title}")
    parts = figure.subfigures(1, columns, squeeze=False)[0]
    ideal = "ideal, by kind of layer"
    _bars(parts[0], ideal, layers, _COLORS, lambda row: row.ideal_seconds)
    if blocks:
        estimate = "estimated block by block, by kind of block"
        seconds = operator.attrgetter("estimated_seconds")
        _bars(parts[1], estimate, blocks, _OF_PARTS, seconds)
    _save(figure, path)


def _roof(panel: Any, rows: Sequence[Row]) -> None:
    """Draw the roof over all intensities of the rows, and its ridge."""
    drawn = [row for row in rows if row.flops]
    peak, ridge = drawn[0].peak_flops / 1e12, drawn[0].ridge
    low = min(row.intensity for row in drawn) / 2
    high = max(ridge * 4, max(row.intensity for row in drawn) * 2)
    panel.loglog(
        [low, ridge, high],
        [low * peak / ridge, peak, peak],
        color="black",
        linewidth=1.2,
        zorder=1,
    )
    panel.axvline(ridge, color="0.7", linestyle=":", linewidth=1, zorder=0)
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
        color="0.4",
    )
    panel.set_xlim(low, high)
    points = [row.achieved_flops or row.ideal_flops for row in drawn]
    panel.set_ylim(min(points) / 2e12, peak * 2.5)
    panel.set_axisbelow(True)
    panel.grid(which="major", color="0.92")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _points(panel: Any, rows: Sequence[Row]) -> None:
    """Draw layers by their work, blocks and the network by what they achieve."""
    layers = [row for row in rows if row.level == "layer" and row.flops]
    total = sum(row.flops for row in layers)
    panel.scatter(
        [row.intensity for row in layers],
        [row.ideal_flops / 1e12 for row in layers],
        s=[12 + 1500 * row.flops / total for row in layers],
        c=[_COLORS[row.kind] for row in layers],
        alpha=0.55,
        linewidths=0.4,
        edgecolors="white",
        zorder=2,
    )
    for row in rows:
        if row.level == "layer" or row.achieved_flops is None:
            continue
        whole = row.level == "network"
        panel.plot(
            row.intensity,
            row.achieved_flops / 1e12,
            marker="*" if whole else "D",
            markersize=14 if whole else 5,
            color="gold" if whole else _OF_PARTS[row.kind],
            markeredgecolor="black",
            markeredgewidth=0.6,
            zorder=4 if whole else 3,
        )


def _roofline_legend(rows: Sequence[Row]) -> list[Line2D]:
    """Return an entry for all that is in the picture."""

    def entry(label: str, marker: str, color: str, size: float = 8, **kwargs: Any):
        style: dict[str, Any] = {"linestyle": "", "markersize": size, **kwargs}
        return Line2D([], [], label=label, marker=marker, color=color, **style)

    present = {row.kind for row in rows if row.level == "layer" and row.flops}
    entries = [
        entry(_words(kind), "o", _COLORS[kind], alpha=0.7)
        for kind in _COLORS
        if kind in present
    ]
    if any(row.achieved_flops for row in rows if row.level == "block"):
        entries.append(entry("blocks, estimated", "D", "0.6", 6, mec="black"))
    if any(row.achieved_flops for row in rows if row.level == "network"):
        entries.append(entry("network, estimated", "*", "gold", 13, mec="black"))
    return entries


def _bars(
    figure: Any,
    title: str,
    rows: Sequence[Row],
    colors: dict[Any, str],
    seconds: Callable[[Row], float],
) -> None:
    """Stack the milliseconds of each kind, a bar for each network."""
    panel = figure.subplots()
    panel.set_title(title)
    networks = list(dict.fromkeys(row.network for row in rows))
    ends = [0.0] * len(networks)
    for kind, color in colors.items():
        widths = [
            1e3
            * sum(seconds(r) for r in rows if r.kind == kind and r.network == network)
            for network in networks
        ]
        if not any(widths):
            continue
        panel.barh(networks, widths, 0.65, ends, color=color, label=_words(kind))
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in enumerate(ends):
        panel.annotate(
            f"{end:.2f}",
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    panel.invert_yaxis()  # the first network on top
    panel.margins(x=0.12)
    panel.set_xlim(left=0)
    panel.set_xlabel("ms")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)


def _words(kind: str) -> str:
    return "conv 1x1" if kind == "conv_1x1" else kind.replace("_", "-")


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # no window system is asked
    figure.savefig(path, dpi=_DPI)
