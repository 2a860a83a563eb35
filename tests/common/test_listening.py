import contextlib
import ipaddress
import socket

import pytest

from common import listening
from common.errors import UserError

HERE, THERE = "127.0.0.1", "127.0.0.2"  # both are this machine


@contextlib.contextmanager
def server(*hosts):
    """One that listens at every address, as TensorFlow's do, behind a guard."""
    allowed = [ipaddress.ip_address(one) for one in hosts]
    with listening.guard(0, allowed) as guard:
        port = guard.getsockname()[1]
        assert not any(is_reached(host, port) for host in (HERE, THERE))
        dual = {"dualstack_ipv6": True} if guard.family == socket.AF_INET6 else {}
        with socket.create_server(
            ("", port), family=guard.family, reuse_port=True, **dual
        ) as one:
            listening.check(guard)
            yield one, port


def is_reached(host, port):
    try:
        socket.create_connection((host, port), timeout=0.1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("hosts", "reached"),
    [
        ([HERE], (True, False)),
        ([THERE], (False, True)),
        ([HERE, THERE], (True, True)),
        ([HERE, "fd00::7"], (True, False)),
        (["fd00::7"], (False, False)),
        ([], (True, True)),
    ],
)
def test_a_server_is_reached_where_it_is_held_to(hosts, reached):
    with server(*hosts) as (_, port):
        assert (is_reached(HERE, port), is_reached(THERE, port)) == reached


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv4 alone")
@pytest.mark.parametrize(
    ("hosts", "reached"), [(["::1"], True), (["fd00::7", "::1"], True), ([HERE], False)]
)
def test_a_server_is_reached_by_ipv6(hosts, reached):
    with server(*hosts) as (_, port):
        assert is_reached("::1", port) is reached


def test_the_data_of_who_is_let_in_get_through():
    with (
        server(HERE) as (one, port),
        socket.create_connection((HERE, port)) as client,
        one.accept()[0] as ours,
    ):
        client.sendall(b"hello")
        assert ours.recv(5) == b"hello"
        one.close()
        ours.close()  # before the other end: the port remembers that for a minute
        assert client.recv(1) == b""
    listening.guard(port, [ipaddress.ip_address(HERE)]).close()


@pytest.mark.parametrize("hosts", [[], [ipaddress.ip_address(HERE)]])
def test_a_port_where_nobody_listens_yet(hosts):
    with listening.guard(0, hosts) as guard:
        port = guard.getsockname()[1]
        with pytest.raises(UserError, match=f"does not listen at port {port}: start"):
            listening.check(guard)


def test_a_server_of_another_family_is_not_guarded(monkeypatch):
    monkeypatch.setattr(listening, "_family", lambda: socket.AF_INET)
    with listening.guard(0, [ipaddress.ip_address(HERE)]) as guard:
        port = guard.getsockname()[1]
        with (
            socket.create_server(("::1", port), family=socket.AF_INET6),
            pytest.raises(UserError, match=f"does not listen at port {port}: start"),
        ):
            listening.check(guard)


@pytest.mark.parametrize("hosts", [[], [HERE]])
def test_a_second_server_at_one_port(hosts, monkeypatch):
    with server(*hosts) as (_, port):
        for theirs in ([], [ipaddress.ip_address(THERE)]):
            with pytest.raises(
                UserError, match=f"cannot listen at port {port}: Address al"
            ):
                listening.guard(port, theirs)
    with listening.guard(port, ()) as guard:  # free again
        monkeypatch.setattr(listening, "_own_inodes", set)
        with (
            socket.create_server(("", port), reuse_port=True),
            pytest.raises(UserError, match=f"another process listens at port {port}"),
        ):
            listening.check(guard)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("0.0.0.0", []),
        ("0", []),
        ("::", []),
        ("0:0::0", []),
        ("::ffff:127.0.0.2", [THERE]),
        (HERE, [HERE]),
        (THERE, [THERE]),
    ],
)
def test_addresses_of_this_machine(host, found):
    assert [str(one) for one in listening.addresses(host)] == found
    assert all(one.is_loopback for one in listening.addresses("localhost"))


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("", "--host= is neither a name nor an address (.*): name an address of this"),
        ("a..b", "--host=a..b is neither a name nor an address "),
        ("1.2.3.4/8", "--host=1.2.3.4/8 is neither a name nor an address "),
        ("224.0.0.1", "--host=224.0.0.1 is no address of this machine: name one of "),
        ("255.255.255.255", "--host=255.255.255.255 is no address of this machine: "),
        ("198.51.100.7", "--host=198.51.100.7 is no address of this machine: name one"),
    ],
)
def test_no_address_of_this_machine(host, why):
    with pytest.raises(UserError, match=why):
        listening.addresses(host)
    with pytest.raises(UserError, match=why.replace("--host", "--listen", 1)):
        listening.addresses(host, "--listen")


def test_the_address_toward_another():
    assert listening.toward("localhost", 1) in (HERE, "::1")
    assert listening.toward(THERE, 1) in (HERE, THERE)
