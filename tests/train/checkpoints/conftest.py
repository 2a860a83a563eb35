"""A folder of checkpoints."""

import pytest

from tests.support.saved import saves


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints, of the steps 10 and 20."""
    saves(tmp_path / "run", 10, 20)
    return tmp_path / "run"
