"""Machines that engines make: folders on this one, with stand-ins for their programs.

What a rendering says is done as its engine does it; nothing else is told to a host.
"""

import contextlib
import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

from common.project import ROOT
from tests.launch.engines.stubs import Stubs
from tests.launch.engines.test_run_image import CURL
from tests.support import processes

# Of the Dockerfile, with ROOT for /app.
IMAGE = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
# That of the image, and that of .venv: the host script is one with less patience.
PYTHON = f"""\
#!/bin/sh
if [ "$1 $2" = "-m launch.host" ]; then
  shift 2
  set -- -m tests.support.quick_host "$@"
fi
exec {sys.executable} "$@"
"""
# A container knows of its machine what is handed in, and the network.
DOCKER = """
import signal, subprocess
machine, word = Path(os.environ["HOME"]), sys.argv[1]
running = machine / "container.pid"

def send(number):
    try:
        os.kill(int(running.read_text()), number)
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False

if word == "run":
    words = sys.argv[2:]
    image = next(n for n, w in enumerate(words) if not w.startswith("--"))
    flags = dict(w.lstrip("-").partition("=")[::2] for w in words[:image])
    names = [w[6:] for w in words[:image] if w.startswith("--env=")]
    told = {n: os.environ[n] for n in names if n in os.environ}
    inside = json.loads((machine / "container.json").read_text())
    process = subprocess.Popen(
        [flags["entrypoint"], *words[image + 1:]],
        env={**inside, **told}, cwd=inside["PYTHONPATH"], start_new_session=True,
    )
    running.write_text(str(process.pid))
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    status = process.wait()
    running.unlink(missing_ok=True)
    sys.exit(status if status >= 0 else 128 - status)
if word == "stop":
    until = time.monotonic() + float(sys.argv[sys.argv.index("-t") + 1])
    if not send(signal.SIGTERM):
        sys.exit("Error response from daemon: No such container")
    while send(0):
        if time.monotonic() > until:
            send(signal.SIGKILL)
        time.sleep(0.05)
if word == "rm" and not send(signal.SIGKILL):
    sys.exit("Error response from daemon: No such container")
"""


class World:
    """What all machines have in common: the bucket, the programs, the network.

    Attributes:
      stubs: programs, first on PATH everywhere.
      seconds: for hosts to end.
    """

    def __init__(self, folder, store, environment, programs, *, same_address=False):
        """Make one without machines.

        Args:
          folder: of all that is there.
          store: of the bucket.
          environment: in which processes find the bucket.
          programs: what `quick_host` is to start, and its patience.
          same_address: whether hosts differ by their ports, as servers of TensorFlow's
            have to here, which listen at all addresses.
        """
        self.stubs, self._said = Stubs(folder), folder / "said"
        self.stubs.add("docker", DOCKER)
        self.stubs.add("curl", CURL)
        self.stubs.add("sleep")
        self.install(self.stubs.bin)
        self.seconds = float(programs.get("ANSWER", "120"))
        self.network = environment | programs
        self._store, self._machines = store, []
        self._addresses = _addresses(same_address=same_address)

    def install(self, folder: Path) -> None:
        """Put a Python there that runs this project."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)

    def address(self, number: int) -> str:
        """Of a host, as its engine tells it."""
        return self._addresses[number]

    def machine(self, name: str, metadata: str | None = None) -> "Machine":
        """Make one, or make it anew."""
        self._machines.append(Machine(self, name, metadata))
        return self._machines[-1]

    def start(self, words, environment, folder) -> subprocess.Popen:
        """Start what prints where all do."""
        with self._said.open("a") as said:
            return subprocess.Popen(
                words,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def text(self) -> str:
        """What all hosts have said."""
        logs = [machine.home / "host.log" for machine in self._machines]
        files = dict.fromkeys([self._said, *logs])
        return "".join(file.read_text() for file in files if file.exists())

    def run(self) -> dict[str, bytes]:
        """What is in the folder of the run."""
        return self._store.content("bucket", "run/")

    def end(self, number: int) -> bool:
        """Send a signal to whatever is left, in containers, too; tell if it is."""
        return sum(one.send(number, everywhere=True) for one in self._machines) > 0


def _addresses(*, same_address: bool) -> list[str]:
    if same_address:
        return [f"127.0.0.1:{port}" for port in processes.free_ports(2)]
    network = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"
    return [f"{network}.{number}" for number in (1, 2)]


class Machine:
    """One of a job; `home` is where a person or a program gets in."""

    def __init__(self, world, name, metadata):
        self.home, self._world = world.stubs.folder / name, world
        self.home.mkdir(exist_ok=True)
        found = {
            **world.network,
            "PATH": f"{world.stubs.bin}:{os.environ['PATH']}",
            "MACHINE": str(self.home),
            "HOME": str(self.home),
            **({"GCE_METADATA_HOST": metadata} if metadata else {}),
        }
        self.inside = found | IMAGE
        (self.home / "container.json").write_text(json.dumps(self.inside))
        self.environment = found | {"OUTSIDE": str(self.home)}

    def bash(self, script: str, environment: dict[str, str]) -> subprocess.Popen:
        """Run a script as SkyPilot does (skylet/log_lib.py)."""
        exports = (f"export {k}={shlex.quote(v)}" for k, v in environment.items())
        path = self.home / "task.sh"
        path.write_text("\n".join(("cd ~/sky_workdir", *exports, script)))
        words = ["/bin/bash", "-i", str(path)]
        return self._world.start(words, self.environment, self.home)

    def send(self, number: int, *, everywhere: bool = False) -> bool:
        """Send a signal to all processes but those in containers; tell if there are."""
        variable = f"{'MACHINE' if everywhere else 'OUTSIDE'}={self.home}"
        found = _with(variable)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(found)


def _with(variable: str) -> list[int]:
    """The processes that have it in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
