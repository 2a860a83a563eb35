"""A fake of Google Cloud Storage on loopback that TensorFlow's own gs:// client talks to.

    python fake_gcs.py --folder=STATE --load=BUCKET/PREFIX=DIRECTORY -- COMMAND ...

runs COMMAND with the environment that leads TensorFlow here (see `environment`), or serves until SIGTERM without one.
Standard library and the `openssl` command alone. Everything is in memory; files that were loaded are read from disk.
One port does it all: CONNECT proxy that ends TLS itself under a CA of its own, JSON API, XML reads, resumable uploads, metadata
server (plain HTTP), and /_fake/... to look and to break things. A CONNECT to any other host is refused: nothing leaves.
"""

import argparse
import base64
import email.utils
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import random
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

HOSTS = ("www.googleapis.com", "storage.googleapis.com", "oauth2.googleapis.com")
QUANTUM = 256 << 10  # what a resumable upload keeps of bytes that came before a break
ROLES = {  # of IAM, as far as TensorFlow's client asks
    "objectViewer": {"objects.get", "objects.list"},
    "objectCreator": {"objects.create"},
    "objectUser": {
        "objects.get",
        "objects.list",
        "objects.create",
        "objects.delete",
        "objects.update",
    },
    "legacyBucketReader": {"buckets.get", "objects.list"},
}
ROLES["admin"] = ROLES["objectUser"] | {"buckets.get"}


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status, message, reason="", headers=None):
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers or {}


class Blob:
    """Bytes of an object, in memory or in a file."""

    def __init__(self, data=b"", path=None):
        self.data, self.path = data, path
        self.size = os.path.getsize(path) if path else len(data)

    def read(self, start=0, size=None):
        size = self.size - start if size is None else size
        if self.path is None:
            return self.data[start : start + size]
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(size)


class Thing:
    """An object of a bucket: one generation."""

    def __init__(self, blob, generation, now):
        self.blob, self.generation, self.metageneration, self.updated = (
            blob,
            generation,
            1,
            now,
        )
        self.metadata = {}

    def json(self, bucket, name):
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.updated))
            + f".{int(self.updated % 1 * 1000):03d}Z"
        )
        md5 = (
            base64.b64encode(hashlib.md5(self.blob.read()).digest()).decode()
            if self.blob.size < 1 << 20
            else None
        )
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(self.blob.size),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "updated": stamp,
            "timeCreated": stamp,
            "metadata": self.metadata,
            **({"md5Hash": md5} if md5 else {}),
        }


class Store:
    """Buckets, uploads, rights, faults, the log; one lock for all."""

    def __init__(self, seed=0, writes_per_second=1.0, latency=0.0, log=None):
        self.lock = threading.RLock()
        self.buckets, self.uploads, self.roles, self.written = {}, {}, {}, {}
        self.faults, self.random = [], random.Random(seed)
        self.writes_per_second, self.latency = writes_per_second, latency
        self.generation = int(time.time() * 1e6)
        self.clock_skew = 0.0
        self.log = open(log, "a", buffering=1) if log else None
        self.reset()

    def now(self):
        return time.time() + self.clock_skew

    def reset(self):
        with self.lock:
            self.stats, self.connections, self.in_flight, self.most_in_flight = (
                {},
                0,
                0,
                0,
            )

    def count(self, op, status, sent, received):
        with self.lock:
            row = self.stats.setdefault(
                op, {"requests": 0, "sent": 0, "received": 0, "status": {}}
            )
            row["requests"] += 1
            row["sent"] += sent
            row["received"] += received
            row["status"][str(status)] = row["status"].get(str(status), 0) + 1

    # Rights and preconditions.

    def demand(self, bucket, *rights):
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.", "notFound")
        allowed = self.roles.get(bucket, ROLES["admin"])
        for right in rights:
            if right not in allowed:
                raise Refused(
                    403,
                    f"fake@example.iam.gserviceaccount.com does not have storage.{right} access to the Google Cloud "
                    f"Storage {'bucket' if right.startswith('b') else 'object'}. Permission 'storage.{right}' denied on "
                    "resource (or it may not exist).",
                    "forbidden",
                )

    def find(self, bucket, name, right="objects.get"):
        self.demand(bucket, right)
        thing = self.buckets[bucket].get(name)
        if thing is None:
            self.demand(
                bucket, "objects.list"
            )  # else it must not tell that there is none
            raise Refused(404, f"No such object: {bucket}/{name}", "notFound")
        return thing

    def precondition(self, bucket, name, query, prefix="if"):
        thing = self.buckets[bucket].get(name)
        generation, meta = (thing.generation, thing.metageneration) if thing else (0, 0)
        for key, value, same in (
            ("GenerationMatch", generation, True),
            ("GenerationNotMatch", generation, False),
            ("MetagenerationMatch", meta, True),
            ("MetagenerationNotMatch", meta, False),
        ):
            wanted = query.get(prefix + key)
            if wanted is not None and (int(wanted) == value) != same:
                raise Refused(
                    412,
                    "At least one of the pre-conditions you specified did not hold.",
                    "conditionNotMet",
                )

    def write(self, bucket, name, blob, query):
        self.demand(bucket, "objects.create")
        if name in self.buckets[bucket]:
            self.demand(bucket, "objects.delete")  # to overwrite is to delete
        self.precondition(bucket, name, query)
        self.limit(bucket, name)
        self.generation += 1
        thing = self.buckets[bucket][name] = Thing(blob, self.generation, self.now())
        return thing

    def limit(self, bucket, name):
        if not self.writes_per_second:
            return
        last, now = self.written.get((bucket, name), 0.0), time.monotonic()
        if now - last < 1 / self.writes_per_second:
            raise Refused(
                429,
                f"The object {bucket}/{name} exceeded the rate limit for object mutation operations (create, "
                "update, and delete). Please reduce your request rate.",
                "rateLimitExceeded",
            )
        self.written[bucket, name] = now

    # Faults: a list of {"op": regex, "name": regex, "chance": p, "after": n, "times": n, "do": ..., ...}

    def fault(self, op, name):
        with self.lock:
            for rule in self.faults:
                if re.fullmatch(rule.get("op", ".*"), op) and re.search(
                    rule.get("name", ""), name or ""
                ):
                    rule["seen"] = rule.get("seen", 0) + 1
                    if rule["seen"] <= rule.get("after", 0) or rule.get(
                        "times", 1 << 60
                    ) <= rule.get("done", 0):
                        continue
                    if self.random.random() < rule.get("chance", 1.0):
                        rule["done"] = rule.get("done", 0) + 1
                        return rule
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store
    context: ssl.SSLContext
    verbose = False

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tunnel = None
        with self.store.lock:
            self.store.connections += 1

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError, TimeoutError, OSError):
            pass

    def do_CONNECT(self):
        host = self.path.rpartition(":")[0]
        if host not in HOSTS:
            self.send_error(403, "the fake proxy leads to Google's storage alone")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self.connection = self.request = self.context.wrap_socket(
            self.connection, server_side=True
        )
        self.rfile, self.wfile = (
            self.connection.makefile("rb", -1),
            socketserver._SocketWriter(self.connection),
        )
        self.tunnel, self.close_connection = host, False

    def body(self):
        """What came of the body, and whether it came whole."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data, True
        length = int(self.headers.get("Content-Length") or 0)
        data = b""
        try:
            while len(data) < length:
                part = self.rfile.read1(min(length - len(data), 1 << 20))
                if not part:
                    break
                data += part
        except (OSError, ssl.SSLError):
            pass
        return data, len(data) == length

    def do(self):
        store = self.store
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        parts = [urllib.parse.unquote(part) for part in url.path.lstrip("/").split("/")]
        host = self.tunnel or self.headers.get("Host", "").partition(":")[0]
        if (
            parts[0] in ("_fake", "computeMetadata")
            or (self.tunnel is None
            and parts[:1] == ["token"])
        ):
            data, _ = self.body()
            return self.special(parts, query, data)
        op, bucket, name, run = self.route(host, parts, query)
        with store.lock:
            store.in_flight += 1
            store.most_in_flight = max(store.most_in_flight, store.in_flight)
        status, sent, received, started = 0, 0, 0, time.monotonic()
        try:
            rule = store.fault(op, name) or {}
            do = rule.get("do")
            time.sleep(rule.get("latency", store.latency))
            if do == "hang":
                time.sleep(rule.get("seconds", 3600))
                raise ConnectionError
            if do == "drop_upload":  # in the middle of the body
                length = int(self.headers.get("Content-Length") or 0)
                data, whole = self.rfile.read(length // 2), False
            else:
                data, whole = self.body()
            received = len(data)
            if do == "drop":
                raise ConnectionError
            if do and re.fullmatch(r"\d+", str(do)):
                raise Refused(
                    int(do),
                    rule.get("message", f"injected {do}"),
                    rule.get("reason", "injected"),
                )
            with store.lock:
                status, headers, content = run(data, whole)
            if not whole:
                raise ConnectionError
            if do == "done_503":
                raise Refused(503, "injected: done, but answered 503", "backendError")
            sent = self.answer(status, headers, content, rule)
        except Refused as error:
            if "whole" not in locals():
                data, whole = self.body()
            status = error.status
            sent = self.answer(status, error.headers, self.words(error), {})
        except (ConnectionError, ssl.SSLError, OSError):
            status = status or -1
            self.close_connection = True
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        finally:
            with store.lock:
                store.in_flight -= 1
            store.count(op, status, sent, received)
            if store.log:
                store.log.write(
                    json.dumps(
                        {
                            "t": round(store.now(), 3),
                            "op": op,
                            "name": f"{bucket}/{name}",
                            "status": status,
                            "sent": sent,
                            "received": received,
                            "seconds": round(time.monotonic() - started, 4),
                            "range": self.headers.get("Range")
                            or self.headers.get("Content-Range"),
                        }
                    )
                    + "\n"
                )

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do

    def words(self, error):
        if self.tunnel == "storage.googleapis.com" and not self.path.startswith(
            ("/storage/", "/upload/", "/download/")
        ):
            code = {
                403: "AccessDenied",
                404: "NoSuchKey",
                412: "PreconditionFailed",
                429: "SlowDown",
            }.get(error.status, "InternalError")
            return f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{error}</Message></Error>".encode()
        detail = {"message": str(error), "domain": "global", "reason": error.reason}
        return json.dumps(
            {"error": {"code": error.status, "message": str(error), "errors": [detail]}}
        ).encode()

    def answer(self, status, headers, content, rule):
        """Sends it; returns how many bytes of content went out."""
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json; charset=UTF-8",
            "Date": email.utils.formatdate(self.store.now(), usegmt=True),
            **headers,
        }.items():
            if key != "Date":  # send_response has said it
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return 0
        if rule.get("do") == "truncate":
            self.wfile.write(content[: len(content) // 2])
            raise ConnectionError
        if rate := rule.get("bytes_per_second"):
            step = max(1, int(rate / 10))
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(0.1)
        else:
            self.wfile.write(content)
        return len(content)

    # What a request means.

    def route(self, host, parts, query):
        method = self.command
        if parts[:2] == ["storage", "v1"] or parts[:3] in (
            ["download", "storage", "v1"],
            ["upload", "storage", "v1"],
        ):
            upload, media = (
                parts[0] == "upload",
                parts[0] == "download" or query.get("alt") == "media",
            )
            rest = parts[2:] if parts[0] == "storage" else parts[3:]
            bucket = rest[1] if len(rest) > 1 else ""
            if upload:
                return self.route_upload(bucket, query)
            if len(rest) == 2:
                return "bucket", bucket, "", lambda *_: self.bucket(bucket)
            if rest[2] == "storageLayout":
                return (
                    "layout",
                    bucket,
                    "",
                    lambda *_: self.json({"hierarchicalNamespace": {"enabled": False}}),
                )
            if len(rest) == 3:
                return (
                    "list",
                    bucket,
                    query.get("prefix", ""),
                    lambda *_: self.list(bucket, query),
                )
            if "rewriteTo" in rest or "copyTo" in rest:
                at = next(
                    i for i, part in enumerate(rest) if part in ("rewriteTo", "copyTo")
                )
                source, target, to = (
                    "/".join(rest[3:at]),
                    rest[at + 2],
                    "/".join(rest[at + 4 :]),
                )
                return (
                    "rewrite",
                    bucket,
                    to,
                    lambda *_: self.rewrite(
                        bucket, source, target, to, query, rest[at]
                    ),
                )
            if rest[-1] == "compose":
                name = "/".join(rest[3:-1])
                return (
                    "compose",
                    bucket,
                    name,
                    lambda data, _: self.compose(bucket, name, query, data),
                )
            name = "/".join(rest[3:])
            if method == "DELETE":
                return (
                    "delete",
                    bucket,
                    name,
                    lambda *_: self.delete(bucket, name, query),
                )
            if method in ("PATCH", "PUT"):
                return (
                    "patch",
                    bucket,
                    name,
                    lambda data, _: self.patch(bucket, name, query, data),
                )
            if media:
                return "read", bucket, name, lambda *_: self.read(bucket, name, query)
            return (
                "stat",
                bucket,
                name,
                lambda *_: self.json(
                    self.checked(bucket, name, query).json(bucket, name)
                ),
            )
        if host == "storage.googleapis.com" or len(parts) > 1:
            bucket, name = parts[0], "/".join(parts[1:])
            if method in ("GET", "HEAD"):
                return "read", bucket, name, lambda *_: self.read(bucket, name, query)
        return "unknown", "", self.path, lambda *_: self.unknown()

    def route_upload(self, bucket, query):
        store, name = self.store, query.get("name", "")
        kind = query.get("uploadType")
        if "upload_id" in query:
            return (
                "upload",
                bucket,
                store.uploads.get(query["upload_id"], {}).get("name", "?"),
                (lambda data, whole: self.resume(query["upload_id"], data, whole)),
            )
        if kind == "resumable":
            return (
                "start",
                bucket,
                name,
                lambda data, _: self.start(bucket, query, data),
            )
        if kind == "multipart":
            return (
                "insert",
                bucket,
                name,
                lambda data, whole: self.multipart(bucket, query, data, whole),
            )
        return (
            "insert",
            bucket,
            name,
            lambda data, whole: self.insert(bucket, name, data, query, whole),
        )

    def unknown(self):
        raise Refused(
            404, f"the fake does not know {self.command} {self.path}", "notFound"
        )

    def json(self, value, status=200, headers=None):
        return status, headers or {}, json.dumps(value).encode()

    def bucket(self, bucket):
        self.store.demand(bucket, "buckets.get")
        return self.json(
            {
                "kind": "storage#bucket",
                "name": bucket,
                "location": "US-CENTRAL1",
                "storageClass": "STANDARD",
            }
        )

    def checked(self, bucket, name, query):
        thing = self.store.find(bucket, name)
        self.store.precondition(bucket, name, query)
        return thing

    def list(self, bucket, query):
        self.store.demand(bucket, "objects.list")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        most = min(int(query.get("maxResults") or 1000), 1000)
        after = (
            base64.b64decode(query["pageToken"]).decode()
            if query.get("pageToken")
            else ""
        )
        items, prefixes, token, last = [], [], None, ""
        for name in sorted(self.store.buckets[bucket]):
            if (
                not name.startswith(prefix)
                or name <= after
                or (after.endswith("/")
                and delimiter
                and name.startswith(after))
            ):
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            folder = name[: cut + len(delimiter)] if cut >= 0 else None
            if folder and prefixes and prefixes[-1] == folder:
                continue
            if len(items) + len(prefixes) == most:
                token = base64.b64encode(last.encode()).decode()
                break
            last = folder or name
            if folder:
                prefixes.append(folder)
            else:
                items.append(self.store.buckets[bucket][name].json(bucket, name))
        result = {
            "kind": "storage#objects",
            **({"items": items} if items else {}),
            **({"prefixes": prefixes} if prefixes else {}),
        }
        return self.json({**result, **({"nextPageToken": token} if token else {})})

    def read(self, bucket, name, query):
        thing = self.checked(bucket, name, query)
        headers = {
            "Content-Type": "application/octet-stream",
            "x-goog-generation": str(thing.generation),
            "x-goog-stored-content-length": str(thing.blob.size),
            "Accept-Ranges": "bytes",
        }
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not found:
            return 200, headers, thing.blob.read()
        size = thing.blob.size
        first, last = found[1], found[2]
        begin = int(first) if first else max(0, size - int(last))
        end = min(int(last) if first and last else size - 1, size - 1)
        if begin >= size:
            raise Refused(
                416,
                "The requested range cannot be satisfied.",
                "requestedRangeNotSatisfiable",
                {"Content-Range": f"bytes */{size}"},
            )
        headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
        return 206, headers, thing.blob.read(begin, end - begin + 1)

    def insert(self, bucket, name, data, query, whole=True):
        if not whole:
            return 200, {}, b""
        return self.json(
            self.store.write(bucket, name, Blob(data), query).json(bucket, name)
        )

    def multipart(self, bucket, query, data, whole):
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[
            1
        ].encode()
        parts = [
            part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            for part in data.split(b"--" + boundary)[1:-1]
        ]
        resource = json.loads(parts[0])
        return self.insert(
            bucket, query.get("name") or resource["name"], parts[1], query, whole
        )

    def start(self, bucket, query, data):
        name = query.get("name") or json.loads(data)["name"]
        self.store.demand(bucket, "objects.create")
        self.store.precondition(bucket, name, query)
        key = uuid.uuid4().hex
        self.store.uploads[key] = {
            "bucket": bucket,
            "name": name,
            "data": b"",
            "query": query,
            "done": None,
        }
        where = f"https://www.googleapis.com/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={key}"
        return 200, {"Location": where, "X-GUploader-UploadID": key}, b""

    def resume(self, key, data, whole):
        upload = self.store.uploads.get(key)
        if upload is None:
            raise Refused(404, "No such upload.", "notFound")
        if upload["done"]:
            return self.json(upload["done"])
        spec = self.headers.get("Content-Range") or ""
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", spec)
        total = (
            int(found[3]) if found and found[3] != "*" else None if found else len(data)
        )
        if found and found[1] is not None:
            begin = int(found[1])
            if begin > len(upload["data"]):
                raise Refused(
                    400, "The upload does not go on where it stopped.", "invalid"
                )
            upload["data"] = upload["data"][:begin] + data
        elif not found:
            upload["data"] = data
        if not whole:  # a break: what is kept ends at a quantum
            upload["data"] = upload["data"][: len(upload["data"]) // QUANTUM * QUANTUM]
            return 308, {}, b""
        if total is None or len(upload["data"]) < total:
            kept = len(upload["data"])
            return 308, {"Range": f"bytes=0-{kept - 1}"} if kept else {}, b""
        thing = self.store.write(
            upload["bucket"], upload["name"], Blob(upload["data"]), upload["query"]
        )
        upload["done"], upload["data"] = (
            thing.json(upload["bucket"], upload["name"]),
            b"",
        )
        return self.json(upload["done"])

    def rewrite(self, bucket, source, target, to, query, verb):
        thing = self.store.find(bucket, source)
        self.store.precondition(bucket, source, query, "ifSource")
        copy = self.store.write(target, to, thing.blob, query).json(target, to)
        if verb == "copyTo":
            return self.json(copy)
        size = str(thing.blob.size)
        return self.json(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": copy,
            }
        )

    def compose(self, bucket, name, query, data):
        sources = json.loads(data.replace(b"'", b'"'))["sourceObjects"]
        blob = b""
        for source in sources:
            thing = self.store.find(bucket, source["name"])
            self.store.precondition(
                bucket,
                source["name"],
                source.get("objectPreconditions")
                or source.get("objectPrecondition")
                or {},
            )
            blob += thing.blob.read()
        return self.json(
            self.store.write(bucket, name, Blob(blob), query).json(bucket, name)
        )

    def delete(self, bucket, name, query):
        self.store.find(bucket, name, "objects.delete")
        self.store.precondition(bucket, name, query)
        del self.store.buckets[bucket][name]
        return 204, {}, b""

    def patch(self, bucket, name, query, data):
        thing = self.store.find(bucket, name, "objects.update")
        self.store.precondition(bucket, name, query)
        self.store.limit(bucket, name)
        thing.metadata |= json.loads(data or b"{}").get("metadata", {})
        thing.metageneration += 1
        thing.updated = self.store.now()
        return self.json(thing.json(bucket, name))

    # The metadata server, and the hands of a test.

    def special(self, parts, query, data):
        store = self.store
        path = "/".join(parts)
        if parts[0] == "computeMetadata":
            what = {
                "computeMetadata/v1/instance/zone": b"projects/1/zones/us-central1-a",
                "computeMetadata/v1/project/project-id": b"fake",
            }
            if path.endswith("service-accounts/default/token"):
                return self.answer(
                    200,
                    {"Metadata-Flavor": "Google"},
                    json.dumps(
                        {
                            "access_token": "fake",
                            "expires_in": 3599,
                            "token_type": "Bearer",
                        }
                    ).encode(),
                    {},
                )
            return self.answer(
                200 if path in what else 404,
                {"Metadata-Flavor": "Google"},
                what.get(path, b""),
                {},
            )
        with store.lock:
            if path == "_fake/stats":
                value = {
                    "ops": store.stats,
                    "connections": store.connections,
                    "most_in_flight": store.most_in_flight,
                    "faults": store.faults,
                }
            elif path == "_fake/reset":
                value = store.reset()
            elif path == "_fake/faults":
                store.faults = json.loads(data or b"[]")
                value = store.faults
            elif path == "_fake/roles":  # {"bucket": ["objectViewer", ...]}
                for bucket, roles in json.loads(data).items():
                    store.roles[bucket] = set().union(
                        *(ROLES.get(role, {role}) for role in roles)
                    )
                value = {key: sorted(value) for key, value in store.roles.items()}
            elif path == "_fake/set":  # latency, writes_per_second, clock_skew
                vars(store).update(json.loads(data))
                value = None
            elif path == "_fake/objects":
                value = {
                    f"{bucket}/{name}": [thing.blob.size, thing.generation]
                    for bucket, things in store.buckets.items()
                    for name, thing in sorted(things.items())
                }
            elif path == "_fake/get":
                return self.answer(
                    200,
                    {},
                    store.buckets[query["bucket"]][query["name"]].blob.read(),
                    {},
                )
            elif path == "_fake/put":
                store.generation += 1
                store.buckets.setdefault(query["bucket"], {})[query["name"]] = Thing(
                    Blob(data), store.generation, store.now()
                )
                value = None
            elif path == "_fake/bucket_gone":
                value = store.buckets.pop(query["bucket"], None) and None
            else:
                return self.answer(404, {}, b"", {})
        return self.answer(200, {}, json.dumps(value).encode(), {})


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 512


def certificates(folder):
    """Makes a CA and a certificate of Google's names; returns their paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ca, key, cert = folder / "ca.pem", folder / "server.key", folder / "server.pem"
    if not cert.exists():

        def run(*words):
            subprocess.run(
                ["openssl", *words], check=True, capture_output=True, cwd=folder
            )

        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run(
            "req",
            "-x509",
            *curve,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "3650",
            "-subj",
            "/CN=fake_gcs CA",
        )
        run(
            "req",
            *curve,
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
            "-subj",
            "/CN=fake_gcs",
        )
        names = (
            ",".join(f"DNS:{host}" for host in HOSTS) + ",DNS:localhost,IP:127.0.0.1"
        )
        (folder / "ext").write_text(
            f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n"
        )
        run(
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "3650",
            "-extfile",
            "ext",
            "-out",
            "server.pem",
        )
    return ca, cert, key


def environment(port, ca):
    """What leads TensorFlow's gs:// client here, and no other traffic."""
    return {
        "https_proxy": f"http://127.0.0.1:{port}",  # curl's own; all of the client's URLs are https
        "no_proxy": "localhost,127.0.0.1,::1",  # gRPC heeds https_proxy, too
        "CURL_CA_BUNDLE": str(ca),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "fake",  # before any file and the metadata server
        "GCE_METADATA_HOST": f"127.0.0.1:{port}",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",  # google-cloud-storage; TensorFlow does not look at it
    }


def serve(folder, port=0, **options):
    """Starts the fake in threads of this process; returns (server, store, environment)."""
    ca, cert, key = certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    store = Store(**options)
    handler = type("Bound", (Handler,), {"store": store, "context": context})
    server = Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, store, environment(server.server_address[1], ca)


def load(store, spec):
    """Takes BUCKET or BUCKET/PREFIX=DIRECTORY in."""
    where, _, directory = spec.partition("=")
    bucket, _, prefix = where.partition("/")
    things = store.buckets.setdefault(bucket, {})
    if directory:
        for path in sorted(pathlib.Path(directory).rglob("*")):
            if path.is_file():
                name = "/".join(
                    part
                    for part in (
                        prefix.strip("/"),
                        path.relative_to(directory).as_posix(),
                    )
                    if part
                )
                store.generation += 1
                things[name] = Thing(
                    Blob(path=str(path)), store.generation, store.now()
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder",
        default="/tmp/fake_gcs",
        help="of the certificates, environment and stats.json",
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--load", action="append", default=[], metavar="BUCKET[/PREFIX=DIRECTORY]"
    )
    parser.add_argument("--save", help="folder to write every object to at the end")
    parser.add_argument("--faults", default="[]", help="JSON")
    parser.add_argument(
        "--latency", type=float, default=0.0, help="seconds of every request"
    )
    parser.add_argument(
        "--writes_per_second",
        type=float,
        default=1.0,
        help="of one object; 0 is no limit",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", help="file for a line of JSON a request")
    parser.add_argument("command", nargs="*")
    args = parser.parse_args()
    server, store, env = serve(
        args.folder,
        args.port,
        seed=args.seed,
        writes_per_second=args.writes_per_second,
        latency=args.latency,
        log=args.log,
    )
    for spec in args.load:
        load(store, spec)
    store.faults = json.loads(args.faults)
    pathlib.Path(args.folder, "environment").write_text(
        "".join(f"export {key}={value}\n" for key, value in env.items())
    )
    code = 0
    if args.command:
        code = subprocess.call(args.command, env=os.environ | env)
    else:
        print(
            f"fake_gcs on 127.0.0.1:{server.server_address[1]}; . {args.folder}/environment",
            flush=True,
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            signal.pause()
        except (KeyboardInterrupt, SystemExit):
            pass
    stats = {
        "ops": store.stats,
        "connections": store.connections,
        "most_in_flight": store.most_in_flight,
        "faults": store.faults,
    }
    pathlib.Path(args.folder, "stats.json").write_text(json.dumps(stats, indent=1))
    if args.save:
        for bucket, things in store.buckets.items():
            for name, thing in things.items():
                if not name.endswith("/"):
                    path = pathlib.Path(args.save, bucket, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(thing.blob.read())
    sys.exit(code)


if __name__ == "__main__":
    main()
