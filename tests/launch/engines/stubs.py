"""Programs that only note how they were called, and machines that are folders."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

_PROGRAM = """\
#!{python} -IS
import json, os, sys, time
from pathlib import Path
name, home = Path(sys.argv[0]).name, Path({home!r})
reads = "login" in sys.argv or "create" in sys.argv
processes = []
for found in Path("/proc").glob("[0-9]*/cmdline"):
    try:
        processes.append(found.read_bytes().decode(errors="replace"))
    except OSError:
        pass
call = dict(
    words=[name, *sys.argv[1:]],
    stdin=sys.stdin.read() if reads else "",
    environment=dict(os.environ),
    processes=processes,
    folder=sorted(os.listdir(".")),
)
new = home / "calls" / f"{{time.time_ns()}}-{{os.getpid()}}"
new.write_text(json.dumps(call))
new.rename(new.with_suffix(".json"))  # whole, for who reads meanwhile
{body}
"""


class Stubs:
    """Stand-ins for programs, first on PATH.

    Attributes:
      environment: of a process that is to find them.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "calls").mkdir()
        path = f"{self.bin}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}

    def add(self, name, body=""):
        """A program that notes its call, and then runs this Python."""
        text = _PROGRAM.format(python=sys.executable, home=str(self.folder), body=body)
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    @property
    def calls(self):
        files = sorted((self.folder / "calls").glob("*.json"))
        return [json.loads(file.read_text()) for file in files]

    def words(self, *, of=None):
        return [c["words"] for c in self.calls if of in (None, c["words"][0])]

    def wait_for(self, name, word, seconds=60):
        """The first call of a program with this word among its arguments."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for call in self.calls:
                if call["words"][0] == name and word in call["words"]:
                    return call
            time.sleep(0.02)
        raise AssertionError(f"no {name} {word} within {seconds} s: {self.words()}")

    def bash(self, script, **options):
        """Run a script that finds them; what it prints, all of it."""
        return subprocess.run(
            ["bash", "-c", script],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )
