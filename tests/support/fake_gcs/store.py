"""Buckets with what Google promises of them: generations, rights, limits of writes."""

import base64
import functools
import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.fake_gcs.answers import Refused
from tests.support.fake_gcs.counters import Counters
from tests.support.fake_gcs.faults import Fault, Faults, Rule
from tests.support.fake_gcs.tokens import Tokens

# What TensorFlow's client asks for, of the permissions of IAM's roles.
_OBJECTS = {f"objects.{what}" for what in ("get", "list", "create", "delete", "update")}
ROLES = {
    "objectViewer": {"objects.get", "objects.list"},
    "objectCreator": {"objects.create"},
    "objectUser": _OBJECTS,
    "legacyBucketReader": {"buckets.get", "objects.list"},
    "admin": _OBJECTS | {"buckets.get"},
}


class Blob:
    """Bytes that nobody changes, in memory or in a file."""

    def __init__(self, data: bytes = b"", path: Path | None = None) -> None:
        self._data, self._path = data, path
        self.size = path.stat().st_size if path else len(data)

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """Return so many bytes from there on, all without `size`."""
        size = self.size - start if size is None else size
        if self._path is None:
            return self._data[start : start + size]
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    @functools.cached_property
    def md5(self) -> str:
        """The digest as Google writes it."""
        return base64.b64encode(hashlib.md5(self.read()).digest()).decode()


@dataclass
class StoredObject:
    """One generation of an object."""

    blob: Blob
    generation: int
    updated: float
    created: float
    metageneration: int = 1
    metadata: dict[str, str] = field(default_factory=dict)

    def json(self, bucket: str, name: str) -> dict[str, Any]:
        """Return what the JSON API says of it."""
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "bucket": bucket,
            "name": name,
            "size": str(self.blob.size),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "updated": _stamp(self.updated),
            "timeCreated": _stamp(self.created),
            "metadata": self.metadata,
            # As of a composed object: clients have to do without.
            **({"md5Hash": self.blob.md5} if self.blob.size <= 1 << 20 else {}),
        }


def _stamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


class Store:
    """Buckets and everything that is said of them; `lock` guards what changes.

    Args:
      seed: of the faults.
      writes_per_second: of one object, as Google limits them; 0 is no limit.
      latency: seconds of every request.
      log: file for a line of JSON a request.

    Attributes:
      buckets: objects by name, by bucket.
      roles: permissions by bucket; one that is not there may be used freely.
      uploads: resumable ones, by their id.
      clock_skew: seconds by which the storage's clock is ahead.
    """

    def __init__(
        self,
        seed: int = 0,
        writes_per_second: float = 1.0,
        latency: float = 0.0,
        log: str | Path | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, dict[str, StoredObject]] = {}
        self.uploads: dict[str, Any] = {}
        self.roles: dict[str, set[str]] = {}
        self.writes_per_second, self.latency = writes_per_second, latency
        self.clock_skew = 0.0
        self.tokens = Tokens()
        self.counters = Counters(log)
        self.stopped = threading.Event()
        self._faults = Faults(seed)
        self._written: dict[tuple[str, str], float] = {}
        self._generation = int(time.time() * 1e6)

    def now(self) -> float:
        """Return the time by the storage's clock."""
        return time.time() + self.clock_skew

    @property
    def faults(self) -> list[Rule]:
        """What goes wrong; a test sets it."""
        return self._faults.rules

    @faults.setter
    def faults(self, rules: list[Rule]) -> None:
        with self.lock:
            self._faults.rules = rules

    def fault(self, op: str, name: str) -> Fault:
        """Return what a request meets."""
        with self.lock:
            return self._faults.find(op, name)

    @property
    def stats(self) -> dict[str, dict[str, Any]]:
        """Requests, bytes and statuses of each operation since `reset`."""
        return self.counters.ops

    @property
    def most_in_flight(self) -> int:
        """Requests that were under way at one time since `reset`."""
        return self.counters.most_in_flight

    def reset(self) -> None:
        """Count from zero."""
        self.counters.reset()

    def content(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return what lies below a prefix, by the rest of its name, without folders."""
        with self.lock:
            found = [
                (name.removeprefix(prefix).lstrip("/"), stored.blob)
                for name, stored in sorted(self.buckets.get(bucket, {}).items())
                if name.startswith(prefix) and not name.endswith("/")
            ]
        return {name: blob.read() for name, blob in found}

    # Rights and preconditions.

    def set_roles(self, bucket: str, roles: Iterable[str]) -> None:
        """Allow so much in a bucket: names of ROLES or of single permissions."""
        self.roles[bucket] = set().union(*(ROLES.get(role, {role}) for role in roles))

    def demand(self, bucket: str, right: str) -> None:
        """Refuse a bucket that is not there, or in which this is not allowed."""
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.", "notFound")
        if right not in self.roles.get(bucket, ROLES["admin"]):
            what = "bucket" if right.startswith("b") else "object"
            raise Refused(
                403,
                "fake@example.iam.gserviceaccount.com does not have "
                f"storage.{right} access to the Google Cloud Storage {what}. Permission"
                f" 'storage.{right}' denied on resource (or it may not exist).",
                "forbidden",
            )

    def find(self, bucket: str, name: str, right: str = "objects.get") -> StoredObject:
        """Return an object, or refuse; that there is none is told to who may list."""
        self.demand(bucket, right)
        stored = self.buckets[bucket].get(name)
        if stored is None:
            self.demand(bucket, "objects.list")
            raise Refused(404, f"No such object: {bucket}/{name}", "notFound")
        return stored

    def precondition(
        self, bucket: str, name: str, query: Mapping[str, Any], prefix: str = "if"
    ) -> None:
        """Refuse with 412 unless the preconditions of a query hold.

        A generation of 0 stands for an object that is not there.
        """
        stored = self.buckets[bucket].get(name)
        now = {
            "Generation": stored.generation if stored else 0,
            "Metageneration": stored.metageneration if stored else 0,
        }
        for of, value in now.items():
            for how, holds in (("Match", int.__eq__), ("NotMatch", int.__ne__)):
                wanted = query.get(f"{prefix}{of}{how}")
                if wanted is not None and not holds(int(wanted), value):
                    raise Refused(
                        412,
                        "At least one of the pre-conditions you specified did not "
                        "hold.",
                        "conditionNotMet",
                    )

    # Writes.

    def write(
        self, bucket: str, name: str, blob: Blob, query: Mapping[str, Any]
    ) -> StoredObject:
        """Write an object as a client; raises Refused."""
        with self.lock:
            self.demand(bucket, "objects.create")
            if name in self.buckets[bucket]:
                self.demand(bucket, "objects.delete")  # to overwrite is to delete
            self.precondition(bucket, name, query)
            self.limit(bucket, name)
            return self.put(bucket, name, blob)

    def put(self, bucket: str, name: str, blob: Blob) -> StoredObject:
        """Write an object as nobody, and make its bucket if need be."""
        with self.lock:
            self._generation = max(self._generation + 1, int(time.time() * 1e6))
            now = self.now()
            stored = StoredObject(blob, self._generation, now, now)
            self.buckets.setdefault(bucket, {})[name] = stored
            return stored

    def limit(self, bucket: str, name: str) -> None:
        """Refuse with 429 what changes one object more often than is allowed."""
        if not self.writes_per_second:
            return
        last, now = self._written.get((bucket, name), 0.0), time.monotonic()
        if last and now - last < 1 / self.writes_per_second:
            raise Refused(
                429,
                f"The object {bucket}/{name} exceeded the rate limit for object "
                "mutation operations (create, update, and delete). Please reduce your "
                "request rate.",
                "rateLimitExceeded",
            )
        self._written[bucket, name] = now


def load(store: Store, spec: str) -> None:
    """Take in what BUCKET, or BUCKET/PREFIX=DIRECTORY names; files stay where they are.

    An empty prefix is the bucket's root.
    """
    where, _, directory = spec.partition("=")
    bucket, _, prefix = where.partition("/")
    store.buckets.setdefault(bucket, {})
    if not directory:
        return
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            below = prefix.strip("/")
            store.put(bucket, f"{below}/{name}" if below else name, Blob(path=path))
