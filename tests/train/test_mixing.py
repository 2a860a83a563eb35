"""mixup and CutMix in the step: which loss, which seeds, what does not count."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.mixing import mixup_cutmix
from input_pipeline.records import ShardInfo
from models.initializers import derive_seed
from tests.support.rounding import rounding
from tests.support.runs import experiment_of
from train import datasets, losses, stages, state, trainer
from train.stage_rows import Stage

SPLIT = SplitInfo((ShardInfo("train-00000-of-00001", 400, (0,)),))
INFO = DatasetInfo("some", 0, tuple("0123456789"), {"train": SPLIT})
# Without masks, so that a second pass gives the same logits.
QUIET = {
    "efficientnet_x.build_model.survival_prob": 1.0,
    "efficientnet_x.build_model.dropout_rate": 0.0,
    "experiment.Experiment.global_batch_size": 8,
    "experiment.Experiment.seed": 3,
}
mixing = functools.partial(mixup_cutmix, switch_prob=0.5)


def make_trainer(mixing, strategy=None, **changes):
    experiment = experiment_of("unused", **QUIET | changes)
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        train_state = state.create(experiment, INFO)
        return trainer.Trainer(
            experiment, train_state, strategy, dataset=None, mixing=mixing
        )


def batch_of(labels):
    shape = (len(labels), 32, 32, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    return {"image": tf.constant(images), "label": tf.constant(labels)}


def train(trainer, batch, steps=1):
    """Yields what loops of one step say."""

    @functools.partial(tf.function, autograph=False)
    def step():
        trainer.strategy.run(trainer.replica_step, args=(batch,))

    for _ in range(steps):
        trainer.begin_loop()
        step()
        yield trainer.end_loop()


def mixed(images, targets, number):
    seed = tf.constant([derive_seed(3, "mixing"), number], tf.int64)
    return mixing(images, targets, seed)


def expected(trainer, images, targets):
    """Loss and top-1 of a step by hand, before its update."""
    logits = trainer.state.model(images, training=True)
    per_image = -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=1)
    hits = np.argmax(targets, axis=1) == np.argmax(logits, axis=1)
    decay = 1e-5 * losses.l2(state.decayed_variables(trainer.state.model))
    return float(tf.reduce_mean(per_image) + decay), hits.mean()


@pytest.mark.long
def test_loss_is_that_of_the_mixed_images():
    trainer, batch = make_trainer(mixing), batch_of([3, 1, 4, 1, 5, 9, 2, 6])
    one_hot = np.eye(10)[batch["label"].numpy()]
    plain = batch["image"], tf.constant(0.9 * one_hot + 0.01, tf.float32)
    loops = train(trainer, batch, steps=2)
    for number in range(2):
        loss, top1 = expected(trainer, *mixed(*plain, number))
        unmixed, _ = expected(trainer, *plain)
        found = next(loops)
        # The longest sum: batch norm's, over 8 images of 16 x 16 pixels.
        assert found.loss == pytest.approx(loss, rel=rounding(8 * 16 * 16))
        assert found.top1 == top1
        assert found.loss != pytest.approx(unmixed, rel=1e-4)


@pytest.mark.long
def test_masked_images_and_their_partners_stay_as_they_are():
    """Image i and 7 - i are a pair, and there is none of two images."""
    batch = batch_of([3, -1, 4, -1, 5, -1, 2, -1])
    (one,), (other,) = (train(make_trainer(m), batch) for m in (mixing, None))
    assert one.skipped_records == 4
    assert (one.loss, one.gradient_norm) == (other.loss, other.gradient_norm)


def test_masked_images_have_no_gradient():
    logits = tf.random.stateless_normal([2, 10], seed=(1, 2))
    targets = tf.stack([tf.zeros([10]), tf.fill([10], 0.1)])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        per_image = losses.soft_cross_entropy(targets, logits)
    gradient = tf.convert_to_tensor(tape.gradient(per_image, logits)).numpy()
    assert per_image.numpy()[0] == 0
    np.testing.assert_array_equal(gradient[0], np.zeros(10))
    assert np.abs(gradient[1]).max() > 0.01


def test_seeds_are_a_function_of_seed_step_and_replica(logical_cpus):
    strategy = tf.distribute.MirroredStrategy(logical_cpus)
    trainer = make_trainer(lambda images, targets, seed: (images, targets), strategy)
    trainer.state.step.assign(7)
    # The seeds alone: the collectives of a step collide with those of another test's
    # replicas in the same process.
    seeds = strategy.run(trainer.mixing_seed.next)
    first = derive_seed(3, "mixing")
    found = [tuple(seed.numpy()) for seed in strategy.experimental_local_results(seeds)]
    assert found == [(first, 14), (first, 15)]


def test_mixing_gets_the_seed_of_the_step():
    seen = []

    def record(images, targets, seed):
        seen.append(tuple(seed.numpy()))
        return images, targets

    trainer = make_trainer(record)
    trainer.state.step.assign(7)
    trainer.strategy.run(trainer.replica_step, args=(batch_of([3, 1, 4, 1]),))
    assert seen == [(derive_seed(3, "mixing"), 7)]


@pytest.mark.parametrize("stem_block_size", [1, 2])
@pytest.mark.parametrize("layout", ["NHWC", "HWCN"])
def test_mixing_gets_the_form_of_the_images(layout, stem_block_size):
    build = "efficientnet_x.build_model"
    changes = {
        f"{build}.input_layout": layout,
        f"{build}.stem_block_size": stem_block_size,
        f"{build}.stem_reshuffle": "host" if stem_block_size > 1 else "device",
    }
    model = experiment_of("unused", **changes).build_model()
    form = stages.stage_form(Stage(resolution=48), model)
    seen = []

    def record(images, targets, seed, *, layout, patch_size):
        seen.append((images.shape.as_list(), layout, patch_size))
        return images, targets

    experiment = dataclasses.replace(experiment_of("unused"), mixing=record)
    datasets.make_mixing(experiment, Stage(), form, model.output_shape[-1])
    n = stem_block_size
    image = [48 // n, 48 // n, 3 * n * n]
    shape = [2, *image] if layout == "NHWC" else [*image, 2]
    assert seen == [(shape, layout, n)]
