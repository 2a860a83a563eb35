r"""Train a network for the first epochs of a run, and go on from its checkpoint later.

    python -m search.accuracies.train_rung --gin_file=RECIPE.gin \
      --gin_file=NETWORK.gin --model_dir=DIR --until_epoch=3 --result=rung-0.json

The run is the one that the gin files describe, schedules, stages and all: this is its
part up to an epoch, with an evaluation there. So a larger --until_epoch goes on exactly
as if it had been asked for at first, and `python -m train.main` with the same files and
folder trains the rest.

Exit status: 0 trained, or the file says why there is no accuracy (it diverged, does not
fit in memory, cannot be built); 2 a mistake that a person has to mend; 75 the same
command goes on.
"""

import argparse
import json
import threading
from typing import TYPE_CHECKING, Any

from common import claims, cli, files
from common.errors import Restart, UserError, first_line
from models.errors import ModelError
from search.engine.with_parent import stop_behind_stdin

if TYPE_CHECKING:
    from train.experiment import Experiment

_SCORES = ("top1", "ema_top1")  # of summary.json, from 0 to 1


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.accuracies.train_rung", __doc__)
    cli.add_gin_arguments(parser)
    parser.add_argument(
        "--model_dir",
        type=cli.weights_path,
        required=True,
        help="folder of the run; local",
    )
    parser.add_argument(
        "--until_epoch",
        type=cli.number(above=0),
        required=True,
        help="epoch of the run at which to stop; may be a fraction",
    )
    parser.add_argument(
        "--result", type=cli.path, required=True, help="JSON file to be written"
    )
    parser.add_argument(
        "--settings", default="", help="what the file is to say of where it comes from"
    )
    parser.add_argument(
        "--with_parent",
        action="store_true",
        help="end, with a checkpoint, as soon as standard input does",
    )
    return parser


@cli.command(_parser, outlives_pipes=True)
def main(arguments: argparse.Namespace) -> None:
    """Train, and write what came of it."""
    if arguments.with_parent:
        threading.Thread(target=stop_behind_stdin, daemon=True).start()
    result = {
        "until_epoch": arguments.until_epoch,
        "settings": arguments.settings,
        **_train(arguments),
    }
    text = json.dumps(result, allow_nan=False) + "\n"
    files.write_bytes(arguments.result, text.encode())


def _train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the scores, or the reason why there are none."""
    import tensorflow as tf

    from train import config, run

    try:
        resolved = config.resolve(arguments.gin_file, arguments.gin_param)
        part = first_part(resolved.experiment, arguments.until_epoch)
        # The whole run's config is compared and saved: that does not change.
        summary = run.train_and_evaluate(part, arguments.model_dir, config=resolved)
    except claims.Held as error:  # by one whose parent was killed, and who is ending
        raise Restart(str(error)) from error
    except tf.errors.ResourceExhaustedError as error:
        return {"reason": f"does not fit in memory: {first_line(error)}"}
    except ModelError as error:
        return {"reason": f"cannot be built: {first_line(error)}"}
    except UserError as error:
        if _is_divergence(error):
            return {"reason": f"diverged: {error.__context__}", "is_final": True}
        raise
    return _scores(summary, part, arguments)


def first_part(experiment: "Experiment", until_epoch: float) -> "Experiment":
    """Return an experiment that ends early, and is as the whole one until there.

    Args:
      experiment: of the whole run, whose schedules count.
      until_epoch: at most its epochs.

    Raises:
      UserError: the run has fewer epochs.
    """
    from input_pipeline.dataset_info import DatasetInfo
    from train.experiment import Experiment
    from train.stage_rows import Stage

    if until_epoch > experiment.epochs:
        raise UserError(
            f"epoch {until_epoch:g} is behind the end of the run: Experiment.epochs = "
            f"{experiment.epochs:g}; set it to the last rung's or more"
        )

    if experiment.early_stopping_patience is not None:
        raise UserError(
            "Experiment.early_stopping_patience would end a run before its rung; set "
            "it to None: the search itself ends what does not promise much"
        )

    class FirstPart(Experiment):
        """The run up to `until_epoch`."""

        def train_steps(self, info: DatasetInfo) -> int:
            steps = max(1, int(until_epoch * self.steps_per_epoch(info)))
            return min(steps, experiment.train_steps(info))

        def stages(self, info: DatasetInfo) -> dict[int, Stage]:
            last = self.train_steps(info)
            found: dict[int, Stage] = {}
            for end, stage in experiment.stages(info).items():
                found[min(end, last)] = stage
                if end >= last:
                    break
            return found

        def make_learning_rate(self, info: DatasetInfo) -> Any:
            return experiment.make_learning_rate(info)

    return FirstPart(**vars(experiment))


def _scores(
    summary: dict[str, Any], part: "Experiment", arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the scores of a run that stands where it was to be brought."""
    from input_pipeline.dataset_info import load_info

    steps = part.train_steps(load_info(part.data_dir))
    if summary["steps"] != steps:
        raise UserError(
            f"{arguments.model_dir} stands at step {summary['steps']:,}, behind step "
            f"{steps:,}, which epoch {arguments.until_epoch:g} ends with: take another "
            "--model_dir"
        )
    return {name: summary[name] for name in _SCORES} | {"steps": steps}


def _is_divergence(error: BaseException) -> bool:
    """Whether the trainer ended the run for what is not finite."""
    from train.fault_tolerance.non_finite import NonFinite

    return isinstance(error.__context__, NonFinite)


if __name__ == "__main__":
    cli.leave(main())
