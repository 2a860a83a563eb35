"""What all charts of a report share: colours, scales, and the look. Loads Altair."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

# Okabe and Ito's colours, told apart by the colour-blind, too.
OURS = "#0072b2"
GREY = "#767676"
_COLORS = {
    "ours": OURS,
    "efficientnet": "#d55e00",
    "x-tpu": "#009e73",
    "x-gpu": "#cc79a7",
    "fast": "#b8860b",
    "random": GREY,
}
_MORE = ("#56b4e9", "#8c564b", "#000000", "#7b4fa3", "#6b8e23", "#a05195")
_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
_LARGEST = 1e300  # of an axis
_FONT = 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif'


def colors(names: Sequence[str]) -> alt.Scale:
    """Return a scale of colours in which a strategy has always the same one."""
    more = iter(_MORE * (1 + len(names)))
    return alt.Scale(
        domain=list(names), range=[_COLORS.get(name) or next(more) for name in names]
    )


def data(name: str) -> alt.NamedData:
    """Return what stands for the page's data, or those given to `finished`."""
    return alt.NamedData(name=name)


def finished(chart: Any, **rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a chart as a specification of Vega-Lite, in the page's look.

    Args:
      chart: of Altair.
      **rows: that it brings with itself, by the name of the data.
    """
    chart = chart.configure(font=_FONT, background="white")
    chart = chart.configure_view(stroke="#bbbbbb")
    chart = chart.configure_axis(
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        gridColor="#eeeeee",
    )
    chart = chart.configure_legend(
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        labelLimit=320,
        titleLimit=320,
        symbolSize=90,
        symbolOpacity=1,
    )
    chart = chart.configure_header(labelFontSize=12, titleFontSize=12, labelLimit=300)
    spec = chart.configure_title(fontSize=13, anchor="start").to_dict()
    return {**spec, "datasets": {name: list(them) for name, them in rows.items()}}


def log_axis(values: Iterable[float], title: str) -> alt.X:
    """Return a logarithmic horizontal axis of a row's `ms`, wide enough for values.

    Args:
      values: above 0, one or more.
      title: of the axis.
    """
    low, high = span(values)
    return alt.X(
        "ms:Q",
        title=title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=ticks(low, high), format="~r"),
    )


def span(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis: a little beyond the values."""
    known = list(values)
    low, high = math.log(min(known)), math.log(max(known))
    air = max(0.06 * (high - low), 0.05)
    most = math.log(_LARGEST)
    return math.exp(max(low - air, -most)), math.exp(min(high + air, most))


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two, four to about ten of them if there are."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), _STEPS):
        found = [
            float(f"{step}e{power}")
            for power in range(first, last + 1)
            for step in steps
            if low <= float(f"{step}e{power}") <= high
        ]
        if len(found) >= 4:
            break
    return found[:: 1 + len(found) // 12] or [low]


def tips(fields: dict[str, str]) -> list[alt.Tooltip]:
    """Return what stands at the pointer: titles by field, with a type and format.

    A field is written as "ms:Q", or as "ms:Q:.2f".
    """
    found = []
    for field, title in fields.items():
        name, kind, *form = field.split(":")
        one = alt.Tooltip(f"{name}:{kind}").title(title)
        found.append(one.format(form[0]) if form else one)
    return found
