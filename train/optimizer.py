"""Optimizers, each a function of the learning rate, with its settings for gin.

Keras' own where it has them, and where they do what their papers say.
"""

from collections.abc import Callable, Sequence

import keras
from keras.optimizers.schedules import LearningRateSchedule

from common import checks
from common.errors import UserError
from train.layerwise import LAMB, LARS, Layerwise

LearningRate = float | LearningRateSchedule

_DECAY = checks.between(0, 100)
_BETAS = {"beta_1": checks.BETWEEN, "beta_2": checks.BETWEEN}


class RMSprop(keras.optimizers.RMSprop):
    """Keras' RMSprop with TF1's start: the mean square begins at one, not at zero.

    With that single change the two agree to float noise. From zero, the first updates
    would be 1/sqrt(1 - rho) times too long.
    """

    def add_variable_from_reference(
        self, reference_variable, name=None, initializer="zeros"
    ) -> keras.Variable:
        """Create a slot; the mean squares, which Keras calls velocities, are ones."""
        if name == "velocity":
            initializer = "ones"
        return super().add_variable_from_reference(
            reference_variable, name, initializer
        )


@checks.rules(rho=checks.BETWEEN, momentum=checks.BELOW_ONE, epsilon=checks.EPSILON)
def rmsprop(
    learning_rate: LearningRate,
    *,
    rho: float = 0.9,
    momentum: float = 0.9,
    epsilon: float = 1e-3,
) -> RMSprop:
    """Make the reference's optimizer, whose mean squares begin at one.

    Args:
      learning_rate: a number, or a schedule.
      rho: of the mean of the gradients' squares, in (0, 1).
      momentum: of the updates, in [0, 1).
      epsilon: added inside the square root.
    """
    return _make(RMSprop, learning_rate, rho=rho, momentum=momentum, epsilon=epsilon)


@checks.rules(momentum=checks.BELOW_ONE, nesterov=checks.SWITCH)
def sgd(
    learning_rate: LearningRate, *, momentum: float = 0.9, nesterov: bool = False
) -> keras.optimizers.SGD:
    """Make gradient descent with momentum; Experiment.weight_decay is its decay.

    Args:
      learning_rate: a number, or a schedule.
      momentum: of the updates, in [0, 1).
      nesterov: whether a step looks ahead by the momentum.
    """
    kind = keras.optimizers.SGD
    return _make(kind, learning_rate, momentum=momentum, nesterov=nesterov)


@checks.rules(
    momentum=checks.BELOW_ONE,
    weight_decay=_DECAY,
    trust_coefficient=checks.positive(1),
    epsilon=checks.EPSILON,
)
def lars(
    learning_rate: LearningRate,
    *,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    trust_coefficient: float = 1e-3,
    epsilon: float = 1e-9,
) -> LARS:
    """Make momentum for large batches; its rates are those of SGD times 10 to 100.

    Args:
      learning_rate: a number, or a schedule. Biases and batch norm move by it without
        a ratio: in small batches, whose gradients are noisy, that diverges.
      momentum: of the updates, in [0, 1).
      weight_decay: added to the gradient of kernels, within the ratio.
      trust_coefficient: length of a kernel's step at a learning rate of one, as a
        share of the kernel's own length.
      epsilon: keeps the ratio finite where there is no gradient.
    """
    return _make(
        LARS,
        learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        trust_coefficient=trust_coefficient,
        epsilon=epsilon,
    )


@checks.rules(**_BETAS, epsilon=checks.EPSILON, weight_decay=_DECAY)
def adamw(
    learning_rate: LearningRate,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.05,
) -> keras.optimizers.AdamW:
    """Make Adam with decoupled decay (arXiv 1711.05101).

    Args:
      learning_rate: a number, or a schedule; a step decays by its rate of that step.
      beta_1: of the mean of gradients, in (0, 1).
      beta_2: of the mean of their squares, in (0, 1).
      epsilon: added to the square root before the bias of the mean is corrected, so
        that it counts for more in the first steps than in the paper's algorithm.
      weight_decay: share of the weights that a step at a learning rate of one takes.
    """
    return _make(
        keras.optimizers.AdamW,
        learning_rate,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        weight_decay=weight_decay,
    )


@checks.rules(**_BETAS, weight_decay=_DECAY)
def lion(
    learning_rate: LearningRate,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    weight_decay: float = 0.5,
) -> keras.optimizers.Lion:
    """Make Lion: a momentum's sign, decoupled decay (arXiv 2302.06675, algorithm 2).

    The paper advises a tenth of AdamW's learning rate and ten times its decay.

    Args:
      learning_rate: a number, or a schedule; the length of every weight's step.
      beta_1: share of the momentum in a step, in (0, 1); the rest is the gradient.
      beta_2: of the momentum itself, in (0, 1).
      weight_decay: share of the weights that a step at a learning rate of one takes.
    """
    return _make(
        keras.optimizers.Lion,
        learning_rate,
        beta_1=beta_1,
        beta_2=beta_2,
        weight_decay=weight_decay,
    )


@checks.rules(**_BETAS, epsilon=checks.EPSILON, weight_decay=_DECAY)
def lamb(
    learning_rate: LearningRate,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-6,
    weight_decay: float = 0.01,
) -> LAMB:
    """Make Adam for large batches: a kernel's step is as long as a share of it.

    Args:
      learning_rate: a number, or a schedule; that share.
      beta_1: of the mean of gradients, in (0, 1).
      beta_2: of the mean of their squares, in (0, 1).
      epsilon: added to the square root.
      weight_decay: added to Adam's step of kernels, within the ratio.
    """
    return _make(
        LAMB,
        learning_rate,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        weight_decay=weight_decay,
    )


def check(optimizer: keras.Optimizer, l2: float) -> None:
    """Refuse a recipe that decays weights in the loss and in the optimizer, too.

    Args:
      optimizer: of the run.
      l2: Experiment.weight_decay.

    Raises:
      UserError: neither of the two is zero.
    """
    own = optimizer.weight_decay
    if own and l2:
        raise UserError(
            f"the recipe decays weights twice: by {l2:g} in the loss and by {own:g} in "
            "the optimizer; set Experiment.weight_decay or "
            f"optimizer.{optimizer.name}.weight_decay to 0"
        )


def prepare(
    optimizer: keras.Optimizer,
    variables: Sequence[keras.Variable],
    decayed: Sequence[keras.Variable],
) -> None:
    """Build an optimizer for a training step that sums the gradients by itself.

    Args:
      optimizer: not built yet.
      variables: that it shall update.
      decayed: those of them that its own weight decay, if it has any, reaches.
    """
    reached = {id(v) for v in decayed}
    spared = [v for v in variables if id(v) not in reached]
    optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(list(variables))
    # Keras' own would be an all-to-all of int64 on the distributed counter, which TPUs
    # refuse. Every replica adds the same one to its own copy instead.
    counter = optimizer.iterations
    counter.assign_add = lambda value: counter.value.assign_add(value)
    # The step has summed the gradients over the replicas, to clip them and to log
    # their norm. A second sum would multiply them by the number of replicas.
    optimizer._all_reduce_sum_gradients = lambda gradients: gradients


def scale_learning_rates(optimizer: keras.Optimizer, factors: Sequence[float]) -> None:
    """Give every variable its own learning rate, a multiple of the common one.

    It is the length of the step that is scaled: scaled gradients would change nothing
    in an optimizer that divides by their size.

    Args:
      optimizer: any that is built already.
      factors: in the order of the variables that it was built with.

    Raises:
      UserError: the optimizer decays weights apart from its steps, which would not be
        scaled.
    """
    if optimizer.weight_decay and not isinstance(optimizer, Layerwise):
        raise UserError(
            "learning_rate_factors do not reach the weight_decay of the optimizer "
            f"{optimizer.name}; use Experiment.weight_decay, which is part of the loss"
        )
    update = optimizer.update_step

    def update_step(gradient, variable, learning_rate) -> None:
        # A strategy hands in tf.Variables, which have lost Keras' path; their index is
        # what Keras' own optimizers find their slots by.
        factor = factors[optimizer._get_variable_index(variable)]
        update(gradient, variable, learning_rate * factor)

    optimizer.update_step = update_step


def _make(
    kind: Callable[..., keras.Optimizer], learning_rate: LearningRate, **settings: float
) -> keras.Optimizer:
    # SGD takes no int, and no float for a switch.
    numbers = {k: float(v) for k, v in settings.items() if not isinstance(v, bool)}
    return kind(learning_rate, name=kind.__name__.lower(), **settings | numbers)
