"""The line of benchmarks.formats; what it measures is tested where it is."""

import json

import numpy as np
import pytest

from benchmarks import formats
from input_pipeline.preprocess import EvalCrop
from tests.support.commands import status
from train.exports.formats.forms import FORMS
from train.exports.formats.images import UNKNOWN


def test_the_line(monkeypatch, capsys):
    asked = []

    def measured(name):
        def measure(path, wanted):
            asked.append((path, wanted.forms, wanted.max_loss))
            return {"network": name, "forms": []}

        return measure

    for name in ("digits", "lite0"):
        monkeypatch.setattr(formats, name, measured(name))
    flags = ["--model_dir=runs/mnist/", "--photos=data/stamps"]
    assert status(formats.main, *flags) == 0
    every = (tuple(FORMS), 100)
    assert asked == [("runs/mnist", *every), ("data/stamps", *every)]
    line = json.loads(capsys.readouterr().out)
    assert line["benchmark"] == "formats"
    assert [one["network"] for one in line["networks"]] == ["digits", "lite0"]
    assert {"tensorflow", "onnxruntime"} <= set(line["versions"])


@pytest.mark.long
def test_photos_have_no_class_of_the_network(digits):
    """Whatever the folder calls them; as many as are asked for."""
    crop = EvalCrop(resize="bilinear")
    batches = list(formats._photos(str(digits), crop, "validation", 24, 70))
    assert [len(one.labels) for one in batches] == [50, 20]
    assert {int(label) for one in batches for label in one.labels} == {UNKNOWN}
    assert batches[0].pixels.shape == (50, 24, 24, 3)
    assert batches[0].pixels.dtype == np.float32


@pytest.mark.parametrize("flag", ["--model_dir=", "--photos="])
def test_a_folder_that_is_not_named(flag, capsys):
    assert status(formats.main, flag) == 2
    assert "it is empty" in capsys.readouterr().err
