"""How long a form takes, in a process of its own."""

import pytest

from common.errors import UserError
from train.exports.formats import latency

# Instead of runtimes, which take seconds to load: what the process was asked for.
STAND_IN = """
import json, os, sys
import numpy as np
from train.exports.formats import latency, runtimes
def load(form, folder, *, threads):
    assert (form, folder, threads) == ("onnx", "/x y", 1)
    assert len(os.sched_getaffinity(0)) == 1
    def run(pixels):
        assert pixels.shape == (1, 7, 7, 3) and pixels.dtype == np.float32
        calls.append(pixels.max())
    return run
calls = []
runtimes.load = load
latency._MOST_RUNS = 20
latency.child()
assert len(calls) == 3 + 20 and max(calls) > 100
"""


def test_one_core_and_one_thread(monkeypatch):
    monkeypatch.setattr(latency, "_CODE", STAND_IN)
    found = latency.measure("/x y", ["onnx"], 7)
    assert list(found) == ["onnx"]
    assert found["onnx"]["runs"] == 20
    assert 0 < found["onnx"]["milliseconds"] < 1000


def test_what_cannot_be_run(monkeypatch):
    monkeypatch.setattr(latency, "_CODE", "raise SystemExit('a line\\nno model.onnx')")
    with pytest.raises(UserError) as refused:
        latency.measure("/x", ["onnx", "litert-int8"], 7)
    assert str(refused.value) == (
        "cannot measure how long onnx, litert-int8 take: no model.onnx"
    )
