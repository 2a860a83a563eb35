"""TensorFlow's own TPUStrategy on CPUs ends with the bits of MirroredStrategy."""

import pytest

from common.errors import UserError
from launch.rehearsal import shim
from tests.support import rehearsals


def test_two_cores_train_as_two_mirrored_devices(digits, tmp_path):
    for kind in ("tpu", "mirrored"):
        rehearsals.run(kind, 2, digits, tmp_path / kind)
    assert rehearsals.differing(tmp_path / "tpu", tmp_path / "mirrored") == []


def test_another_tensorflow_is_refused(monkeypatch):
    monkeypatch.setattr(shim, "_VERSION", "2.19.")
    with pytest.raises(UserError, match=r"2\.19\.x, and this is 2\.20"):
        shim.require_known_tensorflow()


def test_a_function_that_has_changed_is_refused(monkeypatch):
    shim.require_known_tensorflow()
    monkeypatch.setitem(shim._PARAMETERS, len, ("thing",))
    with pytest.raises(UserError, match="len takes obj"):
        shim.require_known_tensorflow()
