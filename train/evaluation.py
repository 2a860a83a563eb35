"""Scores: of a state in memory, of a checkpoint, of every checkpoint of a job."""

import contextlib
import functools
import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import orbit
import tensorflow as tf

from common import gfiles
from common.console import say, warn
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from models.input_form import input_form
from train import losses, metrics, run_data, state
from train.checkpoints import bundle, directory, manager, ownership
from train.checkpoints.choice import load_chosen
from train.datasets import (
    authors_crop,
    eval_crop,
    eval_dataset,
    reads_in_file_order,
)
from train.distribution import slices
from train.distribution.processes import Processes, input_hosts
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors
from train.mistakes.outcomes import OutcomeLog, Outcomes, positions
from train.run_data import SplitData, split_data
from train.settings import data_changes
from train.small_data import early_stopping, held_out
from train.telemetry.telemetry import Telemetry
from train.telemetry.writers import read_lines
from train.weights import pretrained

SCORES = tuple(
    f"{who}{what}" for who in ("", "ema_") for what in ("loss", "top1", "top5")
)


def build_models(
    experiment: Experiment, info: DatasetInfo, keys: Iterable[str] = ("", "ema_")
) -> dict[str, keras.Model]:
    """Return models for evaluation, keyed as `TrainState.models`."""
    return {key: state.build_model(experiment, info) for key in keys}


def restore_into(models: Mapping[str, keras.Model], path: str) -> None:
    """Fill models, keyed as `TrainState.models`, from the checkpoint at `path`."""
    parts = {"": "model", "ema_": "ema"}
    variables = {}
    for key, model in models.items():
        variables |= state.by_path(parts[key], model.weights)
    manager.restore(variables, path, partly=True)


def load_models(
    experiment: Experiment,
    info: DatasetInfo,
    model_dir: str | None,
    keys: Iterable[str] = ("", "ema_"),
    *,
    step: int | None = None,
    processes: Processes | None = None,
) -> tuple[dict[str, keras.Model], str, int]:
    """Return models to score or to export, where they are from, and their step.

    They hold the newest intact checkpoint. Before there is any they hold the weights
    that the training would start from, if these are given; their step is 0.

    Args:
      experiment: of the run.
      info: of its data.
      model_dir: of the run, or its folder of the best checkpoint; None where there is
        no run, but `experiment.pretrained`.
      keys: of the models.
      step: whose checkpoint to take, there or in `best/`, instead of the newest.
      processes: that all call this, to take what the chief does; None for this alone.

    Raises:
      UserError: neither is there, or no checkpoint is intact or fits the models, or
        one is of another run.
      Restart: the storage does not answer now.
    """
    path = None
    if model_dir is not None:
        path = None if step is None else directory.at_step(model_dir, step)
        ownership.refuse_foreign(model_dir if path is None else path.rpartition("/")[0])
    models = build_models(experiment, info, keys)
    if path is not None:
        restore_into(models, path)
    elif model_dir is not None:
        path = _restore_newest(models, model_dir, processes)
    if path is not None:
        return models, path, bundle.step(path)
    if model_dir is not None and experiment.pretrained is None:
        raise directory.without_any(model_dir)
    for model in models.values():
        pretrained.load_into(experiment, model)
    return models, f"pretrained {experiment.pretrained}", 0


def _restore_newest(
    models: Mapping[str, keras.Model], model_dir: str, processes: Processes | None
) -> str | None:
    """Fill models from the newest intact checkpoint; return its path, None for none."""
    found = load_chosen(
        model_dir,
        functools.partial(restore_into, models),
        broadcast=processes.broadcast if processes else lambda step: step,
        is_chief=processes is None or processes.is_chief,
    )
    return found and found[0]


class Evaluator(orbit.StandardEvaluator):
    """Scores raw and averaged weights in one pass; padding does not count."""

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        strategy: tf.distribute.Strategy,
        models: Mapping[str, keras.Model],
    ):
        """Make it; the data are opened by `open_data`, or where they are read.

        Args:
          experiment: of the run.
          info: of its data.
          strategy: of the evaluation.
          models: by the prefix of their scores ("" and "ema_").

        Raises:
          input_pipeline.errors.DataError: the data have no split to score.
        """
        held_out.require_split(experiment, info)
        super().__init__(None, orbit.StandardEvaluatorOptions(use_tf_while_loop=True))
        self._make_dataset = functools.partial(
            eval_dataset, experiment, info, strategy, input_form(models["ema_"])
        )
        self._num_steps = experiment.eval_steps(info)
        self._data = split_data(experiment.eval_split, info)
        self._scored = {
            "eval_data": info.name,
            "eval_split": self._data.split,
            "eval_digest": self._data.digest or None,
            "eval_data_dir": experiment.data_dir,
        }
        self._models = models
        self._strategy = strategy
        self._in_file_order = reads_in_file_order(experiment)
        _, self._input_hosts = input_hosts(strategy, Processes(strategy))
        scores = ("loss", "top1", "top5")
        with strategy.scope():
            self._sums = metrics.Sums(
                ["images", *(prefix + score for prefix in models for score in scores)]
            )
        self._log = (
            _outcome_log(experiment, strategy, models["ema_"], self._num_steps)
            if experiment.mistake_images
            else None
        )
        self._outcomes: Outcomes | None = None
        self._reset = tf.function(self._sums.reset, autograph=False)
        self._read = metrics.reader(self._sums.totals, slices.host_cpu(strategy))

    @property
    def is_open(self) -> bool:
        """Whether somebody has called `open_data`."""
        return self.eval_dataset is not None

    def open_data(self) -> None:
        """Open the evaluation split, once.

        Raises:
          input_pipeline.errors.DataError: the data cannot be opened.
        """
        if not self.is_open:
            with self._strategy.scope():
                self.eval_dataset = self._make_dataset()

    def score(self, path: str) -> dict[str, Any]:
        """Return the scores for summary.json: of what, on how many images.

        Args:
          path: of the checkpoint whose weights the models hold.

        Raises:
          DataError: a record cannot be read.
          Restart: another process of the run is gone.
        """
        with translate_errors():
            output = self.evaluate(self._num_steps)
        images = round(output["images"])
        return {
            "checkpoint": path,
            **self._scored,
            "eval_images": images,
            "eval_skipped_records": self._data.images - images,
            **{name: output[name] for name in SCORES},
        }

    @property
    def outcomes(self) -> Outcomes | None:
        """What the last pass says of each image; None where none has, or none is to."""
        return self._outcomes

    def evaluate(self, num_steps: int) -> Any:
        """Return images (their number) and the mean of every score over them.

        Args:
          num_steps: global batches to score, from the first on.

        Raises:
          tf.errors.OpError: what `score` explains.
        """
        self.open_data()
        return super().evaluate(tf.constant(num_steps))

    def eval_begin(self) -> None:
        """Forget the evaluation before."""
        self._outcomes = None
        self._reset()

    def eval_step(self, iterator) -> None:
        """Score one global batch."""
        self._strategy.run(self.replica_step, args=(next(iterator),))

    @tf.autograph.experimental.do_not_convert
    def replica_step(self, batch: Mapping[str, tf.Tensor]) -> None:
        """Add up this replica's part of the batch."""
        labels = batch["label"]
        images = labels >= 0
        sums = {"images": tf.math.count_nonzero(images)}
        for prefix, model in self._models.items():
            logits = model(batch["image"], training=False)
            per_image = losses.cross_entropy(labels, logits, label_smoothing=0.0)
            sums[prefix + "loss"] = tf.reduce_sum(per_image)
            for k in (1, 5):
                hits = metrics.is_in_top(k, labels, logits, images)
                sums[f"{prefix}top{k}"] = tf.math.count_nonzero(hits)
                if prefix == "ema_" and k == 1 and self._log is not None:
                    self._log.add(labels, logits, hits)
        self._sums.add(**sums)

    def eval_end(self) -> dict[str, float]:
        """Return what `evaluate` does."""
        sums = self._read()
        images = sums.pop("images")
        if self._log is not None:
            self._outcomes = self._read_outcomes(self._log)
            self._outcomes.require(images=images, right=sums["ema_top1"])
        return {"images": images} | {k: v / max(images, 1) for k, v in sums.items()}

    def _read_outcomes(self, log: OutcomeLog) -> Outcomes:
        rows, found = log.read(), None
        if self._in_file_order:
            hosts, images = self._input_hosts, self._data.images
            found = positions(rows.shape[:3], input_hosts=hosts, images=images)
        return Outcomes.of(rows, found)


def _outcome_log(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    steps: int,
) -> OutcomeLog:
    return OutcomeLog(
        strategy,
        steps=steps,
        batch=experiment.eval_batch_size // strategy.num_replicas_in_sync,
        classes=model.output_shape[-1],
    )


def describe(scores: Mapping[str, Any]) -> str:
    """Return the scores as a person reads them."""
    skipped = scores["eval_skipped_records"]
    return (
        f"{scores['checkpoint']}: top-1 {scores['ema_top1']:.2%} (average weights), "
        f"{scores['top1']:.2%} (raw weights) on {scores['eval_images']:,} images"
        + (f" ({skipped:,} broken records skipped)" if skipped else "")
        + f", {_described_data(scores)}"
    )


def _described_data(scores: Mapping[str, Any]) -> str:
    digest = scores["eval_digest"]
    return (
        f"{scores['eval_split']} of {scores['eval_data']} in {scores['eval_data_dir']}"
        + (f" ({digest[: run_data.SHOWN]})" if digest else "")
    )


def crop_summary(experiment: Experiment, model: keras.Model) -> dict[str, Any]:
    """Return what the evaluation made of photos, as an answer says it."""
    crop = eval_crop(experiment, input_form(model).resolution)
    return {"eval_crop": dict(vars(crop))}


def answer_path(model_dir: str, answer: Mapping[str, Any], data: SplitData) -> str:
    """Return the file of the scores that somebody has asked for.

    Args:
      model_dir: of the run.
      answer: of which checkpoint, as `load_models` calls it, and in what form.
      data: on which images. Others have another file, as other weights, another
        resolution, another precision and another crop do; the same question has the
        same.
    """
    checkpoint = answer["checkpoint"]
    weights = checkpoint.rpartition("/")[2]
    if not re.fullmatch(r"ckpt-\d+", weights):
        path = hashlib.sha256(checkpoint.encode()).hexdigest()
        weights = f"pretrained-{path[: run_data.SHOWN]}"
    split = re.sub(r"[^\w.-]+", "_", data.split)
    digest = (data.digest or data.layout)[: run_data.SHOWN]
    size = answer["resolution"]
    parts = [weights, split, f"{size}px", answer["precision"]]
    if answer["eval_crop"] != vars(authors_crop(answer["variant"], size)):
        parts += [f"{value}" for value in answer["eval_crop"].values()]
    parts.append(digest)
    return f"{model_dir}/{directory.EVALUATIONS}/{'-'.join(parts)}.json"


def keep_best(
    model_dir: str, scores: Mapping[str, Any], fence: bundle.Fence = bundle.no_fence
) -> bool:
    """Copy a checkpoint to `best/` if none has a higher top-1 of averaged weights.

    One that was scored on other images, before the data changed, is none to compare
    with: its place is taken.

    A copy outlives the rotation of the training, which may be another process. Equal
    scores leave the earlier one. Scores come before their checkpoint, and go after it:
    a process that is killed leaves no checkpoint that is taken for another.

    Args:
      model_dir: of the run.
      scores: of a checkpoint there.
      fence: see `bundle.write`.

    Returns:
      Whether it is the best so far.

    Raises:
      UserError: the folder cannot be written.
      CorruptCheckpoint: the checkpoint is gone, or not intact.
    """
    path, folder = scores["checkpoint"], f"{model_dir}/{directory.BEST}"
    kept = directory.newest_intact(folder)
    before = _known_scores(kept, model_dir) if kept else None
    if before and not run_data.of_same_images(before, scores):
        say(f"{kept} was scored on other images: the best is chosen anew")
    elif kept and before and before["ema_top1"] >= scores["ema_top1"]:
        _delete_others(kept, fence)  # that a kill has left
        return False
    gfiles.make_folder(folder)
    copy = f"{folder}/ckpt-{bundle.step(path)}"
    gfiles.write_json(_scores_file(copy), scores, fence=fence)
    bundle.copy(path, folder, fence=fence)
    _delete_others(copy, fence)
    return True


def _delete_others(best: str, fence: bundle.Fence) -> None:
    """Delete the other checkpoints in the folder of the best one, and their scores."""
    for other in directory.list_checkpoints(best.rpartition("/")[0]):
        if other != best:
            with contextlib.suppress(bundle.CorruptCheckpoint):  # it may be anybody's
                bundle.read_manifest(other)
                bundle.delete(other, fence=fence, also=[_scores_file(other)])


def _known_scores(path: str, model_dir: str) -> dict[str, Any] | None:
    """Return the scores of a checkpoint in `best/`, None where nobody knows its top-1.

    Where its own file of scores is damaged, eval.jsonl tells.
    """
    for scores in _scores(path, model_dir):
        top1 = scores.get("ema_top1")
        if isinstance(top1, int | float) and 0 <= top1 <= 1:
            return scores
    warn(
        f"nobody knows the scores of {path} any more ({_scores_file(path)} is damaged, "
        "and eval.jsonl has none): the checkpoint that is scored now takes its place"
    )
    return None


def _scores(path: str, model_dir: str) -> Iterator[dict[str, Any]]:
    """Yield what is written of a checkpoint's scores, what counts most first."""
    yield gfiles.read_json(_scores_file(path))
    for line in reversed(read_lines(f"{model_dir}/eval.jsonl")):
        if line["step"] == bundle.step(path):
            yield line


def _scores_file(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/scores-{name}.json"


class Followed(NamedTuple):
    """The end of a job whose checkpoints were scored.

    Attributes:
      scores: of the last one.
      model: with the averaged weights of the last one that this process has scored.
      outcomes: of the images, None where another process has scored the last one.
    """

    scores: dict[str, Any]
    model: keras.Model
    outcomes: Outcomes | None


def follow(
    experiment: Experiment,
    info: DatasetInfo,
    strategy: tf.distribute.Strategy,
    model_dir: str,
    *,
    telemetry: Telemetry,
    fence: bundle.Fence,
    poll_seconds: float,
    timeout_seconds: float,
) -> Followed:
    """Score every new checkpoint of a job until its last step is scored.

    The last step is that of the recipe, or the one at which the job has ended early.

    A checkpoint that vanishes or is corrupt while it is read is skipped with a
    warning. Those that were scored before, by this process or one before it, are not
    scored again.

    Args:
      experiment: of the job.
      info: of its data.
      strategy: for the evaluation; it need not be the job's.
      model_dir: of the job.
      telemetry: gets the scores.
      fence: see `bundle.write`.
      poll_seconds: between two looks for a new checkpoint.
      timeout_seconds: without a new checkpoint, after which the job counts as dead.

    Returns:
      What the last checkpoint has come to; its scores have its step, too.

    Raises:
      UserError: there was no new checkpoint for too long.
    """
    last_step = experiment.train_steps(info)
    interval = experiment.eval_interval(info)
    now = run_data.find(experiment, info)
    with strategy.scope():
        models = build_models(experiment, info)
    evaluator = Evaluator(experiment, info, strategy, models)
    scores = telemetry.evaluations()
    done = max(scores, default=-1)
    outcomes = None  # of `done`
    since = time.monotonic()
    while done < last_step:
        fence()
        found = [(bundle.step(p), p) for p in directory.list_checkpoints(model_dir)]
        new = sorted(pair for pair in found if done < pair[0] <= last_step)
        if not new:
            end = early_stopping.of_run(experiment, scores, done, interval)
            if end is not None:
                say(
                    "by Experiment.early_stopping_patience the run ends at step "
                    f"{done:,}: {end}"
                )
                break
            _check_timeout(since, timeout_seconds, model_dir)
            time.sleep(poll_seconds)
            continue
        for folder in (model_dir, f"{model_dir}/{directory.BEST}"):
            ownership.refuse_foreign(folder)
        step, path = new[0]
        outcomes = None
        if step:  # the training writes down its data behind its first checkpoint
            data_changes.refuse_others(run_data.read(model_dir), now, model_dir)
        try:
            with strategy.scope():
                restore_into(models, path)
            scores[step] = evaluator.score(path)
            outcomes = evaluator.outcomes
            say(describe(scores[step]))
            keep_best(model_dir, scores[step], fence)
        except bundle.CorruptCheckpoint as fault:
            warn(f"{path} is skipped: {fault}")
        if step in scores:
            telemetry.evaluation(step, scores[step])
        done, since = max(done, step), time.monotonic()
    if done not in scores:
        raise UserError(
            f"the last checkpoint of {model_dir} cannot be read; run the training "
            "again: it goes on from the one before"
        )
    fence()  # else what was scored last may not be written
    return Followed({"steps": done, **scores[done]}, models["ema_"], outcomes)


def _check_timeout(since: float, timeout_seconds: float, model_dir: str) -> None:
    waited = time.monotonic() - since
    if waited > timeout_seconds:
        raise UserError(
            f"no new checkpoint in {model_dir} for {waited / 60:.0f} minutes: the "
            "training seems to have ended; start it again, then this command"
        )
