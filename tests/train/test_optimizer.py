"""Optimizers against the formulas of their papers, one variable at a time in numpy."""

import functools
import math

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from tests.support.recipe import Table, recipe
from tests.support.rounding import rounding
from train import config, optimizer, schedule

UPDATES = 5
OPERATIONS = 20  # of an update, or fewer


def assert_close(actual, expected, updates: int = UPDATES) -> None:
    """Float32 after so many updates, whose roundings add up, against float64."""
    atol = rounding(updates * OPERATIONS, scale=np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def test_rmsprop_follows_the_reference():
    golden = recipe()["opt_rmsprop"]
    variable = keras.Variable(np.array(golden["w0"], np.float32))
    rmsprop = optimizer.rmsprop(Table(golden["lr"]))
    for gradient, expected in zip(golden["grads"], golden["w"], strict=True):
        rmsprop.apply([tf.constant(gradient)], [variable])
        assert_close(variable.numpy(), expected, len(golden["grads"]))
    final = golden["final_slots"]
    for slot, name in ((rmsprop._momentums, "momentum"), (rmsprop._velocities, "rms")):
        # One by one: they are as different in size as the gradients.
        for found, expected in zip(slot[0].numpy(), final[name], strict=True):
            assert_close(found, expected, len(golden["grads"]))


def test_keras_own_start_is_another_one():
    """The golden check above can tell the two apart."""
    golden = recipe()["opt_rmsprop"]
    variable = keras.Variable(np.array(golden["w0"], np.float32))
    rmsprop = keras.optimizers.RMSprop(
        Table(golden["lr"]), rho=0.9, momentum=0.9, epsilon=1e-3
    )
    for gradient in golden["grads"]:
        rmsprop.apply([tf.constant(gradient)], [variable])
    assert np.abs(variable.numpy() - golden["w"][-1]).max() > 0.01


# The papers' formulas. Each yields the weights after every update; `decay` is 0 of a
# variable without, `kernel` says whether it is scaled as a layer.


def plain_rmsprop(w, gradients, rates, decay, kernel):
    square, momentum = 1.0, 0.0
    for g, rate in zip(gradients, rates, strict=True):
        square = 0.8 * square + 0.2 * g**2
        momentum = 0.7 * momentum + rate * g / np.sqrt(square + 0.01)
        w = w - momentum
        yield w


def plain_sgd(w, gradients, rates, decay, kernel, nesterov=False):
    momentum = 0.0
    for g, rate in zip(gradients, rates, strict=True):
        momentum = 0.7 * momentum + rate * g
        w = w - (0.7 * momentum + rate * g if nesterov else momentum)
        yield w


def plain_lars(w, gradients, rates, decay, kernel):
    momentum = 0.0
    for g, rate in zip(gradients, rates, strict=True):
        ratio = 1.0
        if kernel and w.any():
            length = np.linalg.norm(w)
            ratio = 0.02 * length / (np.linalg.norm(g) + decay * length + 1e-9)
        if kernel:
            g = g + decay * w
        momentum = 0.7 * momentum + rate * ratio * g
        w = w - momentum
        yield w


def adam_steps(gradients):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g**2
        yield m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)


def plain_adamw(w, gradients, rates, decay, kernel):
    for step, rate in zip(adam_steps(gradients), rates, strict=True):
        w = w - rate * (step + decay * w)
        yield w


def plain_lion(w, gradients, rates, decay, kernel):
    m = 0.0
    for g, rate in zip(gradients, rates, strict=True):
        w = w - rate * (np.sign(0.8 * m + 0.2 * g) + decay * w)
        m = 0.95 * m + 0.05 * g
        yield w


def plain_lamb(w, gradients, rates, decay, kernel):
    for step, rate in zip(adam_steps(gradients), rates, strict=True):
        ratio = 1.0
        if kernel:
            step = step + decay * w
            ratio = np.linalg.norm(w) / np.linalg.norm(step) if w.any() else 1.0
        w = w - rate * ratio * step
        yield w


BETAS = {"beta_1": 0.8, "beta_2": 0.95}
NESTEROV = functools.partial(plain_sgd, nesterov=True)
CASES = {
    "rmsprop": (plain_rmsprop, {"rho": 0.8, "momentum": 0.7, "epsilon": 0.01}),
    "sgd": (plain_sgd, {"momentum": 0.7}),
    "sgd, nesterov": (NESTEROV, {"momentum": 0.7, "nesterov": True}),
    "lars": (
        plain_lars,
        {"momentum": 0.7, "weight_decay": 0.3, "trust_coefficient": 0.02},
    ),
    "adamw": (plain_adamw, {**BETAS, "weight_decay": 0.3}),
    "lion": (plain_lion, {**BETAS, "weight_decay": 0.3}),
    "lamb": (plain_lamb, {**BETAS, "weight_decay": 0.3, "epsilon": 1e-8}),
}

# Shape, factor of the start, and whether it is to decay: a kernel, one that begins with
# zeros, a bias, a batch norm's offset, and a kernel that shall not decay.
VARIABLES = (
    ((3, 4), 1.0, True),
    ((2, 5), 0.0, True),
    ((4,), 1.0, True),
    ((4,), 0.0, False),
    ((2, 3), 1.0, False),
)


def start_and_gradients() -> list[tuple[np.ndarray, list[np.ndarray]]]:
    draw = np.random.RandomState(5).normal
    return [
        (factor * draw(size=shape), [draw(size=shape) for _ in range(UPDATES)])
        for shape, factor, _ in VARIABLES
    ]


def rates(make=schedule.cosine):
    """Warms up for two updates, from a rate of zero."""
    return make(
        global_batch_size=512,
        steps_per_epoch=4.0,
        train_steps=8,
        peak_per_256=0.2,
        warmup_epochs=0.5,
    )


def plain_rates() -> list[float]:
    falling = [0.2 * (1 + math.cos(math.pi * step / 8)) for step in range(2, UPDATES)]
    return [0.0, 0.2, *falling]


def expected(name: str) -> list[list[np.ndarray]]:
    """The weights of every variable after every update."""
    plain, settings = CASES[name]
    return [
        list(
            plain(
                start,
                gradients,
                plain_rates(),
                settings.get("weight_decay", 0.0) * decays,
                kernel=decays and start.ndim > 1,
            )
        )
        for (start, gradients), (_, _, decays) in zip(
            start_and_gradients(), VARIABLES, strict=True
        )
    ]


def built(name: str, learning_rate=None):
    """An optimizer of a case, and its variables."""
    make = getattr(optimizer, name.partition(",")[0])
    variables = [
        keras.Variable(start.astype(np.float32)) for start, _ in start_and_gradients()
    ]
    decayed = [v for v, row in zip(variables, VARIABLES, strict=True) if row[2]]
    made = make(learning_rate or rates(), **CASES[name][1])
    optimizer.prepare(made, variables, decayed)
    return made, variables


def gradients_of(update: int) -> list[tf.Tensor]:
    return [tf.constant(g[update], tf.float32) for _, g in start_and_gradients()]


@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_the_paper_when_compiled(name):
    made, variables = built(name)
    compiled = tf.function(lambda g: made.apply(g, variables), jit_compile=True)
    want = expected(name)
    for update in range(UPDATES):
        compiled(gradients_of(update))
        for variable, weights in zip(variables, want, strict=True):
            assert_close(variable.numpy(), weights[update])
    assert int(made.iterations.numpy()) == UPDATES
    assert {v.dtype for v in variables} == {"float32"}


def test_decay_of_keras_own_lamb_is_another_one():
    """The check above can tell the two apart."""
    _, variables = built("lamb")
    keras_own = keras.optimizers.Lamb(rates(), **CASES["lamb"][1])
    for update in range(UPDATES):
        keras_own.apply(gradients_of(update), variables)
    difference = variables[0].numpy() - expected("lamb")[0][-1]
    assert np.abs(difference).max() > 0.01


# tf.distribute


@pytest.fixture(scope="module")
def two_replicas(logical_cpus):
    return tf.distribute.MirroredStrategy(logical_cpus)


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_take_summed_gradients_as_they_are(two_replicas, name):
    with two_replicas.scope():
        made, variables = built(name)

    @tf.function
    def train(gradients):
        two_replicas.run(lambda: made.apply(gradients, variables))

    for update in range(UPDATES):
        train(gradients_of(update))
    for variable, weights in zip(variables, expected(name), strict=True):
        for copy in two_replicas.experimental_local_results(variable.value):
            assert_close(copy, weights[-1])
    counts = two_replicas.experimental_local_results(made.iterations.value)
    assert [int(count) for count in counts] == [UPDATES] * 2


def test_keras_still_sums_gradients_where_prepare_steps_in():
    """Else a new Keras would sum what is summed already, and nothing would tell."""
    assert callable(keras.Optimizer._all_reduce_sum_gradients)
    sgd = keras.optimizers.SGD(1.0)
    variable = keras.Variable([1.0, 2.0])
    seen = []

    def tripled(gradients):
        seen.extend(gradients)
        return [(3.0 * g, v) for g, v in gradients]

    sgd._all_reduce_sum_gradients = tripled
    sgd.apply([tf.constant([1.0, 10.0])], [variable])
    assert len(seen) == 1
    assert variable.numpy().tolist() == [-2.0, -28.0]


def test_the_counter_adds_to_the_replica_s_own_copy():
    made, variables = built("sgd")
    counter, calls = made.iterations, []

    class Value:
        """In place of the tf.Variable."""

        def assign_add(self, value):
            calls.append(value)

    counter._value, value = Value(), counter._value
    counter.assign_add(1)
    counter._value = value
    assert calls == [1]
    made.apply(gradients_of(0), variables)
    assert int(counter.numpy()) == 1


# Settings


DEFAULTS = {
    "rmsprop": {"rho", "momentum", "epsilon"},
    "sgd": {"momentum"},
    "lars": {"momentum", "weight_decay", "trust_coefficient", "epsilon"},
    "adamw": {"beta_1", "beta_2", "epsilon", "weight_decay"},
    "lion": {"beta_1", "beta_2", "weight_decay"},
    "lamb": {"beta_1", "beta_2", "epsilon", "weight_decay"},
}
SETTINGS = [(name, setting) for name in DEFAULTS for setting in sorted(DEFAULTS[name])]


@pytest.fixture
def _clean_gin():
    yield
    gin.clear_config()


@pytest.mark.usefixtures("_clean_gin")
@pytest.mark.parametrize("name", DEFAULTS)
def test_settings_come_from_gin(name):
    bindings = [f"experiment.Experiment.optimizer = @optimizer.{name}"]
    bindings += [f"optimizer.{name}.{setting} = 0.25" for setting in DEFAULTS[name]]
    experiment = config.parse(["gin_configs/runs/mnist_cpu.gin"], bindings)
    made = experiment.optimizer(0.1)
    assert made.name == name
    assert {getattr(made, setting) for setting in DEFAULTS[name]} == {0.25}


@pytest.mark.usefixtures("_clean_gin")
def test_a_setting_of_gin_s_that_makes_no_sense_is_one_line():
    bindings = ["experiment.Experiment.optimizer = @optimizer.lion"]
    bindings += ["optimizer.lion.beta_2 = 99"]
    with pytest.raises(UserError, match=r"optimizer\.lion\.beta_2 = 99: it has to be"):
        config.parse(["gin_configs/runs/mnist_cpu.gin"], bindings)


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
@pytest.mark.parametrize("value", [-0.1, "0.9", None, float("nan")])
def test_a_setting_that_makes_no_sense_is_refused(name, setting, value):
    with pytest.raises(UserError, match=rf"optimizer\.{name}\.{setting} = {value!r}: "):
        getattr(optimizer, name)(0.1, **{setting: value})


def test_momentum_may_be_a_whole_number():
    assert optimizer.sgd(0.1, momentum=0).momentum == 0
    with pytest.raises(UserError, match="momentum = 1: it has to be a number"):
        optimizer.sgd(0.1, momentum=1)


def test_decaying_twice_is_refused():
    for name in ("lars", "adamw", "lion", "lamb"):
        make = getattr(optimizer, name)
        optimizer.check(make(0.1), 0.0)
        optimizer.check(make(0.1, weight_decay=0), 1e-5)
        with pytest.raises(UserError, match=rf"by 1e-05 in .* optimizer\.{name}\.w"):
            optimizer.check(make(0.1), 1e-5)
    for name in ("rmsprop", "sgd"):
        optimizer.check(getattr(optimizer, name)(0.1), 1e-5)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_config_makes_the_same_optimizer_again(name):
    made = getattr(optimizer, name)(0.1, weight_decay=0.25, epsilon=0.5)
    again = type(made).from_config(made.get_config())
    assert again.get_config() == made.get_config()
    assert (again.weight_decay, again.epsilon) == (0.25, 0.5)


# Learning rates of parts


@pytest.mark.parametrize("name", DEFAULTS)
def test_one_step_is_scaled_by_the_factor(name):
    decay = {"weight_decay": 0.3} if name in ("lars", "lamb") else {}
    if name in ("adamw", "lion"):
        with pytest.raises(UserError, match=f"weight_decay of the optimizer {name}"):
            optimizer.scale_learning_rates(getattr(optimizer, name)(0.1), [1.0])
        decay = {"weight_decay": 0}
    made = getattr(optimizer, name)(1.0, **decay)
    start = np.arange(1.0, 7.0, dtype=np.float32).reshape(2, 3)
    variables = [keras.Variable(start) for _ in range(3)]
    optimizer.prepare(made, variables, variables)
    optimizer.scale_learning_rates(made, [1.0, 0.25, 0.0])
    made.apply([tf.constant([[1.0, -2.0, 3.0]] * 2)] * 3, variables)
    whole, quarter, none = (v.numpy() - start for v in variables)
    assert (np.abs(whole) > 1e-5).all()
    # Differences of weights that were rounded when they were stored.
    atol = rounding(terms=1, scale=start.max())
    np.testing.assert_allclose(quarter, whole / 4, rtol=0, atol=atol)
    np.testing.assert_array_equal(none, 0)
