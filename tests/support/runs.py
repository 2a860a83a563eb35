"""Runs of twelve steps on real digits."""

from typing import Any

from train import config, run

TINY = "tests/data/train/tiny.gin"


def experiment_of(data_dir, *, gin_file: Any = TINY, **changes):
    return config_of(data_dir, gin_file=gin_file, **changes).experiment


def config_of(data_dir, *, gin_file: Any = TINY, **changes):
    return config.resolve([gin_file], bindings(data_dir, changes))


def bound(function: Any) -> dict[str, Any]:
    """The settings of a function of an experiment's."""
    return function.keywords


def bindings(data_dir, changes):
    settings = {"experiment.Experiment.data_dir": str(data_dir)} | changes
    return [f"{name} = {value!r}" for name, value in settings.items()]


def run_tiny(digits, model_dir, **changes):
    found = config_of(digits, **changes)
    return run.train_and_evaluate(found.experiment, str(model_dir), config=found)
