"""The charts of a scaling search. Loads Altair."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from search.reports import report_charts as look
from search.reports.report_family_rows import OURS, PUBLISHED, RECALLED, Row

_WIDTH = 1000
_NETWORK = {
    "who:N": "whose",
    "name:N": "network",
    "target:N": "target",
    "blocks:Q": "blocks",
    "width:Q:.4~g": "width factor",
    "resolution:Q": "images, px",
    "gmacs:Q:.2f": "MACs of an image, 10^9",
    "params_m:Q:.1f": "parameters, 10^6",
    "ms:Q:.2f": "ms, the best known",
    "by:N": "... said by",
    "cheap_ms:Q:.2f": "ms by the model",
    "parts_ms:Q:.2f": "ms, sum of parts",
    "exact_ms:Q:.2f": "ms, whole",
    "top1:Q:.2f": "top-1 %",
    "low:Q:.2f": "... 10 % of the fits below",
    "high:Q:.2f": "... 10 % of the fits above",
    "top1_source:N": "top-1 said by",
}
_REFERENCE = {
    "name:N": "reference",
    "mark:N": "top-1 is",
    "resolution:Q": "images, px",
    "gmacs:Q:.2f": "MACs of an image, 10^9",
    "ms:Q:.2f": "ms",
    "top1:Q:.2f": "top-1 %, by its authors",
    "remark:N": "remark",
}


def _who(names: Sequence[str], title: str = "whose network") -> alt.Color:
    return alt.Color("who:N", title=title, scale=look.colors(names), sort=list(names))


def pareto(
    rows: Sequence[Row], references: Sequence[Row], label: str
) -> dict[str, Any]:
    """Return top-1 over milliseconds.

    Args:
      rows: of `report_family_rows.networks`, each with a time and a top-1; one or more.
      references: of `report_family_rows.references`.
      label: what the top-1 is.
    """
    names = list(dict.fromkeys(row["who"] for row in rows))
    values = [row["ms"] for row in (*rows, *references)]
    x = look.log_axis(values, "milliseconds of a batch (logarithmic)")
    y = alt.Y("top1:Q", title=label, scale=alt.Scale(zero=False, padding=12))
    own = alt.Chart(look.data("networks"))
    line = own.transform_filter(f"datum.who == '{OURS}'").mark_line(
        strokeWidth=1.5, opacity=0.6
    )
    bars = own.mark_rule(strokeWidth=1.5, opacity=0.55)
    color, tooltip = _who(names), look.tips(_NETWORK)
    layers: list[Any] = [
        line.encode(x=x, y=y, color=color),
        bars.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=color),
    ]
    if any(row["by"] != "model" for row in rows):
        known = own.transform_filter("datum.by !== 'model'")
        points = known.mark_point(size=75, opacity=1, filled=True)
        layers.append(points.encode(x=x, y=y, color=color, tooltip=tooltip))
    if any(row["by"] == "model" for row in rows):
        known = own.transform_filter("datum.by === 'model'")
        points = known.mark_point(size=65, opacity=1, fill="white", strokeWidth=1.6)
        layers.append(points.encode(x=x, y=y, color=color, tooltip=tooltip))
    if references:
        layers += _references(references, x, y, values)
    return look.finished(
        alt.layer(*layers).properties(width=_WIDTH - 190, height=460),
        networks=rows,
        references=references,
    )


def _references(
    rows: Sequence[Row], x: alt.X, y: alt.Y, values: Sequence[float]
) -> list[Any]:
    """Return layers of networks whose accuracy somebody has published.

    Args:
      rows: of `report_family_rows.references`; one or more.
      x: the axis.
      y: the axis.
      values: all milliseconds on it.
    """
    marks = [m for m in (PUBLISHED, RECALLED) if any(r["mark"] == m for r in rows)]
    shapes = {PUBLISHED: "diamond", RECALLED: "cross"}
    chart = alt.Chart(look.data("references"))
    title = "references: top-1"
    shape = alt.Shape(
        "mark:N",
        title=title,
        scale=alt.Scale(domain=marks, range=[shapes[mark] for mark in marks]),
    )
    # Black all of them, by a scale: so the legend shows them, too.
    stroke = alt.Stroke(
        "mark:N",
        title=title,
        scale=alt.Scale(domain=marks, range=["black"] * len(marks)),
    )
    points = chart.mark_point(size=90, fill="white", strokeWidth=1.3).encode(
        x=x, y=y, shape=shape, stroke=stroke, tooltip=look.tips(_REFERENCE)
    )
    low, high = look.span(values)
    edge = low * (high / low) ** 0.8  # beyond, a name would leave the picture
    names = chart.encode(x=x, y=y, text="name:N")
    left = names.transform_filter(f"datum.ms < {edge!r}").mark_text(
        align="left", dx=9, fontSize=11
    )
    right = names.transform_filter(f"datum.ms >= {edge!r}").mark_text(
        align="right", dx=6, dy=-13, fontSize=11
    )
    return [points, left, right]


def axes(rows: Sequence[Row], title: str) -> dict[str, Any]:
    """Return blocks, width and pixels by target, in three panels.

    Args:
      rows: of `report_family_rows.networks` or `forms`; one or more.
      title: of the legend.
    """
    names = list(dict.fromkeys(row["who"] for row in rows))
    marked = [{**row, "ms": row["asked"]} for row in rows]
    x = look.log_axis([row["ms"] for row in marked], "target, ms (log.)")
    base = alt.Chart(look.data("networks"))
    panels = []
    for field, label in (
        ("blocks", "depth: blocks"),
        ("width", "width: factor of the channels"),
        ("resolution", "resolution: px of an image"),
    ):
        y = alt.Y(f"{field}:Q", title=None, scale=alt.Scale(zero=False, padding=8))
        color = _who(names, title)
        dash = alt.StrokeDash("who:N", sort=names, legend=None)
        lines = base.mark_line(opacity=0.75).encode(
            x=x, y=y, color=color, strokeDash=dash
        )
        points = base.mark_point(size=55, filled=True, opacity=0.9).encode(
            x=x,
            y=y,
            color=color,
            shape=alt.Shape(
                "who:N", sort=names, title=title, scale=alt.Scale(domain=names)
            ),
            tooltip=look.tips(_NETWORK),
        )
        panels.append(
            alt.layer(lines, points).properties(width=265, height=240, title=label)
        )
    return look.finished(alt.hconcat(*panels, spacing=18), networks=marked)


_VERDICTS = {
    "ours predicted better": look.OURS,
    "equal: the data cannot tell them apart": "#8a8a8a",
    "ours predicted worse": "#d55e00",
    "spread not known": "#000000",
}


def gains(rows: Sequence[Row], targets: Sequence[str], label: str) -> dict[str, Any]:
    """Return what ours gains over each strategy, with a line at nothing.

    Args:
      rows: of `report_family_rows.gains`; one or more.
      targets: names, in their order.
      label: what is gained.
    """
    names = list(dict.fromkeys(row["who"] for row in rows))
    known = [v for v in _VERDICTS if any(row["verdict"] == v for row in rows)]
    color = alt.Color(
        "verdict:N",
        title=None,
        scale=alt.Scale(domain=known, range=[_VERDICTS[v] for v in known]),
        legend=alt.Legend(orient="top", labelLimit=400, columns=2),
    )
    tooltip = look.tips(
        {
            "target:N": "target",
            "who:N": "ours over",
            "gain:Q:+.3f": "points, the median of the fits",
            "low:Q:+.3f": "10 % of the fits below",
            "high:Q:+.3f": "10 % of the fits above",
            "above:Q:.0%": "fits that call ours better",
            "verdict:N": "so",
        }
    )
    y = alt.Y("who:N", title=None, sort=names)
    base = alt.Chart()
    zero = base.mark_rule(color="#333333").encode(x=alt.datum(0))
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=label), x2="high:Q", y=y, color=color
    )
    points = base.mark_point(size=60, filled=True, opacity=1).encode(
        x="gain:Q", y=y, color=color, tooltip=tooltip
    )
    layer = alt.layer(zero, bars, points)
    return look.finished(_by_target(layer, targets, names), rows=rows)


def times(rows: Sequence[Row], targets: Sequence[str]) -> dict[str, Any]:
    """Return the share of the time that ours needs for a strategy's top-1.

    Args:
      rows: of `report_family_rows.times`; one or more.
      targets: names, in their order.
    """
    names = list(dict.fromkeys(row["who"] for row in rows))
    y = alt.Y("who:N", title=None, sort=names)
    base = alt.Chart()
    one = base.mark_rule(color="#333333").encode(x=alt.datum(1.0))
    title = "ours, as a share of the strategy's milliseconds"
    x = alt.X(
        "share:Q",
        title=title,
        axis=alt.Axis(format="%"),
        scale=alt.Scale(zero=False, padding=10),
    )
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        x=x,
        y=y,
        color=alt.Color("who:N", scale=look.colors(names), legend=None),
        tooltip=look.tips(
            {"target:N": "target", "who:N": "strategy", "share:Q:.1%": "ours takes"}
        ),
    )
    text = base.mark_text(dx=9, align="left", fontSize=11).encode(
        x=x, y=y, text=alt.Text("share:Q", format=".0%")
    )
    layer = alt.layer(one, points, text)
    return look.finished(_by_target(layer, targets, names), rows=rows)


def _by_target(layer: Any, targets: Sequence[str], names: Sequence[str]) -> Any:
    """Return one panel of "rows" below the other, a target each."""
    header = alt.Header(labelAngle=0, labelAlign="left", labelLimit=190, title=None)
    row = alt.Row("target:N", sort=list(targets), header=header)
    return layer.properties(width=660, height=19 * len(names)).facet(
        row=row, data=look.data("rows"), spacing=8
    )
