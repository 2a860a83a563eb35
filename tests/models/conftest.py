"""Golden numbers, the weights and inputs that they were made with, a small model."""

import dataclasses
import functools

import numpy as np
import pytest

from models import build_model, variants
from tests.golden import DATA, read_json


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
    return read_json("models/variables.json")


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
def built():
    """Function: name -> the model as it is by default. Not to be trained."""
    return functools.cache(build_model)


@pytest.fixture(scope="session")
def tiny():
    """A variant with each kind of block and a skip, small enough to build at once."""
    full = variants.get_variant("efficientnet-x-b0")
    entering, leaving, _, plain, *_ = full.stages
    plain = dataclasses.replace(plain, num_repeat=2, input_filters=24)
    return dataclasses.replace(
        full,
        name="tiny",
        resolution=32,
        stages=(entering, leaving, plain),
        head_filters=64,
    )


@pytest.fixture
def random_pixels():
    return np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
