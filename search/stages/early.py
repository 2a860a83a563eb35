"""What a search refuses before it compiles or trains anything. Imports no framework."""

import random
from typing import Any

from common import console
from common.errors import UserError
from search.networks import variant_text
from search.objectives import Objective
from search.stages import children
from search.stages.commands import Commands
from search.stages.folder import CHECK, EVOLUTION, RANDOM, SUPERNET, TRUST
from search.supernets import cost_parts, costs, counts, fields

_NETWORK = "any_network"  # gin file of one


def refuse(
    commands: Commands, stages: list[str], stop_before: str | None = None
) -> None:
    """Refuse what the stages would refuse after minutes or hours; once in a search.

    Args:
      commands: of the search, by the source of latencies that its config names.
      stages: of the search.
      stop_before: the one that is not done any more. Where nothing is trained here, the
        data may be out of reach, and whoever trains looks at them.

    Raises:
      UserError: something that a person has to mend.
      Restart: the same command goes on.
    """
    folder, space = commands.folder, commands.settings.space
    first = SUPERNET if SUPERNET in stages else EVOLUTION
    if folder.stage(CHECK) is not None or folder.stage(first) is not None:
        return
    if first == SUPERNET:
        refuse_without_supernet(commands.settings)
    if stop_before == first:
        return
    if first == SUPERNET:
        folder.write(folder.gin(CHECK), commands.supernet_gin())
    network = space.sample(random.Random(commands.settings.seed))
    path = folder.gin(_NETWORK)
    folder.write(path, variant_text.variant_gin(space.build(network)))
    is_short = bool({EVOLUTION, RANDOM, TRUST} & set(stages))
    console.say("a look at the configs of all trainings")
    children.run(
        commands.check(path, space.digest(network), is_short=is_short),
        folder.log(CHECK),
        what="a look at the configs",
    )
    folder.finish(CHECK, {})


def refuse_without_supernet(settings: Any) -> None:
    """Refuse a search of which there can be no supernet, or no controller of it.

    Raises:
      UserError: its space or objective is none for them; says why.
    """
    if not isinstance(settings.objective, Objective):
        raise UserError(
            "nas_search.Nas.objective: a supernet's controller needs one of "
            "search.objectives, whose formula a graph can compute; any function will "
            "do with method = 'evolution'"
        )
    counts.plan(fields.Fields(settings.space), settings.space.name)
    costs.refuse_invalid(settings.space, random.Random(0))
    cost_parts.Terms(settings.space)
