"""Resumable uploads: what came before a break stays, and can be asked for."""

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_gcs.answers import Answer, Refused, Request, json_answer
from tests.support.fake_gcs.store import Blob, Store

QUANTUM = 256 << 10  # of what came before a break, whole multiples are kept


@dataclass
class Upload:
    """One upload, until it is whole and `done` describes the object."""

    bucket: str
    name: str
    query: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


def start(store: Store, request: Request, bucket: str, data: bytes) -> Answer:
    """Begin an upload; says where it is to be sent to."""
    name = request.query.get("name") or json.loads(data)["name"]
    store.demand(bucket, "objects.create")
    store.precondition(bucket, name, request.query)
    key = uuid.uuid4().hex
    store.uploads[key] = Upload(bucket, name, request.query)
    where = (
        f"https://www.googleapis.com/upload/storage/v1/b/{bucket}/o"
        f"?uploadType=resumable&upload_id={key}"
    )
    return Answer(200, {"Location": where, "X-GUploader-UploadID": key})


def resume(store: Store, request: Request, data: bytes, *, whole: bool) -> Answer:
    """Take bytes in, or tell how many there are.

    Args:
      store: locked.
      request: its Content-Range says which bytes they are.
      data: of the body, as much as came.
      whole: whether that is all of it.
    """
    upload = store.uploads.get(request.query["upload_id"])
    if upload is None:
        raise Refused(404, "No such upload.", "notFound")
    if request.method == "DELETE":
        del store.uploads[request.query["upload_id"]]
        return Answer(499)  # as Google answers a cancelled upload
    if upload.done:
        return json_answer(upload.done)
    first, total = _range(request, len(data))
    if first is not None:
        if first > len(upload.data):
            raise Refused(400, "The upload does not go on where it stopped.", "invalid")
        upload.data[first:] = data
    if not whole:
        del upload.data[len(upload.data) // QUANTUM * QUANTUM :]
    kept = len(upload.data)
    if not whole or total is None or kept < total:
        return Answer(308, {"Range": f"bytes=0-{kept - 1}"} if kept else {})
    blob = Blob(bytes(upload.data))
    written = store.write(upload.bucket, upload.name, blob, upload.query)
    upload.done = written.json(upload.bucket, upload.name)
    upload.data.clear()
    return json_answer(upload.done)


def _range(request: Request, size: int) -> tuple[int | None, int | None]:
    """Return the first byte of a body, and the upload's size; None is not told.

    A first byte of None is a question about the upload's status.
    """
    text = request.headers.get("Content-Range")
    if text is None:
        return 0, size
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", text)
    if not found:
        raise Refused(400, f"Invalid Content-Range: {text}", "invalid")
    return (
        None if found[1] is None else int(found[1]),
        None if found[2] == "*" else int(found[2]),
    )
