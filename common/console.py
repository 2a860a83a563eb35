"""Lines, tables and paragraphs for a person."""

import contextlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, TextIO

from common.errors import UserError

WIDTH = 100  # columns of a paragraph
# What moves a terminal's cursor, colours it, ends a line or turns the direction of what
# follows, and how it is shown; so is a byte of a name that is not UTF-8.
_DIRECTIONS = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {
    number: chr(number).encode("unicode_escape").decode()
    for number in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_DIRECTIONS)
} | {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
_CONTROLS_IN_LINES = {
    number: text for number, text in _CONTROLS.items() if chr(number) not in "\n\t"
}


def escaped(text: str) -> str:
    """Return one line, whatever a name in it holds: control characters written out."""
    return text.translate(_CONTROLS)


class Printable:
    """Standard output on which no name moves a cursor, or cannot be written.

    What is printed may hold names of files and classes, and so anything: control
    characters are written out, lines and tabs apart, and so is what a terminal's
    encoding does not have.
    """

    def __init__(self, stream: TextIO):
        """Stand before a stream, for everything but what is written."""
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text."""
        with _unprintable():
            return self._stream.write(text.translate(_CONTROLS_IN_LINES))

    def flush(self) -> None:
        """Write out what was written: a full disk tells now."""
        with _unprintable():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Be the stream in all else."""
        return getattr(self._stream, name)


class Unprintable(UserError):  # noqa: N818 - as UserError
    """Why what was to be printed cannot be, but for a pipe that is closed."""


@contextlib.contextmanager
def _unprintable() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        why = f"cannot write to standard output: {error.strerror}"
        raise Unprintable(why) from error


def say(line: str, *, stays: bool = True) -> None:
    """Write a line to standard error; on a terminal the next may take its place.

    A terminal or a log that is gone ends no run: the line is lost then. Tables and
    stacks have several lines; what is one, and holds a name, is to be `escaped`.
    """
    line = line.translate(_CONTROLS_IN_LINES)
    try:
        live = is_terminal()
        if live and not stays:  # a line that wraps could not be taken back
            line = line[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r\x1b[K" * live + line + "\n" * (stays or not live))
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        # A closed pipe or a full disk; a closed file; no standard error at all.
        return


def warn(text: str) -> None:
    """Write one line that begins with "warning: " to standard error."""
    say(f"warning: {escaped(text)}")


def is_terminal() -> bool:
    """Return whether a line on standard error can be taken back."""
    if sys.stderr is None or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def take_back_live_line() -> None:
    """Leave nothing of a line of progress, for what standard output is to say."""
    if is_terminal():
        say("", stays=False)


def end_live_line() -> None:
    """Let what comes next begin a line of its own, below one of progress."""
    if is_terminal():
        say("")


def table(
    rows: Sequence[Sequence[str]], *, right: bool | Container[int] = False
) -> list[str]:
    """Return rows as lines with aligned columns, two spaces apart.

    Args:
      rows: of equally many cells each; the head, if any, is one of them.
      right: which columns to align on the right, as numbers are; True is all but the
        first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if isinstance(right, bool):
        right = range(1, len(widths)) if right else ()
    lines = []
    for row in rows:
        padded = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def wrap(text: str, *, indent: str = "  ") -> str:
    """Return a paragraph in lines of at most WIDTH columns, all but one indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return "1 file" or "2,000 files"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def named(names: Iterable[str], most: int = 3) -> str:
    """Return "a, b, c and 2 more"."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
