"""The whole story of a run, top to bottom."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
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
from train.distribution import cluster, devices, strategies, workers
from train.distribution.cluster import Cluster
from train.distribution.processes import Processes
from train.evaluation import Evaluator
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors
from train.fault_tolerance.preemption import Preemption
from train.fault_tolerance.watchdog import Watchdog
from train.mistakes import telling
from train.numerics import precision
from train.settings import data_changes
from train.settings.data_changes import Known
from train.small_data import early_stopping
from train.small_data.early_stopping import EarlyStopping
from train.stages import Stages
from train.start import counts, first_lines
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

        # Who watches over the run, before anything that may hang.
        posts = members.is_chief and claim.refusal is None
        watchdog = stack.enter_context(
            make_watchdog(experiment, model_dir, members, posts=posts)
        )
        # Within it, so that it posts what an error means.
        stack.enter_context(translate_errors())
        preemption = stack.enter_context(
            Preemption(experiment.preemption_deadline_seconds, watchdog.describe)
        )

        # Its devices, and its other processes.
        watchdog.phase("waiting for the devices and the other processes")
        strategy = make_strategy(experiment, lambda: preemption.requested)
        devices.check(experiment.strategy, strategy, trains=True)
        processes = Processes(strategy)
        run_folder.agree(claim, model_dir, processes)
        data_changes.agree(data, processes)
        watchdog.start_posting()  # in the folder that is the run's by now

        # What is trained, and what is scored.
        watchdog.phase("building", timeout_factor=_SLOW)
        with strategy.scope():
            train_state = state.create(experiment, info)
        has_begun = bool(processes.broadcast(directory.has_begun(model_dir)))
        if not has_begun:
            counts.refuse(experiment, info, train_state.model.output_shape[-1])
        stages = Stages(experiment, info, train_state, strategy)
        evaluator = (
            Evaluator(experiment, info, strategy, train_state.models)
            if with_evaluation
            else None  # nor has the data set to have a split for it
        )

        # Where it stands.
        watchdog.phase("restoring")
        checkpoints = stack.enter_context(
            make_checkpoints(experiment, train_state, model_dir, processes, claim)
        )
        step = start(experiment, stages, checkpoints, has_begun, processes)
        if processes.is_chief:
            run_folder.remove_stale_files(model_dir)
        if processes.is_chief and config is not None:
            config.say_new_rate(model_dir, info, step)
            config.save(model_dir, fence=claim.fence)

        # Who writes down what happens.
        last = experiment.train_steps(info)
        progress = Progress(step, last, experiment.global_batch_size)
        telemetry = stack.enter_context(
            make_telemetry(experiment, strategy, model_dir, processes, claim.fence)
        )
        telemetry.start(step, "" if config is None else config.text)
        if step:
            telemetry.event(step, "resumed")
        if processes.is_chief:
            save_data(claim.known or Known(data), model_dir, step, telemetry, claim)
        profiler = stack.enter_context(make_profiler(experiment, model_dir, processes))

        # From evaluation to evaluation.
        controller = Controller(
            experiment,
            info,
            stages,
            model_dir,
            processes=processes,
            checkpoints=checkpoints,
            telemetry=telemetry,
            progress=progress,
            watchdog=watchdog,
            preemption=preemption,
            profiler=profiler,
            fence=claim.fence,
        )
        first_lines.say_all(
            experiment,
            info,
            train_state.model,
            strategy,
            step,
            has_begun=has_begun,
            with_evaluation=with_evaluation,
        )
        interval = experiment.eval_interval(info)
        stopping = EarlyStopping(
            experiment,
            interval=interval,
            last=last,
            telemetry=telemetry,
            processes=processes,
        )
        scored = bool(processes.broadcast(step in telemetry.evaluations()))
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
                f"{model_dir}/ckpt-{controller.step}",
                scores,
                processes=processes,
                telemetry=telemetry,
                fence=claim.fence,
            )
        summary = summaries.training_summary(experiment, info, train_state, strategy)
        summary |= scores | stopping.summary()
        if controller.step > step:
            summary |= {"first_step": step, **progress.summary()}
        return summaries.write_summary(model_dir, summary, processes, claim.fence)


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
        models, path, at = evaluation.load_models(experiment, info, folder, step=step)
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
        to = evaluation.answer_path(model_dir, answer, data)
        if evaluator.outcomes is not None:
            made = telling.make_report(
                experiment, info, models["ema_"], evaluator.outcomes, scores
            )
            page = output or f"{to.removesuffix('.json')}.html"
            answer["mistakes"] = telling.tell(made, page)
        write_answer(answer, model_dir, to)
    return answer


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


def write_answer(answer: dict[str, Any], model_dir: str, path: str) -> None:
    """Write the scores that somebody has asked for; where one may not, they are said.

    It needs no claim: the file is nobody else's, and it is there whole or not at all.
    """
    try:
        ownership.refuse_links(model_dir)
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


def make_strategy(
    experiment: Experiment, is_stopped: Callable[[], bool] = lambda: False
) -> tf.distribute.Strategy:
    """Return the devices of a run, checked against its settings.

    Several processes have to meet before TensorFlow starts.
    """
    if experiment.strategy == "tpu":  # known before it is reached
        precision.refuse_on_tpus(experiment.precision)
    strategy = strategies.make_strategy(experiment.strategy, is_stopped)
    precision.check(experiment.precision, strategy)
    experiment.check_replicas(strategy.num_replicas_in_sync)
    return strategy


def make_checkpoints(
    experiment: Experiment,
    train_state: state.TrainState,
    model_dir: str,
    processes: Processes,
    claim: run_folder.Claim,
) -> Checkpoints:
    """Return what saves and restores the state of this run."""
    return Checkpoints(
        train_state.variables(),
        model_dir,
        keep=experiment.keep_checkpoints,
        keep_every_hours=experiment.keep_checkpoint_every_hours,
        writes=processes.is_chief,
        run=claim.name,
        fence=claim.fence,
    )


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


def make_profiler(
    experiment: Experiment, model_dir: str, processes: Processes
) -> Profiler:
    """Return what profiles chosen steps of this run."""
    steps = experiment.profile_steps
    return Profiler(
        f"{model_dir}/train",
        steps,
        writes=processes.is_chief,
        workers=workers.addresses(),
    )


def make_watchdog(
    experiment: Experiment, model_dir: str, members: Cluster, *, posts: bool
) -> Watchdog:
    """Return what ends this process when it gets nowhere."""
    minutes = experiment.hang_timeout_minutes
    return Watchdog(
        model_dir,
        process=members.number,
        processes=members.count,
        timeout_seconds=None if minutes is None else 60 * minutes,
        posts=posts,
        others=workers.describe,
        gone=workers.gone,
    )


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
