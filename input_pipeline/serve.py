"""The servers of a data service that preprocesses images for trainers.

    python -m input_pipeline.serve dispatcher --port 5050 --work_dir DIR
    python -m input_pipeline.serve worker --dispatcher HOST:5050

Train with dataset.train_dataset.service = 'grpc://HOST:5050'. Workers may join, leave
and die at any time; a dispatcher that died and is started again with the same
`work_dir` goes on where it was. A server runs until SIGTERM (exit status 0) or Ctrl-C
(130); 2 says that it did not start.

A server asks nobody who he is, and runs what it is told to. So a dispatcher can be
reached from its own machine alone, unless --host names another of its addresses, or
0.0.0.0 for all of them; a worker at the address from which it reaches its dispatcher.
"""

import argparse
import contextlib
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from common import cli, console
from common.errors import Status, UserError

_port = cli.number(int, least=0, below=2**16)
_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_DAY = 24 * 3600.0
_POLL_SECONDS = 0.2
_SAY_SECONDS = 60.0


def _dispatcher(text: str) -> str:
    """Return "host:port", of it or of grpc://host:port."""
    address = text.removeprefix("grpc://")
    found = re.fullmatch(r"(\[[^\[\]]+\]|[^\s:/\[\]]+):([0-9]{1,5})", address)
    if not found or not 0 < int(found[2]) < 2**16:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no HOST:PORT with a port of 1 to 65535"
        )
    return address


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("input_pipeline.serve", __doc__)
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    dispatcher = roles.add_parser(
        "dispatcher", help="hands out the work; one", allow_abbrev=False
    )
    dispatcher.add_argument("--port", type=_port, default=5050, help="5050; 0: any")
    dispatcher.add_argument(
        "--host",
        default="localhost",
        help="its address to be reached at, 0.0.0.0 for all (localhost: this machine "
        "alone)",
    )
    dispatcher.add_argument(
        "--work_dir",
        type=cli.path,
        help="its journal, on a disk or in a bucket; without one a dispatcher that "
        "dies ends the training",
    )
    dispatcher.add_argument(
        "--worker_timeout",
        type=cli.number(above=0, below=_DAY),
        default=10.0,
        help="seconds of silence after which a worker counts as dead (10)",
    )
    worker = roles.add_parser(
        "worker", help="reads and decodes; many", allow_abbrev=False
    )
    worker.add_argument(
        "--dispatcher", type=_dispatcher, required=True, help="HOST:PORT"
    )
    worker.add_argument(
        "--host",
        help="the name or address at which trainers reach this machine (that from "
        "which it reaches the dispatcher)",
    )
    worker.add_argument(
        "--listen",
        metavar="HOST",
        help="what to be reached at, if that is another name here; 0.0.0.0 for all "
        "(--host)",
    )
    worker.add_argument("--port", type=_port, default=0, help="0: any")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Serve until SIGTERM or Ctrl-C."""
    # TensorFlow's threads inherit the mask, so that this one gets the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    if arguments.role == "dispatcher":
        return _dispatch(arguments)
    return _work(arguments)


def _dispatch(arguments: argparse.Namespace) -> Status:
    from common import listening
    from input_pipeline import service

    allowed = listening.addresses(arguments.host)
    with listening.guard(arguments.port, allowed) as guard:
        port = guard.getsockname()[1]
        with _signals_end_it():
            server = service.start_dispatcher(
                port, arguments.work_dir, arguments.worker_timeout
            )
        listening.check(guard)
        host = arguments.host if allowed else socket.gethostname()
        return _serve(server, f"dispatcher: grpc://{_url(host, port)}", port, allowed)


def _work(arguments: argparse.Namespace) -> Status:
    from common import listening
    from input_pipeline import service

    dispatcher = arguments.dispatcher
    host = _toward(dispatcher) if arguments.host is None else arguments.host
    if arguments.listen is None:
        allowed = listening.addresses(host)
    else:
        allowed = listening.addresses(arguments.listen, "--listen")
    with listening.guard(arguments.port, allowed) as guard:
        if (ended := _wait_for(dispatcher)) is not None:
            return ended
        port = guard.getsockname()[1]
        with _signals_end_it():
            server = service.start_worker(dispatcher, _url(host, port))
        listening.check(guard)
        return _serve(server, f"worker: working for {dispatcher}", port, allowed)


def _toward(dispatcher: str) -> str:
    """Return the address of this machine from which it reaches the dispatcher."""
    from common import listening

    host, _, port = dispatcher.rpartition(":")
    try:
        return listening.toward(host.strip("[]"), int(port))
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(
            f"--dispatcher={dispatcher}: no such host ({error}): name the machine of "
            "the dispatcher"
        ) from error


def _wait_for(dispatcher: str) -> Status | None:
    """Wait until somebody answers there, and say so; return how a signal ends it."""
    from input_pipeline.service import connect

    next_line = time.monotonic()
    while True:
        try:
            return connect(dispatcher)
        except OSError as error:
            why = error
        if time.monotonic() >= next_line:
            next_line += _SAY_SECONDS
            line = f"worker: waiting for a dispatcher at {dispatcher!r} ({why})"
            console.say(console.escaped(line))
        received = signal.sigtimedwait(_SIGNALS, _POLL_SECONDS)
        if received is not None:
            return _status(received.si_signo)


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """Let a signal end this process meanwhile, by its status.

    TensorFlow's start of a worker holds Python's lock, for an hour where somebody else
    than a dispatcher answers: so the kernel has to end it, through another thread.
    """
    is_done, is_ready = threading.Event(), threading.Event()

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        is_ready.set()
        is_done.wait()

    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    is_ready.wait()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)


def _url(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _serve(server: Any, line: str, port: int, allowed: Sequence) -> Status:
    """Say that a server has started, and wait for a signal; it ends with this call."""
    print(console.escaped(line), flush=True)
    console.say(f"{line.partition(':')[0]}: {_reach(port, allowed)}")
    received = signal.sigwait(_SIGNALS)
    del server
    return _status(received)


def _status(received: int) -> Status:
    return Status.INTERRUPTED if received == signal.SIGINT else Status.OK


def _reach(port: int, allowed: Sequence) -> str:
    """Say who can reach a server, which asks nobody who he is."""
    where = ", ".join(_url(str(address), port) for address in allowed)
    if not allowed:
        where = f"every address of this machine, port {port}"
    if allowed and all(address.is_loopback for address in allowed):
        return f"can be reached at {where}: from this machine alone"
    return (
        f"can be reached at {where}, by everybody who gets there: let a firewall keep "
        "strangers out"
    )


if __name__ == "__main__":
    sys.exit(main())
