"""Asks others whether they are there, or waits until they are, and says for whom."""

import concurrent.futures
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from common.console import escaped, say
from common.errors import Restart

_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.5
_SAY_SECONDS = 60.0
_THREADS = 32
_SHOWN = 8

# From "host:port" to why nobody answers there; None where somebody does.
Ask = Callable[[str], str | None]


def until_all_answer(
    others: Mapping[str, str],
    ask: Ask,
    describe: Callable[[str], str],
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    limit_seconds: float = math.inf,
    between: Callable[[], None] = lambda: None,
) -> bool:
    """Wait until all others answer, and say once a minute for which ones.

    Args:
      others: "host:port" by name, as "process 1".
      ask: see `Ask`.
      describe: makes a line of those that are missing and for how long.
      is_stopped: whether to wait no longer.
      limit_seconds: after which nobody waits on.
      between: is called between two looks.

    Returns:
      Whether it had to wait.

    Raises:
      Restart: it is stopped, or the time is over.
    """
    begin, next_line, has_waited = time.monotonic(), 0.0, False
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    try:
        # All at one time: one may have answered and died since.
        while missing := silent(others, ask, pool):
            seconds = time.monotonic() - begin
            if is_stopped():
                raise Restart(f"stopped while waiting for {listed(missing)}")
            if has_waited and seconds >= limit_seconds:  # not before it was said
                raise Restart(f"no answer for {seconds:,.0f} s: {listed(missing)}")
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + _SAY_SECONDS
                since = f", for {seconds:,.0f} s now" if seconds >= 1 else ""
                say(escaped(describe(listed(missing) + since)))
            has_waited = True
            between()
            time.sleep(_POLL_SECONDS)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return has_waited


def silent(
    others: Mapping[str, str], ask: Ask, pool: concurrent.futures.Executor
) -> list[str]:
    """Return the name, the address, and why, of each that does not answer."""
    whys = pool.map(ask, others.values())
    found = zip(others.items(), whys, strict=True)
    return [f"{name} at {address} ({why})" for (name, address), why in found if why]


def listed(missing: Sequence[str]) -> str:
    """Return the first of those that are missing, and how many more there are."""
    more = len(missing) - _SHOWN
    return "; ".join(missing[:_SHOWN]) + (f"; and {more} others" if more > 0 else "")


def why_silent(
    address: str, talk: Callable[[socket.socket], str | None] = lambda call: None
) -> str | None:
    """Return why nobody answers at "host:port"; None where somebody does.

    Args:
      address: where to call.
      talk: what is said there; it returns why the answer will not do. The kernel takes
        calls for a process that has stopped, too: only something that it has said
        itself tells that it lives. Without it a call that is taken is enough.
    """
    host, port = split(address)
    try:
        with socket.create_connection((host, port), _ANSWER_SECONDS) as call:
            return talk(call)
    except UnicodeError:
        return "no name of a host"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__


def split(address: str) -> tuple[str, int]:
    """Return host and port of "host:port"; an address of IPv6 has brackets there."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
