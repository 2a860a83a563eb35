"""Predict top-1 on ImageNet from published results, and say what they do not decide.

    python -m search.surrogate [--rows=mine.csv] [--suggest=4] [--json]

Three forms of the error as a function of blocks, width and pixels are fitted to the
published accuracies of many families. The command prints how well each predicts a
family that it has not seen, and which of its answers hang on the form. --rows adds rows
of your own trainings; --suggest names the networks whose training would tell the forms
apart best: in the catalogue, or scaled as `search.table` takes them,
name:width:depth:resolution. Whatever comes from here is predicted: nothing was trained.

Exit status: 0 printed; 2 a mistake that a person has to mend.
"""

import argparse
import json
import sys

from common import cli


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.surrogate", __doc__)
    parser.add_argument(
        "--rows", type=cli.path, help="a CSV file of rows of your own, to be fitted too"
    )
    parser.add_argument(
        "--family",
        default="x",
        help="whose networks to predict: x (default), efficientnet, lite, v2, or a "
        "family of the rows",
    )
    parser.add_argument(
        "--recalled",
        action="store_true",
        help="fit rows that were remembered, too: EfficientNet-X's own",
    )
    parser.add_argument(
        "--suggest",
        type=cli.positive,
        metavar="N",
        help="name the N networks whose training would teach most, as search.table "
        "takes them",
    )
    parser.add_argument(
        "--variants",
        type=cli.names,
        help="of these alone, between commas, likewise; else of a grid",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Print what the rows say, how well, and what they leave open."""
    from search.accuracies import surrogate_report

    report = surrogate_report.make(arguments)
    if arguments.json:
        print(json.dumps(report))
    else:
        print("\n".join(surrogate_report.lines(report)))


if __name__ == "__main__":
    sys.exit(main())
