"""Write a run's averaged weights as a SavedModel, from JPEG bytes to probabilities.

    python -m train.export --model_dir=runs/mnist --export_dir=runs/mnist/export
    python -m train.export ... --format=litert,onnx
    python -m train.export --pretrained=efficientnet-lite0 --export_dir=lite0

Where no config is named, the run's own stands in; its data need not be there. Where
they are, the SavedModel is compared with the evaluation on them, else on photos that
--check_images names. Before there is a checkpoint, the weights of Experiment.pretrained
are taken. An older export at --export_dir is replaced
as long as it is what was written there; anything else is refused.

--statistics_images counts batch norm's statistics anew, by the averaged weights and on
so many training images, and says what that changes. Those that stand beside the
averaged weights are averages, too, of weights that were others at each step.

--format adds files for other runtimes to the SavedModel, which is always written: they
take pixels. Each is scored in its own runtime, on the evaluation split or the photos,
and a table says what it loses, its size and its time; a form that is not the same
network, or that loses more than --max_loss, is refused, and nothing is written.

{PRETRAINED}
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from common import cli
from common.errors import UserError
from train.exports.formats import forms
from train.settings import flags
from train.weights import flags as weights_flags

# Weights alone have no checkpoints, no training images and no config.
_OF_A_RUN = ("best", "statistics_images", "gin_file", "gin_param")


def _parser() -> argparse.ArgumentParser:
    said = (__doc__ or "").format(PRETRAINED=weights_flags.HELP)
    parser = cli.parser("train.export", said)
    weights_flags.add(parser, "--model_dir", "folder of a training run")
    parser.add_argument(
        "--export_dir", type=cli.weights_path, required=True, help="folder to write"
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="take the checkpoint with the best top-1 instead of the newest",
    )
    cli.add_gin_arguments(parser, explain=flags.explain)
    parser.add_argument(
        "--fold_batch_norm",
        action="store_true",
        help="let the convolutions do batch norm's work",
    )
    parser.add_argument(
        "--statistics_images",
        type=cli.positive,
        metavar="N",
        help="count batch norm's statistics anew, of N images of the training split as "
        "training sees them; thousands (as the run has averaged them)",
    )
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--check_images",
        type=cli.local_path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="photos, or folders of them, to compare instead of the evaluation split",
    )
    compared.add_argument(
        "--no_check",
        action="store_true",
        help="do not compare the SavedModel with the evaluation",
    )
    _add_forms(parser)
    return parser


def _add_forms(parser: argparse.ArgumentParser) -> None:
    default = forms.Wanted()
    parser.add_argument(
        "--format",
        type=forms.parse,
        default=default.forms,
        metavar="NAMES",
        help=f"forms between commas: {forms.CHOICES}; litert is all three of its own "
        "(savedmodel)",
    )
    parser.add_argument(
        "--calibration_images",
        type=cli.positive,
        default=default.calibration_images,
        metavar="N",
        help=f"images of the training split that {forms.INT8} learns its ranges from "
        "(%(default)s)",
    )
    parser.add_argument(
        "--score_images",
        type=cli.positive,
        default=default.score_images,
        metavar="N",
        help="images of the evaluation split to score every form on, and batch norm's "
        "new statistics (%(default)s)",
    )
    parser.add_argument(
        "--max_loss",
        type=cli.number(float, least=0),
        default=default.max_loss,
        metavar="POINTS",
        help="of top-1, that float16 and int8 may lose (%(default)s)",
    )


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Export, and print as one line of JSON what was compared."""
    from train.exports import export_target

    weights_flags.check(arguments, "--model_dir")
    if arguments.model_dir is not None:
        arguments.model_dir = arguments.model_dir.rstrip("/")
        if not arguments.model_dir:
            raise UserError("--model_dir is /; name the folder of a run")
    elif any(getattr(arguments, name) for name in _OF_A_RUN):
        *first, last = (f"--{name}" for name in _OF_A_RUN)
        raise UserError(f"{', '.join(first)} and {last} go with --model_dir")
    export_dir = arguments.export_dir.rstrip("/") or "/"
    export_target.refuse(export_dir, {export_target.RUN: arguments.model_dir})
    wanted = _wanted(arguments)
    forms.require_packages(wanted)
    # What follows takes seconds to import: only once the flags are right.
    from common import gfiles

    options = {
        "fold_batch_norm": arguments.fold_batch_norm,
        "images": [] if arguments.no_check else arguments.check_images,
        "wanted": wanted,
    }
    report = _export(arguments, export_dir, options)
    print(json.dumps(gfiles.to_json(report)))


def _wanted(arguments: argparse.Namespace) -> forms.Wanted:
    """Return the forms that are wanted; refuse what is said of none."""
    default = forms.Wanted()
    wanted = forms.Wanted(
        arguments.format,
        arguments.calibration_images,
        arguments.score_images,
        arguments.max_loss,
    )
    others = wanted
    if arguments.statistics_images:  # which are scored as forms are
        others = dataclasses.replace(wanted, score_images=default.score_images)
    if others != default and wanted.forms == default.forms:
        raise UserError(
            "--calibration_images, --score_images and --max_loss are of other forms "
            "than the SavedModel: name some by --format=litert,onnx, or leave them out"
        )
    return wanted


def _export(
    arguments: argparse.Namespace, export_dir: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    model_dir = arguments.model_dir
    if model_dir is None:
        from train.exports import from_weights

        return from_weights.export(
            arguments.pretrained,
            export_dir,
            variant=arguments.variant,
            labels=arguments.labels or "",
            **options,
        )
    from train import config
    from train.checkpoints import directory
    from train.exports import saved_model

    return saved_model.export(
        config.parse(arguments.gin_file, arguments.gin_param, model_dir=model_dir),
        f"{model_dir}/{directory.BEST}" if arguments.best else model_dir,
        export_dir,
        statistics_images=arguments.statistics_images,
        **options,
    )


if __name__ == "__main__":
    cli.leave(main())
