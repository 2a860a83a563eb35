"""A bucket that this very process finds: for what asks it without TensorFlow."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import gcs
from tests.support.bucket import QUICK
from tests.support.fake_gcs import Store, serve


@contextlib.contextmanager
def own_bucket(folder: Path, **options) -> Iterator[Store]:
    """Serve gs://bucket to this process; `options` are Store's."""
    server, store, environment = serve(folder, **options)
    store.buckets["bucket"] = {}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (environment | QUICK).items():
                patch.setenv(name, value)
            gcs.forget_connections()
            yield store
    finally:
        gcs.forget_connections()
        server.shutdown()
        server.server_close()
