"""A run on digits that nobody disturbed."""

import json

import pytest

from tests.support.once import made_once
from tests.support.runs import run_tiny


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """The folder of a run that nobody disturbed, and what the run returned."""

    def make(folder):
        summary = run_tiny(digits, folder / "run")
        (folder / "returned.json").write_text(json.dumps(summary))

    folder = made_once(tmp_path_factory, "undisturbed", make)
    return folder / "run", json.loads((folder / "returned.json").read_text())
