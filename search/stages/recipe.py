"""Write down which network a recipe trains, for who loads no framework.

python -m search.stages.recipe --gin_file=RECIPE.gin --result=baseline.json
"""

import argparse
import json
from typing import TYPE_CHECKING, Any

from common import cli, files
from common.errors import UserError

if TYPE_CHECKING:
    from models.variants import Variant
    from train.experiment import Experiment


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.stages.recipe", __doc__)
    cli.add_gin_arguments(parser)
    add = parser.add_argument
    add("--result", type=cli.path, required=True, help="JSON file to be written")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Write a network's name and description."""
    from search.networks.variant_json import describe
    from train import config

    experiment = config.parse(arguments.gin_file, arguments.gin_param)
    variant = network(experiment)
    found = {"name": variant.name, "network": describe(variant)}
    files.write_bytes(arguments.result, (json.dumps(found, indent=1) + "\n").encode())


def network(experiment: "Experiment") -> "Variant":
    """Return the network of an experiment.

    Raises:
      UserError: it is made by a function of the user's own.
    """
    from models import efficientnet_x

    build: Any = experiment.build_model
    if getattr(build, "func", build) is not efficientnet_x.build_model:
        raise UserError("the recipe's network is not one of models.efficientnet_x")
    settings = dict(getattr(build, "keywords", {}))
    # Of the training: no network of a space has it, and a table of times none of it.
    settings.pop("batch_norm_momentum", None)
    return efficientnet_x.variant_of(settings)


if __name__ == "__main__":
    cli.leave(main())
