"""Learning rates as functions of the step."""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf

from common import checks

_RULES = {  # of every schedule
    "peak_per_256": checks.positive(1000),
    "warmup_epochs": checks.between(0, 10**6),
}


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from zero over `warmup_steps`, then what a subclass's `decayed` says.

    But for `Polynomial`, decay counts from step 0, not from the end of the warmup, as
    in the reference.
    """

    def __init__(self, peak: float, warmup_steps: int):
        self.peak = peak
        self.warmup_steps = warmup_steps

    def decayed(self, step: tf.Tensor) -> tf.Tensor:
        """Return the rate at `step` (float32) as if there were no warmup."""
        raise NotImplementedError

    def __call__(self, step) -> tf.Tensor:
        """Return the float32 rate of the update that turns step into step + 1."""
        step = tf.cast(step, tf.float32)
        rising = self.peak * step / max(self.warmup_steps, 1)
        return tf.where(step < self.warmup_steps, rising, self.decayed(step))

    def get_config(self) -> dict:
        """Return the constructor's arguments, for Keras' serialisation."""
        return dict(vars(self))


class Exponential(Warmup):
    """Multiplied by `decay_rate` at the end of every `decay_steps`, in stairs."""

    def __init__(
        self, peak: float, warmup_steps: int, decay_rate: float, decay_steps: float
    ):
        super().__init__(peak, warmup_steps)
        self.decay_rate = decay_rate
        self.decay_steps = decay_steps

    def decayed(self, step: tf.Tensor) -> tf.Tensor:
        """Return peak * decay_rate ^ floor(step / decay_steps)."""
        return self.peak * self.decay_rate ** tf.floor(step / self.decay_steps)


class Cosine(Warmup):
    """Half a cosine from the peak at step 0 to a share of it at `train_steps`."""

    def __init__(
        self,
        peak: float,
        warmup_steps: int,
        train_steps: int,
        final_fraction: float = 0.0,
    ):
        super().__init__(peak, warmup_steps)
        self.train_steps = train_steps
        self.final_fraction = final_fraction

    def decayed(self, step: tf.Tensor) -> tf.Tensor:
        """Return last + (peak - last) / 2 * (1 + cos(pi * step / train_steps))."""
        last = self.final_fraction * self.peak
        way = 1.0 + tf.cos(math.pi * step / self.train_steps)
        return last + 0.5 * (self.peak - last) * way


class Polynomial(Warmup):
    """A power of the share of the run that is left, from the end of the warmup on.

    There it is at its peak, unlike the others: so it goes with LARS in the ResNet of
    tensorflow/tpu (lars_util.py), which reaches zero one step later.
    """

    def __init__(self, peak: float, warmup_steps: int, train_steps: int, power: float):
        super().__init__(peak, warmup_steps)
        self.train_steps = train_steps
        self.power = power

    def decayed(self, step: tf.Tensor) -> tf.Tensor:
        """Return peak * ((train_steps - step) / (train_steps - warmup_steps))^power."""
        length = max(self.train_steps - self.warmup_steps, 1)
        left = tf.clip_by_value((self.train_steps - step) / length, 0.0, 1.0)
        return self.peak * left**self.power


class Constant(Warmup):
    """The peak, for good."""

    def decayed(self, step: tf.Tensor) -> tf.Tensor:
        """Return peak."""
        return self.peak * tf.ones_like(step)


class WarmupsOfStages(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule, whose rate rises from zero again where stages begin.

    A part that begins to learn in the middle of a run has no averages of its gradients
    yet, which Adam's correction, counting the steps of the run, takes for whole ones.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        steps: Mapping[int, int],
    ):
        """Make it of a schedule, and the length of each rise by the step it begins."""
        self.schedule = schedule
        self.steps = dict(steps)

    @property
    def warmup_steps(self) -> int:
        """Of the run's own warmup."""
        return getattr(self.schedule, "warmup_steps", 0)

    def __call__(self, step) -> tf.Tensor:
        """Return the float32 rate of the update that turns step into step + 1."""
        rate, step = self.schedule(step), tf.cast(step, tf.float32)
        for first, length in self.steps.items():
            share = tf.minimum((step - first) / length, 1.0)
            rate *= tf.where(step < first, 1.0, share)
        return rate

    def get_config(self) -> dict:
        """Return the constructor's arguments, for Keras' serialisation."""
        return dict(vars(self))


@checks.rules(
    **_RULES,
    decay_rate=checks.FRACTION,
    decay_epochs=checks.between(0.001, 10**6),
)
def exponential(
    *,
    global_batch_size: int,
    steps_per_epoch: float,
    train_steps: int,
    peak_per_256: float = 0.016,
    warmup_epochs: float = 5.0,
    decay_rate: float = 0.97,
    decay_epochs: float = 2.4,
) -> Exponential:
    """Make the reference's schedule: stairs (main.py, utils.py of its trainer).

    Args:
      global_batch_size: images per step; the peak grows with it.
      steps_per_epoch: training images / global_batch_size, as a float.
      train_steps: not used; every schedule is called with the same arguments.
      peak_per_256: peak learning rate for a batch of 256.
      warmup_epochs: epochs of linear rise.
      decay_rate: factor at each stair.
      decay_epochs: epochs from stair to stair.

    Raises:
      UserError: a setting makes no sense.
    """
    del train_steps
    return Exponential(
        peak=peak_per_256 * global_batch_size / 256,
        warmup_steps=int(warmup_epochs * steps_per_epoch),
        decay_rate=decay_rate,
        decay_steps=decay_epochs * steps_per_epoch,
    )


@checks.rules(**_RULES, final_fraction=checks.FRACTION)
def cosine(
    *,
    global_batch_size: int,
    steps_per_epoch: float,
    train_steps: int,
    peak_per_256: float = 0.016,
    warmup_epochs: float = 5.0,
    final_fraction: float = 0.0,
) -> Cosine:
    """Make the reference's other schedule: half a cosine over the whole run.

    Args:
      global_batch_size: images per step; the peak grows with it.
      steps_per_epoch: training images / global_batch_size, as a float.
      train_steps: of the whole run.
      peak_per_256: peak learning rate for a batch of 256.
      warmup_epochs: epochs of linear rise.
      final_fraction: share of the peak at which it ends, behind the last step.

    Raises:
      UserError: a setting makes no sense.
    """
    return Cosine(
        peak=peak_per_256 * global_batch_size / 256,
        warmup_steps=int(warmup_epochs * steps_per_epoch),
        train_steps=train_steps,
        final_fraction=final_fraction,
    )


@checks.rules(**_RULES, power=checks.positive(100))
def polynomial(
    *,
    global_batch_size: int,
    steps_per_epoch: float,
    train_steps: int,
    peak_per_256: float = 0.016,
    warmup_epochs: float = 5.0,
    power: float = 2.0,
) -> Polynomial:
    """Make the one that goes with LARS: a power of the share of the run that is left.

    Args:
      global_batch_size: images per step; the peak grows with it.
      steps_per_epoch: training images / global_batch_size, as a float.
      train_steps: of the whole run; behind the last the rate is zero.
      peak_per_256: peak learning rate for a batch of 256. LARS takes larger ones than
        SGD, see `train.optimizer.lars`.
      warmup_epochs: epochs of linear rise, from whose end the decay counts.
      power: 1 is linear.

    Raises:
      UserError: a setting makes no sense.
    """
    return Polynomial(
        peak=peak_per_256 * global_batch_size / 256,
        warmup_steps=int(warmup_epochs * steps_per_epoch),
        train_steps=train_steps,
        power=power,
    )


@checks.rules(**_RULES)
def constant(
    *,
    global_batch_size: int,
    steps_per_epoch: float,
    train_steps: int,
    peak_per_256: float = 0.016,
    warmup_epochs: float = 5.0,
) -> Constant:
    """Make one without decay behind the warmup.

    Args:
      global_batch_size: images per step; the peak grows with it.
      steps_per_epoch: training images / global_batch_size, as a float.
      train_steps: not used; every schedule is called with the same arguments.
      peak_per_256: peak learning rate for a batch of 256.
      warmup_epochs: epochs of linear rise.

    Raises:
      UserError: a setting makes no sense.
    """
    del train_steps
    return Constant(
        peak=peak_per_256 * global_batch_size / 256,
        warmup_steps=int(warmup_epochs * steps_per_epoch),
    )
