"""The servers of a data service that preprocesses images for trainers.

    python -m input_pipeline.serve dispatcher --port 5050 --work_dir DIR
    python -m input_pipeline.serve worker --dispatcher HOST:5050

Train with dataset.train_dataset.service = 'grpc://HOST:5050'. Workers may join, leave
and die at any time; a dispatcher that died and is started again with the same
`work_dir` goes on where it was. A server runs until SIGTERM (exit status 0) or Ctrl-C
(130); 2 says that it did not start.
"""

import argparse
import signal
import socket
import sys

from common import cli, console
from common.errors import Status

_port = cli.number(int, least=0)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("input_pipeline.serve", __doc__)
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    dispatcher = roles.add_parser(
        "dispatcher", help="hands out the work; one", allow_abbrev=False
    )
    dispatcher.add_argument("--port", type=_port, default=5050, help="5050; 0: any")
    dispatcher.add_argument(
        "--work_dir",
        help="its journal, on a disk or in a bucket; without one a dispatcher that "
        "dies ends the training",
    )
    dispatcher.add_argument(
        "--worker_timeout",
        type=cli.number(above=0),
        default=10.0,
        help="seconds of silence after which a worker counts as dead (10)",
    )
    worker = roles.add_parser(
        "worker", help="reads and decodes; many", allow_abbrev=False
    )
    worker.add_argument("--dispatcher", required=True, help="HOST:PORT")
    worker.add_argument(
        "--host",
        default=socket.gethostname(),
        help="the name under which trainers reach this machine (its host name)",
    )
    worker.add_argument("--port", type=_port, default=0, help="0: any")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Serve until SIGTERM or Ctrl-C."""
    # TensorFlow's threads inherit the mask, so that this one gets the signals.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    from input_pipeline import service

    if arguments.role == "dispatcher":
        server = service.start_dispatcher(
            arguments.port, arguments.work_dir, arguments.worker_timeout
        )
        what = server.target
    else:
        _say_what_it_waits_for(arguments.dispatcher)
        server = service.start_worker(
            arguments.dispatcher, arguments.host, arguments.port
        )
        what = f"working for {arguments.dispatcher}"
    print(f"{arguments.role}: {what}", flush=True)
    interrupted = signal.sigwait(signals) == signal.SIGINT
    return Status.INTERRUPTED if interrupted else Status.OK


def _say_what_it_waits_for(dispatcher: str) -> None:
    """Say so if no dispatcher answers: TensorFlow tries for an hour, silently."""
    from input_pipeline.service import connect

    try:
        connect(dispatcher)
    except (OSError, ValueError) as error:
        console.say(f"worker: waiting for a dispatcher at {dispatcher!r} ({error})")


if __name__ == "__main__":
    sys.exit(main())
