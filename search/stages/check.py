r"""Refuse what the trainings of a search would refuse, before hours have gone into it.

    python -m search.stages.check --gin_file=RECIPE.gin --network=NETWORK.gin \
      --digest=DIGEST --supernet=SUPERNET.gin

Reads the configs as the trainings will, and what their data say of themselves; builds
no network. NETWORK.gin is any network of the space, with its digest: what is trained by
the recipe with it has to be this network.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import cli
from common.errors import UserError
from search.stages import recipe

if TYPE_CHECKING:
    from train.experiment import Experiment

_NETWORKS = ("build_model", "Variant", "StageSpec")  # what a line on one speaks of


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.stages.check", __doc__)
    cli.add_gin_arguments(parser)
    add = parser.add_argument
    add("--network", type=cli.path, required=True, help="gin file of a network")
    add("--digest", required=True, help="of the network")
    add("--supernet", type=cli.path, help="gin file of the supernet's training")
    add(
        "--until_epoch",
        type=cli.number(above=0),
        help="epoch of the recipe's run at which the longest short training ends",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Refuse, or say nothing."""
    from train import config

    files, bindings = arguments.gin_file, arguments.gin_param
    refuse_recipe(config.parse(files, bindings), arguments.until_epoch)
    given = config.parse([*files, arguments.network], bindings)
    refuse_another_network(given, arguments.digest, bindings)
    if arguments.supernet is not None:
        refuse_supernet(config.parse([*files, arguments.supernet], []))


def refuse_recipe(experiment: "Experiment", until_epoch: float | None) -> None:
    """Refuse a recipe by which no network of a space can be trained.

    Args:
      experiment: the recipe, with the bindings for all trainings.
      until_epoch: at which short trainings end; None where there are none.

    Raises:
      UserError: says why, and how to mend it.
    """
    from search.accuracies import train_rung

    if experiment.pretrained is not None:
        raise UserError(
            f"Experiment.pretrained = {experiment.pretrained!r}: these are the weights "
            "of one network, and a search trains many others, all from random weights, "
            "or nothing would compare; add 'experiment.Experiment.pretrained = None' "
            "to nas_search.Nas.gin_params"
        )
    recipe.network(experiment)  # refuses one of a function of the user's own
    if until_epoch is not None:
        runs_on = dataclasses.replace(experiment, early_stopping_patience=None)
        train_rung.first_part(runs_on, until_epoch)


def refuse_another_network(
    experiment: "Experiment", digest: str, bindings: Sequence[str]
) -> None:
    """Refuse bindings that make another network of what a network's file says.

    Args:
      experiment: the recipe with a network's file and the bindings, which win.
      digest: of the network in the file.
      bindings: for all trainings.

    Raises:
      UserError: says which.
    """
    from search.networks import digests

    if digests.digest(recipe.network(experiment)) == digest:
        return
    lines = [one for one in bindings if any(word in one for word in _NETWORKS)]
    said = ", ".join(map(repr, lines or bindings)) or "the recipe"
    raise UserError(
        f"nas_search.Nas.gin_params: {said} would change every network that the "
        "search trains, of the space's, too: they win over the file that says which "
        "network it is. Write what the recipe's own network is into a file of "
        "gin_files, and what those of the space have in common into its base"
    )


def refuse_supernet(experiment: "Experiment") -> None:
    """Refuse settings of the supernet's training that would falsify the search.

    Those that depend on the number of replicas it refuses itself, as it begins.

    Raises:
      UserError: says which line mends it.
    """
    from input_pipeline.dataset_info import load_info
    from search import controller
    from search.supernets import refusals

    settings = getattr(experiment.policy, "keywords", {})
    refusals.refuse(
        experiment,
        load_info(experiment.data_dir),
        alternates=settings.get("alternates", False),
        held_out=controller.held_out_of(experiment),
    )


if __name__ == "__main__":
    cli.leave(main())
