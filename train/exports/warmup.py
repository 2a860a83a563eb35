"""Requests that TensorFlow Serving sends itself before the first client's.

The server reads assets.extra/tf_serving_warmup_requests, a TFRecord of PredictionLogs
(tensorflow_serving/apis/prediction_log.proto, predict.proto, model.proto). Of these
messages four fields are needed, so they are written here, without the server's package.
"""

import tensorflow as tf

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
    pixels = tf.fill([1, resolution, resolution, 3], _GREY)
    grey = tf.cast(pixels, tf.uint8)
    encoded = tf.io.encode_jpeg(grey[0])[None]
    return [
        _prediction_log(name, "serving_default", "image_bytes", encoded),
        _prediction_log(name, "images", "images", tf.cast(pixels, tf.float32)),
        _prediction_log(name, "images_uint8", "images", grey),
    ]


def _prediction_log(name: str, signature: str, key: str, value: tf.Tensor) -> bytes:
    tensor = tf.make_tensor_proto(value.numpy()).SerializeToString()
    model = _field(_NAME, name.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    entry = _field(_KEY, key.encode()) + _field(_VALUE, tensor)
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
    """Write the requests into a SavedModel; OpError when it cannot be."""
    with tf.io.TFRecordWriter(f"{folder}/assets.extra/{FILENAME}") as writer:
        for request in requests(resolution, name):
            writer.write(request)
