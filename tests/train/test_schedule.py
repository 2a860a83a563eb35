"""Learning rates against the values that the reference's own code computed."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from tests.support.recipe import recipe
from tests.support.rounding import rounding
from train import config, schedule

FROM_STEP_0 = (schedule.exponential, schedule.cosine, schedule.constant)
EVERY = (*FROM_STEP_0, schedule.polynomial)

BATCHES = (256, 1024, 2048, 4096)

# A rate is four operations in float32, one of them a power or a cosine.
CLOSE = rounding(terms=4)


def rates(make, batch: int, steps, train_steps: int = 218_949) -> list[float]:
    rate = make(
        global_batch_size=batch,
        steps_per_epoch=1_281_167 / batch,
        train_steps=train_steps,
    )
    return [float(rate(step)) for step in steps]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("make", "key"),
    [(schedule.exponential, "exponential"), (schedule.cosine, "cosine_total218949")],
)
def test_equals_reference(make, key, batch):
    golden = recipe()[f"lr_b{batch}"][key]
    got = rates(make, batch, map(int, golden))
    # The cosine's end is a difference of two numbers near one, times half the peak.
    is_cosine = make is schedule.cosine
    close = {"rel": 0, "abs": CLOSE * 0.016 * batch / 256} if is_cosine else {}
    assert got == pytest.approx(
        list(golden.values()), **({"rel": CLOSE, "abs": 0} | close)
    )


def test_warmup_may_be_absent():
    rate = schedule.cosine(
        global_batch_size=256, steps_per_epoch=10, train_steps=100, warmup_epochs=0
    )
    assert float(rate(0)) == np.float32(0.016)
    assert float(rate(50)) == pytest.approx(0.008, rel=CLOSE)
    assert float(rate(100)) == 0


@pytest.mark.parametrize("make", FROM_STEP_0)
def test_warmup_is_linear_and_meets_the_decay(make):
    """Decay counts from step 0: at the end of the warmup it is under way."""
    short = {"global_batch_size": 512, "steps_per_epoch": 100.5, "train_steps": 1000}
    rate = make(**short, peak_per_256=0.1, warmup_epochs=2)  # 201 steps
    rising = [float(rate(step)) for step in (0, 1, 67, 200)]
    assert rising == pytest.approx([0, 0.2 / 201, 0.2 / 3, 0.2 * 200 / 201], rel=CLOSE)
    unwarmed = make(**short, peak_per_256=0.1, warmup_epochs=0)
    for step in (201, 202, 500, 999, 1000):
        assert float(rate(step)) == float(unwarmed(step))
    assert float(unwarmed(0)) == np.float32(0.2)


def test_constant_stays_at_its_peak():
    last, *rest = rates(schedule.constant, 2048, (3126, 3127, 10**5, 218_949))
    assert last == pytest.approx(0.128 * 3126 / 3127, rel=CLOSE)
    assert rest == [np.float32(0.128)] * 3


def test_cosine_ends_at_a_share_of_the_peak():
    short = {"global_batch_size": 256, "steps_per_epoch": 10, "train_steps": 100}
    rate = schedule.cosine(
        **short, peak_per_256=1.0, warmup_epochs=0, final_fraction=0.1
    )
    got = [float(rate(step)) for step in (0, 25, 50, 75, 100)]
    want = [0.1 + 0.45 * (1 + c) for c in (1, np.sqrt(0.5), 0, -np.sqrt(0.5), -1)]
    assert got == pytest.approx(want, rel=0, abs=CLOSE)


def test_polynomial_falls_from_the_end_of_the_warmup():
    """To zero behind the last step; worked out by hand, as squares of tenths."""
    short = {"global_batch_size": 512, "steps_per_epoch": 10.0, "train_steps": 120}
    rate = schedule.polynomial(**short, peak_per_256=1.0, warmup_epochs=2)
    got = [float(rate(step)) for step in (0, 1, 10, 19, 20, 30, 70, 110, 119, 120, 130)]
    want = [0, 0.1, 1.0, 1.9, 2.0, 1.62, 0.5, 0.02, 0.0002, 0, 0]
    assert got == pytest.approx(want, rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("power", [0.5, 1, 3])
def test_polynomial_is_a_power_of_what_is_left(power):
    rate = schedule.polynomial(
        global_batch_size=65_536,
        steps_per_epoch=1_281_167 / 65_536,
        train_steps=6842,
        peak_per_256=0.081,
        warmup_epochs=43,
        power=power,
    )
    steps = np.array([840, 841, 3000, 6000, 6841])  # 43 epochs are 840 steps
    want = 20.736 * ((6842 - steps) / 6002.0) ** power
    got = [float(rate(step)) for step in steps]
    # The power's exponent multiplies the rounding of its base.
    assert got == pytest.approx(list(want), rel=CLOSE * max(1, power))
    assert got[0] == np.float32(20.736)
    assert float(rate(420)) == pytest.approx(10.368, rel=CLOSE)


def test_a_run_that_is_all_warmup_has_no_decay():
    rate = schedule.polynomial(
        global_batch_size=256, steps_per_epoch=10, train_steps=20, warmup_epochs=2
    )
    assert float(rate(19)) == pytest.approx(0.016 * 19 / 20, rel=CLOSE)
    assert float(rate(20)) == 0


DECAYED = {
    schedule.exponential: lambda step: 0.97 ** (step // (2.4 * 3.5)),
    schedule.cosine: lambda step: 0.5 + 0.5 * np.cos(np.pi * step / 20),
    schedule.constant: lambda step: 1.0,
    schedule.polynomial: lambda step: ((20 - step) / (20 - 17)) ** 2,
}


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_steps_are_whole_numbers_of_either_size(make, dtype):
    """Compiled and not, as Python computes it; the warmup is of 17 steps."""
    rate = make(global_batch_size=256, steps_per_epoch=3.5, train_steps=20)
    compiled = tf.function(rate, jit_compile=True)
    for step in (0, 3, 17, 19):
        want = 0.016 * (step / 17 if step < 17 else DECAYED[make](step))
        for got in (rate(step), compiled(tf.constant(step, dtype))):
            assert got.dtype == tf.float32
            assert float(got) == pytest.approx(want, rel=0, abs=CLOSE * 0.016)


@pytest.mark.parametrize(
    ("make", "setting", "value"),
    [
        *((make, "peak_per_256", 0) for make in EVERY),
        *((make, "warmup_epochs", -1) for make in EVERY),
        (schedule.exponential, "decay_rate", 97),
        (schedule.exponential, "decay_epochs", 0),
        (schedule.cosine, "final_fraction", 1.5),
        (schedule.polynomial, "power", 0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(make, setting, value):
    message = rf"schedule\.{make.__name__}\.{setting} = {value}: it has to be a number"
    with pytest.raises(UserError, match=message):
        rates(lambda **sizes: make(**sizes, **{setting: value}), 256, [])


@pytest.mark.parametrize("make", EVERY)
def test_settings_come_from_gin(make):
    name = make.__name__
    bindings = [f"experiment.Experiment.learning_rate = @schedule.{name}"]
    bindings += [f"schedule.{name}.peak_per_256 = 0.5"]
    experiment = config.parse(["gin_configs/runs/mnist_cpu.gin"], bindings)
    sizes = {"global_batch_size": 512, "steps_per_epoch": 10, "train_steps": 10}
    assert experiment.learning_rate(**sizes).peak == 1.0
    gin.clear_config()


@pytest.mark.parametrize("make", EVERY)
def test_config_makes_the_same_schedule_again(make):
    rate = make(global_batch_size=2048, steps_per_epoch=625.5, train_steps=10_000)
    again = type(rate).from_config(rate.get_config())
    for step in (0, 17, 5000):
        assert float(again(step)) == float(rate(step))
