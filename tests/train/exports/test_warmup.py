"""The requests that TensorFlow Serving warms up with, read by its own messages."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from train.exports import warmup

SIGNATURES = {
    "serving_default": "image_bytes",
    "images": "images",
    "images_uint8": "images",
}


@pytest.fixture
def logs(exported):
    """The requests in a SavedModel."""
    path = f"{exported[0]}/assets.extra/{warmup.FILENAME}"
    records = [bytes(one.numpy()) for one in tf.data.TFRecordDataset(path)]
    return [prediction_log_pb2.PredictionLog.FromString(one) for one in records]


def test_a_request_for_each_signature(logs):
    found = [log.predict_log.request for log in logs]
    assert [one.model_spec.signature_name for one in found] == list(SIGNATURES)
    assert {one.model_spec.name for one in found} == {"tiny"}
    for one, key in zip(found, SIGNATURES.values(), strict=True):
        assert list(one.inputs) == [key]
    pixels = tf.make_ndarray(found[1].inputs["images"])
    assert pixels.dtype == np.float32
    assert pixels.shape == (1, 32, 32, 3)
    assert (pixels == 128).all()
    assert tf.make_ndarray(found[2].inputs["images"]).dtype == np.uint8
    # Nothing else: what is written anew from what was understood is the same.
    for log, request in zip(logs, warmup.requests(32, "tiny"), strict=True):
        again = prediction_log_pb2.PredictionLog()
        again.predict_log.request.CopyFrom(log.predict_log.request)
        assert again == log == prediction_log_pb2.PredictionLog.FromString(request)


def test_long_fields():
    """Lengths of one, two and three bytes."""
    for size in (4, 11, 65):
        for request in warmup.requests(size, "n" * size):
            log = prediction_log_pb2.PredictionLog.FromString(request)
            assert log.WhichOneof("log_type") == "predict_log"
            assert log.predict_log.request.model_spec.name == "n" * size


@pytest.fixture(scope="module")
def server(exported):
    """Function: what a signature answers, as the server does it, without the server.

    The graph in a session, by the names of tensors that the signature gives.
    """
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], exported[0])

    def answer(name, inputs):
        signature = loaded.signature_def[name]
        feeds = {signature.inputs[key].name: v for key, v in inputs.items()}
        fetches = {key: one.name for key, one in signature.outputs.items()}
        return session.run(fetches, feeds)

    yield answer
    session.close()


def test_each_request_is_answered(server, logs):
    for log in logs:
        request = log.predict_log.request
        inputs = {key: tf.make_ndarray(one) for key, one in request.inputs.items()}
        found = server(request.model_spec.signature_name, inputs)
        assert found["probabilities"].shape == (1, 10)
        np.testing.assert_allclose(found["probabilities"].sum(), 1, rtol=1e-6)
        assert found["class_names"][0] == b"%d" % found["class_ids"][0]


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (32, 32, 3), (0, 31, 32, 3)])
@pytest.mark.parametrize("name", ["images", "images_uint8"])
def test_images_of_another_side_are_refused(server, name, shape):
    """A session does not look at the signature's shape: the graph has to."""
    images = np.zeros(shape, np.uint8 if name == "images_uint8" else np.float32)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="shape"):
        server(name, {"images": images})
