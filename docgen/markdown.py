"""Markdown of tables and texts, as the generated parts of pages have it."""

import math
import re
from collections.abc import Iterable, Sequence

# What reads as code: what is in braces or quotes, flags, names with a dot or an
# underscore inside.
_CODE = re.compile(
    r"\{[^{}]+\}"
    r"|\"[\w:/\[\]]+\"|(?<!\w)'[\w:/]+'"
    r"|(?<![\w/.:-])(?:--\w+|gs://|@?[A-Za-z]\w*(?:[._]\w+)+(?:\(\))?)(?![\w/])"
)
_MARKED = re.compile(r"(`[^`]*`)")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = ""
) -> str:
    """Return a table.

    Args:
      head: of the columns.
      rows: as many cells each.
      right: which columns to align on the right, a character each: "r" if so.
    """
    rule = ["---:" if side == "r" else "---" for side in right.ljust(len(head))]
    lines = [head, rule, *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Return a text as code."""
    return f"`{text}`"


def cell(text: str) -> str:
    """Return a text that ends no cell."""
    return " ".join(text.split()).replace("|", r"\|")


def marked(text: str) -> str:
    """Return a docstring's text with all that is code in it marked as such."""
    pieces = _MARKED.split(text)  # what is marked already has odd places
    pieces[::2] = [_CODE.sub(lambda found: code(found[0]), one) for one in pieces[::2]]
    return "".join(pieces)


def sentence(text: str) -> str:
    """Return a docstring's text as a sentence of its own."""
    text = " ".join(text.split())
    if re.match(r"[a-z]{2}|a ", text):  # no "n > 1"
        text = text[0].upper() + text[1:]
    return marked(text) + ("" if text.endswith((".", "?")) else ".")


def three_digits(value: float | None) -> str:
    """Return a number with three digits that count, "-" where there is none."""
    if value is None:
        return "-"
    if not value:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
