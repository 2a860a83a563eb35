"""Mistakes that a user can mend."""

import contextlib
import sys
from collections.abc import Iterator

from input_pipeline.errors import DataError
from models.variants import ModelError


class UserError(Exception):
    """One line for a person: what is wrong, where, and how to mend it."""


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Prints a mistake of the user's as one line and exits with status 1."""
    try:
        yield
    except (UserError, DataError, ModelError) as error:
        if sys.stderr.isatty():  # a line of progress may stand there
            sys.stderr.write("\n")
        # gin adds lines about the call that it made.
        sys.exit(f"error: {str(error).splitlines()[0]}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it can", file=sys.stderr)
        sys.exit(130)
