"""Digits, and a run on them that nobody disturbed."""

import pytest

from input_pipeline.prepare import prepare_mnist
from tests.train.runs import run


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    prepare_mnist(str(folder))
    return folder


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """The folder and the summary of a run that nobody disturbed."""
    model_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    return model_dir, run(digits, model_dir)
