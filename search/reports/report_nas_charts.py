"""The charts of a neural architecture search. Loads Altair."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from search.reports import report_charts as look

Row = dict[str, Any]
_WIDTH = 1000
_COLORS = {
    "the found network": look.OURS,
    "random search's best": look.GREY,
    "the recipe's own": "#d55e00",
    "random networks": look.GREY,
}


def _color(names: Sequence[str]) -> alt.Color:
    """Return a scale in which a network has always the same colour."""
    shown = [_COLORS.get(name, "#009e73") for name in names]
    return alt.Color(
        "who:N", title=None, scale=alt.Scale(domain=list(names), range=shown)
    )


def curves(rows: Sequence[Row], titles: dict[str, str]) -> dict[str, Any]:
    """Return how the controller went, a panel for each number.

    Args:
      rows: "step" and numbers; one or more.
      titles: by the name of a number, what it is.
    """
    panels = [
        alt.Chart(look.data("rows"))
        .transform_filter(f"isValid(datum[{name!r}])")
        .mark_line(color=look.OURS, strokeWidth=1.6)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y(f"{name}:Q", title=None, scale=alt.Scale(zero=False)),
            tooltip=look.tips({"step:Q:d": "step", f"{name}:Q:.4~g": title}),
        )
        .properties(width=290, height=170, title=title)
        for name, title in titles.items()
    ]
    return look.finished(
        alt.concat(*panels, columns=3, spacing={"row": 14, "column": 26}), rows=rows
    )


def probabilities(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the controller thought of each value, a panel for each choice.

    Args:
      rows: of `report_nas_data.probabilities`; one or more.
    """
    panels = []
    for choice in dict.fromkeys(row["choice"] for row in rows):
        base = alt.Chart(look.data("rows")).transform_filter(
            f"datum.choice === {choice!r}"
        )
        panels.append(
            base.mark_area(stroke="white", strokeWidth=0.5)
            .encode(
                x=alt.X("step:Q", title=None),
                y=alt.Y(
                    "share:Q",
                    title=None,
                    stack="normalize",
                    axis=alt.Axis(format="%", tickCount=3),
                ),
                color=alt.Color(
                    "value:N", title=None, legend=alt.Legend(orient="right")
                ),
                tooltip=look.tips(
                    {
                        "choice:N": "choice",
                        "value:N": "value",
                        "step:Q:d": "step",
                        "share:Q:.1%": "probability",
                    }
                ),
            )
            .properties(width=220, height=80, title=choice)
        )
    grid = alt.concat(*panels, columns=3, spacing={"row": 10, "column": 20})
    return look.finished(grid.resolve_scale(color="independent"), rows=rows)


def pareto(rows: Sequence[Row], label: str) -> dict[str, Any]:
    """Return top-1 over milliseconds.

    Args:
      rows: "who", "ms", "top1", "low", "high" and "network"; one or more.
      label: what the top-1 is.
    """
    names = list(dict.fromkeys(row["who"] for row in rows))
    x = look.log_axis(
        [row["ms"] for row in rows], "milliseconds of a batch (logarithmic)"
    )
    y = alt.Y("top1:Q", title=label, scale=alt.Scale(zero=False, padding=12))
    base = alt.Chart(look.data("rows"))
    tooltip = look.tips(
        {
            "who:N": "which",
            "network:N": "network",
            "ms:Q:.4~g": "ms",
            "top1:Q:.2f": "top-1 %, mean",
            "low:Q:.2f": "... lowest",
            "high:Q:.2f": "... highest",
        }
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        x=x, y=alt.Y("low:Q"), y2="high:Q", color=_color(names)
    )
    points = base.mark_point(size=80, filled=True, opacity=0.9).encode(
        x=x, y=y, color=_color(names), tooltip=tooltip
    )
    return look.finished(
        alt.layer(bars, points).properties(width=_WIDTH - 260, height=340), rows=rows
    )


def seeds(rows: Sequence[Row]) -> dict[str, Any]:
    """Return every final training, a line for each network.

    Args:
      rows: "who", "seed" and "top1"; one or more.
    """
    names = list(dict.fromkeys(row["who"] for row in rows))
    base = alt.Chart(look.data("rows"))
    y = alt.Y("who:N", title=None, sort=names)
    x = alt.X("top1:Q", title="top-1 %", scale=alt.Scale(zero=False, padding=16))
    tooltip = look.tips({"who:N": "which", "seed:Q:d": "seed", "top1:Q:.2f": "top-1 %"})
    points = base.mark_point(size=70, filled=True, opacity=0.7).encode(
        x=x, y=y, color=_color(names).legend(None), tooltip=tooltip
    )
    means = base.mark_tick(thickness=2, size=24, color="black").encode(
        x=alt.X("mean(top1):Q"), y=y
    )
    return look.finished(
        alt.layer(points, means).properties(width=_WIDTH - 260, height=40 * len(names)),
        rows=rows,
    )


def trust(rows: Sequence[Row]) -> dict[str, Any]:
    """Return top-1 in the supernet over top-1 by trainings.

    Args:
      rows: "network", "supernet" and "alone"; one or more.
    """
    loose = alt.Scale(zero=False, padding=16)
    points = (
        alt.Chart(look.data("rows"))
        .mark_point(size=80, filled=True, color=look.OURS, opacity=0.85)
        .encode(
            x=alt.X("alone:Q", title="top-1 %, trained by itself", scale=loose),
            y=alt.Y("supernet:Q", title="top-1 %, in the supernet", scale=loose),
            tooltip=look.tips(
                {
                    "network:N": "network",
                    "alone:Q:.2f": "by itself",
                    "supernet:Q:.2f": "in the supernet",
                    "ms:Q:.4~g": "ms",
                }
            ),
        )
    )
    return look.finished(points.properties(width=420, height=320), rows=rows)
