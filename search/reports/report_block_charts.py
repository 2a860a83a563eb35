"""The charts of a search over blocks; the page's own data, by name. Loads Altair."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from search.reports import report_charts as look
from search.reports.report_block_rows import Row

_WIDTH = 1000
_OURS, _RANDOM = "this search", "random search"
_RESULT = {
    "number:Q:d": "number",
    "network:N": "network",
    "ms:Q:.3~f": "ms of a batch",
    "median:Q:.2f": "top-1 %, median",
    "low:Q:.2f": "... lowest",
    "high:Q:.2f": "... highest",
    "value:Q:.4f": "value of the objective",
    "rung:Q": "rung",
    "sources:N": "said by",
}


def pareto(
    front: Sequence[Row],
    span: tuple[float, float],
    lowest: float,
    label: str,
    *,
    rung: int,
    random: bool,
) -> dict[str, Any]:
    """Return top-1 over milliseconds of all results, the best ones marked.

    Args:
      front: those that no other one beats.
      span: the smallest and the largest number of milliseconds.
      lowest: top-1 in %; points below are not drawn.
      label: what the top-1 is.
      rung: of the training, the last; results of others are faint.
      random: whether there is a random search, to be drawn, too.
    """
    x = look.log_axis(span, "milliseconds of a batch (logarithmic)")
    y = alt.Y("median:Q", title=label, scale=alt.Scale(zero=False, padding=12))
    named = [("results", _OURS)] + [("random", _RANDOM)] * random
    scale = alt.Scale(
        domain=[who for _, who in named], range=[look.OURS, look.GREY][: len(named)]
    )
    color = alt.Color("who:N", title=None, scale=scale)
    drawn = f"datum.median !== null && datum.median >= {lowest!r}"
    layers = []
    for name, who in reversed(named):
        layers.append(
            alt.Chart(look.data(name))
            .transform_filter(f"datum.ms > 0 && {drawn}")
            .transform_calculate(who=f"'{who}'")
            .mark_point(size=22, filled=True)
            .encode(
                x=x,
                y=y,
                color=color,
                opacity=alt.condition(
                    f"datum.rung == {rung}", alt.value(0.55), alt.value(0.15)
                ),
                tooltip=look.tips(_RESULT),
            )
        )
    numbers = [row["number"] for row in front]
    best = (
        alt.Chart(look.data("results"))
        .transform_filter(f"{drawn} && indexof({numbers}, datum.number) >= 0")
        .transform_calculate(who=f"'{_OURS}'")
    )
    layers += [
        best.mark_line(interpolate="step-after", color="black", strokeWidth=1).encode(
            x=x, y=y
        ),
        best.mark_point(
            size=70, shape="diamond", filled=True, color="black", opacity=1
        ).encode(x=x, y=y, tooltip=look.tips(_RESULT)),
    ]
    return look.finished(alt.layer(*layers).properties(width=_WIDTH - 140, height=440))


def history(steps: Sequence[Row], lowest: float) -> dict[str, Any]:
    """Return the best value so far by number, over all values.

    Args:
      steps: of `report_block_rows.best_so_far`; one or more.
      lowest: value at the lower end; values below are not drawn.
    """
    names = list(dict.fromkeys(row["who"] for row in steps))
    more = ["#d55e00", "#009e73", "#b8860b", "#cc79a7"]
    pool = iter(more * (1 + len(names)))
    known = {_OURS: look.OURS, _RANDOM: look.GREY}
    scale = alt.Scale(domain=names, range=[known.get(n) or next(pool) for n in names])
    top = max(row["best"] for row in steps)
    air = min((top - lowest) * 0.04 or 1e-3, 1e300)
    domain = alt.Scale(domain=[lowest - air, top + air], nice=False)
    title = "value of the objective"
    y = alt.Y("best:Q", title=title, scale=domain)
    x = alt.X("number:Q", title="number of the evaluation")
    points = (
        alt.Chart(look.data("results"))
        .transform_filter(f"datum.value !== null && datum.value >= {lowest!r}")
        .mark_point(size=10, filled=True, opacity=0.25, color=look.OURS)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=title, scale=domain),
            tooltip=look.tips(_RESULT),
        )
    )
    lines = (
        alt.Chart(look.data("steps"))
        .mark_line(interpolate="step-after", strokeWidth=2.2)
        .encode(x=x, y=y, color=alt.Color("who:N", title="best so far", scale=scale))
    )
    return look.finished(
        alt.layer(points, lines).properties(width=_WIDTH - 140, height=300),
        steps=steps,
    )


def choices(rows: Sequence[Row]) -> dict[str, Any]:
    """Return where the choices of the best went: a panel for each field.

    Args:
      rows: of `report_block_rows.shares`; one or more.
    """
    panels, most = [], max(row["place"] for row in rows)
    for field in dict.fromkeys(row["field"] for row in rows):
        mine = [row for row in rows if row["field"] == field]
        stages = list(dict.fromkeys(row["stage"] for row in mine))
        panels.append(
            _choice_panel(field, stages, most).properties(
                width=290, height=22 * len(stages), title=field
            )
        )
    grid = alt.concat(*panels, columns=3, spacing={"row": 14, "column": 26})
    return look.finished(grid.resolve_scale(color="shared"), rows=rows)


def _choice_panel(field: str, stages: Sequence[str], most: int) -> Any:
    base = alt.Chart(look.data("rows")).transform_filter(f"datum.field === {field!r}")
    y = alt.Y("stage:N", sort=list(stages), title=None)
    x = alt.X("start:Q", title=None, axis=alt.Axis(format="%", tickCount=5),
              scale=alt.Scale(domain=[0, 1], nice=False))  # fmt: skip
    bars = base.mark_bar(stroke="white", height=17).encode(
        x=x,
        x2="end:Q",
        y=y,
        color=alt.Color(
            "place:Q",
            legend=None,
            scale=alt.Scale(range=["#dbe9f6", "#5a9fd4"], domain=[0, max(most, 1)]),
        ),
        tooltip=look.tips(
            {
                "stage:N": "of",
                "field:N": "choice",
                "value:N": "value",
                "share:Q:.0%": "of the best tenth",
                "all:Q:.0%": "of all evaluated",
            }
        ),
    )
    text = (
        base.transform_filter("datum.share * 290 > 7 * length(datum.value) + 4")
        .mark_text(fontSize=11, color="#111111")
        .encode(x="middle:Q", y=y, text="value:N")
    )
    return alt.layer(bars, text)
