"""Each form in its own runtime: names, shapes and numbers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from common.errors import UserError
from tests.support.rounding import rounding
from tests.support.tiny import TERMS
from train.exports.formats import convert, images, runtimes
from train.exports.formats.forms import FORMS

EXACT = [form for form in FORMS if FORMS[form].is_exact]


def scale(logits):
    """What rounding counts from: logits that cancel come of larger sums."""
    return max(1.0, float(np.abs(logits).max()))


@pytest.mark.long
@pytest.mark.parametrize("form", EXACT)
def test_float32_has_the_networks_numbers(form, files, grey, expected):
    found = runtimes.load(form, files, threads=1)(grey)
    bound = rounding(TERMS, scale(expected["logits"]))
    for key in ("logits", "probabilities"):
        value = getattr(found, key)
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=bound)


def test_float16_has_them_but_for_rounded_weights(files, grey, expected):
    """Each weight is off by up to half an eps of float16, the arithmetic is float32."""
    found = runtimes.load("litert-float16", files, threads=1)(grey)
    bound = rounding(TERMS, scale(expected["logits"]), np.float16)
    difference = np.abs(found.logits - expected["logits"]).max()
    assert rounding(1, 1e-3) < difference <= bound  # it is not float32 all the same


def test_int8_takes_plain_pixels_whatever_it_was_calibrated_on(files, grey):
    """Grey images alone: the scale is that of 0..255 for all that."""
    interpreter = Interpreter(f"{files}/{FORMS['litert-int8'].file}")
    (pixels,) = interpreter.get_input_details()
    assert pixels["dtype"] == np.uint8
    assert pixels["quantization"] == (1.0, 0)
    assert list(pixels["shape"]) == [1, 32, 32, 3]
    assert {one["dtype"] for one in interpreter.get_output_details()} == {np.float32}
    # Eight bits of a range that the activations fill: a 256th is one step.
    found = runtimes.load("litert-int8", files, threads=1)(grey)
    whole = runtimes.load("litert-float32", files, threads=1)(grey)
    assert np.abs(found.probabilities - whole.probabilities).max() < 0.1
    assert np.corrcoef(found.logits.ravel(), whole.logits.ravel())[0, 1] > 0.95


def test_what_a_resize_overshoots_does_not_get_into_calibration():
    pixels = np.linspace(-53, 300, 2 * 4 * 4 * 3, dtype=np.float32)
    batch = images.Batch(pixels.reshape(2, 4, 4, 3), np.zeros(2, np.int32))
    known = images.calibration([batch])
    assert known.dtype == np.uint8
    expected = [min(max(round(float(value)), 0), 255) for value in pixels]
    assert known.ravel().tolist() == expected
    with pytest.raises(UserError, match="no images that litert-int8 could be calibra"):
        images.calibration([])


@pytest.mark.parametrize("form", [form for form in FORMS if form != "onnx"])
def test_litert_has_names(form, files):
    interpreter = Interpreter(f"{files}/{FORMS[form].file}")
    assert interpreter.get_signature_list() == {
        "serving_default": {
            "inputs": ["pixels"],
            "outputs": ["logits", "probabilities"],
        }
    }


def test_onnx_has_names_and_what_belongs_to_it(files):
    path = f"{files}/model.onnx"
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type) == ("pixels", "tensor(float)")
    assert pixels.shape == ["batch", 32, 32, 3]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [
        ("logits", ["batch", 10]),
        ("probabilities", ["batch", 10]),
    ]
    held = session.get_modelmeta().custom_metadata_map
    assert json.loads(held["labels"]) == ["a", "ü"]


def test_onnx_takes_any_batch(files, grey, expected):
    run = runtimes.load("onnx", files, threads=1)
    for size in (1, 3):
        found = run(grey[:size]).logits
        bound = rounding(TERMS, scale(expected["logits"]))
        np.testing.assert_allclose(found, expected["logits"][:size], rtol=0, atol=bound)


def test_a_network_that_no_converter_knows(network, monkeypatch, capfd):
    def fails(*_):
        raise RuntimeError("no such operation\nat 0x7f")

    monkeypatch.setattr(convert, "_onnx", fails)
    with pytest.raises(UserError) as refused:
        convert.convert("onnx", network, {})
    assert str(refused.value) == (
        "cannot convert tiny to onnx (no such operation); leave it out of --format"
    )
    assert capfd.readouterr().err == ""
