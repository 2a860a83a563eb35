"""Which processes make up a run, as TF_CONFIG says; and how they meet."""

import contextlib
import dataclasses
import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from common.console import say, warn
from common.errors import UserError
from train.distribution import waiting

_JOBS = ("chief", "worker")  # in the order of the processes' numbers
_EXAMPLE = (
    'as in TF_CONFIG=\'{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_BACKLOG = 1024


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run.

    Attributes:
      addresses: of all of them, "host:port", by number; none where there is one alone.
      number: of this process, from 0.
    """

    addresses: tuple[str, ...] = ()
    number: int = 0

    @property
    def count(self) -> int:
        """How many processes there are."""
        return max(1, len(self.addresses))

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.number == 0


def find(strategy: str) -> Cluster:
    """Return the processes of a run of a strategy, `multi_worker` having several.

    Raises:
      UserError: TF_CONFIG does not say which there are, or which this one is.
    """
    if strategy != "multi_worker":
        return Cluster()
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        raise UserError(
            "strategy 'multi_worker' needs TF_CONFIG in the environment of every "
            f"process, {_EXAMPLE}"
        )
    try:
        config = json.loads(text)
    except ValueError as error:  # a number may be too long for Python, too
        raise _mistake(f"is not JSON ({error})") from None
    except RecursionError:
        raise _mistake("is not JSON (it is nested too deeply)") from None
    return _parse(config)


def _mistake(what: str) -> UserError:
    return UserError(f"TF_CONFIG {what}; it has to be {_EXAMPLE}")


def _parse(config: Any) -> Cluster:
    parts = _object(config, "")
    jobs, task = _object(parts.get("cluster"), "cluster"), parts.get("task")
    if unknown := sorted(jobs.keys() - set(_JOBS)):
        raise _mistake(
            f"names {', '.join(map(repr, unknown))} in cluster, where strategy "
            "'multi_worker' knows 'worker' and 'chief' alone"
        )
    addresses = {job: _addresses(jobs[job], job) for job in _JOBS if job in jobs}
    if not addresses.get("worker"):
        raise _mistake("names no worker in cluster.worker")
    if len(addresses.get("chief", ())) > 1:
        raise _mistake("names more than one cluster.chief")
    everyone = tuple(one for job in _JOBS for one in addresses.get(job, ()))
    for address in everyone:
        if everyone.count(address) > 1:
            raise _mistake(f"names {address!r} twice in cluster")
    return Cluster(everyone, _number(_object(task, "task"), addresses))


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        where = f".{place}" if place else ""
        what = "is missing" if value is None and place else f"is {value!r:.60}"
        raise UserError(f"TF_CONFIG{where} {what}; it has to be an object, {_EXAMPLE}")
    return value


def _addresses(value: Any, job: str) -> Sequence[str]:
    if not isinstance(value, list):
        raise _mistake(f"has {value!r:.60} for cluster.{job}, which is no list")
    for index, address in enumerate(value):
        found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not found or not 0 < int(found[2]) < 65536:
            raise _mistake(
                f"has {address!r:.60} for cluster.{job}[{index}], which is no "
                "host:port with a port of 1 to 65535"
            )
    return value


def _number(task: dict[str, Any], addresses: dict[str, Sequence[str]]) -> int:
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in addresses:
        raise _mistake(
            f"has {kind!r:.60} for task.type, and cluster names "
            f"{' and '.join(map(repr, addresses))}"
        )
    if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):
        index = int(index)  # as TensorFlow takes it
    count = len(addresses[kind])
    if type(index) is not int or not 0 <= index < count:
        raise _mistake(
            f"has {index!r:.60} for task.index, and the {kind}s of cluster are "
            f"0 to {count - 1}"
        )
    return index + (len(addresses.get("chief", ())) if kind == "worker" else 0)


def meet(cluster: Cluster, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Wait until all processes of a run answer, and say for which ones this one waits.

    TensorFlow itself would wait in silence, in a call that nothing ends. Whoever waits
    here listens at its own address, as TensorFlow's server does afterwards.

    Args:
      cluster: of the run.
      is_stopped: whether to wait no longer.

    Raises:
      UserError: this process cannot listen at its port.
      Restart: it is stopped.
    """
    if cluster.count == 1:
        return
    others = {
        f"process {number}": address
        for number, address in enumerate(cluster.addresses)
        if number != cluster.number
    }
    with _listening(cluster.addresses[cluster.number]) as hang_up:
        has_waited = waiting.until_all_answer(
            others,
            waiting.why_silent,
            lambda missing: (
                f"process {cluster.number} of {cluster.count} waits for {missing}; "
                "start it there with the same TF_CONFIG but for its task"
            ),
            is_stopped=is_stopped,
            between=hang_up,
        )
    if has_waited:
        say(f"all {cluster.count} processes of TF_CONFIG answer")


@contextlib.contextmanager
def _listening(address: str) -> Iterator[Callable[[], None]]:
    """Listen at a port of this process; yield what hangs up on who has called."""
    host, port = waiting.split(address)
    _warn_of_a_strange_address(host, address)
    family, dual = socket.AF_INET, False
    if socket.has_dualstack_ipv6():
        family, dual = socket.AF_INET6, True
    try:
        server = socket.create_server(
            ("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual
        )
    except OSError as error:
        raise UserError(
            f"cannot listen at port {port} of {address!r}, the address that TF_CONFIG "
            f"gives this process: {os.strerror(error.errno or 0)}; end what holds the "
            "port, or name another in the TF_CONFIG of every process"
        ) from error
    with server:
        server.setblocking(False)
        yield lambda: _hang_up(server)


def _hang_up(server: socket.socket) -> None:
    # Who has called knows by then that somebody listens.
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()


def _warn_of_a_strange_address(host: str, address: str) -> None:
    """Say that this process may be another one's; behind a translation it is right."""
    try:
        here = is_here(host)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no name of a host"
        warn(f"TF_CONFIG: this process is said to be at {address!r}: {why}")
        return
    if not here:
        warn(
            f"TF_CONFIG: this process is said to be at {address!r}, no address "
            "of this machine: is task.index right?"
        )


def is_here(host: str) -> bool:
    """Return whether a host's name is one of this machine's.

    Raises:
      OSError, UnicodeError: nobody knows the name.
    """
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return any(map(_is_local, found))


def _is_local(found: Iterable[Any]) -> bool:
    family, _, _, _, where = found
    try:
        with socket.socket(family) as probe:
            probe.bind((where[0], 0, *where[2:]))
    except OSError:
        return False
    return True
