"""What the stages of a neural architecture search have left, read for its report.

A stage may be missing; a file that cannot be read is passed over and said, as in
`report_data`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search.stages import run_numbers
from search.stages.folder import COMMAND, EVOLUTION, SUPERNET

Row = dict[str, Any]
_STAGES = (
    *("table", "supernet", "evolution", "found", "random"),
    *("trust", "final", "latency", "export"),
)


@dataclasses.dataclass(frozen=True)
class NasData:
    """What a search has written so far.

    Attributes:
      command: how it was asked for: "method", "stages" in their order, "skipped", and
        "choices" with their values.
      stages: what came of each that is done, by name.
      history: of the supernet's controller, see `run_numbers.history`.
      finals: trainings that are done, also while others are not.
    """

    command: Row
    stages: dict[str, Row]
    history: list[Row]
    finals: list[Row]

    def as_json(self) -> Row:
        """Return what the page holds."""
        return dataclasses.asdict(self)

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a stage; none where it is not done."""
        return self.stages.get(name, {}).get("rows", [])


def read(
    folder: Path,
    read_object: Callable[[Path, list[str]], Row | None],
    skipped: list[str],
) -> NasData | None:
    """Read a search's folder; None where it is none of `search.nas`.

    Args:
      folder: of the search.
      read_object: `report_data`'s reader of one object of JSON.
      skipped: gets a sentence for each file that cannot be read.
    """
    command = read_object(folder / COMMAND, skipped)
    if command is None:
        return None
    found = {
        name: read_object(folder / "stages" / f"{name}.json", skipped)
        for name in _STAGES
    }
    finals = [
        read_object(path, skipped)
        for path in sorted((folder / "stages").glob("final-*.json"))
    ]
    return NasData(
        command=command,
        stages={name: one for name, one in found.items() if one is not None},
        history=run_numbers.history(folder / SUPERNET),
        finals=[one for one in finals if one is not None],
    )


def results_folder(folder: Path) -> Path:
    """Return where the results of a search over short trainings lie."""
    return folder / EVOLUTION


def probabilities(data: NasData, name: str = "probabilities") -> list[Row]:
    """Return the weight of each value of each choice over the steps.

    Returns:
      Rows of "choice", "value", "step" and "share"; none where the lists of the
      history have not as many numbers as the choices have values.
    """
    choices: Sequence[Row] = data.command.get("choices", [])
    labels = [(one["name"], value) for one in choices for value in one["values"]]
    rows = []
    for point in data.history:
        shares = point.get(name)
        if not isinstance(shares, list) or len(shares) != len(labels):
            continue
        rows += [
            {"choice": choice, "value": value, "step": point["step"], "share": share}
            for (choice, value), share in zip(labels, shares, strict=True)
        ]
    several = {one["name"] for one in choices if len(one["values"]) > 1}
    return [row for row in rows if row["choice"] in several]
