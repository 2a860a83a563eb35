"""Requests that TensorFlow Serving sends itself before the first client's.

The server reads assets.extra/tf_serving_warmup_requests, a TFRecord of PredictionLogs
(tensorflow_serving/apis/prediction_log.proto, predict.proto, model.proto). Of these
messages four fields are needed, so they are written here, without the server's package.
"""

from typing import Any

import tensorflow as tf

from common import storage_errors

FILENAME = "tf_serving_warmup_requests"
_GREY = 128
# Numbers of fields.
_PREDICT_LOG, _REQUEST = 6, 1  # of PredictionLog; of its PredictLog
_MODEL_SPEC, _INPUTS = 1, 2  # of PredictRequest
_NAME, _SIGNATURE_NAME = 1, 3  # of ModelSpec
_KEY, _VALUE = 1, 2  # of a map's entry


def requests(resolution: int, name: str) -> list[bytes]:
    """Return a request for each signature, with one grey image.

    Args:
      resolution: S, the side of the signatures' images.
      name: of the model; the server does not look at it.
    """
    shape = [1, resolution, resolution, 3]
    jpeg = tf.io.encode_jpeg(tf.fill(shape[1:], tf.constant(_GREY, tf.uint8)))
    # A tensor of one value has it once, whatever its shape.
    pixels = {
        "images": tf.make_tensor_proto(float(_GREY), tf.float32, shape),
        "images_uint8": tf.make_tensor_proto(_GREY, tf.uint8, shape),
    }
    encoded = tf.make_tensor_proto([jpeg.numpy()])
    return [
        _prediction_log(name, "serving_default", "image_bytes", encoded),
        *(_prediction_log(name, key, "images", value) for key, value in pixels.items()),
    ]


def _prediction_log(name: str, signature: str, key: str, value: Any) -> bytes:
    model = _field(_NAME, name.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    entry = _field(_KEY, key.encode()) + _field(_VALUE, value.SerializeToString())
    request = _field(_MODEL_SPEC, model) + _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """Return a field of bytes, a text or a message, as protocol buffers encode it."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def write(folder: str, resolution: int, name: str) -> None:
    """Write the requests into a SavedModel.

    Raises:
      UserError: they cannot be written; as `storage_errors` has it.
    """
    path = f"{folder}/assets.extra/{FILENAME}"
    try:
        with tf.io.TFRecordWriter(path) as writer:
            for request in requests(resolution, name):
                writer.write(request)
    except tf.errors.OpError as error:
        raise storage_errors.cannot_write(path, error) from error
