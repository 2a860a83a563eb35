"""Serve this host's chips to the client of the slice.

    python -m launch.host.worker --number=0 --hosts=10.0.0.2:8470,10.0.0.3:8470 \
        --generation=v5e

`python -m launch.host` starts it. It listens on all interfaces, as each server of
TensorFlow's does, and whoever reaches one may run what he likes; so only connections
from hosts of the slice get there, by a filter of the kernel's. Only SIGKILL ends it.
"""

import argparse
import contextlib
import ipaddress
import math
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from common import cli, listening
from common.console import say, warn
from launch.job import ports

_NAMES_SECONDS = 1.0  # between two looks for names that nobody knows yet


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("launch.host.worker", __doc__)
    parser.add_argument(
        "--number", type=int, required=True, help="of this host, from 0"
    )
    parser.add_argument(
        "--hosts", type=cli.names, required=True, help="host:port of each, in order"
    )
    parser.add_argument("--generation", required=True, help="of the chips, as in v5e")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Serve until SIGKILL."""
    # Of a machine that goes away every process hears SIGTERM, and the client saves
    # through this one. To be blocked before there are other threads, which heed it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    found = [resolve(host) for host in arguments.hosts]
    addresses = [ways[0] for ways in found]
    os.environ |= environment(arguments.generation, arguments.number, addresses)
    port = int(arguments.hosts[arguments.number].rpartition(":")[2])
    serve(port, [way for ways in found for way in ways]).join()


def resolve(host: str) -> list[listening.Address]:
    """Return the addresses of "host:port", as soon as somebody knows any.

    Whoever has one of each kind may come by either; that of IPv4 is the first, since
    "address:port" cannot be said of another without brackets.

    In Kubernetes a pod has a name once it has been placed, which may be later than
    this one. Whoever has started this process waits only so long.
    """
    name, has_waited = host.rpartition(":")[0], False
    while True:
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            ways = {ipaddress.ip_address(row[4][0]) for row in found}
            return sorted(ways, key=lambda way: (way.version, way))
        if not has_waited:
            say(f"waiting until {name} has an address")
        has_waited = True
        time.sleep(_NAMES_SECONDS)


def environment(
    generation: str, number: int, addresses: Sequence[listening.Address]
) -> dict[str, str]:
    """Return what libtpu is told, as `start_grpc_tpu_worker` of tensorflow-tpu does.

    That one asks the metadata server, which GKE has not, and raises KeyError on v6e.
    From v4 on libtpu finds out itself how the hosts lie; of v6e that is not proven.
    """
    told = {
        "TPU_STDERR_LOG_LEVEL": "0",
        "CLOUD_TPU_TASK_ID": str(number),
        "TPU_LOCK_DEVICE": "true",
        "TPU_MESH_CONTROLLER_ADDRESS": f"{addresses[0]}:{ports.MESH}",
        "TPU_MESH_CONTROLLER_PORT": str(ports.MESH),
        "TPU_HOSTNAME_OVERRIDE": str(addresses[number]),
    }
    if generation in ("v2", "v3"):
        # Of 4 chips each; they lie in a rectangle that is as square as can be.
        width = 2 ** (int(math.log2(len(addresses))) // 2)
        told |= {
            "TPU_CHIPS_PER_HOST_BOUNDS": "2,2,1",
            "TPU_HOST_BOUNDS": f"{width},{len(addresses) // width},1",
        }
    return told


def serve(port: int, callers: Sequence[listening.Address], config: Any = None) -> Any:
    """Start the service of this machine.

    Args:
      port: of it.
      callers: the addresses from which it can be reached.
      config: a ConfigProto, where the chips are none.

    Raises:
      UserError: another process listens there.
    """
    os.environ["TF_GRPC_REUSE_PORT"] = "1"  # or no guard could have it, too
    # Only now: the environment has to be there before it.
    import tensorflow as tf

    from input_pipeline.fused import library

    library.find()  # of the input pipelines that run here
    guard = take(port, callers)
    server = tf.distribute.Server(
        {"tpu_worker": [f"localhost:{port}"]}, job_name="tpu_worker", config=config
    )
    listening.check(guard)
    server.guard = guard  # kept open as long as the server is
    return server


def take(port: int, callers: Sequence[listening.Address]) -> socket.socket:
    """Take a port, closed to all others where the kernel does that; see `serve`."""
    try:
        return listening.guard(port, callers, of=listening.CALLER)
    except listening.CannotClose as error:
        warn(
            f"whoever reaches port {port} may run code here: a firewall alone has to "
            f"close it, since {error.__cause__}"
        )
        return listening.guard(port, ())


if __name__ == "__main__":
    cli.leave(main())
