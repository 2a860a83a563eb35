import contextlib
import ipaddress
import socket

import pytest

from input_pipeline import listening
from input_pipeline.errors import DataError

HERE, THERE = "127.0.0.1", "127.0.0.2"  # both are this machine


@contextlib.contextmanager
def server():
    """One that listens at every address, as TensorFlow's do."""
    family, dual = socket.AF_INET, False
    if socket.has_dualstack_ipv6():
        family, dual = socket.AF_INET6, True
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as one:
        yield one.getsockname()[1]


def is_reached(host, port):
    try:
        socket.create_connection((host, port), timeout=0.2).close()
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
    with server() as port:
        listening.hold_to(port, [ipaddress.ip_address(one) for one in hosts])
        assert (is_reached(HERE, port), is_reached(THERE, port)) == reached


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv4 alone")
@pytest.mark.parametrize(
    ("hosts", "reached"), [(["::1"], True), (["fd00::7", "::1"], True), ([HERE], False)]
)
def test_a_server_is_reached_by_ipv6(hosts, reached):
    with server() as port:
        listening.hold_to(port, [ipaddress.ip_address(one) for one in hosts])
        assert is_reached("::1", port) is reached


def test_the_data_of_who_is_let_in_get_through():
    family = socket.AF_INET
    with socket.create_server(("", 0), family=family) as one:
        port = one.getsockname()[1]
        listening.hold_to(port, [ipaddress.ip_address(HERE)])
        with socket.create_connection((HERE, port)) as client, one.accept()[0] as ours:
            client.sendall(b"hello")
            assert ours.recv(5) == b"hello"


def test_a_port_where_nobody_listens_yet():
    with socket.socket() as one:
        one.bind(("", 0))
        port = one.getsockname()[1]
        with pytest.raises(DataError, match=f"does not listen at port {port}: start"):
            listening.hold_to(port, [ipaddress.ip_address(HERE)])


def test_who_was_let_in_before():
    before = r"somebody was connected to 127\.0\.0\.2 at port"
    with (
        server() as port,
        socket.create_connection((THERE, port)),
        pytest.raises(DataError, match=before),
    ):
        listening.hold_to(port, [ipaddress.ip_address(HERE)])


def test_a_second_server_at_one_port(monkeypatch):
    with server() as port:
        with pytest.raises(
            DataError, match=f"cannot listen at port {port}: Address al"
        ):
            listening.free_port(port)
        monkeypatch.setattr(listening, "_own_sockets", dict)
        with pytest.raises(DataError, match=f"another process listens at port {port}"):
            listening.hold_to(port, ())
    assert listening.free_port(port) == port
    assert listening.free_port(0) > 0


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("0.0.0.0", []),
        ("::", []),
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
        ("198.51.100.7", "--host=198.51.100.7 is no address of this machine: name one"),
    ],
)
def test_no_address_of_this_machine(host, why):
    with pytest.raises(DataError, match=why):
        listening.addresses(host)


def test_the_address_toward_another():
    assert listening.toward("localhost", 1) in (HERE, "::1")
    assert listening.toward(THERE, 1) in (HERE, THERE)
