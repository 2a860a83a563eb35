import itertools

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import in_order
from input_pipeline.dataset_info import load_info
from input_pipeline.stream import InputHost, Records
from tests.support.runs import experiment_of
from train import evaluation
from train.mistakes.outcomes import NOTHING, OutcomeLog, Outcomes, positions

NAN = float("nan")


@pytest.mark.long
def test_positions_are_those_that_the_hosts_read(digits):
    """Three hosts with two replicas each, in batches of 40, of 1,000 records."""
    records = Records(load_info(str(digits)), str(digits), "validation")
    shape = (6, 5, 40)
    found = positions(shape, input_hosts=3, images=1000)
    for host in range(3):
        read = in_order.finite(records, input_host=InputHost(host, 3)).batch(500)
        (own,) = [element["position"].numpy().tolist() for element in read]
        batches = found[2 * host : 2 * host + 2].swapaxes(0, 1).reshape(-1)
        assert batches[: len(own)].tolist() == own
        assert (batches[len(own) :] == -1).all()
    assert sorted(found[found >= 0].tolist()) == list(range(1000))


def mirrored(cpus):
    # TensorFlow counts the collective operations of all strategies of a process, so
    # that several of them cannot have such.
    return tf.distribute.MirroredStrategy(cpus, tf.distribute.ReductionToOneDevice())


def logged(strategy, batches, passes=1, begins=0):
    """What a log has of (labels, logits) of all replicas, a batch at a time.

    Before the passes it takes so many batches of one that is broken off.
    """
    replicas = strategy.num_replicas_in_sync
    classes = batches[0][1].shape[-1]
    each = len(batches[0][0]) // replicas
    with strategy.scope():
        log = OutcomeLog(strategy, steps=len(batches), batch=each, classes=classes)

    @tf.function(autograph=False)
    def step(labels, logits):
        def one():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = slice(number * each, (number + 1) * each)
            is_right = tf.math.in_top_k(tf.maximum(labels[own], 0), logits[own], 1)
            log.add(labels[own], logits[own], is_right & (labels[own] >= 0))

        strategy.run(one)

    for labels, logits in batches[:begins] + batches * passes:
        step(tf.constant(labels, tf.int32), tf.constant(logits, tf.float32))
    return log.read()


BATCHES = [
    ([0, 1, 2, 1], np.log([[7, 2, 1], [5, 4, 1], [1, 1, 8], [0.1, 9.8, 0.1]])),
    ([2, 2, -1, 0], np.array([[1.0, 1.0, 1.0], [NAN, 0, 0], [0, 9, 0], [0, 9, 0]])),
    ([0, -1, -1, -1], np.zeros([4, 3])),
]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_predictor_whose_mistakes_are_known(replicas, logical_cpus):
    """A tie is right, as the scores count it; what is no number is taken for nothing.

    A pass before it leaves nothing.
    """
    rows = logged(mirrored(logical_cpus[:replicas]), BATCHES, passes=2)
    assert rows.shape == (replicas, 3, 4 // replicas, 8)
    # A record that could not be read, the third of the second batch, has a place.
    places = positions(rows.shape[:3], input_hosts=1, images=9)
    found = Outcomes.of(rows, places)
    assert found.position.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert found.label.tolist() == [0, 1, 2, 1, 2, 2, 0, 0]
    assert found.right.tolist() == [True, False, True, True, True, False, False, True]
    assert found.predicted.tolist() == [0, 0, 2, 1, 2, NOTHING, 1, 0]
    assert found.guesses[1].tolist() == [0, 1, 2]
    # Of probabilities of 1: float32 has an epsilon of 1.2e-7, in a few roundings each.
    np.testing.assert_allclose(found.probabilities[1], [0.5, 0.4, 0.1], atol=1e-6)
    assert found.guesses[5].tolist() == [NOTHING] * 3
    assert found.probabilities[5].tolist() == [0.0] * 3
    assert found.counts() == {
        **{(0, 0): 2, (0, 1): 1, (1, 0): 1, (1, 1): 1},
        **{(2, 2): 2, (2, NOTHING): 1},
    }
    assert found.worst(2).tolist() == [6, 1]
    assert found.worst(24).tolist() == [6, 1, 5]
    found.require(images=8.0, right=5.0)
    for images, right in ((8.0, 4.0), (9.0, 5.0)):
        with pytest.raises(RuntimeError, match="one by one come to 5 of 8"):
            found.require(images=images, right=right)


def test_a_pass_that_was_broken_off_leaves_nothing(logical_cpus):
    """Whatever batches were before it, a whole pass is read in its order."""
    strategy = mirrored(logical_cpus[:2])
    broken_off = logged(strategy, BATCHES, begins=2)
    np.testing.assert_array_equal(broken_off, logged(strategy, BATCHES))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_batch_costs_the_same_in_a_pass_of_any_length(jit_compile):
    """No operation of a step makes anything of the size of the whole pass."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    steps = 1237
    with strategy.scope():
        log = OutcomeLog(strategy, steps=steps, batch=2, classes=3)

    def add():
        logits, labels = tf.zeros([2, 3]), tf.zeros([2], tf.int32)
        strategy.run(log.add, (labels, logits, labels == 0))

    step = tf.function(add, autograph=False, jit_compile=jit_compile)
    graph = step.get_concrete_function().graph
    made = [one.shape for op in graph.get_operations() for one in op.outputs]
    assert made
    assert not [shape for shape in made if steps in shape.as_list()]
    for _ in range(3):
        step()
    assert log.read()[0, -3:, :, 1].tolist() == [[1.0, 1.0]] * 3
    assert not log.read()[0, :-3].any()


def test_logits_that_differ_by_less_than_their_probabilities_can():
    """The largest logit is what it was taken for, as the scores have it."""
    logits = np.array([[1e-9, 2e-9, 0.0]])
    rows = logged(tf.distribute.OneDeviceStrategy("/cpu:0"), [([0], logits)])
    found = Outcomes.of(rows, positions(rows.shape[:3], input_hosts=1, images=1))
    assert found.counts() == {(0, 1): 1}
    assert found.guesses.tolist() == [[1, 0, 2]]


def test_equally_sure_mistakes_are_in_the_order_of_their_records():
    same = [[1.0, 0.0]] * 4
    columns = [[0, 0, 1, 0, *top] for top in same]  # label, right, two guesses, shares
    rows = np.array(columns, np.float32).reshape(2, 2, 1, 6)
    found = Outcomes.of(rows, np.array([[[3], [0]], [[2], [1]]]))
    assert found.position[found.worst(3)].tolist() == [0, 1, 2]


def test_padding_that_is_taken_for_an_image_is_a_mistake_of_ours():
    rows = np.zeros([1, 1, 2, 4], np.float32)  # the labels are 0
    with pytest.raises(RuntimeError, match="has taken padding for images"):
        Outcomes.of(rows, np.array([[[0, -1]]]))
    # Where nobody knows the order of the records, none of them is named.
    assert Outcomes.of(rows, None).position.tolist() == [-1, -1]


def test_one_class_and_a_number_that_float32_holds_no_more_exactly():
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    rows = logged(strategy, [([0, 0], np.array([[3.0], [5.0]]))])
    found = Outcomes.of(rows, positions(rows.shape[:3], input_hosts=1, images=2))
    assert found.counts() == {(0, 0): 2}
    assert found.guesses.tolist() == [[0], [0]]
    logits = np.zeros([1, 21_841])
    logits[0, 21_840] = 9.0
    rows = logged(strategy, [([21_839], logits)])
    found = Outcomes.of(rows, positions(rows.shape[:3], input_hosts=1, images=1))
    assert found.counts() == {(21_839, 21_840): 1}


def evaluated(experiment, info, strategy, model_dir):
    """The outcomes of a checkpoint, its scores and its models."""
    with strategy.scope():
        models, path, _ = evaluation.load_models(experiment, info, model_dir)
    evaluator = evaluation.Evaluator(experiment, info, strategy, models)
    assert evaluator.outcomes is None
    scores = evaluator.score(path)
    outcomes = evaluator.outcomes
    assert isinstance(outcomes, Outcomes)
    return outcomes, scores, models


@pytest.mark.long
def test_they_are_the_evaluations_own(digits, finished, logical_cpus):
    """On one device and on two; and what the model says of the images by itself."""
    info = load_info(str(digits))
    experiment = experiment_of(digits)
    strategies = (
        tf.distribute.OneDeviceStrategy("/cpu:0"),
        mirrored(logical_cpus),
    )
    (one, scores, models), (two, others, _) = (
        evaluated(experiment, info, strategy, str(finished[0]))
        for strategy in strategies
    )
    assert one.right.mean() == scores["ema_top1"] == finished[1]["ema_top1"]
    assert two.right.mean() == others["ema_top1"]
    assert one.position.tolist() == two.position.tolist() == list(range(1000))
    assert one.label.tolist() == two.label.tolist()
    batches = experiment.eval_data(
        data_dir=str(digits), split="validation", resolution=32, batch_size=100
    )
    elements = list(itertools.islice(batches.as_numpy_iterator(), 10))
    labels = np.concatenate([element["label"] for element in elements])
    assert one.label.tolist() == labels.tolist()
    ema = models["ema_"]
    logits = np.concatenate(
        [ema(element["image"], training=False) for element in elements]
    ).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    order = np.argsort(-shares, axis=1, kind="stable")
    # Two programs of the same layers: the tiny network's sums have 430 terms.
    bound = 4 * 2**-23 * np.sqrt(430) * np.abs(logits).max()
    second = np.take_along_axis(logits, order, 1)
    clear = second[:, 0] - second[:, 1] > 2 * bound
    assert clear.mean() > 0.9
    for found in (one, two):
        assert found.predicted[clear].tolist() == order[clear, 0].tolist()
        likeliest = np.take_along_axis(shares, order[:, :1], 1)[:, 0]
        # A probability moves by a quarter of what its logits do, and less.
        assert np.abs(found.probabilities[:, 0] - likeliest).max() < bound
