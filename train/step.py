"""One step of training, one of evaluation, and the Orbit loops around them."""

import math
from collections.abc import Callable, Mapping

import keras
import orbit
import tensorflow as tf

from models.initializers import derive_seed
from train import ema, metrics
from train.errors import UserError
from train.experiment import Experiment
from train.replica import ReplicaSeedGenerator
from train.state import TrainState

Batch = Mapping[str, tf.Tensor]
Mixing = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def cross_entropy(
    labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float
) -> tf.Tensor:
    """Returns float32[B]: -sum(target * log softmax), zero where the label is -1.

    Args:
      labels: int32[B] in [-1, C); -1 marks what is not an image.
      logits: float32[B, C].
      label_smoothing: part of the target that is spread evenly over the C classes.
    """
    classes = logits.shape[-1] or 0  # known when the graph is built
    return soft_cross_entropy(smooth(labels, classes, label_smoothing), logits)


def smooth(labels: tf.Tensor, classes: int, label_smoothing: float) -> tf.Tensor:
    """Returns targets float32[B, classes], all zero where the label is -1."""
    targets = tf.one_hot(labels, classes) * (1 - label_smoothing)
    targets += label_smoothing / classes
    return targets * tf.cast(labels >= 0, tf.float32)[:, None]


def soft_cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns float32[B]: -sum(target * log softmax), zero where all targets are.

    Args:
      targets: float32[B, C], shares of the classes; all zero is not an image.
      logits: float32[B, C].
    """
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    # TensorFlow's gradient takes the targets' sum for 1: of zeros it has one.
    return losses * tf.cast(tf.reduce_any(targets != 0, axis=1), tf.float32)


def decayed_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the trainables outside batch norm: kernels and biases."""
    return [v for v in model.trainable_variables if v.name not in ("gamma", "beta")]


def l2(variables: list[keras.Variable]) -> tf.Tensor:
    """Returns sum(v^2) / 2 over all of them."""
    return tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(v)) for v in variables])


class Trainer(orbit.StandardTrainer):
    """Updates a `TrainState`; many steps run on the device between two host looks."""

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        strategy: tf.distribute.Strategy,
        dataset,
        model: keras.Model | None = None,
        mixing: Mixing | None = None,
    ):
        """Makes a trainer; to be called under the strategy's scope.

        Args:
          experiment: the recipe.
          state: what training changes.
          strategy: of the training.
          dataset: distributed batches, of the form that the model takes.
          model: of the state's variables, for images of another size; None is the
            state's own.
          mixing: (images, float32[B, C] targets, seed int[2]) -> mixed ones.
        """
        super().__init__(dataset)
        self.state = state
        self.strategy = strategy
        self._experiment = experiment
        self._model = state.model if model is None else model
        self._mixing = mixing
        self.mixing_seed = ReplicaSeedGenerator(
            derive_seed(experiment.seed, "mixing"), state.step
        )
        self._decayed = decayed_variables(state.model)
        self._sums = metrics.Sums(["steps", "loss", "images", "top1", "skipped"])

    def train_loop_begin(self) -> None:
        """Forgets the sums of the loop before."""
        self._sums.reset()

    def train_step(self, iterator) -> None:
        """Takes one global batch and updates every replica."""
        self.strategy.run(self.replica_step, args=(next(iterator),))

    @tf.autograph.experimental.do_not_convert  # nothing to convert: trace faster
    def replica_step(self, batch: Batch) -> None:
        """Updates the state from this replica's part of the batch."""
        state, images = self.state, batch["image"]
        targets = self.targets(batch["label"])
        if self._mixing is not None:
            images, targets = self._mixing(images, targets, self.mixing_seed.next())
        with tf.GradientTape() as tape:
            logits = self._model(images, training=True)
            loss = self._loss(targets, logits)
        variables = state.model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        state.optimizer.apply(gradients, variables)  # sums them over the replicas
        decay = ema.effective_decay(self._experiment.ema_decay, state.step)
        ema.update(state.model, state.ema_model, decay)
        self._count(targets, logits, loss)

    def targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns what the logits of images with these labels shall be."""
        classes = self.state.model.output_shape[-1]
        return smooth(labels, classes, self._experiment.label_smoothing)

    def _loss(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """This replica's share of the loss: the shares of all replicas add up to it."""
        experiment = self._experiment
        losses = soft_cross_entropy(targets, logits)
        average = tf.nn.compute_average_loss(
            losses, global_batch_size=experiment.global_batch_size
        )
        return average + tf.nn.scale_regularization_loss(
            experiment.weight_decay * l2(self._decayed)
        )

    def _count(self, targets: tf.Tensor, logits: tf.Tensor, loss: tf.Tensor) -> None:
        # A mixed image counts for its larger part, as in the Model Garden.
        labels = tf.argmax(targets, axis=1, output_type=tf.int32)
        images = tf.reduce_any(targets != 0, axis=1)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._sums.add(
            steps=1.0 / replicas,
            loss=loss,
            images=tf.math.count_nonzero(images),
            top1=metrics.correct_in_top(1, labels, logits, images),
            skipped=tf.math.count_nonzero(tf.logical_not(images)),
        )

    def train_loop_end(self) -> dict[str, float]:
        """Returns the averages of this loop; stops the run when they are not finite."""
        sums = self._sums.read()
        step = int(self.state.step.numpy())
        steps = round(sums["steps"])
        loss = sums["loss"] / steps
        # The last update may have spoilt weights that no loss has seen yet.
        for what, value in (("loss", loss), ("weights' norm", l2(self._decayed))):
            if not math.isfinite(value):
                raise UserError(
                    f"the {what} is {float(value)} between steps {step - steps} and "
                    f"{step}; nothing of these steps was saved. Lower the learning "
                    "rate (peak_per_256 of its schedule) or lengthen the warmup"
                )
        return {
            "loss": loss,
            "top1": sums["top1"] / max(sums["images"], 1),
            "learning_rate": float(
                keras.ops.convert_to_numpy(self.state.optimizer.learning_rate)
            ),
            "skipped_records": sums["skipped"],
        }


class Evaluator(orbit.StandardEvaluator):
    """Scores raw and averaged weights in one pass; padding does not count."""

    def __init__(
        self,
        models: Mapping[str, keras.Model],
        strategy: tf.distribute.Strategy,
        dataset,
    ):
        """Args: models by the prefix of their scores ("" and "ema_"), and the data."""
        options = orbit.StandardEvaluatorOptions(use_tf_while_loop=True)
        super().__init__(dataset, options)
        self._models = models
        self._strategy = strategy
        scores = ("loss", "top1", "top5")
        self._sums = metrics.Sums(
            ["images", *(prefix + score for prefix in models for score in scores)]
        )

    def eval_begin(self) -> None:
        """Forgets the evaluation before."""
        self._sums.reset()

    def eval_step(self, iterator) -> None:
        """Scores one global batch."""
        self._strategy.run(self.replica_step, args=(next(iterator),))

    @tf.autograph.experimental.do_not_convert
    def replica_step(self, batch: Batch) -> None:
        """Adds up this replica's part of the batch."""
        labels = batch["label"]
        images = labels >= 0
        sums = {"images": tf.math.count_nonzero(images)}
        for prefix, model in self._models.items():
            logits = model(batch["image"], training=False)
            losses = cross_entropy(labels, logits, label_smoothing=0.0)
            sums[prefix + "loss"] = tf.reduce_sum(losses)
            for k in (1, 5):
                hits = metrics.correct_in_top(k, labels, logits, images)
                sums[f"{prefix}top{k}"] = hits
        self._sums.add(**sums)

    def eval_end(self) -> dict[str, float]:
        """Returns images (their number) and the mean of every score over them."""
        sums = self._sums.read()
        images = sums.pop("images")
        return {"images": images} | {k: v / max(images, 1) for k, v in sums.items()}
