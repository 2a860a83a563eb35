"""A run on digits that nobody disturbed."""

import json

import pytest

from tests.support.once import made_once
from tests.support.runs import run_tiny
from train import config
from train.exports import saved_model


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """The folder of a run that nobody disturbed, and what the run returned."""

    def make(folder):
        summary = run_tiny(digits, folder / "run")
        (folder / "returned.json").write_text(json.dumps(summary))

    folder = made_once(tmp_path_factory, "undisturbed", make)
    return folder / "run", json.loads((folder / "returned.json").read_text())


@pytest.fixture(scope="session")
def exported(finished, tmp_path_factory):
    """The folder of that run's SavedModel, and the report of its making."""
    model_dir = str(finished[0])

    def make(folder):
        saved = config.parse([], [], model_dir=model_dir)
        saved_model.export(saved, model_dir, str(folder / "e"))

    folder = made_once(tmp_path_factory, "exported", make) / "e"
    report = json.loads((folder / "assets.extra/check.json").read_text())
    return str(folder), report
