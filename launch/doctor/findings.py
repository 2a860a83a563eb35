"""What a check has found: ok, fails or unknown, in a line."""

import dataclasses
import enum

from common.errors import one_line


class Outcome(enum.StrEnum):
    """Of a check."""

    OK = "ok"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Of a check.

    Attributes:
      outcome: whether it stands in the way of the job.
      found: what there is; of unknown why nobody can say.
      remedy: of what fails: a command to paste, or what to change.
    """

    outcome: Outcome
    found: str
    remedy: str = ""


class NotAnswered(Exception):  # noqa: N818 - nothing is wrong yet
    """One line: why something cannot be known now."""


def ok(found: str) -> Finding:
    """Return that nothing stands in the way."""
    return Finding(Outcome.OK, found)


def fails(found: str, remedy: str) -> Finding:
    """Return that something does, and how to mend it."""
    return Finding(Outcome.FAILS, found, remedy)


def unknown(why: str) -> Finding:
    """Return that nobody can say, and why."""
    return Finding(Outcome.UNKNOWN, why)


def mistake(error: Exception, remedy: str) -> Finding:
    """Return that something is as wrong as an error of ours says."""
    return fails(one_line(error), remedy)
