"""Settings that would falsify a search in silence."""

import dataclasses
import functools
from typing import Any

import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from preflight.compile_only import CompileOnlyStrategy
from search import controller
from search.supernets import refusals
from tests.support.runs import experiment_of


def split(name, count=8):
    names = (f"{name}-{number:05d}-of-{count:05d}" for number in range(count))
    return SplitInfo(tuple(ShardInfo(one, 100, ()) for one in names))


SPLITS = {"train": split("train"), "validation": split("validation", 2)}
INFO = DatasetInfo("made up", 0, ("cat", "dog"), SPLITS)
FIRST, LAST = "train[:6shard]", "train[6shard:]"


@pytest.fixture(scope="module")
def recipe():
    return experiment_of("unused", gin_file="tests/data/train/searched.gin")


def checked(
    recipe, *, held_out=None, alternates=False, info=INFO, replicas=1, **changes
):
    """Check an experiment under so many replicas."""
    if held_out is not None:
        data = functools.partial(controller.alternating, held_out=held_out)
        changes["train_data"] = data
    experiment = dataclasses.replace(recipe, **changes)
    assert controller.held_out_of(experiment) == held_out
    with CompileOnlyStrategy(replicas).scope():
        assert tf.distribute.get_strategy().num_replicas_in_sync == replicas
        refusals.refuse(
            experiment,
            info,
            alternates=alternates,
            held_out=controller.held_out_of(experiment),
        )


def test_what_may_be(recipe):
    checked(recipe)
    checked(recipe, held_out=LAST, alternates=True, train_split=FIRST)
    checked(recipe, held_out=FIRST, alternates=True, train_split=LAST)
    # Who trains alone needs no split to score.
    alone: dict[str, Any] = {"eval_split": "none", "train_split": FIRST}
    checked(recipe, held_out=LAST, alternates=True, **alone)


@pytest.mark.parametrize(
    ("given", "mends"),
    [
        ({"alternates": True}, "train_data = @controller.alternating"),
        ({"held_out": LAST, "train_split": FIRST}, "reinforce.alternates = True"),
    ],
)
def test_one_switch_without_the_other(recipe, given, mends):
    with pytest.raises(UserError, match=mends):
        checked(recipe, **given)


@pytest.mark.parametrize(
    ("train", "held_out", "common"),
    [
        ("train", LAST, "train-00006-of-00008 and 1 more"),
        ("train", "train", "train-00000-of-00008 and 7 more"),
        ("train[:7shard]", LAST, "train-00006-of-00008, also"),
        ("train[3shard:4shard]", "train[:4shard]", "train-00003-of-00008, also"),
    ],
)
def test_held_out_images_that_the_weights_learn(recipe, train, held_out, common):
    with pytest.raises(UserError, match=f"is, in {common}.*weights learn from"):
        checked(recipe, held_out=held_out, alternates=True, train_split=train)


def test_held_out_images_that_are_scored(recipe):
    with pytest.raises(UserError, match="validation-00001-of-00002, also what is scor"):
        checked(recipe, held_out="validation[1shard:]", alternates=True)
    spare: dict[str, Any] = {
        "train_split": "train[:4shard]",
        "eval_split": "train[5shard:6shard]",
    }
    checked(recipe, held_out=LAST, alternates=True, **spare)


def test_data_that_nobody_has_seen(recipe):
    """As of preflight, which is told how many images there are, and no more."""
    unknown = DatasetInfo("unknown", 0, (), {"train": split("train", 1)})
    checked(recipe, held_out=LAST, alternates=True, info=unknown)


@pytest.mark.parametrize(
    ("batch_norm", "replicas", "is_refused"),
    [
        *[("reference", 1, False), ("reference", 8, False), ("reference", 32, True)],
        *[("global", 1, False), ("global", 2, True), ("per_replica", 32, False)],
        *[(1, 8, False), (2, 8, True)],
    ],
)
def test_statistics_over_replicas(recipe, batch_norm, replicas, is_refused):
    """Where each computes a network of its own, and only there."""
    given = {"replicas": replicas, "batch_norm": batch_norm}
    if not is_refused:
        checked(recipe, **given)
        return
    with pytest.raises(UserError, match=r"Experiment\.batch_norm = 'per_replica'"):
        checked(recipe, **given)
