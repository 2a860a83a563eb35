"""TensorFlow's own TPUStrategy on CPUs ends with the bits of MirroredStrategy."""

import json

import pytest

from common.errors import UserError
from launch.rehearsal import shim
from tests.support import rehearsals
from tests.support.runs import run_tiny
from train.evaluation import SCORES

EXPERIMENT = "experiment.Experiment"


def test_two_cores_train_as_two_mirrored_devices(digits, tmp_path):
    """Of two, its own way to add ends with the bits of ReductionToOneDevice."""
    rehearsals.run("tpu", 2, digits, tmp_path / "tpu", "--mode=train_and_eval")
    run_tiny(digits, tmp_path / "mirrored", **{f"{EXPERIMENT}.strategy": "mirrored"})
    assert rehearsals.differing(tmp_path / "tpu", tmp_path / "mirrored") == []
    one, other = (
        json.loads((tmp_path / kind / "summary.json").read_text())
        for kind in ("tpu", "mirrored")
    )
    assert one["eval_images"] == 1000
    assert [one[name] for name in SCORES] == [other[name] for name in SCORES]


def test_another_tensorflow_is_refused(monkeypatch):
    monkeypatch.setattr(shim, "_VERSION", "2.19.")
    with pytest.raises(UserError, match=r"2\.19\.x, and this is 2\.20"):
        shim.require_known_tensorflow()


def test_a_function_that_has_changed_is_refused(monkeypatch):
    shim.require_known_tensorflow()
    monkeypatch.setitem(shim._PARAMETERS, len, ("thing",))
    with pytest.raises(UserError, match="len takes obj"):
        shim.require_known_tensorflow()
