"""How many compilations a machine can take at the same time."""

import os
from collections.abc import Iterator
from pathlib import Path

STEP_BYTES = 7 * 2**29  # that the compiler takes for a network's training step
CALLER_BYTES = 2 * 2**30  # that TensorFlow takes, whose process asks for it
_UNKNOWN = 2  # compilations, on a machine that does not tell its memory


def compilations_at_once(
    procfs: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return for how many training steps there are cores and memory; 1 at least.

    Args:
      procfs: the kernel's own files.
      cgroups: those of its control groups, whose limits a container has.
    """
    cores = len(os.sched_getaffinity(0))  # that this process may use
    free = min(_bytes(procfs, cgroups), default=None)
    fitting = _UNKNOWN if free is None else (free - CALLER_BYTES) // STEP_BYTES
    return max(1, min(cores, fitting))


def _bytes(procfs: Path, cgroups: Path) -> Iterator[int]:
    """Yield what the machine has free, and what a control group may take at most.

    What the group has taken does not count: most of it are files that were read, which
    the kernel gives up.
    """
    for line in _text(procfs / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # version 2, version 1
        if (most := _text(cgroups / limit).strip()).isdecimal():  # or "max"
            yield int(most)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
