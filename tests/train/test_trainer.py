"""Three training steps of x-b0 against the reference's: loss, weights, average."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from models import weight_loading
from tests.support import eager_ops
from tests.support.recipe import Table, recipe, train_step
from tests.support.rounding import rounding
from train import ema, losses, state
from train.experiment import Experiment
from train.optimizer import rmsprop
from train.trainer import Trainer

SPLIT = SplitInfo((ShardInfo("train-00000-of-00001", 8, (0,)),))
INFO = DatasetInfo(
    name="eight",
    label_offset=0,
    label_names=tuple(map(str, range(1000))),
    splits={"train": SPLIT, "validation": SPLIT},
)


def unused(**_):
    raise AssertionError("no data set is read here")


def make_experiment(**changes) -> Experiment:
    settings = {
        "build_model": functools.partial(
            models.build_model,
            "efficientnet-x-b0",
            resolution=64,
            survival_prob=1.0,
            dropout_rate=0.0,
        ),
        "optimizer": rmsprop,
        "learning_rate": lambda **_: Table([*train_step()["lr"], 0.0]),
        "train_data": unused,
        "eval_data": unused,
        "data_dir": "unused",
        "global_batch_size": 8,
        "eval_batch_size": 8,
        "epochs": 3,
        "precision": "float32",
    }
    return Experiment(**(settings | changes))


def norms(model) -> np.ndarray:
    variables = weight_loading.in_reference_order(model)
    return np.array([np.linalg.norm(v.numpy().ravel()) for v in variables])


@pytest.fixture(scope="module")
def three_steps(golden_weights, golden_pixels):
    """Losses and norms of gradients, weights and averages of three steps."""
    experiment = make_experiment()
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        train_state = state.create(experiment, INFO)
        trainer = Trainer(experiment, train_state, strategy, dataset=None)
    batch = {
        "image": tf.constant(golden_pixels(8, 64)),
        "label": tf.constant(train_step()["labels"]),
    }
    assign(train_state.model, golden_weights("efficientnet-x-b0"))
    ema.copy(train_state.model, train_state.ema_model)

    @functools.partial(tf.function, autograph=False)
    def update():
        return gradient_norms(
            train_state, lambda: strategy.run(trainer.replica_step, args=(batch,))
        )

    seen = []
    for _ in range(3):
        trainer.begin_loop()
        gradients = [float(norm) for norm in update()]
        seen.append(
            {
                "gradient_norms": np.array(gradients),
                "loss": trainer.end_loop().loss,
                "w_norms": norms(train_state.model),
                "ema_norms": norms(train_state.ema_model),
                "step": int(train_state.step.numpy()),
            }
        )
    return seen, trainer


def assign(model, values):
    for variable, value in zip(
        weight_loading.in_reference_order(model), values, strict=True
    ):
        variable.assign(value)


def gradient_norms(train_state, step):
    """Norms of the gradients that a step applies, in the reference's order."""
    model, optimizer, norms = train_state.model, train_state.optimizer, {}
    apply = optimizer.apply

    def keep_norms(gradients, variables):
        for variable, gradient in zip(variables, gradients, strict=True):
            norms[id(variable)] = tf.norm(gradient)
        apply(gradients, variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "apply", keep_norms)
        step()
    ordered = weight_loading.in_reference_order(model)
    return [norms[id(v)] for v in ordered if v.trainable]


@pytest.mark.long
def test_gradients_at_the_first_step(three_steps):
    expected = np.array(train_step()["grad_norms_step0"])
    # A bias before a batch norm has no gradient but float noise.
    found = three_steps[0][0]["gradient_norms"]
    errors = np.abs(found - expected) / (expected + 1e-3)
    assert len(errors) == 204
    # Gradients of many cancelling terms: 4 times the worst of four arithmetics (oneDNN,
    # without it, without its bfloat16, one thread), 2.8e-4 and 5.6e-3.
    assert np.median(errors) < 1.2e-3
    assert errors.max() < 2.3e-2


def test_losses(three_steps):
    seen = three_steps[0]
    golden = [g["loss"] for g in train_step()["steps"]]
    assert round(golden[0], 5) == 7.25431
    found = [s["loss"] for s in seen]
    # The rate of the first step is 0. The longest sum is that of the classifier.
    assert found[:2] == pytest.approx(golden[:2], abs=rounding(1280, golden[0]))
    # Gradients carry float noise of a percent: it shows in the third loss.
    assert found[2] == pytest.approx(golden[2], abs=1e-2)


@pytest.mark.parametrize("key", ["w_norms", "ema_norms"])
def test_weights_and_averages(three_steps, key):
    for seen, golden in zip(three_steps[0], train_step()["steps"], strict=True):
        # 4 times the worst of four arithmetics; the gradients' noise is in it.
        np.testing.assert_allclose(seen[key], golden[key], rtol=6e-4, atol=6e-5)


def test_the_ends_of_a_loop_are_an_operation_each(three_steps):
    """On a slice each would be a message to a worker."""
    trainer = three_steps[1]
    for end in (trainer.begin_loop, trainer.end_loop):
        with eager_ops.counted() as counts:
            end()
        assert sum(counts.values()) == 1, counts


def test_counts(three_steps):
    seen, trainer = three_steps
    golden = train_step()
    assert [s["step"] for s in seen] == [1, 2, 3]
    model = trainer.state.model
    assert len(state.decayed_variables(model)) == golden["n_wd_vars"]
    assert len(ema.averaged_variables(model)) == golden["n_ema"]
    assert len(model.trainable_variables) == golden["n_trainable"]


@pytest.mark.parametrize(("smoothing", "key"), [(0.1, "loss_ls0.1"), (0, "loss_ls0")])
def test_label_smoothing(smoothing, key):
    golden = recipe()["ls_loss"]
    labels, logits = tf.constant(golden["labels"]), tf.constant(golden["logits"])
    per_image = losses.cross_entropy(labels, logits, smoothing)
    assert float(tf.reduce_mean(per_image)) == pytest.approx(
        golden[key], rel=rounding(10)
    )


def test_masked_images_cost_nothing():
    logits = tf.random.stateless_normal([3, 10], seed=(1, 2))
    alone = losses.cross_entropy(tf.constant([4]), logits[1:2], 0.1)
    per_image = losses.cross_entropy(tf.constant([-1, 4, -1]), logits, 0.1)
    np.testing.assert_array_equal(per_image, [0, alone.numpy()[0], 0])


def test_l2():
    golden = recipe()["l2_loss"]
    variable = keras.Variable(golden["x"])
    assert float(losses.l2([variable])) == pytest.approx(golden["l2"], rel=rounding(5))
