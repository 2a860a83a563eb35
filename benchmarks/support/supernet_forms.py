"""The trainer's step of a supernet, and of its largest networks alone."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import models
from benchmarks.support import step_timing
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from models.input_form import input_form
from models.variants import Variant
from preflight.lowered_steps import LoweredSteps
from search import controller, supernet
from search.nas_search import Nas
from search.networks.space import Space
from search.results import Estimate
from search.supernets.selection import Selection, is_size
from train import state
from train.experiment import Experiment
from train.trainer import Trainer

SUPERNET = "supernet"
_SPLIT = SplitInfo((ShardInfo("none", 1_281_167, ()),))


def forms_of(experiment: Experiment, settings: Nas) -> Mapping[str, Experiment]:
    """Return the experiment with each of the networks.

    The supernet, with a controller as search.nas gives it, but for its tables, whose
    numbers are all alike: they cost the same. The largest of all sizes and kernels, and
    the first of other operations: with every block fused where it can be, and with
    none.

    Args:
      experiment: of any network.
      settings: of the search.
    """
    space = settings.space
    policy = functools.partial(
        controller.reinforce,
        space=space,
        objective=settings.objective,
        latency=_all_alike,
    )
    forms: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {
        SUPERNET: (functools.partial(supernet.build_model, space), policy)
    }
    for name, fused in (("largest", False), ("largest_fused", True)):
        variant = largest(space, fused=fused)
        build = functools.partial(models.build_model, variant, survival_prob=1.0)
        forms[name] = build, None
    return {
        name: dataclasses.replace(
            experiment,
            build_model=functools.partial(build, num_classes=None),
            policy=policy,
        )
        for name, (build, policy) in forms.items()
    }


def _all_alike(variant: Variant) -> Estimate:
    """Return a millisecond for every network: a source that need not compile any."""
    return Estimate(1.0, "all alike")


def largest(space: Space, *, fused: bool):
    """Return the variant of the largest network; constraints do not count."""
    space = dataclasses.replace(space, constraints=())
    indices = []
    for choice in space.choices:
        values, index = choice.values, 0
        if is_size(choice) or choice.field == "kernel_size":
            index = values.index(max(values))
        elif choice.field == "fused" and fused in values:
            index = values.index(fused)
        indices.append(index)
    selection = Selection(space)
    return space.build(selection.network(selection.of(tuple(indices))))


def info(classes: int) -> DatasetInfo:
    """Return a data set of so many classes, which nobody reads."""
    names = tuple(map(str, range(classes)))
    return DatasetInfo("none", 0, names, {"train": _SPLIT, "validation": _SPLIT})


def lower(experiment: Experiment, classes: int) -> tuple[bytes, int]:
    """Return the train step for one replica, and the parameters that learn."""
    steps = LoweredSteps(experiment, info(classes), 1)
    learning = (math.prod(v.shape) for v in steps.model.trainable_variables)
    return steps.train_step().stablehlo, sum(learning)


def seconds_a_step(
    experiment: Experiment, classes: int, steps: int, *, device: str = "/cpu:0"
) -> list[float]:
    """Return what each of some train steps takes on a device, on random pixels."""
    with tf.distribute.OneDeviceStrategy(device).scope():
        strategy = tf.distribute.get_strategy()
        train_state = state.create(experiment, info(classes))
        trainer = Trainer(experiment, train_state, strategy)
    rng = np.random.default_rng(0)
    shape = input_form(train_state.model).image_shape
    images = experiment.global_batch_size
    batch = {
        "image": tf.constant(rng.integers(0, 256, (images, *shape)), tf.uint8),
        "label": tf.constant(rng.integers(0, classes, images), tf.int32),
    }

    @tf.function(autograph=False)
    def update() -> None:
        strategy.run(trainer.replica_step, args=(batch,))

    return step_timing.seconds_a_step(update, train_state.step.numpy, steps)
