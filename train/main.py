"""Train or score what gin files describe: the entry file.

    python -m train.main --gin_file=gin_configs/runs/mnist_cpu.gin --model_dir=DIR

Exit status: 0 done; 2 a mistake that a person has to mend; 75 the same command goes
on from the last checkpoint (SIGTERM, or a process or an accelerator is gone); 130
Ctrl-C.
"""

import argparse
import json

from common import cli
from common.errors import UserError
from train.settings import flags

MODES = ("train", "eval", "train_and_eval", "continuous_eval")


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("train.main", __doc__)
    cli.add_gin_arguments(parser, explain=flags.explain)
    parser.add_argument(
        "--model_dir",
        type=cli.weights_path,
        required=True,
        help="folder of this run; local or gs://",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="train_and_eval",
        help="default: %(default)s; to export is `python -m train.export`",
    )
    parser.add_argument(
        "--accept_config_changes",
        action="store_true",
        help="go on with a run under other settings",
    )
    parser.add_argument(
        "--accept_data",
        metavar="DIGEST",
        help="go on with a run on other data: those that its refusal names",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--best",
        action="store_true",
        help="with --mode=eval: score the best checkpoint instead of the newest",
    )
    which.add_argument(
        "--step",
        type=_step,
        help="with --mode=eval: score the checkpoint of this step",
    )
    parser.add_argument(
        "--eval_timeout_minutes",
        type=cli.number(least=0),
        default=120.0,
        help="continuous_eval ends after so long without a new checkpoint (120)",
    )
    return parser


def _step(text: str) -> int:
    return 0 if text == "0" else cli.positive(text)


@cli.command(
    _parser,
    interrupted="stopped; the same command goes on where it can",
    outlives_pipes=True,
)
def main(arguments: argparse.Namespace) -> None:
    """Do what the flags say, and print the summary as one line of JSON."""
    model_dir = arguments.model_dir.rstrip("/")
    if not model_dir:
        raise UserError("--model_dir is /; name a folder for this run")
    best, step = arguments.best, arguments.step
    if arguments.mode != "eval" and (best or step is not None):
        raise UserError("--best and --step go with --mode=eval, which scores no others")
    # What follows takes seconds to import: only once the flags are right.
    from absl import logging

    from common import gfiles
    from train import config, run, run_folder
    from train.telemetry import summary

    logging.set_verbosity(logging.WARNING)  # Orbit's notes say what ours say
    trains = arguments.mode in ("train", "train_and_eval")
    if arguments.mode == "eval" and (of := run_folder.run_of_best(model_dir)):
        model_dir, best = of, step is None
    resolved = config.resolve(
        arguments.gin_file,
        arguments.gin_param,
        # What was trained is scored under its own config where no file is named.
        model_dir=None if trains else model_dir,
    )
    experiment = resolved.experiment
    if arguments.mode == "eval":
        report = run.evaluate(experiment, model_dir, best=best, step=step)
    elif arguments.mode == "continuous_eval":
        report = run.continuous_evaluate(
            experiment, model_dir, timeout_minutes=arguments.eval_timeout_minutes
        )
    else:
        report = run.train_and_evaluate(
            experiment,
            model_dir,
            config=resolved,
            accept_changes=arguments.accept_config_changes,
            accept_data=arguments.accept_data,
            with_evaluation=arguments.mode == "train_and_eval",
        )
    print(json.dumps(gfiles.to_json(summary.line(report))))


if __name__ == "__main__":
    cli.leave(main())
