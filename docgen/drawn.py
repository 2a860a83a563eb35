"""A picture of a benchmark's figures: by day and at night, with its origin in both."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import files


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is drawn of a report in benchmarks/results.

    Attributes:
      benchmark: behind "python -m benchmarks."; the end of it is the picture's name.
      figures: the key of the report under which the figures are.
    """

    benchmark: str
    figures: str

    @property
    def files(self) -> dict[str, bool]:
        """The names of its files, and whether each is for a page at night."""
        name = self.benchmark.rpartition(".")[2]
        return {f"{name}.png": False, f"{name}-dark.png": True}

    def mark(self, report: Mapping[str, Any]) -> str:
        """Return what a file says of its origin: the command, the figures' digest."""
        figures = files.digest(json.dumps(report[self.figures]).encode())
        return f"docgen.pictures of {figures}"

    def write(
        self, report: Mapping[str, Any], folder: Path, paint: Callable[..., None]
    ) -> None:
        """Draw both files.

        Args:
          report: of the benchmark.
          folder: to write them to.
          paint: called with a path, `dark` and `command`, which is the file's mark.
        """
        for name, dark in self.files.items():
            with files.writing(folder / name) as path:
                paint(path, dark=dark, command=self.mark(report))
