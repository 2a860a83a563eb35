"""A fleet that preprocesses: the servers of tf.data service.

python -m input_pipeline.serve dispatcher --port 5050 --work_dir DIR
python -m input_pipeline.serve worker --dispatcher HOST:5050

Train with dataset.train_dataset.service = 'grpc://HOST:5050'. Workers may join, leave
and die at any time; a dispatcher that died and is started again with the same
`work_dir` goes on where it was.
"""

import argparse
import os
import signal
import socket
import sys

# Only this command's own lines shall reach the terminal. TensorFlow reads it on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from input_pipeline.service import connect

_SERVICE = tf.data.experimental.service


def start_dispatcher(port: int, work_dir: str | None, worker_timeout: float):
    """Starts the server that hands out the work; see `main` for the arguments."""
    return _SERVICE.DispatchServer(
        _SERVICE.DispatcherConfig(
            port=port,
            work_dir=work_dir,
            fault_tolerant_mode=work_dir is not None,
            worker_timeout_ms=round(worker_timeout * 1000),
        )
    )


def start_worker(dispatcher: str, host: str, port: int):
    """Starts a server that does the work; see `main` for the arguments."""
    if port == 0:  # it has to be told, so it has to be known
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
    return _SERVICE.WorkerServer(
        _SERVICE.WorkerConfig(
            dispatcher_address=dispatcher,
            worker_address=f"{host}:{port}",
            port=port,
            heartbeat_interval_ms=1000,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    roles = parser.add_subparsers(dest="role", required=True)
    dispatcher = roles.add_parser("dispatcher", help="hands out the work; one")
    dispatcher.add_argument("--port", type=int, default=5050, help="5050; 0: any")
    dispatcher.add_argument(
        "--work_dir",
        help="its journal, on a disk or in a bucket; without one a dispatcher that "
        "dies ends the training",
    )
    dispatcher.add_argument(
        "--worker_timeout",
        type=float,
        default=10.0,
        help="seconds of silence after which a worker counts as dead (10)",
    )
    worker = roles.add_parser("worker", help="reads and decodes; many")
    worker.add_argument("--dispatcher", required=True, help="HOST:PORT")
    worker.add_argument(
        "--host",
        default=socket.gethostname(),
        help="the name under which trainers reach this machine (its host name)",
    )
    worker.add_argument("--port", type=int, default=0, help="0: any")
    return parser


def _say_what_it_waits_for(dispatcher: str) -> None:
    """A worker may start first; TensorFlow then tries for an hour, silently."""
    try:
        connect(dispatcher)
    except (OSError, ValueError) as error:
        print(
            f"worker: waiting for a dispatcher at {dispatcher!r} ({error})",
            file=sys.stderr,
            flush=True,
        )


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C; returns the exit code."""
    arguments = _parser().parse_args(argv)
    # TensorFlow's threads inherit the mask, so that this one gets the signals.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        if arguments.role == "dispatcher":
            server = start_dispatcher(
                arguments.port, arguments.work_dir, arguments.worker_timeout
            )
            where = server.target
        else:
            _say_what_it_waits_for(arguments.dispatcher)
            server = start_worker(arguments.dispatcher, arguments.host, arguments.port)
            where = f"working for {arguments.dispatcher}"
    except (tf.errors.OpError, OSError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error)
        print(
            f"error: cannot start the {arguments.role}: {reason}; is the port free, "
            "and does the dispatcher run?",
            file=sys.stderr,
        )
        return 1
    print(f"{arguments.role}: {where}", flush=True)
    signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
