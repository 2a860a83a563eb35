"""The whole story of a run, top to bottom."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from common import gfiles
from common.console import say, warn
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, load_info
from train import ema, evaluation, run_data, run_folder, state
from train.checkpoints import directory, ownership
from train.checkpoints.bundle import Fence
from train.checkpoints.manager import Checkpoints
from train.config import ResolvedConfig
from train.controller import Controller, restore
from train.distribution import cluster, devices, workers
from train.distribution.processes import Processes
from train.evaluation import Evaluator
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors
from train.mistakes import telling
from train.run_data import RunData
from train.settings import data_changes
from train.settings.data_changes import Known
from train.small_data import early_stopping
from train.small_data.early_stopping import EarlyStopping
from train.stages import Stages
from train.start import context as start_context
from train.start import counts, first_lines
from train.start.context import RunContext, make_strategy
from train.telemetry import peak_flops
from train.telemetry import summary as summaries
from train.telemetry.profiler import Profiler
from train.telemetry.progress import Progress
from train.telemetry.telemetry import Telemetry
from train.weights import pretrained

_SLOW = 4.0  # how much longer than others a phase may take that compiles or evaluates


def train_and_evaluate(
    experiment: Experiment,
    model_dir: str | os.PathLike[str],
    *,
    config: ResolvedConfig | None = None,
    accept_changes: bool = False,
    accept_data: str | None = None,
    with_evaluation: bool = True,
) -> dict[str, Any]:
    """Train from the newest checkpoint, else from the start, to the last step.

    The start is random weights, or those of `experiment.pretrained`.

    Args:
      experiment: what to do.
      model_dir: folder for checkpoints, summaries and summary.json; local or gs://. All
        processes of a run have the same.
      config: that the experiment comes from, to be compared with that of the run,
        saved and shown in TensorBoard.
      accept_changes: whether to go on with a run of other settings.
      accept_data: other data with which to go on: `RunData.accepted_by`.
      with_evaluation: whether to score every `eval_every_epochs` and at the end.

    Returns:
      The content of summary.json.

    Raises:
      UserError: something that the user can mend.
      common.errors.Restart: the same command goes on: SIGTERM has come, or another
        process of the run is gone.
    """
    model_dir = os.fspath(model_dir)
    early_stopping.require_evaluations(experiment, with_evaluation)
    members = cluster.find(experiment.strategy)
    info = load_info(experiment.data_dir)
    data = run_data.find(experiment, info)
    with translate_errors(), contextlib.ExitStack() as stack:
        # Nobody else's, from before its first file to behind its last.
        claim = run_folder.claim(
            model_dir,
            members,
            stack,
            config=config,
            accept_changes=accept_changes,
            compare_data=lambda: data_changes.compare(
                run_data.read(model_dir), data, experiment, model_dir, accept_data
            ),
            with_evaluation=with_evaluation,
        )
        context = start_context.enter(
            experiment, info, model_dir, stack, members=members, claim=claim, data=data
        )
        stages, evaluator, has_begun = build(context, with_evaluation=with_evaluation)
        checkpoints, step = restore_or_start(context, stages, stack, has_begun)
        if context.processes.is_chief and config is not None:
            config.say_new_rate(model_dir, info, step)
            config.save(model_dir, fence=claim.fence)
        telemetry = begin_telemetry(context, stack, step, data, config)
        progress = Progress(
            step, experiment.train_steps(info), experiment.global_batch_size
        )
        controller = make_controller(
            context, stages, stack, checkpoints, telemetry, progress
        )
        first_lines.say_all(
            experiment,
            info,
            stages.state.model,
            context.strategy,
            step,
            has_begun=has_begun,
            with_evaluation=with_evaluation,
        )
        scores = train_to_end(
            context, stages.state, controller, evaluator, checkpoints, telemetry
        )
        summary = summaries.training_summary(
            experiment, info, stages.state, context.strategy
        )
        summary |= scores
        if controller.step > step:
            summary |= {"first_step": step, **progress.summary()}
        return summaries.write_summary(
            model_dir, summary, context.processes, claim.fence
        )


def evaluate(
    experiment: Experiment,
    model_dir: str | os.PathLike[str],
    *,
    best: bool = False,
    step: int | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """Score a checkpoint, or the pretrained weights before there is one.

    The answer gets a file of its own in `evaluations/`, and a page of its mistakes
    beside it; what the training has scored stays as it is.

    Args:
      experiment: of the run; its data may be others with the same classes.
      model_dir: of the run.
      best: whether to take the best checkpoint instead of the newest.
      step: whose checkpoint to take instead.
      output: where the page of the mistakes goes instead.

    Returns:
      The scores, and of what they are.

    Raises:
      UserError: as train_and_evaluate; or the data have other classes.
    """
    model_dir = os.fspath(model_dir)
    strategy, info = prepare(experiment)
    processes = Processes(strategy)
    folder = best_folder(model_dir) if best else model_dir
    if any(map(directory.has_begun, (model_dir, f"{model_dir}/{directory.BEST}"))):
        was = run_data.read(model_dir)
        data_changes.refuse_other_classes(was, info, model_dir)
    with strategy.scope():
        models, path, at = evaluation.load_models(
            experiment, info, folder, step=step, processes=processes
        )
    evaluator = Evaluator(experiment, info, strategy, models)
    scores = evaluator.score(path)
    say(evaluation.describe(scores))
    answer = {
        **summaries.model_summary(experiment, models["ema_"], at),
        "precision": experiment.precision,
        **evaluation.crop_summary(experiment, models["ema_"]),
        **scores,
    }
    if processes.is_chief:
        data = run_data.split_data(experiment.eval_split, info)
        to = _unless_a_link(model_dir, evaluation.answer_path(model_dir, answer, data))
        if evaluator.outcomes is not None:
            made = telling.make_report(
                experiment, info, models["ema_"], evaluator.outcomes, scores
            )
            page = output or (to and f"{to.removesuffix('.json')}.html")
            answer["mistakes"] = telling.tell(made, page)
        if to is not None:
            write_answer(answer, to)
    return answer


def _unless_a_link(model_dir: str, path: str) -> str | None:
    """Return the path of an answer; None, and a warning, where it led elsewhere."""
    try:
        ownership.refuse_links(model_dir)
    except UserError as refusal:
        warn(f"these scores are not kept: {refusal}")
        return None
    return path


def best_folder(model_dir: str) -> str:
    """Return the folder of a run's best checkpoint; UserError where there is none."""
    folder = f"{model_dir}/{directory.BEST}"
    if not directory.list_checkpoints(folder):
        raise UserError(
            f"{model_dir} has no best checkpoint: a run keeps one when it is scored, "
            "by --mode=train_and_eval or continuous_eval. Without --best the newest is "
            "taken"
        )
    return folder


def write_answer(answer: dict[str, Any], path: str) -> None:
    """Write the scores that somebody has asked for; where one may not, they are said.

    It needs no claim: the file is nobody else's, and it is there whole or not at all.
    """
    try:
        gfiles.make_folder(path.rpartition("/")[0])
        gfiles.write_json(path, answer)
    except UserError as refusal:
        warn(f"these scores are not kept: {refusal}")
    else:
        say(f"written to {path}; summary.json has what the training itself scored")


def continuous_evaluate(
    experiment: Experiment,
    model_dir: str | os.PathLike[str],
    *,
    poll_seconds: float = 10.0,
    timeout_minutes: float = 120.0,
) -> dict[str, Any]:
    """Score the checkpoints of a training job as they come, until its last one.

    Args:
      experiment: of the job.
      model_dir: of the job.
      poll_seconds: between two looks for a new checkpoint.
      timeout_minutes: without a new checkpoint, after which the job counts as dead.

    Returns:
      The scores of the last checkpoint.

    Raises:
      UserError: there was no new checkpoint for too long; and as train_and_evaluate.
    """
    if experiment.strategy == "multi_worker":
        raise UserError(
            "--mode=continuous_eval runs in one process; set Experiment.strategy to "
            "'one_device' or 'mirrored'"
        )
    model_dir = os.fspath(model_dir)
    strategy, info = prepare(experiment)
    processes = Processes(strategy)
    gfiles.make_folder(model_dir)
    with (
        run_folder.hold_best(model_dir) as best,
        make_telemetry(
            experiment, strategy, model_dir, processes, best.check
        ) as telemetry,
    ):
        followed = evaluation.follow(
            experiment,
            info,
            strategy,
            model_dir,
            telemetry=telemetry,
            fence=best.check,
            poll_seconds=poll_seconds,
            timeout_seconds=60 * timeout_minutes,
        )
        if followed.outcomes is None:  # it was scored by a process before this one
            return followed.scores
        made = telling.make_report(
            experiment, info, followed.model, followed.outcomes, followed.scores
        )
        mistakes = telling.tell(
            made,
            f"{model_dir}/{telling.PAGE}",
            step=followed.scores["steps"],
            telemetry=telemetry,
            fence=best.check,
        )
        return followed.scores | {"mistakes": mistakes}


def prepare(experiment: Experiment) -> tuple[tf.distribute.Strategy, DatasetInfo]:
    """Return devices and data set of a run, both checked against its settings."""
    info = load_info(experiment.data_dir)
    strategy = make_strategy(experiment)
    devices.check(experiment.strategy, strategy, trains=False)
    return strategy, info


def make_telemetry(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    model_dir: str,
    processes: Processes,
    fence: Fence,
) -> Telemetry:
    """Return what the numbers of this run are written to."""
    peak = experiment.peak_teraflops
    return Telemetry(
        model_dir,
        global_batch_size=experiment.global_batch_size,
        replicas=strategy.num_replicas_in_sync,
        peak_teraflops=peak_flops.peak_teraflops(strategy) if peak is None else peak,
        writes=processes.is_chief,
        fence=fence,
    )


def build(
    context: RunContext, *, with_evaluation: bool
) -> tuple[Stages, Evaluator | None, bool]:
    """Return what is trained, what is scored, and whether the run has begun before."""
    experiment, info, strategy = context.experiment, context.info, context.strategy
    context.watchdog.phase("building", timeout_factor=_SLOW)
    with strategy.scope():
        train_state = state.create(experiment, info)
    has_begun = bool(
        context.processes.broadcast(directory.has_begun(context.model_dir))
    )
    if not has_begun:
        counts.refuse(experiment, info, train_state.model.output_shape[-1])
    stages = Stages(experiment, info, train_state, strategy)
    evaluator = (
        Evaluator(experiment, info, strategy, train_state.models)
        if with_evaluation
        else None  # nor has the data set to have a split for it
    )
    return stages, evaluator, has_begun


def restore_or_start(
    context: RunContext, stages: Stages, stack: contextlib.ExitStack, has_begun: bool
) -> tuple[Checkpoints, int]:
    """Return what saves the state, which stands where the run does, and that step."""
    context.watchdog.phase("restoring")
    experiment, processes = context.experiment, context.processes
    checkpoints = stack.enter_context(
        Checkpoints(
            stages.state.variables(),
            context.model_dir,
            keep=experiment.keep_checkpoints,
            keep_every_hours=experiment.keep_checkpoint_every_hours,
            writes=processes.is_chief,
            run=context.claim.name,
            fence=context.claim.fence,
        )
    )
    step = start(experiment, stages, checkpoints, has_begun, processes)
    if processes.is_chief:
        run_folder.remove_stale_files(context.model_dir)
    return checkpoints, step


def start(
    experiment: Experiment,
    stages: Stages,
    checkpoints: Checkpoints,
    has_begun: bool,
    processes: Processes,
) -> int:
    """Restore the newest checkpoint, else set and save what a fresh run starts from.

    The checkpoint of step 0 is made again from the settings: a run that has saved
    nothing else may still change them.

    Returns:
      The step.
    """
    train_state = stages.state
    with stages.strategy.scope():
        restored = has_begun and restore(checkpoints, processes) is not None
        if not restored and experiment.pretrained is not None:
            pretrained.load_into(experiment, train_state.model)
            ema.copy(train_state.model, train_state.ema_model)
    step = int(train_state.step.numpy())
    if not stages.ends(step):
        stages.enter(step, train_state.next_batch)  # so that its mistakes show now
    if not restored:
        # There is always something to go back to; and a folder that cannot be written
        # tells now.
        checkpoints.save(wait=True)
    return step


def begin_telemetry(
    context: RunContext,
    stack: contextlib.ExitStack,
    step: int,
    data: RunData,
    config: ResolvedConfig | None,
) -> Telemetry:
    """Return who writes down what happens; it has written how the run begins."""
    processes, claim = context.processes, context.claim
    telemetry = stack.enter_context(
        make_telemetry(
            context.experiment,
            context.strategy,
            context.model_dir,
            processes,
            claim.fence,
        )
    )
    telemetry.start(step, "" if config is None else config.text)
    if step:
        telemetry.event(step, "resumed")
    if processes.is_chief:
        known = claim.known or Known(data)
        save_data(known, context.model_dir, step, telemetry, claim)
    return telemetry


def make_controller(
    context: RunContext,
    stages: Stages,
    stack: contextlib.ExitStack,
    checkpoints: Checkpoints,
    telemetry: Telemetry,
    progress: Progress,
) -> Controller:
    """Return what trains from evaluation to evaluation, and profiles chosen steps."""
    profiler = stack.enter_context(
        Profiler(
            f"{context.model_dir}/train",
            context.experiment.profile_steps,
            writes=context.processes.is_chief,
            workers=workers.addresses(),
        )
    )
    return Controller(
        context.experiment,
        context.info,
        stages,
        context.model_dir,
        processes=context.processes,
        checkpoints=checkpoints,
        telemetry=telemetry,
        progress=progress,
        watchdog=context.watchdog,
        preemption=context.preemption,
        profiler=profiler,
        fence=context.claim.fence,
    )


def train_to_end(
    context: RunContext,
    train_state: state.TrainState,
    controller: Controller,
    evaluator: Evaluator | None,
    checkpoints: Checkpoints,
    telemetry: Telemetry,
) -> dict[str, Any]:
    """Train and score to the last step, or to an early end.

    Returns:
      What summary.json says of the scores, of the mistakes, and of an early end.
    """
    experiment, info, watchdog = context.experiment, context.info, context.watchdog
    last, interval = experiment.train_steps(info), experiment.eval_interval(info)
    stopping = EarlyStopping(
        experiment,
        interval=interval,
        last=last,
        telemetry=telemetry,
        processes=context.processes,
    )
    step = controller.step
    scored = bool(context.processes.broadcast(step in telemetry.evaluations()))
    stops = evaluation_steps(step, interval, last, scored)
    scores = train_and_score(controller, stops, evaluator, stopping)
    watchdog.phase("waiting for the last checkpoint", controller.step)
    checkpoints.wait()
    if evaluator is not None and experiment.mistake_images:
        watchdog.phase("mistakes", controller.step, timeout_factor=_SLOW)
        scores |= tell_mistakes(
            experiment,
            info,
            train_state,
            evaluator,
            f"{context.model_dir}/ckpt-{controller.step}",
            scores,
            processes=context.processes,
            telemetry=telemetry,
            fence=context.claim.fence,
        )
    return scores | stopping.summary()


def evaluation_steps(
    step: int, interval: int, last: int, scored: bool
) -> Iterator[int]:
    """Yield the steps at which training pauses for an evaluation, from `step` on.

    Args:
      step: where a process begins.
      interval: from one evaluation to the next.
      last: step of the run; it is yielded even when there is nothing left to train.
      scored: whether `step` is; a process that was killed in an evaluation leaves it
        to the next.
    """
    if 0 < step < last and step % interval == 0 and not scored:
        yield step
    while True:
        step = min(last, (step // interval + 1) * interval)
        yield step
        if step == last:
            return


def train_and_score(
    controller: Controller,
    stops: Iterable[int],
    evaluator: Evaluator | None,
    stopping: EarlyStopping,
) -> dict[str, Any]:
    """Train to each of the steps and score there, to the last or to an early end.

    Returns:
      The scores of the end; empty where nobody scores.
    """
    scores: dict[str, Any] = {}
    for stop in stops:
        if stopping.ends(controller.step):
            return stopping.scores(controller.step)
        controller.train_until(stop, evaluator)
        if evaluator is not None:
            scores = controller.score(evaluator)
            stopping.note(stop, scores)
    return scores


def tell_mistakes(
    experiment: Experiment,
    info: DatasetInfo,
    train_state: state.TrainState,
    evaluator: Evaluator,
    checkpoint: str,
    scores: dict[str, Any],
    *,
    processes: Processes,
    telemetry: Telemetry,
    fence: Fence,
) -> dict[str, Any]:
    """Show what the run gets wrong at its end; all processes have to call it.

    Args:
      experiment: of the run.
      info: of its data.
      train_state: as it was scored.
      evaluator: that has scored it, in this process or in one before.
      checkpoint: of this state.
      scores: of it.
      processes: of the run; the chief writes.
      telemetry: of the run.
      fence: see `bundle.write`.

    Returns:
      The scores anew, and with them what summary.json says of the mistakes.
    """
    model_dir = checkpoint.rpartition("/")[0]
    if evaluator.outcomes is None:  # the run had ended early before this process
        known = telling.is_told(model_dir, checkpoint) if processes.is_chief else None
        if processes.broadcast(known is not None):
            return {"mistakes": known}
        scores = evaluator.score(checkpoint)
    outcomes = evaluator.outcomes
    if outcomes is None or not processes.is_chief:
        return scores
    made = telling.make_report(
        experiment, info, train_state.ema_model, outcomes, scores
    )
    mistakes = telling.tell(
        made,
        f"{model_dir}/{telling.PAGE}",
        step=int(train_state.step.numpy()),
        telemetry=telemetry,
        fence=fence,
    )
    return scores | {"mistakes": mistakes}


def save_data(
    known: Known,
    model_dir: str,
    step: int,
    telemetry: Telemetry,
    claim: run_folder.Claim,
) -> None:
    """Write down what the run knows of its data, and that they are others now."""
    if known.accepted:  # before it: where that is written, a restart finds no change
        telemetry.event(
            step,
            "data_changed",
            changes=known.accepted,
            accepted=known.data.accepted_by,
        )
    run_data.write(known.data, model_dir, fence=claim.fence)
