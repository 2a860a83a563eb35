"""Golden numbers, the weights and inputs that they were made with, a small model."""

import functools

import numpy as np
import pytest

from models import build_model, weight_loading
from tests.models import nets
from tests.support.golden import DATA, read_json, undrawn


@pytest.fixture(scope="session")
def golden_variants():
    return read_json("models/variants.json")["variants"]


@pytest.fixture(scope="session")
def golden_blocks():
    """Name -> the blocks as dictionaries."""
    table = read_json("models/variants.json")
    columns = table["block_columns"]
    return {
        name: [dict(zip(columns, row, strict=True)) for row in entry["blocks"]]
        for name, entry in table["variants"].items()
    }


@pytest.fixture(scope="session")
def golden_variables():
    return read_json("models/variables.json.xz")


@pytest.fixture(scope="session")
def golden_endpoints():
    return read_json("models/endpoints.json")


@pytest.fixture(scope="session")
def golden_arrays():
    """Function: name -> the arrays of its .npz."""

    def load(name):
        with np.load(DATA / "models" / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden_model(golden_weights):
    """Function: name and size -> a model without noise, with the golden weights."""

    @functools.cache
    def build(name, size):
        with undrawn():
            model = build_model(name, resolution=size, **nets.QUIET)
        variables = weight_loading.in_reference_order(model)
        for variable, value in zip(variables, golden_weights(name), strict=True):
            variable.assign(value)
        return model

    return build


@pytest.fixture(scope="session")
def built():
    """Function: name -> the model as it is by default. Not to be trained."""
    return functools.cache(build_model)


@pytest.fixture(scope="session")
def tiny():
    return nets.tiny()


@pytest.fixture
def random_pixels():
    return np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
