"""Fifty steps of float16 on two replicas, one of which overflows in between."""

import dataclasses
import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.batch_norm import BatchNormalization
from models.layers import Normalize
from tests.train.test_trainer import INFO, make_experiment
from train import state
from train.checkpoints.manager import Checkpoints
from train.fault_tolerance.non_finite import NonFinite
from train.numerics import loss_scale
from train.optimizer import adamw
from train.schedule import constant
from train.trainer import Trainer

GROWTH_STEPS = 15
STEPS, PLANTED = 50, 20
SPOILT = 7  # the label in whose batch the targets are too large for float16,
NO_NUMBER = 8  # and that in whose batch they are not numbers


def net(*, dtype, seed, **_) -> keras.Model:
    """A convolution, batch norm, mean over the pixels, and four logits."""
    start = keras.initializers.GlorotUniform(seed=seed)
    layers = [
        Normalize(dtype=dtype, name="normalize"),
        keras.layers.Conv2D(
            8, 3, use_bias=False, kernel_initializer=start, dtype=dtype, name="conv"
        ),
        BatchNormalization(momentum=0.9, dtype=dtype, name="bn"),
        keras.layers.Activation("swish", dtype=dtype),
        keras.layers.GlobalAveragePooling2D(dtype=dtype),
        keras.layers.Dense(
            1000, kernel_initializer=start, dtype=dtype, name="classifier"
        ),
        keras.layers.Activation("linear", dtype="float32"),
    ]
    x = pixels = keras.Input([8, 8, 3], name="pixels")
    for layer in layers:
        x = layer(x)
    return keras.Model(pixels, x, name="small")


def spoil(images, targets, seed):
    """Make the loss 10^6 times as large where a replica sees the label SPOILT.

    It stays finite; scaled by a power of two from 2 on, its gradient is none in
    float16, which ends at 65,504: of eight images, 10^6 * 2 / 8.
    """
    labels = tf.argmax(targets, axis=1)
    factor = tf.where(tf.reduce_any(labels == SPOILT), 1e6, 1.0)
    factor = tf.where(tf.reduce_any(labels == NO_NUMBER), float("nan"), factor)
    return images, targets * factor


def make(strategy) -> Trainer:
    settings = {
        "build_model": net,
        "optimizer": adamw,
        "weight_decay": 0.0,
        "learning_rate": functools.partial(
            constant, peak_per_256=1.0, warmup_epochs=0.0
        ),
        "precision": "mixed_float16",
        "clip_norm": 0.1,
        "accumulation_steps": 2,
    }
    with strategy.scope():
        experiment = make_experiment(**settings)
        train_state = state.create(experiment, INFO)
        return Trainer(experiment, train_state, strategy, mixing=spoil)


def batches(strategy, planted={PLANTED: SPOILT}):  # noqa: B006 - nobody changes it
    """Function: number -> a batch in parts, of which one has a label as planted."""

    def part(context, number=0):
        source = np.random.default_rng([number, context.replica_id_in_sync_group])
        size = 8 // strategy.num_replicas_in_sync
        labels = source.integers(0, 4, size)
        if number in planted and context.replica_id_in_sync_group == 0:
            labels[-1] = planted[number]
        return {
            "image": tf.constant(source.integers(0, 256, [size, 8, 8, 3]), tf.uint8),
            "label": tf.constant(labels, tf.int32),
        }

    return lambda number: strategy.experimental_distribute_values_from_function(
        functools.partial(part, number=number)
    )


def program(trainer):
    """The step of a trainer, compiled once."""
    return tf.function(
        lambda batch: trainer.strategy.run(trainer.replica_step, args=(batch,)),
        autograph=False,
    )


def copies(trainer) -> dict[str, list[bytes]]:
    """What each replica holds, bit for bit."""
    return {
        name: [
            copy.numpy().tobytes()
            for copy in trainer.strategy.experimental_local_results(variable)
        ]
        for name, variable in trainer.state.variables().items()
    }


def of_update(held: dict) -> dict:
    """What an update changes."""
    parts = "model/", "ema/", "optimizer/"
    return {name: v for name, v in held.items() if name.startswith(parts)}


def counters(trainer):
    scale = trainer.state.loss_scale
    return tuple(
        v.numpy() for v in (scale.scale, scale.good_steps, scale.skipped_steps)
    )


@pytest.fixture(scope="module")
def strategy(logical_cpus):
    # The collectives of a step would collide with those of another test's replicas.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(logical_cpus, reduction)


@pytest.fixture(scope="module")
def run(strategy, tmp_path_factory):
    """A trainer and its step; what was held before each; checkpoints 10 and 30."""
    folder = tmp_path_factory.mktemp("scaled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_scale, "GROWTH_STEPS", GROWTH_STEPS)
        trainer = make(strategy)
        step, batch = program(trainer), batches(strategy)
        held, scales, outputs = [copies(trainer)], [counters(trainer)], []
        with Checkpoints(trainer.state.variables(), str(folder), keep=2) as checkpoints:
            trainer.begin_loop()
            for number in range(STEPS):
                step(batch(number))
                held.append(copies(trainer))
                scales.append(counters(trainer))
                if number + 1 in (10, 30):
                    checkpoints.save(wait=True)
            outputs.append(trainer.end_loop())
    return trainer, step, held, scales, outputs[0], folder


@pytest.mark.long
def test_the_step_that_overflows_is_left_out_on_both_replicas(run):
    held = run[2]
    for number in range(STEPS):
        before, after = of_update(held[number]), of_update(held[number + 1])
        changed = {name for name in before if before[name] != after[name]}
        assert bool(changed) == (number != PLANTED), number
    assert held[-1]["step"] == [np.int64(STEPS).tobytes()] * 2
    assert len(of_update(held[0])) > 20  # weights, averages, slots
    for name, (one, other) in held[-1].items():
        assert one == other, name


def test_the_scale_halves_and_doubles(run):
    """As the rule says, by hand."""
    scale, good, skipped, expected = 2.0**15, 0, 0, [(2.0**15, 0, 0)]
    for number in range(STEPS):
        good += 1
        if number == PLANTED:
            scale, good, skipped = scale / 2, 0, skipped + 1
        elif good == GROWTH_STEPS:
            scale, good = scale * 2, 0
        expected.append((scale, good, skipped))
    assert run[3] == expected
    assert expected[-1] == (2.0**16, 14, 1)


def test_an_overflow_spoils_no_number(run):
    output = run[4]
    assert (output.steps, output.skipped_steps) == (STEPS, 1)
    assert output.loss_scale == 2.0**16
    assert 0 < output.gradient_norm <= output.gradient_norm_max < 10
    assert math.isfinite(output.loss)


def test_goes_on_from_a_checkpoint_bit_for_bit(run, strategy):
    """From one before the overflow, and from one behind it, whatever was held before.

    In a process of its own that is a slow test, of `test_killed`.
    """
    trainer, step, held, _, _, folder = run
    batch, variables = batches(strategy), trainer.state.variables()
    checkpoints = Checkpoints(variables, str(folder), keep=2, writes=False)
    for begin in (30, 10):
        for variable in variables.values():
            variable.assign(tf.fill(variable.shape, tf.cast(77, variable.dtype)))
        with strategy.scope():
            path = checkpoints.restore_newest(
                prefer=lambda p, b=begin: p.endswith(f"-{b}")
            )
        assert path == f"{folder}/ckpt-{begin}"
        assert copies(trainer) == held[begin]
        for number in range(begin, STEPS):
            step(batch(number))
        assert copies(trainer) == held[STEPS]


def updated_by(trainer, step, start, scale):
    """What three steps make of a state, the loss scaled so."""
    for name, variable in trainer.state.variables().items():
        (value, *_) = start[name]  # all replicas hold the same
        array = np.frombuffer(value, variable.dtype.as_numpy_dtype)
        variable.assign(array.reshape(variable.shape))
    batch = batches(trainer.strategy)
    if trainer.state.loss_scale is not None:
        trainer.state.loss_scale.scale.assign(scale)
    trainer.begin_loop()
    for number in range(3):
        step(batch(number))
    return of_update(copies(trainer)), trainer.end_loop()


@pytest.mark.long
def test_a_scale_changes_no_bit(run):
    """Powers of two are exact, and the clip is that of gradients unscaled.

    Between these scales the layers' gradients keep clear of both ends of float16.
    """
    trainer, step, (start, *_) = run[:3]
    (one, output), (other, _) = (
        updated_by(trainer, step, start, scale) for scale in (2.0**13, 2.0**16)
    )
    assert one == other
    assert output.gradient_norm > 0.1  # the clip shortens it
    by_one, _ = updated_by(trainer, step, start, 1.0)
    without = unscaled_trainer(trainer)
    unscaled, _ = updated_by(without, program(without), start, 1.0)
    assert by_one == unscaled


def unscaled_trainer(trainer):
    """A trainer of the same state that knows nothing of a scale."""
    plain = dataclasses.replace(trainer.state, loss_scale=None)
    with trainer.strategy.scope():
        return Trainer(trainer._experiment, plain, trainer.strategy, mixing=spoil)


def test_what_scaling_cannot_mend_ends_the_loop(run, strategy):
    """Targets that are no numbers: two steps are left out, the third one is a fault."""
    trainer, step = run[:2]
    trainer.state.loss_scale.scale.assign(4.0)
    batch, begin = batches(strategy, {STEPS: NO_NUMBER}), trainer.state.step.numpy()
    before = of_update(copies(trainer))
    trainer.begin_loop()
    for _ in range(2):
        step(batch(STEPS))
    output = trainer.end_loop()
    assert (output.steps, output.skipped_steps, output.loss_scale) == (2, 2, 1.0)
    assert math.isnan(output.loss)
    assert math.isnan(output.gradient_norm)
    step(batch(STEPS))
    fault = f"with a loss scale of 1, is not finite at step {begin + 2}"
    with pytest.raises(NonFinite, match=fault):
        trainer.end_loop()
    assert counters(trainer)[:2] == (1.0, 0)
    assert of_update(copies(trainer)) == before
