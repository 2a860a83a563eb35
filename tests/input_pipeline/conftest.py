"""Small datasets on disk."""

import pathlib
from collections.abc import Callable

import pytest

from tests.input_pipeline.builders import example, write_dataset


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """23 training records in 3 unequal shards and 10 to validate in 2."""
    folder = tmp_path_factory.mktemp("tiny")
    write_dataset(
        folder,
        {
            "train-0": [example(i) for i in range(9)],
            "train-1": [example(i) for i in range(9, 16)],
            "train-2": [example(i) for i in range(16, 23)],
            "validation-0": [example(i) for i in range(100, 106)],
            "validation-1": [example(i) for i in range(106, 110)],
        },
    )
    return str(folder)


@pytest.fixture
def dataset_of(tmp_path: pathlib.Path) -> Callable[[list[bytes]], str]:
    """Writes the given records as one training and one validation shard."""

    def write(contents: list[bytes]) -> str:
        write_dataset(tmp_path, {"train-0": contents, "validation-0": contents})
        return str(tmp_path)

    return write
