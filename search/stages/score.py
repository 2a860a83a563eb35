r"""Score networks in a trained supernet: its controller's choice, and others.

    python -m search.stages.score --gin_file=RECIPE.gin --gin_file=SUPERNET.gin \
      --model_dir=runs/nas/supernet --networks=networks.json --result=scores.json \
      --weights=found.safetensors --statistics_images=10000

The evaluation is that of the run, with its averaged weights; each network is the same
program with another selection. Batch norm takes the statistics of each batch, which
shared weights have never been averaged for. So only whole batches are scored: the black
images that fill the last one up would be in its statistics, as they are in those of the
run's own evaluations, by which nothing goes. And the records have to be in a mixed
order, as they are read in that of their files: so `input_pipeline.prepare` writes all
that it writes; TFRecords of others' that are sorted by class need its --shuffle.

networks.json is a list of encodings of the space.

The choice's weights are taken out of the supernet, too, as a network alone: with
statistics of batch norm of its own, which are counted on training images, it is scored
on the evaluation split and written as Experiment.pretrained reads it.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli, console, files
from common.errors import UserError

if TYPE_CHECKING:
    import keras

    from search.networks.layout import Network
    from train.experiment import Experiment

_AVERAGE = "ema_"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.stages.score", __doc__)
    cli.add_gin_arguments(parser)
    add = parser.add_argument
    add("--model_dir", type=cli.weights_path, required=True, help="of the supernet")
    add("--networks", type=cli.path, required=True, help="JSON: a list of encodings")
    add("--result", type=cli.path, required=True, help="JSON file to be written")
    add(
        "--weights",
        type=cli.path,
        required=True,
        help=".safetensors file to be written, of the choice's weights",
    )
    add(
        "--statistics_images",
        type=cli.positive,
        required=True,
        help="training images that its statistics of batch norm are counted of",
    )
    return parser


@cli.command(_parser, outlives_pipes=True)
def main(arguments: argparse.Namespace) -> None:
    """Score, and write what came of it."""
    from train import config

    networks = _read(Path(arguments.networks))
    experiment = config.parse(arguments.gin_file, arguments.gin_param)
    found = score(
        experiment,
        arguments.model_dir,
        networks,
        weights=arguments.weights,
        statistics_images=arguments.statistics_images,
    )
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    files.write_bytes(arguments.result, text.encode())


def score(
    experiment: "Experiment",
    model_dir: str,
    networks: Sequence[str],
    *,
    weights: str,
    statistics_images: int,
) -> dict[str, Any]:
    """Return top-1 in % of a supernet's networks.

    Args:
      experiment: of the supernet's run.
      model_dir: of the run.
      networks: encodings of the space.
      weights: file for those of the network that the controller prefers.
      statistics_images: see `_alone`.

    Returns:
      "step" of the checkpoint; "found", the network that the controller prefers, and
      its "top1"; "networks", top-1 by encoding; "alone", see `_alone`.

    Raises:
      UserError: the run trains no supernet, has no checkpoint, or a network is none of
        the space.
    """
    from input_pipeline.dataset_info import load_info
    from search.supernets.selection import Selection
    from train import evaluation
    from train.exports import batch_statistics
    from train.start.context import make_strategy

    space = _space(experiment)
    info = load_info(experiment.data_dir)
    strategy = make_strategy(experiment)
    images = info.split(experiment.eval_split).total
    replicas = strategy.num_replicas_in_sync
    size, steps = whole_batches(images, experiment.eval_batch_size, replicas)
    experiment = dataclasses.replace(experiment, mistake_images=0, eval_batch_size=size)
    with strategy.scope():
        models, path, step = evaluation.load_models(
            experiment, info, model_dir, [_AVERAGE]
        )
    evaluator = evaluation.Evaluator(experiment, info, strategy, models)
    selection, weight = Selection(space), _weight(models[_AVERAGE])
    found = selection.network(weight.numpy())
    every = [found, *map(space.decode, networks)]
    scores = []
    for number, network in enumerate(every, start=1):
        weight.assign(selection.of(network))
        scores.append(_top1(evaluator, steps))
        where = f"{number} of {len(every)}"
        console.say(f"{where}: {scores[-1]:.2f} %: {space.encode(network)}")
    alone = alone_from(models[_AVERAGE], space, found)
    stage = batch_statistics.stage_of(experiment, info, path)
    of_alone = _finished(experiment, alone, stage, statistics_images)
    _write(alone, weights)
    return {
        "step": step,
        "found": {"network": space.encode(found), "top1": scores[0]},
        "networks": dict(zip(networks, scores[1:], strict=True)),
        "alone": of_alone,
    }


def alone_from(model: "keras.Model", space: Any, network: "Network") -> "keras.Model":
    """Return a network by itself with the weights of a supernet, in float32.

    Its statistics of batch norm are those of a new network: no supernet has any.
    """
    import models
    from search.supernets import taking_over

    classes = model.output_shape[-1]
    variant = space.build(network)
    alone = models.build_model(variant, num_classes=classes, dtype="float32")
    taking_over.take_over(model, space, network, alone)
    return alone


def _finished(
    experiment: "Experiment", alone: "keras.Model", stage: Any, statistics_images: int
) -> dict[str, Any]:
    """Count a network's statistics, and return how it does.

    Args:
      experiment: whose training images are taken, and whose evaluation split.
      alone: whose statistics are set.
      stage: of the run, see `batch_statistics`.
      statistics_images: how many training images, in whole batches.

    Returns:
      Its "top1" in % on so many "images", and the number of "statistics_images".
    """
    from train.exports import batch_statistics
    from train.fault_tolerance.graph_errors import translate_errors

    with translate_errors():
        counted = batch_statistics.count_anew(
            experiment, alone, stage, statistics_images
        )
        found = batch_statistics.scorer(experiment, alone, sys.maxsize)()
    top1 = 100 * found.right / max(1, found.images)
    console.say(f"alone: {top1:.2f} %, with statistics of its own")
    return {
        "top1": top1,
        "images": found.images,
        "statistics_images": counted.images,
    }


def _write(model: "keras.Model", path: str) -> None:
    """Write a model's weights by the paths of its variables."""
    import safetensors.numpy

    tensors = {variable.path: variable.numpy() for variable in model.weights}
    files.write_bytes(path, safetensors.numpy.save(tensors))


def whole_batches(images: int, size: int, replicas: int) -> tuple[int, int]:
    """Return the size of a batch and how many there are without padding.

    Args:
      images: of the split, one or more.
      size: of a batch, of the run's evaluation; smaller where there are fewer images.
      replicas: that share it. Where they are more than the images, it is padded.
    """
    most = max(replicas, images // replicas * replicas)
    size = min(size, most)
    return size, max(1, images // size)


def _space(experiment: "Experiment") -> Any:
    """Return the space of a supernet's experiment."""
    build: Any = experiment.build_model
    space = getattr(build, "keywords", {}).get("space")
    if space is None:
        raise UserError(
            "experiment.Experiment.build_model makes no supernet: it has to be "
            "@supernet.build_model, with its space"
        )
    return space


def _weight(model: Any) -> Any:
    """Return the variable with the selection that a model computes."""
    from search import supernet

    return supernet.choices_of(model).selection.value


def _top1(evaluator: Any, steps: int) -> float:
    """Return top-1 in % of so many batches of the evaluation split."""
    from train.fault_tolerance.graph_errors import translate_errors

    with translate_errors():
        return 100 * float(evaluator.evaluate(steps)[f"{_AVERAGE}top1"])


def _read(path: Path) -> list[str]:
    """Return the encodings of a file."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"--networks={path}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UserError(f"--networks={path}: it has to be a list of encodings")
    return list(dict.fromkeys(found))  # each once


if __name__ == "__main__":
    cli.leave(main())
