"""Which step a run's newest checkpoint is of, read without TensorFlow."""

import pytest

from common import gcs
from common.errors import UserError
from launch.host import progress
from tests.support.fake_gcs.store import Blob
from tests.support.own_bucket import own_bucket

NAMES = {
    "ckpt-0.index": 0,
    "ckpt-900.index": 900,
    "ckpt-1000.json": 900,  # its index comes last
    "best/ckpt-2000.index": 900,
    "ckpt-1000.index": 1000,
    "ckpt-1000.index.part-0": 1000,
    "ckpt-01100.index": 1000,
}


def test_of_a_folder(tmp_path):
    assert progress.newest_step(str(tmp_path / "run")) == -1
    for name, step in NAMES.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert progress.newest_step(str(tmp_path / "run")) == step


def test_of_a_bucket(tmp_path):
    with own_bucket(tmp_path) as store:
        assert progress.newest_step("gs://bucket/run") == -1
        store.put("bucket", "run2/ckpt-7.index", Blob())
        for name, step in NAMES.items():
            store.put("bucket", f"run/{name}", Blob())
            assert progress.newest_step("gs://bucket/run") == step
        with pytest.raises(UserError, match="404"):
            progress.newest_step("gs://nowhere/run")


def test_of_a_bucket_with_many_names(tmp_path):
    with own_bucket(tmp_path) as store:
        for number in range(2300):
            store.put("bucket", f"run/ckpt-{number}.index", Blob())
        assert len(gcs.names("gs://bucket/run", "ckpt-")) == 2300
        assert progress.newest_step("gs://bucket/run") == 2299
