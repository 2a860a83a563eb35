"""What a person waits for around a short run: its start, its restart, its end.

Every figure is of whole processes, told by the lines that they print: so the same
measurement takes any checkout of this project.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError

# A network of two blocks, told how it goes after each step; its checkpoint comes early
# enough to be killed behind it.
GIN_FILE = "tests/data/train/tiny.gin"
E = "experiment.Experiment"
SETTINGS = (
    f"{E}.steps_per_loop = 1",
    # 100 steps: what is done behind the first is over long before the end.
    f"{E}.epochs = 0.5",
    f"{E}.checkpoint_every_steps = 5",
    f"{E}.example_images = 8",
)
_KILLED_AT = 8  # steps
WAITS = {
    "import_tensorflow": "`import tensorflow` alone",
    "refusal": "a setting that there is not, to its refusal",
    "first_step": "command to first step",
    "restart": "command after a kill, to the next step",
    "end": "last step to end: scores, mistakes, files",
}


class Moment(NamedTuple):
    """Seconds since a process began: by the clock, and of CPU, its threads' together.

    The CPU's hang less on what else the machine does.
    """

    seconds: float
    cpu_seconds: float


def measure(checkouts: Sequence[Path], data_dir: str, repeats: int) -> dict[str, Any]:
    """Return the seconds of each wait in each checkout, all of them by turns.

    Args:
      checkouts: folders; the first is what the second, if any, is compared with.
      data_dir: prepared digits.
      repeats: of each.

    Returns:
      By wait "seconds" and "cpu_seconds" of the first, "before_..." of the second, and
      "ratio" and "cpu_ratio", the medians of first over second.
    """
    lives: list[list[dict[str, Moment]]] = [[] for _ in checkouts]
    for number in range(repeats):
        turns = list(zip(checkouts, lives, strict=True))
        for root, found in turns if number % 2 == 0 else reversed(turns):
            found.append(once(root, data_dir))
    return {
        wait: _report([[life[wait] for life in found] for found in lives])
        for wait in WAITS
    }


_TICK = 0.001  # of seconds: of a wait without any CPU time there is no ratio


def _report(moments: Sequence[Sequence[Moment]]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for kind in Moment._fields:
        columns = [[getattr(one, kind) for one in found] for found in moments]
        for prefix, column in zip(("", "before_"), columns, strict=False):
            report[f"{prefix}{kind}"] = [round(value, 3) for value in column]
        if len(columns) > 1:
            shares = [a / max(b, _TICK) for a, b in zip(*columns, strict=True)]
            ratio = f"{kind.removesuffix('seconds')}ratio"
            report[ratio] = round(statistics.median(shares), 3)
    return report


@contextlib.contextmanager
def checkout(revision: str, root: Path) -> Iterator[Path]:
    """Check out a revision of the project, or take a folder as it is.

    Args:
      revision: of git, or the path of a checkout.
      root: of this checkout.
    """
    if os.path.isdir(revision):
        yield Path(revision).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "before"
        git = ["git", "-C", str(root), "worktree"]
        added = subprocess.run(
            [*git, "add", "--detach", str(path), revision],
            capture_output=True,
            text=True,
        )
        if added.returncode:
            raise UserError(
                f"{revision} is no folder, and git has no such revision: "
                + added.stderr.strip()
            )
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def once(root: Path, data_dir: str) -> dict[str, Moment]:
    """Return the seconds of each wait in a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        command = _command(root, data_dir, f"{folder}/run")
        with Process(command, root) as killed:
            first_step = killed.moment_of(lambda now, _: now == 1)
            killed.moment_of(lambda now, _: now == _KILLED_AT)
        with Process(command, root) as again:
            restart = again.moment_of(lambda now, _: now > 1)  # behind a checkpoint
            last = again.moment_of(lambda now, last: now == last)
            ended = again.moment_of_end()
    with Process([sys.executable, "-c", _IMPORT], root) as importing:
        imported = importing.moment_of_end()
    with Process([*command, f"--gin_param={E}.epoch = 1"], root) as mistaken:
        refused = mistaken.moment_of_end(status=2)
    return {
        "import_tensorflow": imported,
        "refusal": refused,
        "first_step": first_step,
        "restart": restart,
        "end": Moment(*(a - b for a, b in zip(ended, last, strict=True))),
    }


_IMPORT = "import os, tensorflow; os._exit(0)"


def _command(root: Path, data_dir: str, model_dir: str) -> list[str]:
    return [
        *(sys.executable, "-m", "train.main"),
        f"--gin_file={root / GIN_FILE}",
        *(f"--gin_param={setting}" for setting in SETTINGS),
        f"--gin_param={E}.data_dir = {os.path.abspath(data_dir)!r}",
        f"--model_dir={model_dir}",
    ]


class Process:
    """A run in a process of its own, which says on standard error where it is.

    Behind its `with` it is killed, if it has not ended.
    """

    def __init__(self, command: Sequence[str], root: Path):
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            cwd=root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: list[str] = []

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with self._process:  # waits, and closes its pipe
            pass

    def moment_of(self, is_there: Callable[[int, int], bool]) -> Moment:
        """Return when it has said that a step is done.

        Args:
          is_there: whether it is the one, by its number and that of the last.
        """
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            word, _, rest = line.partition(" ")
            if word == "step":
                now, _, last = rest.split()[0].replace(",", "").partition("/")
                if is_there(int(now), int(last)):
                    return self._now(_cpu_seconds(self._process.pid))
        raise RuntimeError(f"it has ended before: {''.join(self._said)}")

    def moment_of_end(self, status: int = 0) -> Moment:
        """Return when it has ended, which it has to do with this status."""
        assert self._process.stderr is not None
        self._said += self._process.stderr.readlines()
        _, ended, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(ended)
        if self._process.returncode != status:
            raise RuntimeError("".join(self._said))
        return self._now(used.ru_utime + used.ru_stime)

    def _now(self, cpu_seconds: float) -> Moment:
        return Moment(time.perf_counter() - self._began, cpu_seconds)


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
