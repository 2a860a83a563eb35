"""The ops, wherever they can be built."""

from typing import Any

import pytest

from common.errors import UserError
from input_pipeline.fused import build, library


@pytest.fixture(scope="session")
def ops() -> Any:
    """The module of the fused ops; without a compiler there is nothing to test."""
    found = library.find()
    if found.ops is None:
        try:
            build._compiler()
        except UserError as error:
            pytest.skip(str(error))
        pytest.fail(f"no fused input ops, {found.why_not}: run make setup")
    return found.ops
