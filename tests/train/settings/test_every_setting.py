"""Every setting that a config may set, with values that make sense and that do not.

What a value's type has to be, the parameter's annotation says: it knows nothing of the
rules that are tried here.
"""

import inspect
import sys
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from gin.config import ConfigurableReference

from common import checks
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, load_info
from tests.support.runs import TINY
from tests.support.values import NOTHING, TOO_LARGE, VALUES
from train import config, run, state
from train.experiment import Experiment
from train.settings.functions import FUNCTIONS
from train.stages import Stages

E = "experiment.Experiment"
BUILD = "efficientnet_x.build_model"
# What makes a run use a function that the tiny one does not.
USE = {
    "autoaugment.auto_augment": (
        "dataset.train_dataset.augment = @autoaugment.auto_augment",
    ),
    "randaugment.rand_augment": (
        "dataset.train_dataset.augment = @randaugment.rand_augment",
    ),
    "erasing.random_erasing": (
        "dataset.train_dataset.erase = @erasing.random_erasing",
    ),
    "mixing.mixup_cutmix": (f"{E}.mixing = @mixing.mixup_cutmix",),
    "variants.get_variant": (
        f"{BUILD}.variant = @variants.get_variant()",
        "variants.get_variant.name = 'efficientnet-x-b0'",
    ),
    "variants.change": (
        f"{BUILD}.variant = @variants.change()",
        "variants.change.variant = @variants.Variant()",
    ),
    **{
        f"{module}.{name}": (f"{E}.{field} = @{module}.{name}",)
        for module, field in (("optimizer", "optimizer"), ("schedule", "learning_rate"))
        for name in FUNCTIONS[f"train.{module}"]
    },
}
NAMES = tuple(
    f"{module.rpartition('.')[2]}.{name}"
    for module, names in FUNCTIONS.items()
    for name in names
)
MACROS = {"%itself": "itself = %itself", "%a_list": "a_list = [1]"}


def settable(function: str) -> list[str]:
    """The settings of a function as gin writes them, in a run that uses it."""
    settings = config.resolve([TINY], USE.get(function, ())).settings
    return [name for name in settings if name.rpartition(".")[0] == function]


def object_of(function: str) -> Any:
    module, _, name = function.rpartition(".")
    (full,) = (m for m in FUNCTIONS if m.rpartition(".")[2] == module)
    return getattr(sys.modules[full], name)


def may_be(value: Any, annotation: Any) -> bool:
    """Whether a value is of an annotated type; numbers finite, a text not empty."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation](value)
    if origin in (typing.Union, types.UnionType):
        return any(may_be(value, one) for one in arguments)
    if origin is typing.Literal:
        return type(value) is str and value in arguments
    if origin is Callable:
        return isinstance(value, ConfigurableReference) and not value.evaluate
    if origin is Mapping:
        key, item = arguments
        return isinstance(value, Mapping) and all(
            may_be(k, key) and may_be(v, item) for k, v in value.items()
        )
    if origin in (Sequence, tuple):
        fixed = origin is tuple and arguments[-1] is not ...
        return (
            isinstance(value, tuple | list)
            and (not fixed or len(value) == len(arguments))
            and all(may_be(one, arguments[0]) for one in value)
        )
    return isinstance(value, annotation)


def _is_number(value: Any, *kinds: type) -> bool:
    return type(value) in kinds and abs(value) < 2**63


_SIMPLE = {
    Any: lambda value: True,
    None: lambda value: value is None,
    type(None): lambda value: value is None,
    bool: lambda value: type(value) is bool,
    int: lambda value: _is_number(value, int),
    float: lambda value: _is_number(value, int, float),
    str: lambda value: type(value) is str and bool(value.strip()) and "\0" not in value,
}


def annotation_of(name: str) -> Any:
    """What the parameter of a setting is annotated with."""
    function, _, parameter = name.rpartition(".")
    found = object_of(function)
    return typing.get_type_hints(inspect.unwrap(found))[parameter]


def outcome(name: str, text: str) -> tuple[str, Any]:
    """What becomes of a setting: ("accepted", its value) or ("refused", the line)."""
    function = name.rpartition(".")[0]
    macros = [bound for macro, bound in MACROS.items() if macro in text]
    bindings = [*USE.get(function, ()), *macros, f"{name} = {text}"]
    try:
        found = config.resolve([TINY], bindings)
    except UserError as error:
        return "refused", str(error)
    return "accepted", found.settings[name].value


NAMES_OF_SETTINGS = [name for function in NAMES for name in settable(function)]


@pytest.mark.parametrize("name", NAMES_OF_SETTINGS)
def test_rules_hold_back_what_no_run_could_use(name):
    function, _, parameter = name.rpartition(".")
    rule = checks.rules_of(object_of(function))[parameter]
    taken = [value for value in (*NOTHING, *TOO_LARGE) if rule.holds(value)]
    assert taken == []
    pairs = [(value, value) for value in TOO_LARGE]
    assert not any(rule.holds(pair) for pair in pairs)
    assert rule.what


@pytest.mark.parametrize("name", NAMES_OF_SETTINGS)
def test_a_wrong_value_is_one_line_that_names_the_setting(name):
    kind, line = outcome(name, "[[1, 'a']]")
    assert (kind, line[: len(name) + 3]) == ("refused", f"{name} = ")
    assert "\n" not in line


@pytest.mark.slow
def test_every_setting_with_every_value():
    """Accepted and of the annotated type, or refused in a line that names it."""
    counts: Counter[str] = Counter()
    wrong = []
    for name in NAMES_OF_SETTINGS:
        annotation = annotation_of(name)
        for text in VALUES:
            kind, found = outcome(name, text)
            counts[kind] += 1
            if kind == "accepted":
                right = may_be(found, annotation)
            else:
                right = name.rpartition(".")[2] in found and found.isprintable()
                right &= len(found) < 1000
            if not right:
                wrong.append((name, text[:60], kind, str(found)[:200]))
    print(counts)
    assert wrong == []
    assert counts["accepted"] > 300


def use(function: str, experiment: Experiment, info: DatasetInfo) -> None:
    """Do with a function's settings what a trainer does before its first step."""
    data = {"data_dir": experiment.data_dir, "resolution": 16, "patch_size": 1}
    data |= {"layout": "NHWC", "batch_size": 2, "num_hosts": 1, "host": 0}
    match function.partition(".")[0]:
        case "dataset" | "randaugment" | "autoaugment" | "erasing":
            next(iter(experiment.train_data(split="train", seed=0, start=0, **data)))
            data["split"] = "validation"
            next(iter(experiment.eval_data(num_batches=600, **data)))
        case "schedule":
            rates = [experiment.make_learning_rate(info)(step) for step in (0, 10**6)]
            assert np.isfinite(rates).all()
        case "optimizer":
            made = experiment.optimizer(experiment.make_learning_rate(info))
            made.build([keras.Variable([1.0])])
        case "mixing":
            assert experiment.mixing is not None
            images, targets = tf.zeros([4, 8, 8, 3], tf.uint8), tf.eye(4)
            form = {"layout": "NHWC", "patch_size": 1}
            mixed = experiment.mixing(images, targets, tf.constant([1, 2]), **form)
            assert np.isfinite(mixed[1]).all()
        case "efficientnet_x" | "variants":
            experiment.build_model(dtype="float32", seed=0)
        case _:
            strategy, info = run.prepare(experiment)
            with strategy.scope():
                train_state = state.create(experiment, info)
            stages = Stages(experiment, info, train_state, strategy)
            experiment.eval_interval(info)
            experiment.eval_steps(info)
            stages.enter(0, 0)
            next(iter(stages.trainer.dataset))


@pytest.mark.slow
def test_what_is_accepted_leads_to_no_traceback(digits):
    """The trainer uses it, or refuses it in one line."""
    counts: Counter[str] = Counter()
    info = load_info(str(digits))
    for name in NAMES_OF_SETTINGS:
        function, _, parameter = name.rpartition(".")
        data = [f"{E}.data_dir = {str(digits)!r}"] * (parameter != "data_dir")
        for text in VALUES:
            if outcome(name, text)[0] == "refused":
                continue
            bindings = [*USE.get(function, ()), *data, f"{name} = {text}"]
            try:
                use(function, config.resolve([TINY], bindings).experiment, info)
                counts["used"] += 1
            except UserError:
                counts["refused later"] += 1
            except Exception as error:
                raise AssertionError(f"{name} = {text}") from error
    print(counts)
    assert counts["used"] > 200
