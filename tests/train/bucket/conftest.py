"""Runs in a bucket are compared with the same on a disk."""

import re
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def same_files():
    """Function: which files of a run there are, and that all equal those on a disk.

    Checkpoints alone: what else a run writes has times and paths in it.
    """

    def compare(stored: dict[str, bytes], folder: Path) -> set[str]:
        pattern = re.compile(r"(best/)?ckpt-\d+\.(index|data-00000-of-00001)")
        found = {n: data for n, data in stored.items() if pattern.fullmatch(n)}
        for name, data in found.items():
            assert data == (folder / name).read_bytes(), name
        return {name.removesuffix(".index") for name in found if name.endswith("index")}

    return compare
