"""TensorFlow's own TPUStrategy on CPUs ends with the bits of MirroredStrategy."""

import json

import pytest

from common.errors import UserError
from launch.rehearsal import shim
from tests.support import rehearsals
from train.evaluation import SCORES


@pytest.mark.long
def test_two_cores_train_as_two_mirrored_devices(digits, tmp_path):
    # The second in a process of its own, too: TensorFlow counts the collective
    # operations of all strategies that a process has had.
    for kind in ("tpu", "mirrored"):
        rehearsals.run(kind, 2, digits, tmp_path / kind, "--mode=train_and_eval")
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
