"""Who holds a folder, what is said of that, and how long one waits for it."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from common.console import escaped, say
from common.errors import Restart, UserError

NAME = ".claim.json"
BEGINS = b'{"token": "'  # every claim, and hardly anything of somebody else's
RENEW_SECONDS = 10.0
STALE_SECONDS = 90.0
PATIENCE_SECONDS = 3.0  # for one that is just ending, or has it for a moment


class Held(UserError):  # noqa: N818 (a state, whoever is to blame)
    """Another process writes there, or does so now instead of this one."""


class Unwritable(UserError):  # noqa: N818 (a state, whoever is to blame)
    """This process may not write there, and so cannot hold the folder."""


# Asked before something gets its name or loses it; raises where that must not be, as
# `Claim.check` does.
Fence = Callable[[], None]


def no_fence() -> None:
    """Let everything pass."""


class Claim(Protocol):
    """What a process has of a folder that it holds."""

    def check(self) -> None:
        """Return if the folder is still this process's.

        Raises:
          Held: another process has taken it over.
          Restart: that cannot be told, as the claim is gone or the storage fails.
        """
        ...


class Lease(Claim, Protocol):
    """A claim of one kind of storage; what fails there raises OSError or ours."""

    def take(self) -> None:
        """Take the folder, as soon as it is free; Held when it is not."""
        ...

    def renew(self) -> None:
        """Give a sign of life."""
        ...

    def release(self) -> None:
        """Leave the folder to others, if it was taken."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a folder; the fields are the keys of the file.

    Attributes:
      token: of this claim alone.
      purpose: what for, as in "a training".
      host: name of the machine.
      pid: of the process.
      boot: of the machine's kernel, and what else tells its processes from each other.
      since: seconds since 1970 by the clock of the machine.
    """

    token: str
    purpose: str
    host: str
    pid: int
    boot: str
    since: float

    @classmethod
    def this_process(cls, purpose: str, boot: str) -> "Holder":
        """Return a new claim of this process."""
        return cls(
            token=uuid.uuid4().hex,
            purpose=purpose,
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=boot,
            since=time.time(),
        )

    @classmethod
    def parse(cls, text: bytes) -> "Holder | None":
        """Return what a claim says; None of half a one, as a kill may leave it."""
        try:
            found = json.loads(text)
            known = {field.name: found[field.name] for field in dataclasses.fields(cls)}
            time.localtime(known["since"] + 0.0)
            return cls(**known)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def to_bytes(self) -> bytes:
        """Return what the claim says."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def __str__(self) -> str:
        since = time.strftime("%F %T", time.localtime(self.since))
        return f"{self.purpose}: process {self.pid} on {self.host}, since {since}"


class Other(NamedTuple):
    """Who holds a folder instead of this process.

    Attributes:
      holder: None where the claim does not say.
      is_alive: by the kernel's word; else it may be.
      sign: its last one of life: another value is another one.
      age: of that sign, in seconds.
    """

    holder: Holder | None
    is_alive: bool = True
    sign: float = 0.0
    age: float = 0.0


def take(
    folder: str, attempt: Callable[[Other | None], Other | None], poll_seconds: float
) -> None:
    """Take a folder, as soon as it is free.

    Args:
      folder: for those who are told of it.
      attempt: takes it if it is free, else returns whose it is. It is handed who has
        given no other sign for long enough.
      poll_seconds: between two attempts.

    Raises:
      Held: it is not free.
      Restart: SIGTERM has come; and what `attempt` raises.
    """
    began, first = time.monotonic(), None
    with _ended_by_sigterm(folder):
        while other := attempt(first if since(began) > STALE_SECONDS else None):
            if other.is_alive:
                first, patience = None, PATIENCE_SECONDS
            else:
                if first is None:
                    first, began = other, time.monotonic()
                    _say_waiting(folder, other)
                elif other.sign != first.sign:  # it has given another one
                    raise held(folder, other.holder)
                patience = STALE_SECONDS + PATIENCE_SECONDS
            if since(began) > patience:
                raise held(folder, other.holder)
            time.sleep(poll_seconds)


def since(began: float) -> float:
    """Return the seconds since a moment of the monotonic clock."""
    return time.monotonic() - began


def held(folder: str, holder: Holder | None) -> Held:
    """Return the refusal of a folder that another process holds."""
    how = "Wait for its end or stop it, which leaves the folder to the next"
    if "://" in folder:
        how += (
            f" (killed, it leaves it {STALE_SECONDS:.0f} s later, or once "
            f"{folder}/{NAME} is deleted)"
        )
    return Held(
        f"{folder} is held by {holder or 'another process'}. {how}, or name another "
        "folder"
    )


def cannot_tell(path: object, why: str) -> Restart:
    """Return why a process stops that does not know whether a folder is still its own.

    Args:
      path: of the claim.
      why: it does not tell.
    """
    return Restart(f"{path} does not tell whose the folder is now: {why}")


def require_ours(path: object, head: bytes) -> None:
    """Refuse to write over what is no claim.

    Args:
      path: where it stands.
      head: what it begins with.
    """
    if not BEGINS.startswith(head[: len(BEGINS)]):
        raise UserError(
            f"{path} is no file of this project: move it elsewhere, or name another "
            "folder"
        )


def _say_waiting(folder: str, other: Other) -> None:
    line = (
        f"{folder} is held by {other.holder}; its last sign of life is "
        f"{other.age:,.0f} s old. Waiting for another one; without, it counts as "
        f"dead after {STALE_SECONDS:.0f} s (in a copy of its folder delete {NAME})"
    )
    say(escaped(line))


@contextlib.contextmanager
def _ended_by_sigterm(folder: str) -> Iterator[None]:
    """Let SIGTERM end the block with a word; only a main thread can hear of it."""

    def stop(*_: object) -> None:
        raise Restart(f"stopped by SIGTERM while waiting for {folder}")

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
