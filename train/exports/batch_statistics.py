"""Batch norm's statistics anew, of the weights that are exported.

Beside the average of a run's weights stands the average of its moving statistics, each
of which was of the weights of its own step. What the layers make of training images by
the averaged weights is something else, and can be counted.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.console import count, say, warn
from input_pipeline.dataset_info import DatasetInfo
from models.initializers import derive_seed
from models.input_form import input_form
from models.statistics import recompute_statistics
from train import datasets, stages
from train.checkpoints import bundle
from train.experiment import Experiment
from train.stage_rows import Stage

FLAG = "--statistics_images"
# More in a batch would cost memory, and say hardly more: the variance within a batch of
# n images lacks what their means differ by, an n-th of the whole.
_MOST_IN_A_BATCH = 128


class Counted(NamedTuple):
    """What statistics were counted of.

    Attributes:
      images: of the training split, drawn and augmented as in training.
      batches: that they were in.
      layers: how many of batch norm have new statistics.
    """

    images: int
    batches: int
    layers: int


class Score(NamedTuple):
    """How many images of the evaluation split a network gets right.

    Attributes:
      right: of these.
      images: whose class is known.
    """

    right: int
    images: int

    @property
    def top1(self) -> float | None:
        """The share of them; None where there are none."""
        return self.right / self.images if self.images else None


def recompute(
    experiment: Experiment,
    model: keras.Model,
    checkpoint: str,
    info: DatasetInfo,
    images: int,
    *,
    score_images: int,
) -> dict[str, Any]:
    """Count a model's statistics anew, and say what that changes.

    Args:
      experiment: of the run.
      model: whose statistics are set.
      checkpoint: that its weights are of: what was frozen there keeps its statistics.
      info: of the training images.
      images: how many of them; whole batches are taken.
      score_images: of the evaluation split, to score before and after, at most; 0 where
        there is none.

    Returns:
      For JSON: what was counted, and top-1 before and after, None where it is not
      known.

    Raises:
      DataError: a record cannot be read.
    """
    score = scorer(experiment, model, score_images)
    before = score()
    stage = stage_of(experiment, info, checkpoint)
    counted = count_anew(experiment, model, stage, images)
    after = score() if counted.layers else before
    if counted.layers:
        say(
            f"batch norm: statistics of {count(counted.images, 'image')} of the "
            f"training split, in {count(counted.batches, 'batch', 'batches')}"
        )
    else:
        warn(
            f"batch norm: no layer of {model.name} has statistics that training moves: "
            f"all stay as they are, and {FLAG} has done nothing"
        )
    _tell(before, after)
    return {
        **counted._asdict(),
        "scored_images": after.images,
        "top1_before": before.top1,
        "top1_after": after.top1,
    }


def _tell(before: Score, after: Score) -> None:
    if before.top1 is None or after.top1 is None:
        return
    images = count(after.images, "image")
    said = f"from {before.top1:.2%} to {after.top1:.2%} on {images}"
    if after.right >= before.right:
        say(f"batch norm: top-1 goes {said}")
        return
    warn(
        f"batch norm: top-1 falls {said} by the new statistics; leave {FLAG} out for "
        "those that the run has averaged, or count them of more images"
    )


def count_anew(
    experiment: Experiment, model: keras.Model, stage: Stage, images: int
) -> Counted:
    """Set a model's statistics to those of training images.

    Args:
      experiment: of the run.
      model: for images in any form.
      stage: of the run, by whose augmentation and mixing they are made, and whose still
        statistics stay as they are.
      images: how many of them, rounded up to whole batches: of the run's micro-batch
        over all replicas, or of 128 where that is more.

    Raises:
      DataError: a record cannot be read.
    """
    micro_batch = experiment.global_batch_size // experiment.accumulation_steps
    size = min(images, max(1, micro_batch), _MOST_IN_A_BATCH)
    batches = -(-images // size)
    # At the model's own resolution, whatever that of the stage.
    own = dataclasses.replace(stage, resolution=None, dropout_rate=None)
    layers = recompute_statistics(
        stages.stage_model(own, model),
        _batches(experiment, model, own, size, batches),
        compiled=functools.partial(tf.function, autograph=False),
    )
    return Counted(size * batches, batches, layers)


def _batches(
    experiment: Experiment, model: keras.Model, stage: Stage, size: int, number: int
) -> Iterator[tf.Tensor]:
    """Yield so many batches of images as training sees them, the first of the run."""
    form, classes = input_form(model), model.output_shape[-1]
    here = datasets.decoded_here(experiment)
    batches = datasets.training_images(experiment, form, stage, batch_size=size, **here)
    mixing = datasets.make_mixing(experiment, stage, form, classes)
    seed = derive_seed(experiment.seed, "mixing")
    for position, batch in enumerate(batches.take(number)):
        images = batch["image"]
        if mixing is not None:
            # A row of zeros is no image, and stays as it is.
            targets = tf.one_hot(batch["label"], classes)
            images, _ = mixing(images, targets, tf.constant([seed, position]))
        yield images


def stage_of(experiment: Experiment, info: DatasetInfo, checkpoint: str) -> Stage:
    """Return the stage of a run that has led to a checkpoint, the first where none has.

    Args:
      experiment: of the run.
      info: of its data.
      checkpoint: its path, or what `evaluation.load_models` calls other weights.
    """
    is_saved = re.fullmatch(r"ckpt-\d+", checkpoint.rpartition("/")[2])
    step = bundle.step(checkpoint) if is_saved else 0
    ends = experiment.stages(info)
    return ends[next((last for last in ends if step <= last), max(ends))]


def scorer(
    experiment: Experiment, model: keras.Model, most: int
) -> Callable[[], Score]:
    """Make what scores a model, as often as its weights change.

    Args:
      experiment: of the run; its eval_data makes the batches.
      model: in any form.
      most: how many of the first images of the evaluation split to score; 0 opens no
        data.
    """
    form, size = input_form(model), experiment.eval_batch_size

    @functools.partial(tf.function, autograph=False)
    def guesses(images: tf.Tensor) -> tf.Tensor:
        return tf.argmax(model(images, training=False), axis=-1)

    def score() -> Score:
        right = images = 0
        if not most:
            return Score(right, images)
        for batch in datasets.evaluation_images(experiment, form, batch_size=size):
            labels = batch["label"].numpy()
            # Neither padding nor broken records.
            real = np.flatnonzero(labels >= 0)[: most - images]
            found = guesses(batch["image"]).numpy()
            right += int(np.sum(found[real] == labels[real]))
            images += len(real)
            if images == most:
                break
        return Score(right, images)

    return score
