"""What all stages of a neural architecture search work with."""

import dataclasses
from typing import Any

from common.errors import UserError
from search.nas_search import Nas
from search.stages.commands import Commands
from search.stages.folder import NasFolder
from search.stages.plan import Plan


@dataclasses.dataclass(frozen=True)
class Work:
    """A search under way.

    Attributes:
      settings: of the search; the latency is the table once there is one.
      commands: that its stages run.
      folder: where their files are.
      plan: which stages there are.
    """

    settings: Nas
    commands: Commands
    folder: NasFolder
    plan: Plan

    @property
    def space(self) -> Any:
        """The space of networks."""
        return self.settings.space

    def result(self, name: str) -> dict[str, Any]:
        """Return what came of a stage that has to be done by now."""
        found = self.folder.stage(name)
        if found is None:
            raise UserError(f"{self.folder.path}: the stage {name} is not done yet")
        return found

    def write_gin(self, name: str, text: str) -> None:
        """Write the config of what is trained or searched under a name."""
        self.folder.write(self.folder.gin(name), text)
