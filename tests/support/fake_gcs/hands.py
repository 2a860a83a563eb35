"""/_fake/...: how a test in another process looks at the store and changes it."""

import json
from collections.abc import Callable
from typing import Any

from tests.support.fake_gcs.answers import Answer, Request, json_answer
from tests.support.fake_gcs.store import Blob, Store


def act(store: Store, request: Request, data: bytes) -> Answer:
    """Do what the path says; the body is JSON, but for `put`."""
    query = request.query
    what = "/".join(request.parts[1:])
    if what == "get":
        return Answer(content=store.buckets[query["bucket"]][query["name"]].blob.read)
    if what == "put":
        store.put(query["bucket"], query["name"], Blob(data))
        return json_answer(None)
    actions: dict[str, Callable[[Store, Any], Any]] = {
        "stats": lambda store, _: stats(store),
        "reset": lambda store, _: store.reset(),
        "faults": _faults,
        "roles": _roles,
        "set": _set,
        "revoke": lambda store, _: store.tokens.revoke(),
        "objects": _objects,
        "bucket_gone": lambda store, _: store.buckets.pop(query["bucket"]) and None,
    }
    if what not in actions:
        return Answer(404)
    return json_answer(actions[what](store, json.loads(data or b"null")))


def stats(store: Store) -> dict[str, Any]:
    """Return what was counted."""
    counters = store.counters
    return {
        "ops": counters.ops,
        "connections": counters.connections,
        "most_in_flight": counters.most_in_flight,
        "faults": store.faults,
    }


def _faults(store: Store, rules: Any) -> Any:
    """Set the rules; without a body, only say them."""
    if rules is not None:
        store.faults = rules
    return store.faults


def _roles(store: Store, roles: Any) -> Any:
    """Take {"bucket": ["objectViewer", ...]}."""
    for bucket, names in (roles or {}).items():
        store.set_roles(bucket, names)
    return {bucket: sorted(rights) for bucket, rights in store.roles.items()}


def _set(store: Store, values: Any) -> None:
    """Take {"latency": 0.03, "writes_per_second": 0, "clock_skew": 60}."""
    known = {"latency", "writes_per_second", "clock_skew"}
    for name in known & values.keys():
        setattr(store, name, values[name])
    if unknown := values.keys() - known:
        raise ValueError(f"the store has no {', '.join(sorted(unknown))}")


def _objects(store: Store, _: Any) -> dict[str, tuple[int, int]]:
    """Return size and generation of each object."""
    return {
        f"{bucket}/{name}": (stored.blob.size, stored.generation)
        for bucket, held in store.buckets.items()
        for name, stored in sorted(held.items())
    }
