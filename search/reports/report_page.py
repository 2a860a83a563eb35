"""A page of HTML in one file: text, tables, drawings, charts, and its data.

Everything that comes from a file is escaped. The page fetches nothing: the charts'
program is in it, and its policy forbids a browser to load anything else.
"""

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from common import files
from common.version import NAME, VERSION

COMMAND = "search.report"
# A browser that draws more marks than these as elements of a page gets slow.
MOST_ELEMENTS = 5_000
_SHORT = 42  # letters of a cell, which are not broken

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 16px 32px 48px; max-width: 1136px; background: #fff;
  color: #1a1a1a; font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 16px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 6px; padding-top: 14px;
  border-top: 1px solid #ddd; }
h3 { font-size: 16px; margin: 22px 0 4px; }
p { margin: 6px 0; max-width: 62em; overflow-wrap: anywhere; }
p.note { color: #4d4d4d; font-size: 14px; }
p.facts { max-width: none; font-size: 14px; }
p.facts span { display: inline-block; margin: 2px 24px 2px 0; max-width: 100%; }
p.warning { background: #fff4e0; border-left: 4px solid #e69f00; padding: 6px 12px; }
pre { background: #f6f6f6; padding: 10px 14px; font-size: 12px; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; }
body > table { border-collapse: collapse; font-size: 13px; margin: 10px 0; }
body > table :is(th, td) { border-bottom: 1px solid #ddd; padding: 4px 7px;
  text-align: left; vertical-align: top; overflow-wrap: break-word; max-width: 520px; }
body > table td.any { overflow-wrap: anywhere; }
body > table th { border-bottom: 2px solid #888; font-weight: 600;
  vertical-align: bottom; }
body > table .number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, td.short { white-space: nowrap; }
tr.own td { background: #eaf3fa; font-weight: 600; }
.chart { margin: 12px 0; min-height: 20px; }
.chart .error { color: #b00020; }
svg.network { display: block; margin: 4px 0 14px; max-width: 100%; height: auto; }
#vg-tooltip-element { max-width: 460px; overflow-wrap: anywhere; }
#vg-tooltip-element td.value { max-width: 340px !important; max-height: none !important;
  white-space: normal; overflow: visible; text-overflow: clip; }
@media print {
  body { padding: 0; font-size: 11pt; }
  h2, h3 { break-after: avoid; }
  .chart, svg.network, tr { break-inside: avoid; }
  .vega-embed summary { display: none; }
}
"""
# A sample's median and its range, beside each result: of one training the two are one.
_SCRIPT = """
"use strict";
const page = JSON.parse(document.getElementById("results").textContent);
const charts = JSON.parse(document.getElementById("charts").textContent);
function summary(row) {
  const samples = [...row.top1].sort((a, b) => a - b), n = samples.length;
  if (!n) return {...row, median: null, low: null, high: null};
  const median = (samples[Math.floor((n - 1) / 2)] + samples[Math.floor(n / 2)]) / 2;
  return {...row, median, low: samples[0], high: samples[n - 1]};
}
function rows({columns, words, rows}) {
  const value = (name, cell) => words[name] ? words[name][cell] : cell;
  const named = row => row.map((cell, i) => [columns[i], value(columns[i], cell)]);
  return rows.map(row => summary(Object.fromEntries(named(row))));
}
const named = {results: rows(page.results), random: rows(page.random)};
const drawn = charts.map(({id, spec, renderer, names}) => {
  spec.datasets = {...spec.datasets};
  for (const name of names) spec.datasets[name] = named[name];
  const actions = {export: true, source: false, compiled: false, editor: false};
  return vegaEmbed("#" + id, spec, {renderer, actions, mode: "vega-lite"});
});
Promise.allSettled(drawn).then(all => {
  all.forEach((one, i) => {
    if (one.status === "fulfilled") return;
    const place = document.getElementById(charts[i].id);
    place.textContent = "This chart cannot be drawn: " + one.reason;
    place.classList.add("error");
    console.error(charts[i].id, one.reason);
  });
  document.documentElement.dataset.drawn = all.filter(
    one => one.status === "fulfilled").length;
});
"""


class Page:
    """A page, written from top to bottom."""

    def __init__(self, title: str):
        """Begin a page; its title is its first heading, too."""
        self._title = title
        self._parts = [f"<h1>{_text(title)}</h1>"]
        self._charts: list[dict[str, Any]] = []
        self._heading = title

    def heading(self, text: str, *, level: int = 2) -> None:
        """Add a heading; level 3 is below 2."""
        self._heading = text
        self._parts.append(f"<h{level}>{_text(text)}</h{level}>")

    def paragraph(self, text: str, kind: str = "") -> None:
        """Add a paragraph; its kind is "", "note" or "warning"."""
        named = f' class="{kind}"' if kind else ""
        self._parts.append(f"<p{named}>{_text(text)}</p>")

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Add names and values, several a line."""
        cells = "".join(
            f"<span><b>{_text(name)}</b> {_text(value)}</span> "
            for name, value in pairs
        )
        self._parts.append(f'<p class="facts">{cells}</p>')

    def text(self, text: str) -> None:
        """Add a text as it is, in lines."""
        self._parts.append(f"<pre>{_text(text)}</pre>")

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        left: int = 1,
        own: Sequence[int] = (),
        breaks: bool = False,
    ) -> None:
        """Add a table.

        Args:
          head: names of the columns.
          rows: of equally many cells.
          left: how many columns, from the first, hold text; the others hold numbers.
          own: numbers of the rows that stand out.
          breaks: whether text may be broken anywhere, as in long names.
        """
        lines = [_row(head, "th", left, breaks)]
        for number, row in enumerate(rows):
            cells = _row(row, "td", left, breaks)
            lines.append(cells.replace("<tr>", '<tr class="own">', 1)
                         if number in own else cells)  # fmt: skip
        head_line, *body = lines
        self._parts.append(
            f"<table><thead>{head_line}</thead><tbody>{''.join(body)}</tbody></table>"
        )

    def drawing(self, svg: str) -> None:
        """Add a drawing; its maker has escaped it."""
        self._parts.append(svg)

    def chart(
        self,
        name: str,
        spec: dict[str, Any],
        *,
        names: Sequence[str] = (),
        marks: int = 0,
    ) -> None:
        """Add a chart.

        Args:
          name: of the element, letters only.
          spec: of Vega-Lite.
          names: of the page's data that it draws, "results" or "random".
          marks: how many there are, at most.
        """
        renderer = "canvas" if marks > MOST_ELEMENTS else "svg"
        spec = {**spec, "description": self._heading}  # for who hears the page
        self._charts.append(
            {"id": name, "spec": spec, "names": list(names), "renderer": renderer}
        )
        self._parts.append(f'<div class="chart" id="{name}"></div>')

    def html(self, data: dict[str, Any], bundle: str) -> bytes:
        """Return the page.

        Args:
          data: that it holds, ready for JSON.
          bundle: Vega, Vega-Lite and Vega-Embed as a script.
        """
        charts = _json(self._charts)
        lines = [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width">',
            f'<meta name="generator" content="{NAME} {VERSION}, {COMMAND}">',
            f"<title>{_text(self._title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            *self._parts,
            f'<script type="application/json" id="results">{_json(data)}</script>',
            f'<script type="application/json" id="charts">{charts}</script>',
            f"<script>{bundle}</script>",
            f"<script>{_SCRIPT}</script>",
            "</body></html>\n",
        ]
        # A name that a file system has may be no text: a surrogate is shown as "?".
        return _marked("\n".join(lines).encode(errors="replace"))


def is_ours(data: bytes) -> bool:
    """Whether this command has written a page, and nobody has changed it since."""
    return data == _marked(data.rstrip(b"\n").rpartition(b"\n")[0] + b"\n")


def data_of(page: bytes) -> Any:
    """Return what a page holds, as `Page.html` was given it."""
    found = re.search(rb' id="results">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1]) if found else None


def _marked(page: bytes) -> bytes:
    mark = f"<!-- {NAME}, {COMMAND}, sha256 {files.digest(page)} -->\n"
    return page + mark.encode()


def _row(cells: Sequence[str], tag: str, left: int, breaks: bool) -> str:
    inside = []
    for number, cell in enumerate(cells):
        kind = "number" if number >= left else "any" if breaks else ""
        if not kind and len(cell) <= _SHORT:
            kind = "short"
        named = f' class="{kind}"' if kind else ""
        if tag == "th":  # "top-1" is no place to break a line
            cell = cell.replace("-", "\u2011")
        inside.append(f"<{tag}{named}>{_text(cell)}</{tag}>")
    return f"<tr>{''.join(inside)}</tr>"


def _text(text: str) -> str:
    return html.escape(str(text))


def _json(value: Any) -> str:
    """Return JSON that no parser of HTML takes for the end of its element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
