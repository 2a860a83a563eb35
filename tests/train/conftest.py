"""A run on digits that nobody disturbed."""

import pytest

from tests.support.runs import run_tiny


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """The folder and the summary of a run that nobody disturbed."""
    model_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    return model_dir, run_tiny(digits, model_dir)
