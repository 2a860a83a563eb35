"""Which operation a request is, and on which object."""

from collections.abc import Callable
from typing import NamedTuple

from tests.support.fake_gcs import objects, uploads
from tests.support.fake_gcs.answers import Answer, Refused, Request, json_answer
from tests.support.fake_gcs.store import Store
from tests.support.fake_gcs.tokens import metadata


class Route(NamedTuple):
    """An operation; `run` takes the body and whether it came whole."""

    op: str
    bucket: str
    name: str
    run: Callable[[bytes, bool], Answer]
    needs_token: bool = True


def find(store: Store, request: Request) -> Route:
    """Return what a request asks for."""
    parts, query = request.parts, request.query
    if parts[0] in ("computeMetadata", "oauth2") or parts in (["token"], [""]):
        return _credentials(store, request)
    if request.is_xml and request.method in ("GET", "HEAD"):
        bucket, name = parts[0], "/".join(parts[1:])
        return Route(
            "read",
            bucket,
            name,
            lambda *_: objects.read(store, request, bucket, name, b""),
        )
    if parts[0] in ("upload", "download"):
        is_upload, parts = parts[0] == "upload", parts[1:]
    else:
        is_upload = False
    if parts[:3] != ["storage", "v1", "b"] or len(parts) < 4:
        return _unknown(request)
    bucket, rest = parts[3], parts[4:]
    if is_upload:
        return _upload(store, request, bucket)
    if rest == ["o"] and request.method == "GET":
        return Route(
            "list",
            bucket,
            query.get("prefix", ""),
            lambda *_: objects.listing(store, request, bucket),
        )
    if rest[:1] == ["o"] and len(rest) > 1:
        return _object(store, request, bucket, rest[1:])
    if rest == ["storageLayout"]:
        flat = {"hierarchicalNamespace": {"enabled": False}}
        return Route("layout", bucket, "", lambda *_: json_answer(flat))
    if not rest:
        return Route("bucket", bucket, "", lambda *_: objects.bucket(store, bucket))
    return _unknown(request)


def _credentials(store: Store, request: Request) -> Route:
    if request.parts == [""]:  # by this answer Google's libraries know a VM
        here = Answer(headers={"Metadata-Flavor": "Google"})
        return Route("metadata", "", "", lambda *_: here, needs_token=False)
    if request.parts[0] != "computeMetadata":  # for a refresh token or a key
        return Route("token", "", "", lambda *_: store.tokens.issue(), False)
    path = "/".join(request.parts[2:])
    return Route(
        "token" if path.endswith("/token") else "metadata",
        "",
        path,
        lambda *_: metadata(path, request.headers, store.tokens),
        needs_token=False,
    )


def _unknown(request: Request) -> Route:
    def refuse(*_: object) -> Answer:
        raise Refused(
            404, f"the fake does not know {request.method} {request.path}", "notFound"
        )

    return Route("unknown", "", request.path, refuse)


def _upload(store: Store, request: Request, bucket: str) -> Route:
    query = request.query
    name = query.get("name", "")
    if "upload_id" in query:
        upload = store.uploads.get(query["upload_id"])
        return Route(
            "upload",
            bucket,
            upload.name if upload else "",
            lambda data, whole: uploads.resume(store, request, data, whole=whole),
        )
    if query.get("uploadType") == "resumable":
        return Route(
            "start",
            bucket,
            name,
            lambda data, _: uploads.start(store, request, bucket, data),
        )
    return Route(
        "insert",
        bucket,
        name,
        # Of a body that broke off nothing stays.
        lambda data, whole: (
            objects.insert(store, request, bucket, name, data) if whole else Answer()
        ),
    )


def _object(store: Store, request: Request, bucket: str, rest: list[str]) -> Route:
    if (
        verb := next((v for v in ("rewriteTo", "copyTo") if v in rest), None)
    ) and request.method == "POST":
        at = rest.index(verb)  # .../o/SOURCE/rewriteTo/b/BUCKET/o/TARGET
        source = bucket, "/".join(rest[:at])
        target = rest[at + 2], "/".join(rest[at + 4 :])
        return Route(
            "rewrite",
            *target,
            lambda *_: objects.rewrite(store, request, source, target),
        )
    if rest[-1] == "compose" and request.method == "POST":
        name = "/".join(rest[:-1])
        return Route(
            "compose",
            bucket,
            name,
            lambda data, _: objects.compose(store, request, bucket, name, data),
        )
    name = "/".join(rest)
    if request.method == "DELETE":
        op, act = "delete", objects.delete
    elif request.method in ("PATCH", "PUT"):
        op, act = "patch", objects.patch
    elif request.query.get("alt") == "media" or request.parts[0] == "download":
        op, act = "read", objects.read
    else:
        op, act = "stat", objects.stat
    return Route(
        op, bucket, name, lambda data, _: act(store, request, bucket, name, data)
    )
