"""The recipe at pod scale, as preflight has compiled it."""

import pytest

from benchmarks.support import results
from benchmarks.tpu import pod, preflight


@pytest.fixture
def stored():
    return results.load(results.FOLDER / "tpu.pod.json")


def test_what_is_stored_is_of_the_recipe(stored):
    """Its counts need no compiler; tests/train/test_config.py has those of the file."""
    assert stored["command"] == list(pod.COMMAND)
    said = "\n".join(stored["output"])
    assert "65,536 images a step on 1,024 replicas (64 each)" in said
    assert "350 epochs are 6,842 steps, " in said
    assert "\n    8 replicas " in said
    assert "\n    1,024 replicas " in said


@pytest.mark.slow
def test_it_compiles_and_fits_as_stored(stored):
    """Five minutes of two cores, unless the user's cache knows the answer."""
    said, status = preflight.said_by(pod.COMMAND)
    assert status == 0
    assert said["output"] == stored["output"]
