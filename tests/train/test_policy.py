"""The trainer's part in a policy: who asks it what, and what stays as it is."""

import contextlib
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from tests.support.runs import config_of, experiment_of
from tests.train.test_mixing import INFO, batch_of
from train import config, state
from train.trainer import Trainer

LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, -1]
E = "experiment.Experiment"


class Stub:
    """Adds up what the trainer says; every second batch trains it alone, if asked."""

    def __init__(self, seed, train_steps, make_seed_generator, alternates=False):
        self.made_with = seed, train_steps
        self.alternates = alternates
        self.seeds = make_seed_generator(seed)
        self.heard = tf.Variable(tf.zeros([4]))
        self.batches = tf.Variable(tf.zeros([2], tf.int64))  # last one, how many
        self.models = []

    def check(self, experiment, info):
        self.checked = experiment.train_split, info.name

    def variables(self):
        return {"heard": self.heard, "batches": self.batches}

    @contextlib.contextmanager
    def choose(self, model, batch):
        yield tf.cast(self.seeds.next()[1], tf.float32), batch

    def shares(self, chosen, hits, images):
        draw, batch = chosen
        return [tf.stack([draw, hits, images, tf.cast(batch, tf.float32)])]

    def zeros(self):
        return [tf.zeros([4])]

    def trains(self, batch):
        return batch % 2 == 0 if self.alternates else None

    def update(self, models, means, batch):
        self.models = models
        self.heard.assign(means[0])
        self.batches.assign([batch, self.batches[1] + 1])

    def numbers(self):
        return {"draw": self.heard[0], "heard": tf.convert_to_tensor(self.heard)}


def alternating(**given):
    return Stub(**given, alternates=True)


def trainer_of(policy, **changes):
    settings = {"accumulation_steps": 3, "global_batch_size": 12} | changes
    experiment = experiment_of("unused", **{f"{E}.{k}": v for k, v in settings.items()})
    experiment = dataclasses.replace(experiment, policy=policy)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        train_state = state.create(experiment, INFO)
        return Trainer(experiment, train_state, strategy, dataset=None)


def stepper(trainer):
    batch = batch_of(LABELS)

    @tf.function(autograph=False)
    def step():
        trainer.strategy.run(trainer.replica_step, args=(batch,))

    return step


def held(trainer):
    return {name: v.numpy() for name, v in trainer.state.variables().items()}


@pytest.fixture(scope="module")
def plain():
    """Two steps without a policy: the state behind each."""
    trainer = trainer_of(None)
    step, found = stepper(trainer), []
    for _ in range(2):
        step()
        found.append(held(trainer))
    return found


@pytest.fixture(scope="module")
def asked():
    """A trainer behind two steps with one, and the state behind each."""
    trainer = trainer_of(Stub)
    step, found = stepper(trainer), []
    trainer.begin_loop()
    for _ in range(2):
        step()
        found.append(held(trainer))
    return trainer, found


def test_a_policy_that_changes_nothing_changes_no_bit(plain, asked):
    for without, with_one in zip(plain, asked[1], strict=True):
        others = with_one.keys() - without.keys()
        assert others == {"policy/heard", "policy/batches"}
        for name, value in without.items():
            assert value.tobytes() == with_one[name].tobytes(), name


def test_it_gets_the_means_over_the_micro_batches(asked):
    """Draws are 3 a step; of 12 images one is none; batches count from 0."""
    trainer, found = asked
    for number, variables in enumerate(found):
        draw, hits, images, batch = variables["policy/heard"]
        assert draw == 3 * number + 1  # the mean of 0, 1, 2, then of 3, 4, 5
        assert images == np.float32(11 / 3)
        assert batch == number
        assert 0 <= hits <= images
        assert variables["policy/batches"].tolist() == [number, number + 1]
    assert trainer.state.policy.models == [
        trainer.state.model,
        trainer.state.ema_model,
    ]
    assert trainer.state.policy.made_with[1] == 2  # .06 epochs of 400 images


def test_it_is_asked_to_check_the_run(asked):
    trainer, _ = asked
    assert trainer.state.policy.checked == ("train", INFO.name)


def test_what_it_refuses_ends_the_run():
    class Refuses(Stub):
        def check(self, experiment, info):
            raise UserError("it would falsify the search")

    with pytest.raises(UserError, match="it would falsify the search"):
        trainer_of(Refuses)


def test_hits_are_those_of_the_loop(asked):
    trainer, found = asked
    output = trainer.end_loop()
    hits = sum(3 * variables["policy/heard"][1] for variables in found)
    assert output.top1 * output.images == pytest.approx(float(hits))
    assert output.policy == {"draw": 4.0, "heard": found[1]["policy/heard"].tolist()}


@pytest.mark.long
def test_rewards_count_images_whatever_their_class_weighs(plain, asked):
    weights = dict.fromkeys(INFO.label_names[:4], 8.0)
    trainer = trainer_of(Stub, class_weights=weights)
    stepper(trainer)()
    found, usual = held(trainer), asked[1][0]
    assert found["policy/heard"].tolist() == usual["policy/heard"].tolist()
    assert found["policy/heard"][2] == np.float32(11 / 3)
    gradients = [name for name in found if name.startswith("optimizer/")]
    # The weights learn otherwise.
    assert any((found[name] != plain[0][name]).any() for name in gradients)


def test_batches_behind_a_skipped_one(asked):
    """The number is that of the batch, not of the step."""
    trainer, _ = asked
    trainer.state.skipped_batches.assign(5)
    assert int(trainer.state.batch()) == trainer.state.next_batch == 7
    trainer.state.skipped_batches.assign(0)


@pytest.mark.long
def test_a_batch_for_the_policy_alone(plain):
    """The second of two: only the step, and what the policy has, moves."""
    trainer = trainer_of(alternating)
    step = stepper(trainer)
    step()
    first = held(trainer)
    for name, value in plain[0].items():
        assert value.tobytes() == first[name].tobytes(), name
    step()
    second = held(trainer)
    assert second["step"] == 2
    assert second["policy/batches"].tolist() == [1, 2]
    for name in first.keys() - {"step", "policy/heard", "policy/batches"}:
        assert second[name].tobytes() == first[name].tobytes(), name


@pytest.mark.long
def test_a_step_that_is_left_out_teaches_nothing(monkeypatch):
    """In float16, where a gradient has overflown."""
    trainer = trainer_of(Stub, precision="mixed_float16", accumulation_steps=1)
    original = trainer._part

    def overflown(images, targets):
        part = original(images, targets)
        return part | {"gradients": [g * np.inf for g in part["gradients"]]}

    monkeypatch.setattr(trainer, "_part", overflown)
    stepper(trainer)()
    found = held(trainer)
    assert found["step"] == 1
    assert found["loss_scale/skipped_steps"] == 1
    assert found["policy/batches"].tolist() == [0, 0]
    assert found["policy/heard"].tolist() == [0] * 4


def test_a_run_keeps_its_policy(digits, tmp_path):
    """Taken away, or given: another config, with which the run cannot go on."""
    was = config_of(digits)
    was.save(str(tmp_path))
    lines = [
        "from tests.train import test_policy",
        f"{E}.policy = @test_policy.Stub",
    ]
    path = tmp_path / "policy.gin"
    text = "\n".join(["from __gin__ import dynamic_registration", *lines[:1]])
    path.write_text(
        f"{text}\nfrom train import experiment\n"
        f"include 'tests/data/train/tiny.gin'\n{lines[1]}\n"
    )
    now = config.resolve([str(path)], [f"{E}.data_dir = {str(digits)!r}"])
    for accept in (False, True):
        with pytest.raises(UserError, match=f"{E}.policy: .*not for .*{E}.policy"):
            now.refuse_changes(str(tmp_path), accept_changes=accept)
