"""The controller's arithmetic, by values and by enumeration."""

import functools
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from search import controller, spaces
from search.controller import Chosen, Reinforce, Schedule
from search.networks.layout import Layout
from search.objectives import Absolute, HardProduct, OneSided, Product
from search.supernets.costs import Costs, Table
from search.supernets.selection import Selection
from train.distribution.replica import MicroBatch, ReplicaSeedGenerator

# Two choices, of which the second counts only with the first's first value.
SPACE = spaces.blocks(
    "efficientnet-x-b0",
    {2: {"fused": [False, True], "se_ratio": [0, 0.25, 0.5]}},
    when={"2.se_ratio": {"2.fused": [False]}},
)
MS = np.array([[1.0, 2.0, 3.0], [1.5, 1.5, 1.5]])
COSTS = Costs((Table((0, 1), MS),), "made up", 4, 0, 0.0)
TOP1 = {(0, 0): 0.5, (0, 1): 0.75, (0, 2): 1.0, (1, 0): 0.625}
EVERY = list(itertools.product(range(2), range(3)))
# Sums of fewer than 16 numbers below 1 in float32.
EXACT = 16 * 2.0**-24


def make(schedule=None, *, count=1, **settings):
    step, micro_batch = tf.Variable(tf.constant(0, tf.int64)), MicroBatch(count)
    seeds = functools.partial(ReplicaSeedGenerator, step=step, micro_batch=micro_batch)
    schedule = schedule or Schedule(0, 100, 0.1, 1.0)
    objective = settings.pop("objective", OneSided(target_ms=2.0))
    made = Reinforce(SPACE, objective, COSTS, schedule, seeds, **settings)
    return made, step, micro_batch


def settled(draw):
    active = Layout(SPACE.choices).active(draw)
    pairs = zip(draw, active, strict=True)
    first, second = (i if counts else 0 for i, counts in pairs)
    return first, second


def chosen_of(policy, draw):
    weights = tf.constant(np.eye(3, dtype=np.float32)[list(draw)])
    weights, active = policy._choices.settled(weights)
    score = policy._choices.score(tf.convert_to_tensor(policy.logits), weights, active)
    return Chosen(policy._choices.flat(weights), score)


def shares_of(policy, draw, images=8.0):
    hits = tf.constant(TOP1[settled(draw)] * images)
    return policy.shares(chosen_of(policy, draw), hits, tf.constant(images))


def softmax(row):
    return np.exp(row) / np.exp(row).sum()


def value(draw):
    """OneSided: Q - .1 max(0, T / 2 - 1)."""
    network = settled(draw)
    return TOP1[network] - 0.1 * max(0.0, MS[network] / 2 - 1)


def expected_value(logits):
    chances = softmax(logits[0, :2]), softmax(logits[1])
    return sum(chances[0][i] * chances[1][j] * value((i, j)) for i, j in EVERY)


LOGITS = np.array([[0.3, -0.2, 0], [0.1, 0.5, -0.4]], np.float32)


@pytest.mark.parametrize("draw", EVERY)
def test_shares_by_hand(draw):
    policy, _, _ = make()
    policy.logits.assign(LOGITS)
    of_reward, score, reward, counts = (one.numpy() for one in shares_of(policy, draw))
    assert counts == 1
    assert reward == pytest.approx(value(draw), abs=EXACT)
    expected = np.zeros((2, 3))
    expected[0, :2] = np.eye(2)[draw[0]] - softmax(LOGITS[0, :2])
    if draw[0] == 0:  # else SE has no part in the network's probability
        expected[1] = np.eye(3)[draw[1]] - softmax(LOGITS[1])
    np.testing.assert_allclose(score, expected, rtol=0, atol=EXACT)
    np.testing.assert_allclose(of_reward, value(draw) * expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("baseline", [0.0, 0.6])
def test_mean_of_the_gradients_is_that_of_the_mean(baseline):
    """Over all draws, whatever the baseline; by central differences in float64."""
    policy, _, _ = make()
    policy.logits.assign(LOGITS)
    policy.baseline.assign(baseline)
    policy.rewards.assign(1)
    chances = softmax(LOGITS[0, :2]), softmax(LOGITS[1])
    found, step = np.zeros((2, 3)), 1e-5
    for draw in EVERY:
        chance = chances[0][draw[0]] * chances[1][draw[1]]
        found += chance * policy.gradient(shares_of(policy, draw)).numpy()
    for place, index in itertools.product(range(2), range(3)):
        moved = [LOGITS.astype(np.float64), LOGITS.astype(np.float64)]
        moved[0][place, index] += step
        moved[1][place, index] -= step
        slope = (expected_value(moved[0]) - expected_value(moved[1])) / (2 * step)
        if (place, index) == (0, 2):
            slope = 0.0  # padding
        assert found[place, index] == pytest.approx(slope, abs=EXACT + step**2)


@pytest.mark.parametrize(
    "objective",
    [Product(2.0), HardProduct(2.0), Absolute(2.0), OneSided(2.0)],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("draw", [(0, 0), (0, 1), (0, 2)])
def test_objectives_are_those_of_the_search(objective, draw):
    """Below, at and above the target; one formula for numbers and tensors."""
    policy, _, _ = make(objective=objective)
    *_, reward, _ = shares_of(policy, draw)
    expected = objective(100 * TOP1[draw], MS[draw])
    assert float(reward) == pytest.approx(expected, abs=EXACT)


def test_updates_by_hand():
    """Adam without a first moment; the baseline before each batch."""
    policy, _, _ = make(Schedule(0, 4, 0.1, 10.0), baseline_decay=0.75)
    logits, squares, baseline = np.zeros((2, 3)), np.zeros((2, 3)), None
    for batch, draw in enumerate([(0, 2), (1, 0), (0, 0)]):
        chances = softmax(logits[0, :2]), softmax(logits[1])
        score = np.zeros((2, 3))
        score[0, :2] = np.eye(2)[draw[0]] - chances[0]
        if draw[0] == 0:
            score[1] = np.eye(3)[draw[1]] - chances[1]
        reward = value(draw)
        advantage = 0.0 if baseline is None else reward - baseline
        gradient = advantage * score
        squares = 0.999 * squares + 0.001 * gradient**2
        unbiased = squares / (1 - 0.999 ** (batch + 1))
        rate = 0.1 * 10 ** (batch / 4)
        logits = logits + rate * gradient / (np.sqrt(unbiased) + 1e-12)
        baseline = reward if baseline is None else 0.75 * baseline + 0.25 * reward

        policy.update([], shares_of(policy, draw), tf.constant(batch, tf.int64))
        # 1 - .999^t keeps 10 bits fewer than .999^t has.
        np.testing.assert_allclose(policy.logits, logits, rtol=2.0**-11, atol=1e-7)
        assert float(policy.baseline) == pytest.approx(baseline, abs=EXACT)
    assert int(policy.updates) == int(policy.rewards) == 3


def test_a_micro_batch_without_images_says_nothing():
    """As of broken records alone: it was a reward of 0 for the network."""
    alone, beside, nobody = (make(Schedule(0, 4, 0.1, 1.0))[0] for _ in range(3))
    empty = shares_of(beside, (1, 0), images=0.0)
    assert not any(one.numpy().any() for one in empty)
    means = {
        alone: lambda draw: shares_of(alone, draw),
        beside: lambda draw: [
            (one + other) / 2
            for one, other in zip(shares_of(beside, draw), empty, strict=True)
        ],
        nobody: lambda draw: empty,
    }
    for batch, draw in enumerate([(0, 2), (1, 0)]):
        for policy, of in means.items():
            policy.update([], of(draw), tf.constant(batch, tf.int64))
    for name, variable in alone.variables().items():
        # Halves are exact.
        assert variable.numpy().tolist() == beside.variables()[name].numpy().tolist()
    assert alone.logits.numpy().any()
    assert not any(one.numpy().any() for one in nobody.variables().values())


def test_entropy_counts():
    """Equal rewards: only the entropy moves the logits, towards equal chances."""
    policy, _, _ = make(entropy=0.5)
    policy.logits.assign(LOGITS)
    zeros = [tf.zeros_like(one) for one in policy.zeros()]
    gradient = policy.gradient(zeros).numpy()
    expected = 0.5 * policy._choices.entropy_gradient(policy.logits).numpy()
    np.testing.assert_array_equal(gradient, expected)
    assert gradient[1].argmin() == LOGITS[1].argmax()


def test_schedule():
    schedule = Schedule.of(1000, warm_up=0.25, growth=10.0)
    assert schedule.warm_up == 250
    rates = [float(schedule.at(tf.constant(b, tf.int64))) for b in range(1001)]
    assert rates[:250] == [0.0] * 250
    assert rates[1000] / rates[250] == pytest.approx(10, rel=1e-5)
    # So noise alone carries a logit by 2: the root of the sum of squared rates.
    assert math.hypot(*rates[:1000]) == pytest.approx(2, rel=5e-3)
    half = Schedule.of(1000, every=2)
    rates = [float(half.at(tf.constant(b, tf.int64))) for b in range(1, 1000, 2)]
    assert math.hypot(*rates) == pytest.approx(2, rel=1e-2)
    assert [bool(half.learns(tf.constant(b))) for b in range(4)] == [0, 1, 0, 1]
    mixed = [float(schedule.mixed(tf.constant(b, tf.int64))) for b in (0, 125, 250, 9)]
    assert mixed[:3] == [1.0, 0.5, 0.0]
    fixed = Schedule.of(10, rate=0.3, growth=1.0, warm_up=0.0)
    assert float(fixed.at(tf.constant(7, tf.int64))) == np.float32(0.3)


def test_nothing_is_learnt_in_the_warm_up():
    policy, _, _ = make(Schedule(2, 10, 0.1, 1.0))
    for batch in range(2):
        policy.update([], shares_of(policy, (0, 2)), tf.constant(batch, tf.int64))
    assert not policy.logits.numpy().any()
    assert not policy.squares.numpy().any()
    assert [int(policy.updates), int(policy.rewards)] == [0, 2]
    assert float(policy.baseline) == pytest.approx(value((0, 2)), abs=EXACT)
    policy.update([], shares_of(policy, (0, 0)), tf.constant(2, tf.int64))
    assert int(policy.updates) == 1
    assert policy.logits.numpy()[1, 0] < 0  # it was worse than the baseline


def test_every_second_batch_is_the_controller_s():
    policy, _, _ = make(Schedule(0, 10, 0.1, 1.0, every=2))
    assert [bool(policy.trains(tf.constant(b))) for b in range(4)] == [1, 0, 1, 0]
    policy.update([], shares_of(policy, (0, 2)), tf.constant(0, tf.int64))
    assert [int(policy.updates), int(policy.rewards)] == [0, 0]
    policy.update([], shares_of(policy, (0, 2)), tf.constant(1, tf.int64))
    assert [int(policy.updates), int(policy.rewards)] == [1, 1]
    assert make()[0].trains(tf.constant(0)) is None


def test_draws_in_the_warm_up():
    """Shares over 2,000 steps, half-way: half of all have operations mixed."""
    policy, step, _ = make(Schedule(2000, 4000, 0.1, 1.0))

    @tf.function
    def draws():
        found = tf.TensorArray(tf.float32, 2000, element_shape=[5])
        for number in tf.range(2000):
            step.assign(tf.cast(number, tf.int64))
            chosen = policy.draw(tf.constant(1000, tf.int64))
            found = found.write(number, chosen.selection)
        return found.stack()

    found = draws().numpy()
    mixed = found[:, 0] == 0.5
    sd = 0.5 / math.sqrt(2000)
    assert abs(mixed.mean() - 0.5) < 5 * sd
    # The largest SE: in half of all by warm-up, in a sixth by chance, if it counts.
    counts = mixed | (found[:, 0] == 1)
    largest = found[counts, 4].mean()
    assert abs(largest - (1 / 2 + 1 / 6)) < 5 * sd
    assert set(map(tuple, found[~counts, 2:])) == {(1.0, 0.0, 0.0)}
    np.testing.assert_array_equal(found[:, :2].sum(axis=1), 1)


def test_draws_depend_on_seed_step_and_micro_batch_alone():
    def draws(seed, count=2):
        policy, step, micro_batch = make(count=count, seed=seed)
        found = []
        for number in range(8):
            step.assign(number // 2)
            micro_batch.number = number % 2
            batch = tf.constant(0, tf.int64)
            found.append(tuple(policy.draw(batch).selection.numpy()))
        return found

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert len(set(draws(1))) > 2


def test_numbers():
    policy, _, _ = make()
    policy.logits.assign(LOGITS)
    policy.baseline.assign(0.25)
    numbers = {name: one.numpy() for name, one in policy.numbers().items()}
    assert numbers["reward"] == 0.25
    assert numbers["ms"] == 2.0  # not fused, se .25
    chances = np.concatenate([softmax(LOGITS[0, :2]), softmax(LOGITS[1])])
    np.testing.assert_allclose(numbers["probabilities"], chances, atol=EXACT)
    first = -(chances[:2] * np.log(chances[:2])).sum()
    second = -(chances[2:] * np.log(chances[2:])).sum()
    expected = first + chances[0] * second
    assert numbers["entropy"] == pytest.approx(expected, abs=EXACT)
    network = Selection(SPACE).network(numbers["probabilities"])
    assert network == (0, 1)


def splits(**given):
    """Elements that say of which split they are, and their first image."""

    def train_data(*, split, start, batch_size, **_):
        numbers = tf.data.Dataset.range(start, 10**6, batch_size)
        return numbers.map(lambda first: (split, first))

    made = controller.alternating(
        data_dir="d", split="train", held_out="held", train_data=train_data, **given
    )
    return [
        (split.decode(), int(first))
        for split, first in made.take(8).as_numpy_iterator()
    ]


def test_two_splits_take_turns():
    assert splits(batch_size=10)[:4] == [
        ("train", 0),
        ("held", 0),
        ("train", 10),
        ("held", 10),
    ]


@pytest.mark.parametrize("replicas", [1, 2])
def test_turns_go_on_where_they_were(replicas, monkeypatch):
    """Replicas of a host take elements of one global batch, so of one split."""
    strategy = tf.distribute.get_strategy()
    monkeypatch.setattr(
        type(strategy), "num_replicas_in_sync", property(lambda _: 2 * replicas)
    )
    given = {"batch_size": 10, "num_hosts": 2}
    whole = splits(**given)
    first = [split for split, _ in whole]
    assert first == (["train"] * replicas + ["held"] * replicas) * (4 // replicas)
    for element in range(5):
        rest = splits(**given, start=10 * element)
        assert rest[: 8 - element] == whole[element:]


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [(None, "bicubic", "bicubic"), ("bilinear", "bicubic", "bilinear")],
)
def test_a_resize_that_the_recipe_gives_counts(own, given, expected):
    """The trainer hands over that of the network's authors where it sees none."""
    seen = []

    def train_data(*, split, resize=None, **_):
        seen.append((split, resize))
        return tf.data.Dataset.range(4)

    controller.alternating(
        data_dir="d",
        split="train",
        held_out="held",
        train_data=functools.partial(train_data, resize=own),
        batch_size=2,
        resize=given,
    )
    assert seen == [("train", expected), ("held", expected)]


def test_data_of_ones_own_need_no_resize():
    """`train_data` of a user's own may not have this setting."""
    controller.alternating(
        data_dir="d",
        split="train",
        held_out="held",
        train_data=lambda *, data_dir, split, batch_size, num_hosts, start: (
            tf.data.Dataset.range(4)
        ),
        batch_size=2,
        resize="bicubic",
    )
