import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.recipe import recipe
from tests.support.rounding import rounding
from train import ema, metrics


def tiny_model() -> keras.Model:
    inputs = keras.Input((2,))
    x = keras.layers.Dense(2, name="dense")(inputs)
    return keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(x))


def test_decay_follows_the_reference():
    golden = recipe()["ema_effective_decay_by_step_before_increment_ref"]
    got = [float(ema.effective_decay(0.9999, int(s) + 1)) for s in golden]
    # One quotient of whole numbers.
    assert got == pytest.approx(list(golden.values()), rel=rounding(terms=1), abs=0)


def test_average_starts_at_the_model_and_covers_statistics():
    model, shadow = tiny_model(), tiny_model()
    ema.copy(model, shadow)
    assert len(ema.averaged_variables(shadow)) == 6
    for a, b in zip(model.weights, shadow.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("replicas", [1, 2])
def test_update(replicas, logical_cpus):
    strategy = tf.distribute.MirroredStrategy(logical_cpus[:replicas])
    with strategy.scope():
        model, shadow = tiny_model(), tiny_model()
        for i, (a, b) in enumerate(zip(model.weights, shadow.weights, strict=True)):
            a.assign(tf.fill(a.shape, 10.0 * i))
            b.assign(tf.fill(b.shape, 1.0))

    @tf.function
    def update():
        strategy.run(lambda: ema.update(model, shadow, tf.constant(0.75)))

    update()
    for i, average in enumerate(shadow.weights):
        expected = np.full(average.shape, 0.75 + 0.25 * 10 * i)
        for copy in strategy.experimental_local_results(average.value):
            np.testing.assert_array_equal(copy, expected)  # quarters: exact


def test_top_k_ignores_what_is_masked():
    logits = tf.constant([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 9.0]])
    labels = tf.constant([1, -1, 2])
    counts = [
        float(metrics.correct_in_top(k, labels, logits, labels >= 0)) for k in (1, 2, 5)
    ]
    assert counts == [1, 2, 2]


def test_logits_that_are_not_finite_are_never_right():
    logits = tf.constant([[np.nan, np.nan]])
    labels = tf.constant([0])
    assert float(metrics.correct_in_top(1, labels, logits, labels >= 0)) == 0


def test_sums_add_up_over_replicas(logical_cpus):
    strategy = tf.distribute.MirroredStrategy(logical_cpus)
    with strategy.scope():
        sums = metrics.Sums(["images", "loss"])

    @tf.function
    def count():
        strategy.run(lambda: sums.add(images=tf.constant(3), loss=tf.constant(0.5)))

    read = metrics.reader(sums.totals)
    count()
    count()
    assert read() == {"images": 12.0, "loss": 2.0}
    sums.reset()
    assert read() == {"images": 0.0, "loss": 0.0}
