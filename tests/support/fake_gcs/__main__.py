"""A bucket for a shell: run a command with it, or serve until SIGTERM.

    python -m tests.support.fake_gcs --load=data/mnist=data/mnist --load=run -- COMMAND

The folder gets `environment` to source, and `stats.json` at the end.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.fake_gcs import hands, load, serve


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tests.support.fake_gcs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--folder",
        type=Path,
        default=Path("/tmp/fake_gcs"),
        help="default: %(default)s",
    )
    add("--port", type=int, default=0)
    add("--load", action="append", default=[], metavar="BUCKET[/PREFIX=DIRECTORY]")
    add("--save", type=Path, help="folder to write every object to at the end")
    add("--faults", type=json.loads, default=[], help="JSON; see faults.Rule")
    add("--latency", type=float, default=0.0, help="seconds of every request")
    add(
        "--writes_per_second", type=float, default=1.0, help="of an object; 0: no limit"
    )
    add("--seed", type=int, default=0)
    add("--log", help="file for a line of JSON a request")
    add("command", nargs="*")
    return parser


def main() -> int:
    """Serve; return the command's exit status."""
    args = _parser().parse_args()
    server, store, environment = serve(
        args.folder,
        args.port,
        seed=args.seed,
        writes_per_second=args.writes_per_second,
        latency=args.latency,
        log=args.log,
    )
    for spec in args.load:
        load(store, spec)
    store.faults = args.faults
    status = 0
    if args.command:
        status = subprocess.call(args.command, env=os.environ | environment)
    else:
        print(
            f"port {server.server_address[1]}; . {args.folder}/environment", flush=True
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            signal.pause()
    stats = json.dumps(hands.stats(store), indent=1)
    (args.folder / "stats.json").write_text(stats)
    if args.save:
        for bucket in store.buckets:
            for name, content in store.content(bucket).items():
                path = args.save / bucket / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return status


if __name__ == "__main__":
    sys.exit(main())
