"""Commands as a shell would see them end."""

from collections.abc import Callable, Sequence


def status(main: Callable[[Sequence[str]], int], *arguments: str) -> int:
    """Return a command's exit status, also where argparse itself ends it."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
