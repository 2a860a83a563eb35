"""Says when a bucket does not answer: TensorFlow waits for minutes, and in silence.

Its client tries a request for about three minutes, a quarter of an hour where answers
hang, and may look for an access token for as long. So a thread asks each bucket of a
command now and then, by itself. What it hears changes nothing but what a person reads:
whether the command goes on is for whoever waits to say.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator

from common import gcs
from common.console import escaped, say
from common.errors import Restart, UserError

_PAUSE_SECONDS = 15.0  # between two questions; most commands end before the first
_ANSWER_SECONDS = 10.0
_TRY_SECONDS = 3.0  # three tries: what fails at times only does answer
_AGAIN_SECONDS = 60.0  # after which it is said once more
_NO_OBJECT = ".is_it_there"  # that there is none is an answer, and so is a refusal
_of_command: list["_Watch"] = []


@contextlib.contextmanager
def said(paths: Iterable[str] = ()) -> Iterator[None]:
    """Say in the block which buckets do not answer, and when they do again.

    Args:
      paths: in those buckets; others are none of its business. `watch` adds more.
    """
    watch_of_command = _Watch()
    _of_command.append(watch_of_command)
    try:
        for path in paths:
            watch(path)
        yield
    finally:
        _of_command.remove(watch_of_command)
        watch_of_command.is_over.set()


def watch(path: str) -> None:
    """Watch over the bucket of a path, too, if a command runs."""
    if _of_command and path.startswith(gcs.SCHEME):
        _of_command[-1].add("/".join(path.split("/")[:3]))


class _Watch:
    def __init__(self):
        self.is_over = threading.Event()
        self._buckets: set[str] = set()

    def add(self, bucket: str) -> None:
        if bucket not in self._buckets and bucket != gcs.SCHEME:
            self._buckets.add(bucket)
            threading.Thread(target=self._watch, args=[bucket], daemon=True).start()

    def _watch(self, bucket: str) -> None:
        answered, failures, spoken = time.monotonic(), 0, -_AGAIN_SECONDS
        while not self.is_over.wait(_PAUSE_SECONDS):
            why = _why_silent(bucket)
            now = time.monotonic()
            if self.is_over.is_set():
                return
            if why is None:
                if spoken > answered:
                    say(f"{bucket} answers again, after {now - answered:,.0f} s")
                answered, failures = now, 0
                continue
            failures += 1
            if failures > 1 and now - spoken >= _AGAIN_SECONDS:
                spoken = now
                line = f"{bucket} has not answered for {now - answered:,.0f} s: {why}"
                say(escaped(f"{line}. This waits for it"))


def _why_silent(bucket: str) -> str | None:
    """Return why a bucket does not answer now; None if it does."""
    found: list[str | None] = []

    def look() -> None:
        try:
            gcs.look(f"{bucket}/{_NO_OBJECT}", patience=_TRY_SECONDS)
        except gcs.NoToken as missing:  # TensorFlow goes on looking for one
            found.append(str(missing).partition(": ")[2])
        except UserError:
            found.append(None)  # refused, which is for others to say
        except Restart as busy:
            found.append(str(busy).partition(" now: ")[2])
        else:
            found.append(None)
        finally:
            gcs.close_connections()

    asking = threading.Thread(target=look, daemon=True)
    asking.start()
    asking.join(_ANSWER_SECONDS)
    return found[0] if found else f"no word within {_ANSWER_SECONDS:.0f} s"
