"""The workers of a TPU slice: which there are, and whether each of them answers.

One process drives a slice: it runs TensorFlow's gRPC service on every host.
TensorFlow waits for them in silence, in calls that nothing ends, and says of one that
it has lost only that there is none. So they are asked from here.
"""

import concurrent.futures
import dataclasses
import errno
import os
import re
import socket
from collections.abc import Callable, Mapping

from common.console import say
from common.errors import Restart, UserError, one_line
from train.distribution import cluster, waiting

_ADDRESS = re.compile(r"(?:grpc://)?([^\s:/\[\],]+)(?::([0-9]{1,5}))?")
_PORT = 8470  # where TensorFlow looks for a worker that names none
_LIMIT_SECONDS = 600.0
# How a client of HTTP/2 begins (RFC 9113, 3.4), and settings of which none is set: a
# server of gRPC sends its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # a frame's type


@dataclasses.dataclass(frozen=True)
class Slice:
    """What $TPU_NAME names.

    Attributes:
      name: as it is set.
      addresses: of its workers, "host:port" by name as "worker 1"; none where this
        process has the chips itself.
      accelerator: its type, as "v4-32"; "" where nobody tells.
    """

    name: str
    addresses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accelerator: str = ""


# What this process drives: one slice at most, as there is one context of TensorFlow's.
_driven: Slice | None = None


def find(name: str) -> Slice:
    """Return the slice of a name.

    Args:
      name: "local"; addresses, as grpc://10.0.0.2:8470,grpc://10.0.0.3:8470; or what
        Google Cloud calls the TPU.

    Raises:
      UserError: there is none, or it may not be looked up.
      Restart: it is not ready yet.
    """
    if name == "local":
        return Slice(name, accelerator=_own_accelerator())
    if not name.startswith("grpc://"):
        return _look_up(name)
    found = [_ADDRESS.fullmatch(part.strip()) for part in name.split(",")]
    ports = [int(one[2] or _PORT) for one in found if one]
    if not all(found) or not all(0 < port < 65536 for port in ports):
        raise UserError(
            f"TPU_NAME is {name!r}, which is no list of addresses as in "
            "grpc://10.0.0.2:8470,grpc://10.0.0.3:8470"
        )
    hosts = [one[1] for one in found if one]
    addresses = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    for address in addresses:
        if addresses.count(address) > 1:
            raise UserError(f"TPU_NAME names grpc://{address} twice: {name!r}")
    is_here = any(map(_is_here, hosts))  # else it is another machine's accelerator
    return Slice(name, _numbered(addresses), _own_accelerator() if is_here else "")


def _own_accelerator() -> str:
    return os.environ.get("TPU_ACCELERATOR_TYPE", "")


def _is_here(host: str) -> bool:
    try:
        return cluster.is_here(host)
    except (OSError, UnicodeError):
        return False


def _numbered(addresses: list[str]) -> dict[str, str]:
    return {f"worker {number}": one for number, one in enumerate(addresses)}


def _look_up(name: str) -> Slice:
    """Ask Google Cloud where a TPU is, and what."""
    from cloud_tpu_client import Client  # slow, and only here

    try:
        client = Client(name)
        ends = [f"{e['ipAddress']}:{e['port']}" for e in client.network_endpoints()]
        return Slice(name, _numbered(ends), client.accelerator_type() or "")
    except Exception as error:  # those of four libraries
        why = f"TPU {name!r} ($TPU_NAME): {one_line(error)}"
        if _may_pass(error):
            raise Restart(why) from error
        raise UserError(
            f"{why}; Google Cloud was asked for a TPU of this name. Workers have "
            "addresses, as in grpc://10.0.0.2:8470; a TPU of this machine is `local`"
        ) from error


def _may_pass(error: Exception) -> bool:
    """Whether to ask again may help: the TPU is not ready yet, or the API is busy."""
    if isinstance(error, OSError):  # nobody who knows the project: not of Google's
        return False
    answer = getattr(error.__context__, "resp", None)  # of a request that was refused
    status = int(getattr(answer, "status", 0))
    busy = status == 429 or status >= 500 or isinstance(error.__context__, OSError)
    return busy or "not yet ready" in str(error)


def wait(tpu: Slice, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Wait until all workers of a slice answer, and drive it from now on.

    Raises:
      Restart: it is stopped, or one of them does not answer for ten minutes.
    """
    global _driven
    has_waited = waiting.until_all_answer(
        tpu.addresses,
        why_silent,
        lambda missing: f"TPU {tpu.name!r}: waiting for {missing}",
        is_stopped=is_stopped,
        limit_seconds=_LIMIT_SECONDS,
    )
    if has_waited:
        say("every worker of the TPU answers")
    _driven = tpu


def why_silent(address: str) -> str | None:
    """Return why no worker answers at "host:port"; None where one does."""
    return waiting.why_silent(address, _greet)


def _greet(call: socket.socket) -> str | None:
    call.sendall(_HELLO)
    with call.makefile("rb") as answer:
        begin = answer.read(4)  # of a frame: the length of what follows, and its type
    if len(begin) < 4:
        return "it hangs up"
    return None if begin[3] == _SETTINGS else "what answers is no gRPC"


def lost() -> str:
    """Return the workers of the slice that do not answer now; "" for none."""
    return waiting.listed(_missing())


def gone() -> str:
    """Return those where nobody listens any more; "" for none.

    One that is merely slow, or stopped, is not among them.
    """
    refused = f"({os.strerror(errno.ECONNREFUSED)})"
    return waiting.listed([one for one in _missing() if one.endswith(refused)])


def _missing() -> list[str]:
    if _driven is None or not _driven.addresses:
        return []
    with concurrent.futures.ThreadPoolExecutor(len(_driven.addresses)) as pool:
        return waiting.silent(_driven.addresses, why_silent, pool)


def describe() -> str:
    """Return what there is to say of the slice when this process hangs; "" if none."""
    if _driven is None or not _driven.addresses:
        return ""
    missing = lost()
    if missing:
        return f"suspect: of the TPU, {missing}"
    return "every worker of the TPU answers"


def addresses() -> list[str]:
    """Return where the workers of the slice are; none where this process has chips."""
    return [] if _driven is None else list(_driven.addresses.values())


def accelerator_type() -> str:
    """Return what chips the slice has, as "v4-32"; "" where nobody tells."""
    return _own_accelerator() if _driven is None else _driven.accelerator
