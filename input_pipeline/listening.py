"""At which addresses of this machine a server of TensorFlow's can be reached.

TensorFlow's servers listen at every address, ask nobody who he is, and cannot be told
otherwise. So the kernel is: a filter on the server's listening sockets drops what comes
for another address, before anything answers.
"""

import ctypes
import dataclasses
import errno
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import one_line
from input_pipeline.errors import DataError

EVERY = "0.0.0.0"  # as --host: all addresses of this machine
_LISTENING, _ESTABLISHED = "0A", "01"  # of /proc/net/tcp
_SO_ATTACH_FILTER = 26
# Classic BPF: instructions, and where the header of the network begins.
_LOAD_WORD, _LOAD_BYTE, _AND, _IF_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x06
_HEADER = 0xFFF00000
_IPV4_TO, _IPV6_TO = _HEADER + 16, _HEADER + 24
_ACCEPT, _DROP = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Instruction = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class _Socket:
    """A row of /proc/net/tcp: of this machine, of any process."""

    address: Address
    port: int
    state: str
    inode: int


def addresses(host: str) -> tuple[Address, ...]:
    """Return the addresses of this machine that a name stands for; none for every one.

    Raises:
      DataError: it has no such name or address.
    """
    if host in (EVERY, "::"):
        return ()
    try:
        rows = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"--host={host} is neither a name nor an address ({one_line(error)}): name "
            f"an address of this machine, or {EVERY} for all of them"
        ) from error
    found = {ipaddress.ip_address(row[4][0]): row for row in rows if host}
    ours = tuple(address for address, row in found.items() if _is_local(row))
    if not ours:
        raise DataError(
            f"--host={host} is no address of this machine: name one of its own, or "
            f"{EVERY} for all of them"
        )
    return ours


def _is_local(row: tuple) -> bool:
    try:
        with socket.socket(row[0]) as probe:
            probe.bind((row[4][0], 0, *row[4][2:]))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL and error.errno != errno.EAFNOSUPPORT
    return True


def toward(host: str, port: int) -> str:
    """Return the address of this machine from which it reaches another, or itself."""
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(where)
        return probe.getsockname()[0]


def free_port(port: int) -> int:
    """Return a port where nobody listens, for TensorFlow would share it; 0 is any.

    Raises:
      DataError: somebody does.
    """
    try:
        with socket.create_server(("", port)) as probe:
            return probe.getsockname()[1]
    except OSError as error:
        raise DataError(
            f"cannot listen at port {port}: {os.strerror(error.errno or 0)}; end what "
            "holds it, or choose another --port"
        ) from error


def hold_to(port: int, allowed: Sequence[Address]) -> None:
    """Let a server of this process be reached at some addresses alone.

    Args:
      port: where it listens.
      allowed: of this machine; none for all.

    Raises:
      DataError: another process listens there, too, somebody else is connected already,
        or the kernel does not do it.
    """
    own, found = _own_sockets(), [*_sockets(port)]
    listening = [one.inode for one in found if one.state == _LISTENING]
    if not own.keys() >= set(listening):
        raise DataError(
            f"another process listens at port {port}, too: choose another --port"
        )
    if not allowed:
        return
    if not listening:
        raise DataError(f"the server does not listen at port {port}: start it again")
    for inode in listening:
        _attach(own[inode], _program(allowed))
    for one in _sockets(port):
        if one.state == _ESTABLISHED and _plain(one.address) not in allowed:
            raise DataError(
                f"somebody was connected to {_plain(one.address)} at port {port} "
                "before it was closed to all but --host: start again"
            )


def _own_sockets() -> dict[int, int]:
    """Return file descriptors of this process's sockets by inode."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:  # it was that of the folder
            continue
        if inode := re.fullmatch(r"socket:\[(\d+)\]", link):
            found[int(inode[1])] = int(entry)
    return found


def _sockets(port: int) -> Iterator[_Socket]:
    for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not path.exists():  # a kernel without IPv6
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _Socket(_address(address), port, fields[3], int(fields[9]))


def _address(text: str) -> Address:
    """Return what the kernel prints as words in this machine's order of bytes."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one of a socket for both stands for."""
    return getattr(address, "ipv4_mapped", None) or address


def _program(allowed: Sequence[Address]) -> list[_Instruction]:
    """Return the filter that accepts what is sent to these addresses, and drops all."""
    words = {4: [], 6: []}
    for address in allowed:
        words[address.version].append(
            struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
        )
    ipv4 = [step for one in words[4] for step in _matches(one, _IPV4_TO)] + [_DROP]
    ipv6 = [step for one in words[6] for step in _matches(one, _IPV6_TO)] + [_DROP]
    return [
        (_LOAD_BYTE, 0, 0, _HEADER),
        (_AND, 0, 0, 0xF0),  # the version
        (_IF_EQUAL, 0, len(ipv4), 0x40),
        *ipv4,
        *ipv6,
    ]


def _matches(words: Sequence[int], begin: int) -> Iterator[_Instruction]:
    """Yield what accepts one address; where a word differs it goes on behind."""
    for number, word in enumerate(words):
        yield _LOAD_WORD, 0, 0, begin + 4 * number
        yield _IF_EQUAL, 0, 2 * (len(words) - number) - 1, word
    yield _ACCEPT


def _attach(descriptor: int, program: Sequence[_Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    whole = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, whole)
        except OSError as error:
            raise DataError(
                f"this kernel does not close a port to other addresses "
                f"({error.strerror}): see to it yourself, and say --host={EVERY}"
            ) from error
