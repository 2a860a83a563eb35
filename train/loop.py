"""The whole story of a run, top to bottom."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import orbit
import tensorflow as tf

from input_pipeline.dataset import explain
from input_pipeline.errors import DataError
from input_pipeline.records import DatasetInfo, load_info
from models.rewrites import input_form
from train import checkpoint, distribute, files, state
from train.experiment import Experiment
from train.progress import Progress, orbit_unheard, say
from train.progressive import StagedTraining
from train.step import Evaluator, Trainer

# What summary.json says of the training, which an evaluation alone leaves as it is.
TRAINING = ("first_step", "seconds", "images_per_second", "train_skipped_records")


def train_and_evaluate(
    experiment: Experiment,
    model_dir: str,
    *,
    before_restore: Callable[[], None] = lambda: None,
    after_restore: Callable[[], None] = lambda: None,
    with_evaluation: bool = True,
) -> dict[str, Any]:
    """Trains from the newest checkpoint, else from the start, to the last step.

    The start is random weights, or those of `experiment.pretrained`.

    Args:
      experiment: what to do.
      model_dir: folder for checkpoints, summaries and summary.json; local or gs://.
      before_restore: called when everything is built; what it raises ends the run.
      after_restore: called on the chief when a checkpoint, if any, has been restored.
      with_evaluation: whether to score every `eval_every_epochs` and at the end.

    Returns:
      The content of summary.json.

    Raises:
      UserError, input_pipeline.errors.DataError, models.variants.ModelError: something
        that the user can mend.
    """
    strategy, info = prepare(experiment)
    files.make_folder(model_dir)
    with strategy.scope():
        train_state = state.create(experiment, info)
        evaluator = make_evaluator(experiment, info, strategy, train_state.models)
    training = StagedTraining(experiment, info, train_state, strategy)
    before_restore()

    manager = make_manager(experiment, train_state, strategy, model_dir)
    manager.restore_newest(strategy)
    if distribute.is_chief(strategy):
        after_restore()
    step = first_step = int(train_state.step.numpy())
    if not step and experiment.pretrained is not None:
        with strategy.scope():
            train_state.start_from_pretrained(experiment)

    progress = Progress(
        step, experiment.train_steps(info), experiment.global_batch_size
    )
    controller = make_controller(
        experiment, training.trainer, evaluator, manager, progress
    )
    say(opening(experiment, info, train_state.model, step))
    scores: dict[str, Any] = {}
    with readable_errors():
        for stop in stops(experiment, info, step):
            training.train(controller, progress, step, stop)  # ends with a checkpoint
            step = stop
            if with_evaluation:
                with orbit_unheard():
                    output = controller.evaluate(experiment.eval_steps(info))
                path = checkpoint.latest(manager.directory)
                scores = scored(output, path, experiment, info)
                say(describe(scores))

    summary = {**identity(experiment, train_state.model, step), **scores}
    if step > first_step:
        summary |= {"first_step": first_step, **progress.summary()}
    return files.write_json(f"{manager.directory}/summary.json", summary, TRAINING)


def evaluate(experiment: Experiment, model_dir: str) -> dict[str, Any]:
    """Scores the newest checkpoint, or the pretrained weights before there is one.

    Arguments and errors are those of train_and_evaluate.
    """
    strategy, info = prepare(experiment)
    with strategy.scope():
        models, path, step = state.load_models(experiment, info, model_dir)
        evaluator = make_evaluator(experiment, info, strategy, models)
    with readable_errors():
        output = evaluator.evaluate(tf.constant(experiment.eval_steps(info)))
    scores = scored(output, path, experiment, info)
    say(describe(scores))
    summary = {**identity(experiment, models["ema_"], step), **scores}
    folder = distribute.writable(strategy, model_dir)
    files.make_folder(folder)
    return files.write_json(f"{folder}/summary.json", summary, TRAINING)


def prepare(experiment: Experiment) -> tuple[tf.distribute.Strategy, DatasetInfo]:
    """Returns devices and data set of a run, both checked against its settings."""
    # Before anything else: several workers have to meet before TensorFlow starts.
    strategy = distribute.make_strategy(experiment.strategy)
    experiment.check_replicas(strategy.num_replicas_in_sync)
    info = load_info(experiment.data_dir)
    return strategy, info


def make_evaluator(
    experiment: Experiment,
    info: DatasetInfo,
    strategy: tf.distribute.Strategy,
    models: Mapping[str, keras.Model],
) -> Evaluator:
    """Returns what scores `models` on the evaluation split; under strategy.scope()."""
    form = input_form(models["ema_"])

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        hosts = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // hosts
        return experiment.eval_data(
            data_dir=experiment.data_dir,
            split=experiment.eval_split,
            **form.arguments(),
            batch_size=context.get_per_replica_batch_size(experiment.eval_batch_size),
            # One element a replica: all replicas of all hosts take as many.
            num_batches=experiment.eval_steps(info) * replicas,
            num_hosts=hosts,
            host=context.input_pipeline_id,
        )

    dataset = strategy.distribute_datasets_from_function(make)
    return Evaluator(models, strategy, dataset)


def stops(experiment: Experiment, info: DatasetInfo, step: int) -> Iterator[int]:
    """Yields the steps at which training pauses for an evaluation, from `step` on.

    The last one is yielded even when there is nothing left to train, so that a run
    killed in its last evaluation still gets its scores.
    """
    every = max(
        1, round(experiment.eval_every_epochs * experiment.steps_per_epoch(info))
    )
    last = experiment.train_steps(info)
    while True:
        step = min(last, (step // every + 1) * every)
        yield step
        if step == last:
            return


def make_manager(
    experiment: Experiment,
    train_state: state.TrainState,
    strategy: tf.distribute.Strategy,
    model_dir: str,
) -> checkpoint.CheckpointManager:
    """Returns what saves and restores this run's checkpoints."""
    return checkpoint.CheckpointManager(
        train_state.variables(),
        model_dir,
        distribute.writable(strategy, model_dir),
        max_to_keep=experiment.keep_checkpoints,
        step_counter=train_state.step,
        checkpoint_interval=experiment.checkpoint_every_steps,
    )


def make_controller(
    experiment: Experiment,
    trainer: Trainer,
    evaluator: Evaluator,
    manager: checkpoint.CheckpointManager,
    progress: Progress,
) -> orbit.Controller:
    """Returns Orbit's outer loop: it trains, saves, scores and writes the curves."""
    step = trainer.state.step

    def show(output: Mapping[str, float]) -> None:
        progress.update(int(step.numpy()), output)

    with orbit_unheard():
        return orbit.Controller(
            strategy=trainer.strategy,
            global_step=step,
            trainer=trainer,
            evaluator=evaluator,
            steps_per_loop=experiment.steps_per_loop,
            train_actions=[show],
            checkpoint_manager=manager,
            summary_dir=f"{manager.directory}/train",
            eval_summary_dir=f"{manager.directory}/eval",
        )


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Turns an error from inside the input pipeline into a DataError."""
    try:
        yield
    except tf.errors.OpError as error:
        text = explain(error)
        if text is None:
            raise
        raise DataError(text) from error


def scored(
    output: Mapping[str, float], path: str, experiment: Experiment, info: DatasetInfo
) -> dict[str, Any]:
    """Returns the scores for summary.json: what was scored, on how many images."""
    expected = info.split(experiment.eval_split).total
    images = round(output["images"])
    names = [
        f"{who}{what}" for who in ("", "ema_") for what in ("loss", "top1", "top5")
    ]
    return {
        "checkpoint": path,
        "eval_images": images,
        "eval_skipped_records": expected - images,
        **{name: output[name] for name in names},
    }


def describe(scores: Mapping[str, Any]) -> str:
    """Returns the scores as a person reads them."""
    skipped = scores["eval_skipped_records"]
    return (
        f"{scores['checkpoint']}: top-1 {scores['ema_top1']:.2%} (average weights), "
        f"{scores['top1']:.2%} (raw weights) on {scores['eval_images']:,} images"
        + (f" ({skipped:,} broken records skipped)" if skipped else "")
    )


def opening(
    experiment: Experiment, info: DatasetInfo, model: keras.Model, step: int
) -> str:
    """Returns the first line of a run."""
    images = info.split(experiment.train_split).total
    origin = "scratch" if experiment.pretrained is None else "pretrained weights"
    return (
        f"{model.name}: {parameters(model):,} parameters, "
        f"{input_form(model).resolution} px; {images:,} images, "
        f"{experiment.train_steps(info):,} steps of {experiment.global_batch_size:,}; "
        + (f"going on at step {step:,}" if step else f"starting from {origin}")
    )


def identity(experiment: Experiment, model: keras.Model, step: int) -> dict[str, Any]:
    """Returns what model a summary speaks of, and how long it was trained."""
    return {
        "variant": model.name,
        "resolution": input_form(model).resolution,
        "parameters": parameters(model),
        "steps": step,
        "images_seen": step * experiment.global_batch_size,
    }


def parameters(model: keras.Model) -> int:
    """Returns the number of trainable parameters."""
    return sum(v.value.shape.num_elements() for v in model.trainable_variables)
