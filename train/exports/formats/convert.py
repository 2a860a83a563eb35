"""A Keras model -> the bytes of a LiteRT or an ONNX file.

All have the same input and outputs: `pixels` [B, S, S, 3], 0..255, and `logits` and
`probabilities` float32[B, C]. The pixels are float32, of int8 uint8. LiteRT's batch is
1, as its delegates for phones ask for; ONNX's is free.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.errors import UserError, first_line
from train.exports.formats.forms import INT8, ONNX
from train.exports.formats.silence import silent

# Of ONNX: the newest that both the converter and the runtimes of 2023 know.
_OPSET = 18


def convert(
    form: str,
    model: keras.Model,
    metadata: Mapping[str, Any],
    calibration: np.ndarray | None = None,
) -> bytes:
    """Return the file of a form.

    Args:
      form: a name of `forms.FORMS`.
      model: in float32, for images as they are.
      metadata: what ONNX has inside, values as JSON has them.
      calibration: the images whose ranges int8 learns, uint8[N, S, S, 3].

    Raises:
      UserError: the converter does not know the network, or has made another input.
    """
    with silent() as heard:
        try:
            if form == ONNX:
                return _onnx(model, metadata)
            return _litert(form, model, calibration)
        except UserError:
            raise
        except Exception as error:  # of three converters, each with its own
            why = first_line(error) or heard()
            raise UserError(
                f"cannot convert {model.name} to {form} ({why}); leave it out of "
                "--format"
            ) from error


def network(model: keras.Model, batch: int | None) -> Any:
    """Return the function of pixels that is converted, a tf.function.

    Args:
      model: as `convert` takes it.
      batch: B; any if None.
    """
    pixels = tf.TensorSpec([batch, *model.input_shape[1:]], tf.float32, name="pixels")

    @tf.function(input_signature=[pixels])
    def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(pixels, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    return classify


class _Variables(tf.Module):
    """What the function reads, which the converter saves first."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self._saved = [variable.value for variable in model.weights]


def _litert(form: str, model: keras.Model, calibration: np.ndarray | None) -> bytes:
    function = network(model, 1).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function], _Variables(model)
    )
    if form == "litert-float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif form == INT8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        assert calibration is not None
        converter.representative_dataset = lambda: _ranges(calibration)
    return converter.convert()


def _ranges(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yield calibration images; black and white are among their pixels.

    Photos need have neither, and a range other than 0..255 would give an input that is
    not plain pixels: no error would tell who feeds it with these. Two pixels of the
    first image see to it.
    """
    first = images[:1].astype(np.float32)
    first[0, 0, 0], first[0, -1, -1] = 0.0, 255.0
    yield {"pixels": first}
    for image in images[1:]:
        yield {"pixels": image[None].astype(np.float32)}


def _onnx(model: keras.Model, metadata: Mapping[str, Any]) -> bytes:
    import onnx
    import tf2onnx

    function = network(model, None)
    made, _ = tf2onnx.convert.from_function(
        function, function.input_signature, opset=_OPSET
    )
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    made.graph.name = model.name
    made.graph.doc_string = ""  # says which converter, with a version and a commit
    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
    }
    onnx.helper.set_model_props(made, texts)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()
