"""A fake of Google Cloud Storage on loopback, for TensorFlow's own gs:// client.

`server, store, environment = serve(folder)`; a process with this environment finds at
gs:// what lies in `store`, and nothing outside. `python -m tests.support.fake_gcs` is
the same for a shell.

    server    TLS under a CA of its own behind a CONNECT proxy; sends, breaks, counts
    routes    which operation of the JSON or XML API a request is
    objects   those operations; `uploads` the resumable ones, `tokens` who may ask
    store     buckets, generations, preconditions, rights; `faults`, `counters`
    hands     /_fake/...: what a test in another process looks at and changes

As documented by Google (cloud.google.com/storage/docs: json_api, request-preconditions,
resumable-uploads, quotas, access-control/iam-permissions). Not there: versions, ACLs,
soft delete, retention, hierarchical namespaces, customers' keys, gRPC, XML writes,
rewrites in several steps, CRC32C; `fields` cuts nothing off.
"""

from tests.support.fake_gcs.faults import Rule
from tests.support.fake_gcs.server import environment, serve
from tests.support.fake_gcs.store import Blob, Refused, Store, load

__all__ = ["Blob", "Refused", "Rule", "Store", "environment", "load", "serve"]
