"""The update of one step on every replica, and many of them on the device."""

import contextlib
import functools
import math
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.initializers import derive_seed
from models.input_form import input_form
from models.parts import learning_variables, outside
from train import ema, losses, metrics
from train.datasets import Mixing
from train.distribution import slices
from train.distribution.replica import ReplicaSeedGenerator, update_where
from train.experiment import Experiment
from train.fault_tolerance.non_finite import NonFinite
from train.metrics import LoopOutput
from train.small_data import class_weights
from train.state import TrainState, decayed_variables

Batch = Mapping[str, tf.Tensor]

# TensorFlow works over a pipeline's graph before the first batch, half a second long
# and without Python's lock: the caller goes on meanwhile.
_THREAD = futures.ThreadPoolExecutor(1, "iterators")

_NOT_SCALED = ", with a loss scale of 1,"  # which cannot mend it


class Trainer:
    """Updates a `TrainState`; many steps run on the device between two host looks.

    The steps of a loop are one tf.function: a loop in its graph fetches a batch and
    runs the step on every replica, a program of static shapes that calls nothing back.

    Attributes:
      state: what it updates.
      strategy: of the training.
      dataset: where its batches come from.
      position: number of the global batch that comes next.
      program: the tf.function of many steps.
      calls: how often it was called.
      loops: that were begun.
    """

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        strategy: tf.distribute.Strategy,
        model: keras.Model | None = None,
        mixing: Mixing | None = None,
        dataset=None,
        frozen: Sequence[str] = (),
        still_statistics: Sequence[str] = (),
    ):
        """Make a trainer; to be called under the strategy's scope.

        Args:
          experiment: the recipe.
          state: what training changes.
          strategy: of the training.
          model: of the state's variables, for images of another size; None is the
            state's own.
          mixing: (images, float32[B, C] targets, seed int[2]) -> mixed ones.
          dataset: distributed batches, of the form that the model takes; None where
            `set_dataset` follows.
          frozen: parts that stand still.
          still_statistics: these, and what else `model` computes as in inference.
        """
        self.state = state
        self.strategy = strategy
        self.set_dataset(dataset, 0)
        self.loops = self.calls = 0
        self._experiment = experiment
        self._model = state.model if model is None else model
        self._batch_axis = input_form(self._model).batch_axis
        self._mixing = mixing
        self.mixing_seed = ReplicaSeedGenerator(
            derive_seed(experiment.seed, "mixing"), state.step, state.micro_batch
        )
        self._variables = learning_variables(state.model, frozen)
        self._statistics = outside(
            state.model, state.statistics.variables, still_statistics
        )
        self._decayed = decayed_variables(state.model, frozen)
        self._updated, self._learnt = state.updated(), state.learnt()
        names = ["steps", "loss", "gradient_norm", "images", "top1", "skipped"]
        if state.loss_scale is not None:
            names += ["losses", "updates"]  # that are finite
        self._sums = metrics.Sums(names)
        self._largest_norm = metrics.equal_on_replicas(0.0)
        self._first_bad = metrics.equal_on_replicas(-1)  # step, of a sum not finite
        self._host = slices.host_cpu(strategy)
        self.program = tf.function(self._run_steps)
        self._reset = tf.function(self._forget, autograph=False)
        self._read = metrics.reader(self._numbers, self._host)
        self._times: list[np.ndarray] = []
        self._began = 0.0

    def set_dataset(self, dataset, position: int) -> None:
        """Go on with other batches of the same form.

        Args:
          dataset: distributed batches; None frees the buffers of those before.
          position: number of the global batch that comes first.
        """
        self.dataset, self.position = dataset, position
        self._iterator = None if dataset is None else _THREAD.submit(iter, dataset)

    def begin_loop(self) -> None:
        """Forget the sums of the loop before."""
        self.loops += 1
        self._reset()
        self._times = []
        self._began = time.perf_counter()

    def _forget(self) -> None:
        with tf.device(self._host):
            self._sums.reset()
            self._largest_norm.assign(0.0)
            self._first_bad.assign(-1)

    def run(self, steps: int) -> float:
        """Take so many global batches; returns the seconds."""
        assert self._iterator is not None, "no dataset was set"
        iterator = self._iterator.result()
        began = time.perf_counter()
        times = self.program(iterator, tf.constant(steps)).numpy()
        self.state.step.numpy()  # waits for the device
        self._times.append(times)
        self.position += steps
        self.calls += 1
        return time.perf_counter() - began

    def _run_steps(self, iterator, steps: tf.Tensor) -> tf.Tensor:
        """Return float64[steps + 1, 2]: when batches were asked for, when they came.

        The last row is the end. All moments are by the clock of the host that runs
        this loop; steps on a device of its own may end a little later.
        """
        with tf.device(self._host):
            times = tf.TensorArray(tf.float64, size=steps, element_shape=[2])
            for number in tf.range(steps):
                asked = tf.timestamp()
                with tf.control_dependencies([asked]):
                    batch = next(iterator)
                local = self.strategy.experimental_local_results(batch)
                with tf.control_dependencies(tf.nest.flatten(local)):
                    came = tf.timestamp()
                with tf.device(None):  # the strategy says where
                    self.strategy.run(self.replica_step, args=(batch,))
                times = times.write(number, tf.stack([asked, came]))
            rows = times.stack()
            with tf.control_dependencies([rows]):
                ended = tf.timestamp()
            return tf.concat([rows, [[ended, ended]]], axis=0)

    @tf.autograph.experimental.do_not_convert  # nothing to convert: trace faster
    def replica_step(self, batch: Batch) -> None:
        """Update the state from this replica's part of the batch."""
        state, images = self.state, batch["image"]
        targets = self.targets(batch["label"])
        if self._mixing is not None:
            images, targets = self._mixing(images, targets, self.mixing_seed.next())
        sums = self._sums_of(images, targets)
        loss, gradients, statistics, weight, means = self._all_reduce(sums)
        if weight:
            loss, gradients = self._weighted_mean(loss, gradients, weight[0])
        norm = tf.linalg.global_norm(gradients)
        if self._experiment.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(
                gradients, self._experiment.clip_norm, use_norm=norm
            )
        is_finite = tf.math.is_finite(loss + norm)
        update = functools.partial(self._update, gradients, statistics, means)
        if state.loss_scale is None:
            self._note_failure(~is_finite)  # before the update: the step's number
            update()
            self._count(targets, loss, norm, sums["hits"])
        else:
            self._note_failure(state.loss_scale.cannot_mend(is_finite))
            state.loss_scale.guard(is_finite, self._updated, update)
            self._count_finite(targets, loss, norm, sums["hits"], is_finite)

    def _update(
        self,
        gradients: Sequence[tf.Tensor],
        statistics: Sequence[tf.Tensor],
        means: Sequence[tf.Tensor],
    ) -> None:
        """Change the state by what the global batch has given."""
        state, policy = self.state, self.state.policy
        if policy is None:
            self._update_weights(gradients, statistics)
            return
        batch = state.batch()  # of this step, which the update ends
        update = functools.partial(self._update_weights, gradients, statistics)
        trains = policy.trains(batch)
        if trains is None:
            update()
        else:
            update_where(trains, self._learnt, update)
        policy.update([state.model, state.ema_model], means, batch)

    def _update_weights(
        self, gradients: Sequence[tf.Tensor], statistics: Sequence[tf.Tensor]
    ) -> None:
        """Change models and optimizer by gradients and statistics."""
        state = self.state
        state.optimizer.apply(gradients, self._variables)
        state.statistics.assign(self._statistics, statistics)
        decay = ema.effective_decay(self._experiment.ema_decay, state.step)
        ema.update(state.model, state.ema_model, decay)

    def targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Return what the logits of images with these labels shall be."""
        classes = self.state.model.output_shape[-1]
        return losses.smooth(labels, classes, self._experiment.label_smoothing)

    def _sums_of(self, images: tf.Tensor, targets: tf.Tensor) -> dict[str, Any]:
        """Return the values of `_part`, summed over the micro-batches."""
        micro_batch = self.state.micro_batch
        count = micro_batch.count
        if count == 1:
            return self._part(images, targets)
        images = tf.stack(tf.split(images, count, axis=self._batch_axis))
        targets = tf.stack(tf.split(targets, count))

        def add(number: tf.Tensor | int, sums: dict) -> tuple[tf.Tensor | int, dict]:
            micro_batch.number = number
            part = self._part(images[number], targets[number])
            return number + 1, tf.nest.map_structure(tf.add, sums, part)

        sums = self._zeros()
        if self.state.loops_can_reduce:
            number = tf.constant(0)
            _, sums = tf.while_loop(
                lambda number, _: number < count,
                add,
                (number, sums),
                parallel_iterations=1,
                maximum_iterations=count,
            )
        else:
            for number in range(count):
                _, sums = add(number, sums)
        micro_batch.number = 0
        return sums

    def _zeros(self) -> dict[str, Any]:
        state = self.state

        def zeros(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
            return [tf.zeros(variable.shape) for variable in variables]

        return {
            "loss": tf.zeros([]),
            "hits": tf.zeros([]),
            "gradients": zeros(self._variables),
            "statistics": zeros(self._statistics),
            "weight": [] if state.class_weights is None else [tf.zeros([])],
            "policy": [] if state.policy is None else state.policy.zeros(),
        }

    def _part(self, images: tf.Tensor, targets: tf.Tensor) -> dict[str, Any]:
        """Return what a forward and a backward pass give, to be summed up.

        loss and gradients are shares, which over all micro-batches and replicas add up
        to those of the global batch, but that the gradients are scaled where the loss
        is; statistics are what moving statistics would become, to be averaged; hits
        counts the images whose class was found; weight is what the weights of classes
        make of these images' part of the batch; policy has the policy's shares, to be
        averaged.
        """
        variables = [v.value for v in self._variables]
        # Of these alone: nothing is differentiated in front of the first that learns.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits, statistics, chosen = self._forward(images)
            loss = self._loss(targets, logits)
            scale = self.state.loss_scale
            scaled = loss if scale is None else scale.scaled(loss)
        # A mixed image counts for its larger part, as in the Model Garden.
        labels = tf.argmax(targets, axis=1, output_type=tf.int32)
        hits = metrics.correct_in_top(1, labels, logits, _are_images(targets))
        return {
            "loss": loss,
            "hits": hits,
            "gradients": tape.gradient(scaled, variables),
            "statistics": statistics,
            "weight": self._weight(targets),
            "policy": self._shares(chosen, hits, targets),
        }

    def _forward(self, images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], Any]:
        """Return logits, what statistics would become, and what the policy chose."""
        policy = self.state.policy
        choosing = contextlib.nullcontext()
        if policy is not None:
            choosing = policy.choose(self._model, self.state.batch())
        with choosing as chosen:
            logits, statistics = self.state.statistics.of(
                lambda: self._model(images, training=True), self._statistics
            )
        return logits, statistics, chosen

    def _shares(
        self, chosen: Any, hits: tf.Tensor, targets: tf.Tensor
    ) -> list[tf.Tensor]:
        """Return what the policy learns from in this micro-batch, if there is one."""
        if self.state.policy is None:
            return []
        images = tf.math.count_nonzero(_are_images(targets), dtype=tf.float32)
        return self.state.policy.shares(chosen, hits, images)

    def _loss(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return this micro-batch's share of the loss: all shares add up to it."""
        experiment = self._experiment
        per_image = losses.soft_cross_entropy(targets, logits)
        weights = self._image_weights(targets)
        if weights is not None:  # `_weighted_mean` does the rest
            return self._average(per_image * weights)
        average = self._average(per_image)
        regularization = experiment.weight_decay * losses.l2(self._decayed)
        return average + tf.nn.scale_regularization_loss(
            regularization / self.state.micro_batch.count
        )

    def _average(self, per_image: tf.Tensor) -> tf.Tensor:
        """Return this micro-batch's share of the mean over the global batch."""
        # compute_average_loss without the Assert that it puts into the program. Not by
        # `/`: of that Grappler makes a product, which rounds otherwise.
        size = float(self._experiment.global_batch_size)
        return tf.math.divide_no_nan(tf.reduce_sum(per_image), size)

    def _image_weights(self, targets: tf.Tensor) -> tf.Tensor | None:
        """Return float32[B]; None where classes have no weights."""
        of_classes = self.state.class_weights
        if of_classes is None:
            return None
        smoothing = self._experiment.label_smoothing
        return class_weights.of_images(targets, of_classes, smoothing)

    def _weight(self, targets: tf.Tensor) -> list[tf.Tensor]:
        """Return this micro-batch's share of the images' mean weight, if any."""
        weights = self._image_weights(targets)
        return [] if weights is None else [self._average(weights)]

    def _weighted_mean(
        self, loss: tf.Tensor, gradients: Sequence[tf.Tensor], weight: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return loss and gradients of the global batch from its weighted sums.

        What they are divided by is known to no replica before they are reduced: the
        sum of weights travels with them. L2 is no part of the mean. It joins here,
        equal on all replicas.
        """
        factor = self._experiment.weight_decay
        decayed = {v.path for v in self._decayed}
        mean = [class_weights.divide(gradient, weight) for gradient in gradients]
        for number, variable in enumerate(self._variables):
            if variable.path in decayed:
                mean[number] += factor * tf.convert_to_tensor(variable)
        loss = class_weights.divide(loss, weight)
        return loss + factor * losses.l2(self._decayed), mean

    def _all_reduce(
        self, sums: dict[str, Any]
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor], list[tf.Tensor], list]:
        """Return loss, gradients, statistics, weight of the batch, by one reduction.

        The last of all are the means of the policy's shares.

        Whatever is added here travels with the gradients, and costs no other one.
        """
        context = tf.distribute.get_replica_context()
        shares = context.num_replicas_in_sync * self.state.micro_batch.count
        statistics = [value / shares for value in sums["statistics"]]
        weight, policy = sums["weight"], [value / shares for value in sums["policy"]]
        parts = [sums["loss"]], sums["gradients"], statistics, weight, policy
        total = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [value for part in parts for value in part]
        )
        past = 1 + len(sums["gradients"])
        last = past + len(statistics)
        end = last + len(weight)
        gradients, scale = total[1:past], self.state.loss_scale
        if scale is not None:
            gradients = scale.unscaled(gradients)
        return total[0], gradients, total[past:last], total[last:end], total[end:]

    def _note_failure(self, failed: tf.Tensor) -> None:
        bad = failed & (self._first_bad < 0)
        step = tf.cast(self.state.step, self._first_bad.dtype)
        self._first_bad.assign(tf.where(bad, step, self._first_bad))

    def _count(
        self, targets: tf.Tensor, loss: tf.Tensor, norm: tf.Tensor, hits: tf.Tensor
    ) -> None:
        images = _are_images(targets)
        share = 1.0 / tf.distribute.get_strategy().num_replicas_in_sync
        self._sums.add(
            steps=share,
            loss=loss * share,
            gradient_norm=norm * share,
            images=tf.math.count_nonzero(images),
            top1=hits,
            skipped=tf.math.count_nonzero(tf.logical_not(images)),
        )
        self._largest_norm.assign(tf.maximum(self._largest_norm, norm))

    def _count_finite(
        self,
        targets: tf.Tensor,
        loss: tf.Tensor,
        norm: tf.Tensor,
        hits: tf.Tensor,
        is_finite: tf.Tensor,
    ) -> None:
        """Count a step whose update may have been left out, by what of it is finite."""
        has_loss = tf.math.is_finite(loss)
        loss, norm = tf.where(has_loss, loss, 0.0), tf.where(is_finite, norm, 0.0)
        self._count(targets, loss, norm, hits)
        share = 1.0 / tf.distribute.get_strategy().num_replicas_in_sync
        finite = {"losses": has_loss, "updates": is_finite}
        self._sums.add(**{k: tf.cast(v, tf.float32) * share for k, v in finite.items()})

    def _numbers(self) -> dict[str, tf.Tensor]:
        """Return what `end_loop` tells: of the loop, and of its last step."""
        state = self.state
        decaying, every = (
            tf.sqrt(2.0 * losses.l2(part))
            for part in (self._decayed, state.model.weights)
        )
        return {
            **self._sums.totals(),
            "step": state.step,
            "first_bad": self._first_bad,
            "gradient_norm_max": self._largest_norm,
            "weight_norm": decaying,
            "all_norm": every,
            "learning_rate": tf.convert_to_tensor(state.optimizer.learning_rate),
            "ema_decay": ema.effective_decay(self._experiment.ema_decay, state.step),
            **({} if state.loss_scale is None else {"scale": state.loss_scale.scale}),
            **metrics.scalars("policy_", self._policy_numbers()),
        }

    def _policy_numbers(self) -> dict[str, tf.Tensor]:
        policy = self.state.policy
        return {} if policy is None else policy.numbers()

    def end_loop(self) -> LoopOutput:
        """Return the averages of this loop.

        Raises:
          NonFinite: a loss, a gradient or a weight is infinite or not a number.
        """
        seconds = time.perf_counter() - self._began
        read = self._read()
        steps, step = round(read["steps"]), round(read["step"])
        if (first_bad := round(read["first_bad"])) >= 0:
            scaling = "" if self.state.loss_scale is None else _NOT_SCALED
            raise NonFinite(first_bad, f"the loss or its gradient{scaling}")
        # The last update may have spoilt weights that no loss has seen yet.
        if not math.isfinite(read["all_norm"]):
            raise NonFinite(step - 1, "a weight")
        step_seconds = [np.diff(times[:, 0]) for times in self._times]
        waits = [times[:, 1] - times[:, 0] for times in self._times]
        return LoopOutput(
            step=step,
            steps=steps,
            seconds=seconds,
            step_seconds=np.concatenate([np.zeros(0), *step_seconds]),
            wait_seconds=float(sum(map(np.sum, waits))),
            loss=_mean(read["loss"], read.get("losses", steps)),
            top1=read["top1"] / max(read["images"], 1),
            learning_rate=read["learning_rate"],
            gradient_norm=_mean(read["gradient_norm"], read.get("updates", steps)),
            gradient_norm_max=read["gradient_norm_max"],
            weight_norm=read["weight_norm"],
            ema_decay=read["ema_decay"],
            skipped_records=round(read["skipped"]),
            images=round(read["images"]),
            **self._scaling(steps, read),
            policy=metrics.gathered("policy_", read),
        )

    def _scaling(self, steps: int, read: Mapping[str, float]) -> dict[str, Any]:
        """Return what there is to say of a scaled loss."""
        if self.state.loss_scale is None:
            return {}
        skipped = steps - round(read["updates"])
        return {"loss_scale": read["scale"], "skipped_steps": skipped}


def _mean(total: float, count: float) -> float:
    """Return total / count; not a number where nothing was counted."""
    return total / count if count else math.nan


def _are_images(targets: tf.Tensor) -> tf.Tensor:
    """Return bool[B], False for what only fills up the batch."""
    return tf.reduce_any(targets != 0, axis=1)
