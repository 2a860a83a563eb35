"""The controller of a neural architecture search: a policy of the trainer that learns.

    from __gin__ import dynamic_registration
    from search import controller, latency_sources, objectives, spaces, supernet
    from train import experiment

    experiment.Experiment.build_model = @supernet.build_model
    experiment.Experiment.policy = @controller.reinforce
    experiment.Experiment.batch_norm = 'per_replica'
    supernet.build_model.space = @spaces.blocks()
    controller.reinforce:
      space = @spaces.blocks()
      objective = @objectives.Absolute()
      latency = @latency_sources.sum_of_parts()

For each choice of the space it holds a categorical distribution, all alike to begin
with. On every replica, for every micro-batch, a network is drawn; what it scores on the
batch, with its milliseconds in the objective, moves the distributions by REINFORCE
(so replicas must not share batch norm's statistics: they compute different networks):

    advantage = objective - baseline, a moving average of it
    gradient  = mean of advantage * d log p(network) / d logits

There are two forms. In a single step (H2O-NAS, ASPLOS 2023) the forward pass that
trains the weights on a fresh batch scores the network, too, before they have seen it;
so no other pass and no held-out images are needed. Alternating (TuNAS, arXiv
2008.06120), every second batch is of a held-out split (`controller.alternating`),
scores the network and changes no weight.
"""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from common import checks
from common.checks import Rule, optional
from input_pipeline.dataset_info import DatasetInfo
from models.initializers import derive_seed
from search.networks.space import Space
from search.objectives import Objective
from search.results import Latency, is_factory
from search.supernet import choices_of
from search.supernets import costs as latencies
from search.supernets import refusals
from search.supernets.categoricals import Categoricals
from search.supernets.costs import Costs
from search.supernets.milliseconds import Milliseconds
from train.distribution.replica import assign_equal
from train.experiment import Experiment

_BETA2, _EPSILON = 0.999, 1e-12  # of Adam; beta1 is 0, as in TuNAS
# How far noise alone carries a logit in a run, in nats: the root of the sum of the
# squared rates. At 1.5 to 2 planted problems are solved best; at 4 some choices are
# decided by chance.
_DRIFT = 2.0
_OF_DATA = (  # what `alternating` is handed, and hands on
    "data_dir split resolution patch_size layout batch_size seed start num_hosts host"
)
_RATE = checks.between(1e-9, 10**3)


class Chosen(NamedTuple):
    """What a replica computes on a micro-batch.

    Attributes:
      selection: float32[size], see `search.supernets.selection`.
      score: float32[C, V], gradient of its log-probability by the logits.
    """

    selection: tf.Tensor
    score: tf.Tensor


class Schedule(NamedTuple):
    """How the rates of a run change from batch to batch.

    Attributes:
      warm_up: batches in which the controller does not learn.
      batches: of the run.
      rate: of the controller when it begins to learn.
      growth: factor by which the rate has grown at the end, exponentially.
      every: 2 where every second batch trains the controller alone, else 1.
    """

    warm_up: int
    batches: int
    rate: float
    growth: float
    every: int = 1

    @classmethod
    def of(
        cls,
        batches: int,
        *,
        warm_up: float = 0.25,
        growth: float = 10.0,
        rate: float | None = None,
        every: int = 1,
    ) -> "Schedule":
        """Return the schedule of a run.

        Args:
          batches: of the run.
          warm_up: its share in which the controller does not learn.
          growth: see above.
          rate: see above; None lets noise move a logit as far in a short run as in a
            long one.
          every: see above.
        """
        first = int(batches * warm_up)
        if rate is None:
            updates = max(1, (batches - first) // every)
            rate = _DRIFT / math.sqrt(updates * _mean_square(growth))
        return cls(first, batches, rate, growth, every)

    def learns(self, batch: tf.Tensor) -> tf.Tensor:
        """Return bool[], whether the controller hears of a batch."""
        return tf.math.floormod(batch, self.every) == self.every - 1

    def at(self, batch: tf.Tensor) -> tf.Tensor:
        """Return float32[], the rate of a batch; 0 in the warm-up."""
        passed = tf.cast(batch - self.warm_up, tf.float32)
        share = passed / max(1, self.batches - self.warm_up)
        rate = self.rate * tf.pow(self.growth, share)
        return tf.where(passed < 0, 0.0, rate)

    def mixed(self, batch: tf.Tensor) -> tf.Tensor:
        """Return float32[], how likely warm-up's own networks are: from 1 to 0."""
        return 1.0 - tf.minimum(tf.cast(batch, tf.float32) / max(1, self.warm_up), 1.0)


def _mean_square(growth: float) -> float:
    """Return the mean of growth^(2 x) over x from 0 to 1."""
    return 1.0 if growth == 1 else (growth**2 - 1) / (2 * math.log(growth))


class Reinforce:
    """See `reinforce`, which makes it; a `train.policy.Policy`.

    Attributes:
      logits: float32[C, V], of the distributions.
      squares: float32[C, V], Adam's moving average of squared gradients.
      updates: int64, of the logits.
      baseline: float32, moving average of the objective.
      rewards: int64, batches that it is of.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        costs: Costs,
        schedule: Schedule,
        make_seeds: Callable[[int], keras.random.SeedGenerator],
        *,
        seed: int = 0,
        entropy: float = 0.0,
        baseline_decay: float = 0.95,
    ):
        """Make its variables; under the strategy's scope.

        Args:
          space: of the networks.
          objective: to be maximised.
          costs: of the space.
          schedule: of the run.
          make_seeds: of a seed, what gives each micro-batch of each replica its own.
          seed: of the draws.
          entropy: how much a nat counts in the objective.
          baseline_decay: of the moving average.
        """
        self._choices = Categoricals(space)
        self._ms = Milliseconds(space, costs)
        self._objective, self._schedule = objective, schedule
        self._entropy, self._decay = entropy, baseline_decay
        self._seeds = make_seeds(derive_seed(seed, "networks"))
        self._warm_up_seeds = make_seeds(derive_seed(seed, "warm_up"))
        shape = self._choices.shape
        self.logits, self.squares = (_variable(tf.zeros(shape)) for _ in range(2))
        self.baseline = _variable(tf.zeros([]))
        self.updates, self.rewards = (
            _variable(tf.zeros([], tf.int64)) for _ in range(2)
        )

    def check(self, experiment: Experiment, info: DatasetInfo) -> None:
        """Refuse settings of a run that would falsify the search in silence.

        Raises:
          UserError: says what, and which line mends it.
        """
        refusals.refuse(
            experiment,
            info,
            alternates=self._schedule.every > 1,
            held_out=held_out_of(experiment),
        )

    def variables(self) -> dict[str, tf.Variable]:
        """Return what a checkpoint holds, by name."""
        names = "logits", "squares", "updates", "baseline", "rewards"
        return {name: getattr(self, name) for name in names}

    @contextlib.contextmanager
    def choose(self, model: keras.Model, batch: tf.Tensor) -> Iterator[Chosen]:
        """Draw the network that the supernet computes within the context."""
        chosen = self.draw(batch)
        with choices_of(model).selected(chosen.selection):
            yield chosen

    def draw(self, batch: tf.Tensor) -> Chosen:
        """Return a network for a batch, or what warm-up takes in its place."""
        logits, choices = tf.convert_to_tensor(self.logits), self._choices
        weights = choices.draw(logits, self._seeds.next())
        if self._schedule.warm_up:
            seed = self._warm_up_seeds.next()
            chances = tf.random.stateless_uniform([2], seed)
            mixed = chances < self._schedule.mixed(batch)
            weights = choices.warmed_up(weights, mixed[0], mixed[1])
        weights, active = choices.settled(weights)
        score = choices.score(logits, weights, active)
        return Chosen(choices.flat(weights), score)

    def shares(
        self, chosen: Chosen, hits: tf.Tensor, images: tf.Tensor
    ) -> list[tf.Tensor]:
        """Return the objective times the score, the score, the objective, and 1.

        All are 0 where there is no image, as of a replica's micro-batch of broken
        records alone (on_bad_record = 'skip'): it says nothing of its network.
        """
        counts = tf.cast(images > 0, tf.float32)
        top1 = tf.math.divide_no_nan(hits, images)
        ratio = self._ms.of(chosen.selection) / self._objective.target_ms
        reward = counts * self._objective.formula(top1, ratio, tf.maximum)
        return [reward * chosen.score, counts * chosen.score, reward, counts]

    def zeros(self) -> list[tf.Tensor]:
        """Return zeros of the shapes of `shares`."""
        matrix = tf.zeros(self._choices.shape)
        return [matrix, matrix, tf.zeros([]), tf.zeros([])]

    def trains(self, batch: tf.Tensor) -> tf.Tensor | None:
        """Return whether a batch changes the weights: every one, or every second."""
        if self._schedule.every == 1:
            return None
        return tf.logical_not(self._schedule.learns(batch))

    def update(
        self,
        models: Sequence[keras.Model],
        means: Sequence[tf.Tensor],
        batch: tf.Tensor,
    ) -> None:
        """Move the logits, and have the models compute the likeliest network."""
        values = self._moved(means, batch)
        network = self._choices.flat(self._choices.likeliest(values["logits"]))
        selections = [choices_of(model).selection.value for model in models]
        names = self.variables()
        assign_equal(
            [*names.values(), *selections],
            [*(values[name] for name in names), *[network] * len(selections)],
        )

    def _moved(
        self, means: Sequence[tf.Tensor], batch: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return what the variables become."""
        learns = self._schedule.learns(batch) & (means[3] > 0)
        moves = learns & (batch >= self._schedule.warm_up)
        updates = self.updates + tf.cast(moves, tf.int64)
        gradient = self.gradient(means)
        squares = _BETA2 * self.squares + (1.0 - _BETA2) * gradient**2
        count = tf.cast(tf.maximum(updates, 1), tf.float32)
        unbiased = squares / (1.0 - tf.pow(_BETA2, count))
        step = self._schedule.at(batch) * gradient / (tf.sqrt(unbiased) + _EPSILON)
        return {
            "logits": tf.where(moves, self.logits + step, self.logits),
            "squares": tf.where(moves, squares, self.squares),
            "updates": updates,
            "baseline": tf.where(learns, self._next_baseline(means), self.baseline),
            "rewards": self.rewards + tf.cast(learns, tf.int64),
        }

    def gradient(self, means: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return float32[C, V], of the objective's mean and the entropy by the logits.

        Args:
          means: of `shares`.
        """
        of_rewards, scores, reward = _of_counted(means)
        # Of the batches before: a network's own reward would be no part of it.
        baseline = tf.where(self.rewards == 0, reward, self.baseline)
        gradient = of_rewards - baseline * scores
        if self._entropy:
            logits = tf.convert_to_tensor(self.logits)
            gradient += self._entropy * self._choices.entropy_gradient(logits)
        return gradient

    def _next_baseline(self, means: Sequence[tf.Tensor]) -> tf.Tensor:
        *_, reward = _of_counted(means)
        moved = self._decay * self.baseline + (1.0 - self._decay) * reward
        return tf.where(self.rewards == 0, reward, moved)

    def numbers(self) -> dict[str, tf.Tensor]:
        """Return reward (the baseline), entropy in nats, ms of the likeliest network.

        And the probabilities of all values, in the order of a selection.
        """
        logits, choices = tf.convert_to_tensor(self.logits), self._choices
        network = choices.flat(choices.likeliest(logits))
        return {
            "reward": tf.convert_to_tensor(self.baseline),
            "entropy": choices.entropy(logits),
            "ms": self._ms.of(network),
            "probabilities": choices.flat(choices.probabilities(logits)),
        }


def _of_counted(means: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Return the means of `shares` over the micro-batches that have images."""
    *others, counted = means
    return [tf.math.divide_no_nan(one, counted) for one in others]


def _variable(value: tf.Tensor) -> tf.Variable:
    return tf.Variable(
        value,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


@checks.rules(
    space=Rule(
        lambda value: isinstance(value, Space),
        "a space, as @spaces.blocks() with the parentheses",
    ),
    objective=Rule(
        lambda value: isinstance(value, Objective),
        "an objective, as @objectives.Absolute() with the parentheses",
    ),
    latency=Rule(
        lambda value: callable(value) and not is_factory(value),
        "a source, as @latency_sources.sum_of_parts() with the parentheses",
    ),
    costs=Rule(
        lambda value: value == "" or checks.PATH.holds(value),
        "a path or ''",
        of_path=True,
    ),
    alternates=checks.SWITCH,
    warm_up=checks.BELOW_ONE,
    learning_rate=optional(_RATE),
    growth=checks.between(1, 10**6),
    entropy=checks.between(0, 10**3),
    baseline_decay=checks.BELOW_ONE,
    most_questions=checks.whole(1, 10**7),
    most_difference=checks.between(0, 1),
)
def reinforce(
    *,
    seed: int,
    train_steps: int,
    make_seed_generator: Callable[[int], keras.random.SeedGenerator],
    space: Space,
    objective: Objective,
    latency: Latency,
    costs: str = "",
    alternates: bool = False,
    warm_up: float = 0.25,
    learning_rate: float | None = None,
    growth: float = 10.0,
    entropy: float = 0.0,
    baseline_decay: float = 0.95,
    most_questions: int = latencies.MOST_QUESTIONS,
    most_difference: float = latencies.MOST_DIFFERENCE,
) -> Reinforce:
    """Return the controller of a run; the model has to be the supernet of its space.

    Args:
      seed: of the draws.
      train_steps: of the run.
      make_seed_generator: of a seed, what gives each micro-batch its own.
      space: of the networks; all have to be valid, since a graph can leave out none.
      objective: of top-1 and milliseconds, to be maximised.
      latency: source of the milliseconds; see `search.supernets.costs`.
      costs: file that keeps what it said; "" asks it at each start.
      alternates: whether every second batch trains the controller alone, as in TuNAS,
        and has to be of held-out images: Experiment.train_data =
        @controller.alternating. Else each batch trains both, as in H2O-NAS.
      warm_up: share of the steps in which the controller does not learn. Meanwhile,
        with a probability that falls from 1 to 0, a micro-batch has all operations
        mixed in equal parts, and with the same one the largest of all sizes (TuNAS).
      learning_rate: of Adam when warm-up ends, in nats a step; None is 2 over the root
        of the number of updates to come: then noise alone moves a logit by about 2
        in a run of any length.
      growth: factor of the rate from there to the end, exponentially; 10 in TuNAS.
      entropy: how much a nat of entropy counts in the objective; 0 in TuNAS.
      baseline_decay: of the moving average of the objective; .95 in TuNAS.
      most_questions: networks that `latency` may be asked.
      most_difference: share by which it may differ from sums of a network's parts.

    Raises:
      UserError: there are networks that are not valid, or of which `latency` is unknown
        or no sum of parts.
    """
    found = latencies.kept(
        costs,
        space,
        latency,
        most_questions=most_questions,
        most_difference=most_difference,
    )
    getattr(latency, "close", lambda: None)()
    schedule = Schedule.of(
        train_steps,
        warm_up=warm_up,
        growth=growth,
        rate=learning_rate,
        every=2 if alternates else 1,
    )
    return Reinforce(
        space,
        objective,
        found,
        schedule,
        make_seed_generator,
        seed=seed,
        entropy=entropy,
        baseline_decay=baseline_decay,
    )


@checks.rules(
    held_out=checks.TEXT,
    train_data=checks.function(keywords=_OF_DATA.split()),
)
def alternating(
    *,
    data_dir: str,
    split: str,
    held_out: str,
    train_data: Callable[..., tf.data.Dataset],
    batch_size: int,
    start: int = 0,
    num_hosts: int = 1,
    resize: str | None = None,
    **others: Any,
) -> tf.data.Dataset:
    """Return batches of two splits in turns, those of the held-out one second.

    Element k depends on the data and `start` + k alone, as of
    `input_pipeline.dataset.train_dataset`, whose other arguments these are:

        experiment.Experiment:
          train_data = @controller.alternating
          train_split = 'train[:6shard]'
        controller.alternating:
          train_data = @dataset.train_dataset
          held_out = 'train[6shard:]'
        controller.reinforce.alternates = True

    Args:
      data_dir: of the data.
      split: of the images for the weights.
      held_out: of those for the controller, such as "train[6shard:]" beside
        "train[:6shard]"; no image may be one of `split`, which is
        Experiment.train_split, nor one of Experiment.eval_split.
      train_data: makes the batches of a split: @dataset.train_dataset, with the crops
        and the augmentation that the recipe gives it.
      batch_size: of an element: the batch of one replica.
      start: images of both splits that this input host has consumed.
      num_hosts: how many input hosts share the data.
      resize: of `train_data`, where it has none of its own.
      **others: of `train_data`.
    """
    if (known := inspect.signature(train_data).parameters.get("resize")) is not None:
        others["resize"] = resize if known.default is None else known.default
    # All replicas of a host take an element of the same global batch.
    parts = max(1, tf.distribute.get_strategy().num_replicas_in_sync // num_hosts)
    batch, part = divmod(start // batch_size, parts)
    own = [(batch + 1) // 2 * parts, batch // 2 * parts]  # elements of each, consumed
    own[batch % 2] += part
    make = functools.partial(
        train_data,
        data_dir=data_dir,
        batch_size=batch_size,
        num_hosts=num_hosts,
        **others,
    )
    splits = [
        make(split=name, start=elements * batch_size)
        for name, elements in zip((split, held_out), own, strict=True)
    ]
    first = batch * parts + part
    turns = tf.data.Dataset.range(first, tf.int64.max).map(
        lambda element: element // parts % 2
    )
    return tf.data.Dataset.choose_from_datasets(splits, turns)


def held_out_of(experiment: Experiment) -> str | None:
    """Return the split of an experiment's held-out batches; None where it has none."""
    make = experiment.train_data
    if getattr(make, "func", make) is not alternating:
        return None
    return getattr(make, "keywords", {}).get("held_out")
