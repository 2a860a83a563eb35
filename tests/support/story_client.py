"""The client of a story: `storm_client`; of GPUs host 0 has it, and others follow."""

import json
import os
import signal
import sys
import time

import tests.support.no_tensorflow  # noqa: F401 (before what imports it)
from common import cli, gcs
from common.errors import Restart
from tests.support import quick_host, storm_client
from tests.support.storm_steps import LAST
from train.checkpoints import commit


def follow(folder: str) -> None:
    """Take part until the run is done; or until SIGTERM, which all of them get."""
    last = f"ckpt-{LAST}{commit.INDEX}"
    while last not in gcs.names(folder, "ckpt-"):
        if storm_client.stopped:
            raise Restart("stopped by SIGTERM")
        time.sleep(0.1)


def main() -> int:
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"index": 0})
    if not task["index"]:
        return storm_client.main()
    signal.signal(signal.SIGTERM, lambda *_: storm_client.stopped.append(True))
    quick_host.hasten()
    [folder] = [one[12:] for one in sys.argv if one.startswith("--model_dir=")]
    return cli.run_command(lambda: follow(folder))


if __name__ == "__main__":
    cli.leave(main())
