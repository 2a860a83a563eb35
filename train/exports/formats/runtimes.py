"""Forms of a network in their own runtimes: pixels in, logits and probabilities out.

Needs no model and no run: a file, and the package that runs it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from train.exports.formats.forms import FORMS, ONNX, SAVED_MODEL
from train.exports.formats.silence import silent


class Answer(NamedTuple):
    """What a network says of a batch.

    Attributes:
      logits: float32[B, C].
      probabilities: float32[B, C].
    """

    logits: np.ndarray
    probabilities: np.ndarray


Run = Callable[[np.ndarray], Answer]


def load(form: str, folder: str, *, threads: int) -> Run:
    """Return what classifies float32[B, S, S, 3], pixels 0..255 as evaluation has them.

    Args:
      form: a name of `forms.FORMS`, or that of the SavedModel.
      folder: of the export.
      threads: how many to compute with; TensorFlow takes its own number.
    """
    import tensorflow as tf

    if form == SAVED_MODEL:
        return _saved_model(tf.saved_model.load(folder))
    with tf.io.gfile.GFile(f"{folder}/{FORMS[form].file}", "rb") as file:
        content = file.read()
    return (_onnx if form == ONNX else _litert)(content, threads)


def _saved_model(loaded: Any) -> Run:
    signature = loaded.signatures["images"]

    def run(pixels: np.ndarray) -> Answer:
        outputs = signature(images=pixels)
        return Answer(outputs["logits"].numpy(), outputs["probabilities"].numpy())

    run.keeps = loaded  # pyright: ignore - else its variables are gone
    return run


def _litert(content: bytes, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    with silent():  # it tells of its delegate
        interpreter = Interpreter(model_content=content, num_threads=threads)
        runner = interpreter.get_signature_runner()
    dtype = runner.get_input_details()["pixels"]["dtype"]

    def run(pixels: np.ndarray) -> Answer:
        if dtype == np.uint8:
            pixels = to_uint8(pixels)
        found = [runner(pixels=pixels[i : i + 1]) for i in range(len(pixels))]
        keys = Answer._fields
        return Answer(*(np.concatenate([one[key] for one in found]) for key in keys))

    return run


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Return the nearest pixels that 8 bits hold."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _onnx(content: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )

    def run(pixels: np.ndarray) -> Answer:
        found = session.run(Answer._fields, {"pixels": pixels})
        return Answer(*map(np.asarray, found))

    return run
