"""The fenced blocks of README and docs, and a page as a script that is run.

    <!-- not run: why -->     before a fence: the block is not run at all
    <!-- slow -->             before a fence: it is run by `make soak` alone

A page is one bash script: what its blocks make, and the shell's variables, are there
for those further down. A Python block is a program of its own. In the script each
command stands on the line that it has in the page, so that bash itself names it.
"""

import dataclasses
import os
import re
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from common.project import ROOT

LANGUAGES = ("bash", "python", "gin", "text")
_RUN = ("bash", "python")
_MARK = re.compile(r"<!-- (?:slow|not run: (?P<reason>.*\S)) -->")
_LOOKS_LIKE_A_MARK = re.compile(r"<!--\W*(not.?run|slow)", re.IGNORECASE)
# The first line of a page is its title. What a page starts, ends with it.
_HEAD = (
    "set -Eeuo pipefail; "
    """trap 'echo "$0:$LINENO: exit status $?: $BASH_COMMAND" >&2' ERR; """
    "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT; "
    "source .venv/bin/activate"
)
_END = "all blocks were run"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fence of a page.

    Attributes:
      language: what stands behind the opening backticks.
      start: line of the opening backticks, from 1.
      lines: between the two.
      not_run: the reason, None where it is run.
      slow: whether it is run by `make soak` alone.
    """

    language: str
    start: int
    lines: tuple[str, ...]
    not_run: str | None = None
    slow: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def is_run(self, *, fast: bool) -> bool:
        is_code = self.language in _RUN and self.not_run is None
        return is_code and not (fast and self.slow)


def pages() -> list[str]:
    """Paths from the project's folder."""
    found = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    return [str(path.relative_to(ROOT)) for path in found]


def blocks_of(page: str) -> list[Block]:
    return blocks((ROOT / page).read_text("utf-8"), page)


def blocks(text: str, page: str) -> list[Block]:
    """Find the fences; raise ValueError, with page and line, where one is not clear."""
    found: list[Block] = []
    lines, opened, mark = text.splitlines(), None, None
    for number, line in enumerate(lines, 1):
        is_fence = line.lstrip().startswith("```")
        if opened is not None:
            if is_fence:
                found.append(_block(lines, opened, number, mark))
                opened = mark = None
        elif is_fence:
            if line[3:] not in LANGUAGES:
                known = ", ".join(LANGUAGES)
                raise ValueError(f"{page}:{number}: {line!r} is no fence of {known}")
            opened = number
        elif mark is not None:
            raise ValueError(f"{page}:{number}: a fence has to follow the mark")
        elif _LOOKS_LIKE_A_MARK.match(line.lstrip()):
            mark = _MARK.fullmatch(line)
            if mark is None:
                raise ValueError(f"{page}:{number}: {line} is no mark: give a reason")
    if opened is not None or mark is not None:
        raise ValueError(f"{page}:{opened or len(lines)}: the page ends too early")
    return found


def _block(lines: list[str], start: int, end: int, mark: re.Match[str] | None) -> Block:
    reason = mark and mark["reason"]
    slow = mark is not None and reason is None
    return Block(
        lines[start - 1][3:], start, tuple(lines[start : end - 1]), reason, slow
    )


def script(found: Iterable[Block]) -> str:
    """Return the blocks as bash, each on its page's lines."""
    lines = [_HEAD]
    for block in found:
        is_python = block.language == "python"
        lines += [""] * (block.start - 1 - len(lines))
        lines.append("python - <<'PYTHON'" if is_python else "")
        lines += block.lines
        lines.append("PYTHON" if is_python else "")
    return "\n".join([*lines, f"echo '{_END}'"])


def run(page: str, found: Iterable[Block], folder: Path, *, timeout: float) -> None:
    """Run blocks of a page in a folder; fail with page, line and what was printed."""
    process = subprocess.Popen(
        ["bash", "-c", script(found), page],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    how = "ended early"
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        how = f"took longer than {timeout} s"
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    if process.returncode or _END not in said:
        pytest.fail(f"{page} {how}:\n{said[-4000:]}", pytrace=False)
