"""Lines for a person, on standard error."""

import shutil
import sys


def say(line: str, *, stays: bool = True) -> None:
    """Writes a line to standard error; on a terminal the next may take its place."""
    live = sys.stderr.isatty()
    if live and not stays:  # a line that wraps could not be taken back
        line = line[: shutil.get_terminal_size().columns - 1]
    sys.stderr.write("\r\x1b[K" * live + line + "\n" * (stays or not live))
    sys.stderr.flush()
