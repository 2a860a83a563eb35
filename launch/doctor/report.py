"""What the checks have found, for a person and for another program."""

from typing import TYPE_CHECKING, Any

from common.console import escaped

if TYPE_CHECKING:
    from launch.doctor.checks import Row

_WIDTH = len("unknown")


def line(row: "Row") -> str:
    """Return a check's line, its remedy behind an arrow."""
    found = row.finding
    text = f"{row.number:2}  {found.outcome:{_WIDTH}}  {row.check.name}: {found.found}"
    return escaped(f"{text}  ->  {found.remedy}" if found.remedy else text)


def to_json(row: "Row") -> dict[str, Any]:
    """Return a check's line for JSON."""
    return {
        "number": row.number,
        "name": row.check.name,
        "outcome": str(row.finding.outcome),
        "found": row.finding.found,
        "remedy": row.finding.remedy,
        "source": row.check.source,
    }
