"""At which addresses of this machine a server of TensorFlow's can be reached.

TensorFlow's servers listen at every address, ask nobody who he is, and cannot be told
otherwise. But sockets may share a port, and then a program says which of them gets who
comes. So a guard listens first, that drops all it gets, and leaves to the server only
what comes for the right addresses, from the server's first moment on.
"""

import contextlib
import ctypes
import dataclasses
import errno
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common.errors import UserError, one_line

EVERY = "0.0.0.0"  # as --host: all addresses of this machine
_LISTENING = "0A"  # of /proc/net/tcp
_SO_ATTACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF = 26, 51
# Classic BPF: instructions, and where the header of the network begins.
_LOAD_WORD, _LOAD_BYTE, _AND, _IF_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x06
_JUMP = 0x05
_HEADER = 0xFFF00000
# Where addresses are in it, of IPv4 and of IPv6: a packet's goal, and its origin.
OWN, CALLER = {4: 16, 6: 24}, {4: 12, 6: 8}
# Numbers of the sockets at a port, in the order in which they came. As a filter of the
# guard's own, 0 is how many bytes it gets.
_GUARD, _SERVER = (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 1)

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Instruction = tuple[int, int, int, int]


class CannotClose(UserError):  # noqa: N818 (a state, whoever is to blame)
    """The kernel lets this process close no port to others, as some do but for root."""


@dataclasses.dataclass(frozen=True)
class _Socket:
    """One that listens, of any process of this machine."""

    address: Address
    inode: int


def addresses(host: str, flag: str = "--host") -> tuple[Address, ...]:
    """Return the addresses of this machine that a name stands for; none for every one.

    Args:
      host: the name, or an address.
      flag: that gives it.

    Raises:
      UserError: it has no such name or address.
    """
    try:
        rows = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{flag}={host} is neither a name nor an address ({one_line(error)}): name "
            f"an address of this machine, or {EVERY} for all of them"
        ) from error
    found = {_plain(row[4][0]): row for row in rows if host}
    if any(address.is_unspecified for address in found):  # as 0, or ::0
        return ()
    ours = tuple(
        address
        for address, row in found.items()
        if not (address.is_multicast or address == _BROADCAST) and _is_local(row)
    )
    if not ours:
        raise UserError(
            f"{flag}={host} is no address of this machine: name one of its own, or "
            f"{EVERY} for all of them"
        )
    return ours


def _plain(text: str | int) -> Address:
    """Return an address as packets bear it: IPv4 has none of IPv6's."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


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


def guard(
    port: int, allowed: Sequence[Address], *, of: Mapping[int, int] = OWN
) -> socket.socket:
    """Take a port for a server of this process, which then listens there, too.

    Args:
      port: where nobody else listens, for TensorFlow would share it; 0 is any.
      allowed: addresses of this machine at which the server is to be reached; none for
        all.
      of: CALLER where they are those of the machines that may reach it.

    Returns:
      What has the port, to be kept open as long as the server runs.

    Raises:
      UserError: somebody listens there, or the kernel does not do it.
    """
    guard = socket.socket(_family())
    try:
        if guard.family == socket.AF_INET6:
            guard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # A server that has just ended may have left connections.
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        guard.bind(("", port))
        # Only now: else it would have shared a port that is another's.
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if allowed:
            _attach(guard, _SO_ATTACH_FILTER, [_GUARD])
            _attach(guard, _SO_ATTACH_REUSEPORT_CBPF, _program(allowed, of))
            guard.listen()
    except OSError as error:
        guard.close()
        raise UserError(
            f"cannot listen at port {port}: {os.strerror(error.errno or 0)}; end what "
            "holds it, or choose another port"
        ) from error
    return guard


def _family() -> socket.AddressFamily:
    """Return that of TensorFlow's servers: the kernel guards a port by family.

    By gRPC's rule: IPv6 for both, where this machine has its own address of IPv6.
    """
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return socket.AF_INET
    return socket.AF_INET6


def check(guard: socket.socket) -> None:
    """See that a server of this process listens behind a guard, and nobody else does.

    Raises:
      UserError: another process listens there, too, or it is another kind of server.
    """
    host, port = guard.getsockname()[:2]
    own, found = _own_inodes(), [*_listening(port)]
    if not own >= {one.inode for one in found}:
        raise UserError(
            f"another process listens at port {port}, too: choose another one"
        )
    servers = [one for one in found if one.inode != os.fstat(guard.fileno()).st_ino]
    if {str(one.address) for one in servers} != {host}:
        raise UserError(f"the server does not listen at port {port}: start it again")


def _own_inodes() -> set[int]:
    """Return those of this process's sockets."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it was that of the folder
            link = os.readlink(f"/proc/self/fd/{entry}")
            found.update(map(int, re.findall(r"^socket:\[(\d+)\]$", link)))
    return found


def _listening(port: int) -> Iterator[_Socket]:
    for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not path.exists():  # a kernel without IPv6
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port and fields[3] == _LISTENING:
                yield _Socket(_address(address), int(fields[9]))


def _address(text: str) -> Address:
    """Return what the kernel prints as words in this machine's order of bytes."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))


def _program(
    allowed: Sequence[Address], offsets: Mapping[int, int]
) -> list[_Instruction]:
    """Return what gives the server what these addresses are in, else the guard."""
    steps = {4: [], 6: []}
    for address in allowed:
        words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
        begin = _HEADER + offsets[address.version]
        steps[address.version] += _matches(words, begin)
    ipv4 = [*steps[4], _GUARD]
    return [
        (_LOAD_BYTE, 0, 0, _HEADER),
        (_AND, 0, 0, 0xF0),  # the version
        (_IF_EQUAL, 1, 0, 0x40),
        (_JUMP, 0, 0, len(ipv4)),  # which a condition's jump may be too short for
        *ipv4,
        *steps[6],
        _GUARD,
    ]


def _matches(words: Sequence[int], begin: int) -> Iterator[_Instruction]:
    """Yield what knows one address; where a word differs it goes on behind."""
    for number, word in enumerate(words):
        yield _LOAD_WORD, 0, 0, begin + 4 * number
        yield _IF_EQUAL, 0, 2 * (len(words) - number) - 1, word
    yield _SERVER


def _attach(guard: socket.socket, option: int, program: Sequence[_Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    whole = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    try:
        guard.setsockopt(socket.SOL_SOCKET, option, whole)
    except OSError as error:
        guard.close()
        raise CannotClose(
            f"this kernel does not close a port to other addresses ({error.strerror}): "
            f"see to it yourself, and say --host={EVERY}"
        ) from error
