"""The weighted loss against NumPy: on one device, on two, in micro-batches."""

import dataclasses
import functools
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from models.batch_norm import BatchNormalization
from tests.support.rounding import rounding
from tests.support.runs import experiment_of
from tests.train.test_mixing import INFO, QUIET, batch_of, mixed, mixing
from train import state
from train.small_data import class_weights
from train.trainer import Trainer

WEIGHTS = {"3": 4.0, "1": 0.5, "9": 0.0}
OF_CLASSES = np.array([1, 0.5, 1, 4, 1, 1, 1, 1, 1, 0])
DECAY = 0.1  # large enough that an L2 that is divided, too, would show
SHARDS = (ShardInfo("train-00000-of-00001", 12, (0,)),)


def animals(images=(9, 0, 3), names=("cat", "dog", "Persian cat")):
    return DatasetInfo("animals", 0, names, {"train": SplitInfo(SHARDS, images)})


def of_classes(wanted, info, split="train", classes=5):
    return class_weights.of_classes(
        wanted, info, split=split, data_dir="data/a", classes=classes
    )


def test_balanced_is_inverse_to_the_counts():
    """As in scikit-learn, 12 / (2 * count); what never comes keeps 1."""
    np.testing.assert_array_equal(
        of_classes("balanced", animals()), np.array([12 / 18, 1, 2, 1, 1], np.float32)
    )


def test_named_classes_and_others():
    found = of_classes({"Persian cat": 2.5, "cat": 0}, animals())
    np.testing.assert_array_equal(found, np.array([0, 1, 2.5, 1, 1], np.float32))
    assert of_classes(None, animals()) is None
    # What preflight knows where --train_images stands for the data.
    unknown = animals(names=())
    np.testing.assert_array_equal(of_classes(WEIGHTS, unknown), np.ones(5))


@pytest.mark.parametrize(
    ("wanted", "info", "why"),
    [
        ({"Dog": 2}, animals(), r"data/a has no class 'Dog'; did you mean 'dog'\?"),
        ({"yak": 2}, animals(), "no class 'yak'; its 3 classes are 'cat', 'dog', 'Per"),
        ({"cat": 0, "dog": 0, "Persian cat": 0}, animals(), "all classes are 0"),
        ({"cat": 1e-300, "dog": 0, "Persian cat": 1e-99}, animals(), "all classes are"),
        ({"cat": 2}, animals(names=("cat", "a", "cat")), "2 classes .* called 'cat'"),
        ("balanced", animals(None), "'train' has; start the command that prepared it"),
    ],
)
def test_what_is_refused(wanted, info, why):
    with pytest.raises(UserError, match=why):
        of_classes(wanted, info)


def test_some_files_of_a_split_are_not_counted():
    split = SplitInfo(SHARDS * 2, (9, 0, 3))
    info = dataclasses.replace(animals(), splits={"train": split})
    with pytest.raises(UserError, match=r"'train\[1shard:\]' has; name the weights"):
        of_classes("balanced", info, "train[1shard:]")


@pytest.mark.parametrize("value", ["balance", {"cat": -1}, {"cat": "2"}, {0: 2.0}, 2])
def test_the_settings_rule(value):
    with pytest.raises(UserError, match="None, 'balanced' or a mapping from names"):
        experiment_of("unused", **{"experiment.Experiment.class_weights": value})


def test_a_mixed_image_weighs_what_its_parts_do():
    """By their shares before smoothing; padding weighs nothing."""
    hard = np.zeros([4, 10])
    hard[0, 3] = hard[1, 9] = 1
    hard[2, [3, 1]] = 0.25, 0.75
    smooth = tf.constant(
        0.9 * hard + 0.01 * hard.any(axis=1, keepdims=True), tf.float32
    )
    found = class_weights.of_images(smooth, OF_CLASSES.astype(np.float32), 0.1)
    expected = hard @ OF_CLASSES
    assert expected.tolist() == [4, 0, 1.375, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding(10, 4.0))
    np.testing.assert_array_equal(found.numpy()[[1, 3]], 0)


LABELS = [3, 1, 4, 1, 5, 9, -1, 3]


def small_model(*, seed, make_seed_generator=None, **_):
    """A batch norm, a mean over the pixels and a classifier: built in no time."""
    dtype = "float32"
    pixels = keras.Input([32, 32, 3], name="pixels")
    x = BatchNormalization(name="norm", dtype=dtype)(pixels / 255.0)
    x = keras.layers.GlobalAveragePooling2D()(x * x)
    start = keras.initializers.RandomNormal(seed=seed)
    x = keras.layers.Dense(10, name="classifier", kernel_initializer=start)(x)
    return keras.Model(pixels, x, name="small")


class Step:
    """A step of replicas and micro-batches, and the same by NumPy."""

    def __init__(self, strategy, accumulation=1, mixing=None, labels=None, **changes):
        settings = {
            "class_weights": WEIGHTS,
            "weight_decay": DECAY,
            "accumulation_steps": accumulation,
            "batch_norm": "per_replica",
        }
        changes = QUIET | {
            f"experiment.Experiment.{k}": v for k, v in (settings | changes).items()
        }
        self.experiment = dataclasses.replace(
            experiment_of("unused", **changes), build_model=small_model
        )
        self.batch = batch_of(LABELS if labels is None else labels)
        self.parts = strategy.num_replicas_in_sync * accumulation
        with strategy.scope():
            train_state = state.create(self.experiment, INFO)
            self.trainer = Trainer(
                self.experiment, train_state, strategy, mixing=mixing
            )
        self.model = train_state.model

    def expected(self, batch=None):
        """Loss, and gradients of the classifier, in float64 from what goes into it."""
        images, targets = batch or (self.batch["image"], self.targets())
        # Each part has a batch norm of its own.
        parts = map(self.features, tf.split(images, self.parts))
        features = np.concatenate([np.float64(part) for part in parts])
        kernel, bias = (
            np.float64(self.model.get_layer("classifier").weights[i]) for i in (0, 1)
        )
        logits = features @ kernel + bias
        log_sum = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        hard = np.maximum(targets - 0.01, 0) / 0.9
        weights = hard @ OF_CLASSES
        share = weights / (weights.sum() or 1)
        loss = -share @ (targets * (logits - log_sum)).sum(axis=1)
        slope = share[:, None] * (np.exp(logits - log_sum) - targets)
        squares = sum(
            np.square(np.float64(v)).sum() for v in state.decayed_variables(self.model)
        )
        return {
            "loss": loss + DECAY / 2 * squares,
            "kernel": features.T @ slope + DECAY * kernel,
            "bias": slope.sum(axis=0) + DECAY * bias,
        }

    def features(self, images):
        """Return what the classifier of `small_model` is given."""
        x = np.float64(images) / 255
        normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3)
        return np.square(normal).mean((1, 2))

    def targets(self):
        return np.float64(self.trainer.targets(self.batch["label"]))

    def run(self, in_graph=False):
        """Return the loss of a step, and what the optimizer is given, by layer."""
        strategy, seen = self.trainer.strategy, threading.local()
        share = 8 // strategy.num_replicas_in_sync

        def part(context):
            begin = context.replica_id_in_sync_group * share
            return {k: v[begin : begin + share] for k, v in self.batch.items()}

        def apply(gradients, variables):
            paths = [variable.path for variable in variables]
            seen.gradients = dict(zip(paths, gradients, strict=True))

        def replica(batch):
            self.trainer.replica_step(batch)
            return seen.gradients

        batch = strategy.experimental_distribute_values_from_function(part)
        self.trainer.begin_loop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.trainer.state.optimizer, "apply", apply)
            step = functools.partial(strategy.run, replica, args=(batch,))
            if in_graph:
                step = tf.function(step, autograph=False)
            # Every replica gets the same.
            gradients = {
                path: strategy.experimental_local_results(gradient)[-1].numpy()
                for path, gradient in step().items()
            }
        return {
            "loss": self.trainer.end_loop().loss,
            "kernel": gradients["classifier/kernel"],
            "bias": gradients["classifier/bias"],
            "all": gradients,
        }


def assert_equal(found, expected):
    """But for rounding: the longest sum is batch norm's over 8 images of 32 x 32.

    Its mean of squares is four variances of what is spread evenly between 0 and 1.
    """
    for name, value in expected.items():
        allowed = rounding(8 * 32 * 32, 4 * np.abs(value).max())
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=allowed, err_msg=name
        )


def one_device():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def two_replicas(cpus):
    # Without collective operations, whose keys other tests of a process have used.
    reduce = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(cpus, cross_device_ops=reduce)


@pytest.mark.long
@pytest.mark.parametrize(("replicas", "accumulation"), [(1, 1), (1, 2), (2, 2)])
def test_loss_and_gradients(replicas, accumulation, logical_cpus):
    strategy = one_device() if replicas == 1 else two_replicas(logical_cpus)
    step = Step(strategy, accumulation)
    expected = step.expected()
    # In a graph, where the micro-batches are a loop.
    assert_equal(step.run(in_graph=accumulation > 1), expected)


def test_mixed_images():
    step = Step(one_device(), mixing=mixing)
    targets = tf.constant(step.targets(), tf.float32)
    images, targets = mixed(step.batch["image"], targets, 0)
    expected = step.expected((images, np.float64(targets)))
    assert_equal(step.run(), expected)


def test_padding_alone_is_no_division_by_zero():
    """Nor are images of classes without weight: what is left is L2."""
    for labels in ([-1] * 8, [9] * 8):
        step = Step(one_device(), labels=labels)
        expected = step.expected()
        found = step.run()
        kernel = step.model.get_layer("classifier").kernel.numpy()
        assert_equal(found, expected)
        np.testing.assert_array_equal(found["kernel"], np.float32(DECAY) * kernel)


def test_equal_weights_change_nothing():
    """And no weights are the sums that there always were: loss and all gradients."""
    given = functools.partial(Step, one_device(), label_smoothing=0.0)
    labels = [3, 1, 4, 1, 5, 9, 2, 3]
    plain, weighted = (
        given(class_weights=None, labels=labels),
        given(class_weights={}, labels=labels),
    )
    assert plain.trainer.state.class_weights is None
    assert plain.trainer._zeros()["weight"] == []
    one, other = plain.run(), weighted.run()
    assert_equal(
        one["all"] | {"loss": one["loss"]}, other["all"] | {"loss": other["loss"]}
    )
