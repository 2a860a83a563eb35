"""A bucket that knows which process has given what is in it its names."""

import collections
import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.bucket import QUICK
from tests.support.fake_gcs import Store, serve


class Watched(dict):
    """Objects of a bucket that know who has given them their names."""

    def __init__(self, who):
        super().__init__()
        self.who, self.changes = who, collections.defaultdict(list)

    def _note(self, name, new):
        run, _, rest = name.partition("/")
        is_named = re.fullmatch(r"(best/)?(scores-)?ckpt-.*|(summary|run)\.json", rest)
        old = self.get(name)
        is_same = new is not None and old is not None and old.blob is new.blob
        if is_named and ".part-" not in rest and not is_same:
            self.changes[run].append((self.who.token, name))

    def __setitem__(self, name, new):
        self._note(name, new)
        super().__setitem__(name, new)

    def __delitem__(self, name):
        self._note(name, None)
        super().__delitem__(name)


@contextlib.contextmanager
def watched_bucket(tmp_path: Path) -> Iterator[tuple[Store, Watched, dict[str, str]]]:
    """Serve gs://bucket; processes are told apart by their tokens."""
    server, store, environment = serve(tmp_path / "served", writes_per_second=0)
    who = threading.local()

    def remember(headers, *, xml):
        del xml
        who.token = headers.get("Authorization", "")

    store.tokens.demand = remember
    watched = store.buckets["bucket"] = Watched(who)
    try:
        yield store, watched, environment | QUICK
    finally:
        server.shutdown()
        server.server_close()


def assert_one_after_the_other(changes):
    """Who has begun to write does so until another does, and never again."""
    order = [who for who, _ in changes]
    begun = [who for n, who in enumerate(order) if n == 0 or order[n - 1] != who]
    assert len(begun) == len(set(begun)), changes
