"""Runs of twelve steps on real digits."""

from typing import Any

from train import config, run

TINY = "tests/data/train/tiny.gin"


def experiment_of(data_dir, *, gin_file: Any = TINY, **changes):
    return config.parse([gin_file], bindings(data_dir, changes))


def bindings(data_dir, changes):
    settings = {"experiment.Experiment.data_dir": str(data_dir)} | changes
    return [f"{name} = {value!r}" for name, value in settings.items()]


def run_tiny(digits, model_dir, **changes):
    experiment = experiment_of(digits, **changes)
    return run.train_and_evaluate(
        experiment,
        str(model_dir),
        before_restore=lambda: config.compare(str(model_dir)),
        after_restore=lambda: config.save(str(model_dir)),
    )
