"""What it takes to read records and checkpoints from gs://, in bytes and requests."""

import json
import random

import pytest

from tests.input_pipeline.builders import write_dataset
from tests.support.bucket_process import bucket

RECORDS, SHARDS = 200, 2  # of each split; of 1 to 8 kB
# 600 tensors of 7 MB in an order that is neither the names' nor the reader's.
TENSORS = 600
# As a notebook: the first import is one of this project's.
READ = """
from input_pipeline import in_order, stream
from input_pipeline.dataset_info import load_info
import json, random
import numpy as np
import tensorflow as tf
from train.checkpoints import bundle

info = load_info("gs://data/set")
train, rest = (stream.Records(info, "gs://data/set", s) for s in ("train", "validation"))

def read(number):
    host = stream.ONLY_INPUT_HOST
    return stream.read_buffer(train, number, seed=1, input_host=host, size=256)

buffers = tf.data.Dataset.range(2).map(read)
found = {"train": 0, "validation": []}
for buffer in buffers.as_numpy_iterator():
    found["train"] += sum(map(len, buffer["serialized"]))
stream.stream(train, seed=1)  # says what it costs
for element in in_order.finite(rest).as_numpy_iterator():
    found["validation"].append(len(element["serialized"]))

random.seed(0)
names = random.sample(range(TENSORS), TENSORS)
values = {f"v{n}": np.full(2 * random.randrange(3000), n, np.float32) for n in names}
bundle.write({**values, "step": np.int64(3)}, "gs://run/one", run="a")
for n, value in bundle.read("gs://run/one/ckpt-3").items():
    assert n == "step" or value.tobytes() == values[n].tobytes(), n
bundle.copy("gs://run/one/ckpt-3", "gs://run/best")
found["checkpoint"] = sum(value.nbytes for value in values.values()) + 8
print(json.dumps(found))
"""
DEFAULT = {"GCS_READAHEAD_BUFFER_SIZE_BYTES": str(64 << 20)}  # TensorFlow's own


@pytest.fixture(scope="module", params=["ours", "TensorFlow's"])
def read(request, tmp_path_factory):
    """The settings; bytes of what was read; the bucket that it was read from."""
    folder = tmp_path_factory.mktemp("bucket")
    random.seed(0)

    def records():
        return [random.randbytes(random.randrange(1000, 8000)) for _ in range(RECORDS)]

    splits = ("train", "validation")
    shards = {f"{s}-{n}": records() for s in splits for n in range(SHARDS)}
    write_dataset(folder / "set", shards)
    environment = {} if request.param == "ours" else DEFAULT
    with bucket(folder, f"data/set={folder / 'set'}", "run") as fake:
        said = fake.run(READ.replace("TENSORS", str(TENSORS)), **environment)
        found = json.loads(said.stdout)
        want = [
            len(record) for n in range(SHARDS) for record in shards[f"validation-{n}"]
        ]
        assert found["validation"] == want
        yield request.param, found, fake, said.stderr


def test_training_fetches_what_it_reads(read):
    settings, found, fake, said = read
    traffic = fake.traffic("read", "data/set/train-")
    cost = traffic.sent / found["train"]
    if settings == "ours":
        assert 1 <= cost <= 1.15
        # 13 chunks a file, three of them cut by the bounds of a buffer, and read twice.
        assert traffic.requests <= 2 * (33 + 3)
        assert said == ""
    else:
        assert cost > 5
        assert (
            "GCS_READAHEAD_BUFFER_SIZE_BYTES=67108864: gs://data/set is fetched" in said
        )


def test_evaluation_reads_each_file_once(read):
    _, found, fake, _ = read
    traffic = fake.traffic("read", "data/set/validation-")
    assert 1 <= traffic.sent / sum(found["validation"]) <= 1.05
    assert traffic.requests == SHARDS


def test_a_checkpoint_is_read_back_once(read):
    settings, found, fake, _ = read
    size = found["checkpoint"]
    data = "ckpt-3.data-00000-of-00001"
    back = fake.traffic("read", "run/one/.staging-").sent
    assert size <= back <= 1.05 * size
    # To restore it, and to make the copy.
    assert 2 * size <= fake.traffic("read", f"run/one/{data}").sent <= 2.05 * size
    verified = fake.traffic("read", "run/best/.staging-")
    assert size <= verified.sent <= 1.05 * size
    assert verified.requests <= 20
