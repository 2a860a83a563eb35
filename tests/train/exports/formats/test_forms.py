"""Which forms a flag names, and what is refused before anything slow is loaded."""

import argparse
import importlib.util

import pytest

from tests.support.commands import status
from train import export
from train.exports.formats import forms

find_spec = importlib.util.find_spec


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("savedmodel", ()),
        ("onnx", ("onnx",)),
        ("onnx, litert", ("litert-float32", "litert-float16", "litert-int8", "onnx")),
        ("litert-int8,savedmodel,litert-int8", ("litert-int8",)),
    ],
)
def test_what_is_asked_for(text, names):
    assert forms.parse(text) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tflite", "tflite is none of savedmodel, litert, "),
        ("litert-int", "did you mean litert-int8"),
        (",", "no name given"),
    ],
)
def test_what_there_is_not(text, said):
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        forms.parse(text)


def test_packages_that_are_missing_are_named_at_once(monkeypatch, tmp_path, capsys):
    def found(name):
        return None if name in ("onnxruntime", "ai_edge_litert") else find_spec(name)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    flags = [f"--model_dir={tmp_path}/run", f"--export_dir={tmp_path}/e"]
    assert status(export.main, *flags, "--format=onnx") == 2
    assert capsys.readouterr().err == (
        "error: --format=onnx needs onnxruntime: make with-formats, or: pip install "
        "--no-deps -r requirements/formats.txt\n"
    )


def test_int8_without_images():
    wanted = forms.Wanted(("litert-float32", "litert-int8"))
    refusal = forms.without_images(wanted, "there is no folder /mnt/data")
    assert str(refusal) == (
        "litert-int8 is calibrated on training images, and there is no folder "
        "/mnt/data: name photos (--check_images PATH ...), or leave it out "
        "(--format=litert-float32)"
    )
