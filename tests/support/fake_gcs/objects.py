"""What the JSON and the XML API do with objects.

Each takes the store, which is locked, the request and what of its path it is about.
"""

import base64
import json
import re
from typing import Any

from tests.support.fake_gcs.answers import Answer, Refused, Request, json_answer
from tests.support.fake_gcs.store import Blob, Store, StoredObject


def bucket(store: Store, name: str) -> Answer:
    """Describe a bucket."""
    store.demand(name, "buckets.get")
    return json_answer(
        {
            "kind": "storage#bucket",
            "name": name,
            "location": "US-CENTRAL1",
            "storageClass": "STANDARD",
        }
    )


def _checked(store: Store, request: Request, bucket: str, name: str) -> StoredObject:
    stored = store.find(bucket, name)
    store.precondition(bucket, name, request.query)
    return stored


def stat(store: Store, request: Request, bucket: str, name: str, _: bytes) -> Answer:
    """Describe an object."""
    return json_answer(_checked(store, request, bucket, name).json(bucket, name))


def listing(store: Store, request: Request, bucket: str) -> Answer:
    """List objects by prefix, and with a delimiter the folders among them, in pages."""
    store.demand(bucket, "objects.list")
    query = request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = min(int(query.get("maxResults") or 1000), 1000)
    after = base64.b64decode(query.get("pageToken", "")).decode()
    result: dict[str, Any] = {"kind": "storage#objects"}
    last, count = after, 0
    for name in sorted(store.buckets[bucket]):
        entry = _entry(name, prefix, delimiter)
        if not name.startswith(prefix) or entry <= last:
            continue
        if count == most:
            result["nextPageToken"] = base64.b64encode(last.encode()).decode()
            break
        last, count = entry, count + 1
        if entry != name or (delimiter and entry[len(prefix) :].endswith(delimiter)):
            result.setdefault("prefixes", []).append(entry)
        else:
            stored = store.buckets[bucket][name]
            result.setdefault("items", []).append(stored.json(bucket, name))
    return json_answer(result)


def _entry(name: str, prefix: str, delimiter: str) -> str:
    """Return what a listing shows of a name: itself, or the folder that it is in."""
    cut = name.find(delimiter, len(prefix)) if delimiter else -1
    return name if cut < 0 else name[: cut + len(delimiter)]


def read(store: Store, request: Request, bucket: str, name: str, _: bytes) -> Answer:
    """Return an object's content, or the range of it that is asked for."""
    stored = _checked(store, request, bucket, name)
    blob = stored.blob
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{stored.generation}"',
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-stored-content-length": str(blob.size),
    }
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not asked or asked[0] == "bytes=-":
        return Answer(200, headers, blob.read)
    if asked[1]:
        begin, end = int(asked[1]), min(int(asked[2] or blob.size), blob.size - 1)
    else:  # so many from the end
        begin, end = max(0, blob.size - int(asked[2])), blob.size - 1
    if begin >= blob.size:
        raise Refused(
            416,
            "The requested range cannot be satisfied.",
            "requestedRangeNotSatisfiable",
            {"Content-Range": f"bytes */{blob.size}"},
        )
    headers["Content-Range"] = f"bytes {begin}-{end}/{blob.size}"
    return Answer(206, headers, lambda: blob.read(begin, end - begin + 1))


def insert(
    store: Store, request: Request, bucket: str, name: str, data: bytes
) -> Answer:
    """Write an object of a whole body."""
    if request.query.get("uploadType") == "multipart":
        resource, data = _parts(request, data)
        name = name or resource["name"]
    written = store.write(bucket, name, Blob(data), request.query)
    return json_answer(written.json(bucket, name))


def _parts(request: Request, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the two parts of a multipart body: what it says of itself, and content."""
    found = re.search(r'boundary="?([^";]+)', request.headers.get("Content-Type", ""))
    if not found:
        raise Refused(400, "Missing multipart boundary.", "invalid")
    resource, content = [
        part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        for part in data.split(b"--" + found[1].encode())[1:-1]
    ]
    return json.loads(resource), content


def rewrite(
    store: Store, request: Request, source: tuple[str, str], target: tuple[str, str]
) -> Answer:
    """Copy an object on the server, by rewriteTo in one step or by copyTo."""
    stored = store.find(*source)
    store.precondition(*source, request.query, "ifSource")
    copy = store.write(*target, stored.blob, request.query).json(*target)
    if "copyTo" in request.parts:
        return json_answer(copy)
    size = str(stored.blob.size)
    return json_answer(
        {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": size,
            "objectSize": size,
            "done": True,
            "resource": copy,
        }
    )


def compose(
    store: Store, request: Request, bucket: str, name: str, data: bytes
) -> Answer:
    """Write an object of others of its bucket."""
    content = b""
    # TensorFlow writes its JSON with single quotes.
    for source in json.loads(data.replace(b"'", b'"'))["sourceObjects"]:
        stored = store.find(bucket, source["name"])
        conditions = source.get("objectPreconditions") or {}
        store.precondition(bucket, source["name"], conditions)
        content += stored.blob.read()
    written = store.write(bucket, name, Blob(content), request.query)
    return json_answer(written.json(bucket, name))


def delete(store: Store, request: Request, bucket: str, name: str, _: bytes) -> Answer:
    """Delete an object."""
    store.find(bucket, name, "objects.delete")
    store.precondition(bucket, name, request.query)
    del store.buckets[bucket][name]
    return Answer(204)


def patch(
    store: Store, request: Request, bucket: str, name: str, data: bytes
) -> Answer:
    """Change what is said of an object; its generation stays."""
    stored = store.find(bucket, name, "objects.update")
    store.precondition(bucket, name, request.query)
    store.limit(bucket, name)
    stored.metadata |= json.loads(data or b"{}").get("metadata", {})
    stored.metageneration += 1
    stored.updated = store.now()
    return json_answer(stored.json(bucket, name))
