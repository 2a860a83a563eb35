"""What the workers of a search share: who evaluates what, and what has come of it.

A lease is one worker's right to evaluate one number. It has no time of day: its holder
renews it, and whoever has looked at it for long enough without seeing it change counts
the holder as dead. So no clocks have to agree, and what nobody could renew, as the
store was away, does not expire.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar

from common import console
from common.errors import Restart, one_line
from search.results import Result

PATIENCE_SECONDS = 120.0  # for a store that does not answer
_LONGEST_PAUSE = 5.0
_T = TypeVar("_T")

# How a lease may end without a result: its holder is dead; it has given the number
# back; it was never its, as another worker was faster.
End = Literal["expired", "dropped", "lost"]


@dataclasses.dataclass(frozen=True)
class Lease:
    """A worker's right to evaluate a number.

    Attributes:
      number: of the evaluation.
      worker: the holder's name.
      network: its encoding.
      sign: another text after each renewal.
      key: the store's own.
    """

    number: int
    worker: str
    network: str
    sign: str
    key: Any


@dataclasses.dataclass(frozen=True)
class Sight:
    """What a store holds at one moment.

    Attributes:
      results: by number; of several with one number the first that came.
      leases: all that have not ended. Of several with one number the first holds it;
        a number with a result may have one, too, whose holder has died on its way.
      deaths: how many leases of a number have expired.
    """

    results: Mapping[int, Result]
    leases: tuple[Lease, ...]
    deaths: Mapping[int, int]


class Store(Protocol):
    """Calls wait for a store that is away, and raise Restart after two minutes."""

    def look(self) -> Sight:
        """Return what there is now."""
        ...

    def claim(self, number: int, network: str, worker: str) -> Lease | None:
        """Take a number; None where another worker has it or its result is there.

        A worker that has it already gets the same lease again.
        """
        ...

    def renew(self, lease: Lease) -> None:
        """Change the sign of a lease; does nothing where it has ended."""
        ...

    def end(self, lease: Lease, how: End) -> None:
        """End a lease; does nothing where it has ended."""
        ...

    def finish(self, result: Result, lease: Lease | None = None) -> None:
        """Hand in what stands in a results file, with or without its lease.

        Does nothing where the number has a result.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def patiently(
    call: Callable[[], _T], errors: tuple[type[Exception], ...], store: str
) -> _T:
    """Return what a call to a store returns, which may be away for a while.

    Args:
      call: may be called several times.
      errors: what says that the store is away.
      store: its name, for a person.

    Raises:
      Restart: it was away for PATIENCE_SECONDS.
    """
    began, pause = time.monotonic(), 0.1
    while True:
        try:
            return call()
        except errors as error:
            why = console.escaped(one_line(error))[:300]
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Restart(f"{store} does not answer: {why}") from error
            if pause == 0.1:
                console.say(f"{store} does not answer, waiting for it: {why}")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


class Watch:
    """Tells which leases were not renewed for so long that their holders are dead."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        """Begin to watch.

        Args:
          seconds: without a renewal; holders renew three times as often.
          clock: never goes back.
        """
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[Any, tuple[str, float]] = {}  # sign, since when, by key
        self._last = clock()

    def expired(self, leases: Iterable[Lease]) -> list[Lease]:
        """Return those whose sign has not changed; to be called often."""
        now = self._clock()
        # Who has not looked for long does not know whether anybody could renew: the
        # store was away, or this machine slept.
        interrupted = now - self._last > self._seconds / 2
        seen, found = {}, []
        for lease in leases:
            sign, since = self._seen.get(lease.key, ("", now))
            if interrupted or sign != lease.sign:
                since = now
            seen[lease.key] = (lease.sign, since)
            if now - since > self._seconds:
                found.append(lease)
        self._seen, self._last = seen, now
        return found


@contextmanager
def renewing(store: Store, lease: Lease, seconds: float) -> Iterator[None]:
    """Renew a lease from a thread while the block runs.

    Args:
      store: that of the lease.
      lease: of this process.
      seconds: after which it expires without.
    """
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / 3):
            try:
                store.renew(lease)
            except Restart:  # the block's own call will say so
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
