"""What would falsify a search in silence, and is refused before its first step."""

import contextlib

import tensorflow as tf

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.errors import DataError
from train.distribution import replica
from train.experiment import Experiment

_HELD_OUT = "controller.alternating.held_out"
_APART = "hold out shards of training, as 'train[:8shard]' and 'train[8shard:]'"


def refuse(
    experiment: Experiment,
    info: DatasetInfo,
    *,
    alternates: bool,
    held_out: str | None,
) -> None:
    """Refuse settings that do not go together.

    To be called under the strategy's scope: what the replicas share depends on it.

    Args:
      experiment: of the supernet's run.
      info: of its data.
      alternates: whether every second batch trains the controller alone.
      held_out: the split of these batches, by the data; None where they give none.

    Raises:
      UserError: says what, and which line mends it.
    """
    _require_both(alternates, held_out)
    if held_out is not None and info.label_names:  # else nobody has seen these data
        _refuse_common_images(experiment, info, held_out)
    _refuse_shared_statistics(experiment.batch_norm)


def _require_both(alternates: bool, held_out: str | None) -> None:
    """Refuse one switch of the alternating form without the other."""
    if alternates and held_out is None:
        raise UserError(
            "controller.reinforce.alternates = True, and Experiment.train_data gives "
            "the controller no held-out images: it would learn from those that the "
            "weights learn from, and half of them would teach the weights nothing; "
            "bind experiment.Experiment.train_data = @controller.alternating and "
            f"{_HELD_OUT}, or take alternates away"
        )
    if held_out is not None and not alternates:
        raise UserError(
            f"Experiment.train_data = @controller.alternating, {_HELD_OUT} = "
            f"{held_out!r}: the weights would learn from the held-out images, too; "
            "bind controller.reinforce.alternates = True, or another train_data"
        )


def _refuse_common_images(
    experiment: Experiment, info: DatasetInfo, held_out: str
) -> None:
    """Refuse held-out images that are those of another split."""
    if common := _common_shards(info, held_out, experiment.train_split):
        raise UserError(
            f"{_HELD_OUT} = {held_out!r} is, in {common}, also what the weights learn "
            f"from, Experiment.train_split = {experiment.train_split!r}: the "
            f"controller would reward what they know by heart; {_APART}"
        )
    with contextlib.suppress(DataError):  # who trains alone needs no such split
        if common := _common_shards(info, held_out, experiment.eval_split):
            raise UserError(
                f"{_HELD_OUT} = {held_out!r} is, in {common}, also what is scored, "
                f"Experiment.eval_split = {experiment.eval_split!r}: the controller "
                "would choose a network by the images that it is compared with others "
                f"on in the end; {_APART}"
            )


def _common_shards(info: DatasetInfo, one: str, other: str) -> str:
    """Return which files two splits have in common, in words; "" where none."""
    theirs = {shard.filename for shard in info.split(other).shards}
    names = [s.filename for s in info.split(one).shards if s.filename in theirs]
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else ""


def _refuse_shared_statistics(batch_norm: str | int) -> None:
    """Refuse statistics over replicas, each of which computes a network of its own."""
    strategy = tf.distribute.get_strategy()
    if replica.make_reduce_mean(strategy, batch_norm) is None:
        return
    raise UserError(
        f"Experiment.batch_norm = {batch_norm!r}: of these "
        f"{strategy.num_replicas_in_sync} replicas several would share the statistics "
        "of batch norm, and each computes a network of its own: bind "
        "experiment.Experiment.batch_norm = 'per_replica'"
    )
