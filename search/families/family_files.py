"""A family on disk: what a program reads, what trains, rows for a table.

family.json holds all of `search.families.family.Family`; NAME1.gin and so on are
networks that stand behind a recipe; rows.py.txt is the family as rows of a table of
variants. Each says by a digest that a command has written it: what a person has changed
is not replaced.
"""

import json
import re
from pathlib import Path
from typing import Any

from common import files
from search.families.family import Family
from search.networks.variant_text import variant_gin, variant_row
from search.results import Score

FAMILY = "family.json"
_DIGEST = "sha256"
_MARK = "# Written by python -m search.lacs, sha256 "
_MARKED = re.compile(rb"\n" + _MARK.encode() + rb"[0-9a-f]{64}\n\Z")


def write(folder: Path, family: Family) -> list[Path]:
    """Write a family into a folder; return the paths of the networks' gin files.

    Raises:
      UserError: a file that is not this command's stands there.
      OSError: a file cannot be written.
    """
    found = {FAMILY: _json(family.as_json()), "rows.py.txt": _rows(family)}
    gins = []
    for outcome in family.outcomes:
        variant = outcome.chosen.variant
        found[f"{variant.name}.gin"] = variant_gin(variant)
        gins.append(folder / f"{variant.name}.gin")
    for name, text in found.items():
        is_json = name == FAMILY
        data = text.encode() if is_json else marked(text)
        is_ours = _is_our_json if is_json else is_marked
        files.write_bytes(folder / name, data, is_ours=is_ours)
    return gins


def marked(text: str) -> bytes:
    """Return a text that says who has written it, and its digest."""
    digest = files.digest(text.encode())
    return f"{text}\n{_MARK}{digest}\n".encode()


def is_marked(data: bytes) -> bool:
    """Whether `marked` has written this, and nobody has changed it since."""
    found = _MARKED.search(data)
    return bool(found) and data == marked(
        data[: found.start()].decode(errors="replace")
    )


def _rows(family: Family) -> str:
    """Return the family as rows of a table, with what is known of each."""
    lines = [f"# {family.name}, scaled from {family.base} by python -m search.lacs."]
    for outcome in family.outcomes:
        chosen = outcome.chosen
        lines.append(
            f"# {chosen.ms:.2f} ms for {outcome.ms:.2f} ({outcome.target}), "
            f"{_top1(chosen.score)}"
        )
        lines.append(variant_row(chosen.variant))
    return "\n".join(lines) + "\n"


def _top1(score: Score) -> str:
    """Return an accuracy in words; a strategy that was named may have none."""
    if score.top1 is None or score.spread is None:
        return f"no top-1: {' '.join(score.reason.split())}"
    low, high = score.spread
    return f"top-1 {score.top1:.1f} % ({low:.1f} to {high:.1f}), {score.source}"


def _json(found: dict[str, Any]) -> str:
    rest = json.dumps(found, indent=1, ensure_ascii=False)
    digest = files.digest(rest.encode())
    return json.dumps({**found, _DIGEST: digest}, indent=1, ensure_ascii=False) + "\n"


def _is_our_json(data: bytes) -> bool:
    try:
        found = json.loads(data)
        del found[_DIGEST]
        return data.decode() == _json(found)
    except (ValueError, KeyError, TypeError):
        return False
