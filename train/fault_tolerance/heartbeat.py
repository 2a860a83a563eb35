"""What each process of a run posts of itself, and which of them others wait for."""

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from common import console, files, gfiles
from common.errors import Restart, UserError

INTERVAL_SECONDS = 10.0
# An age is the difference of two machines' clocks, so it is only about right. This
# leaves room for a few late posts and for clocks that are most of a minute apart.
SILENT_SECONDS = 90.0

State = Literal["running", "finished", "stopped", "failed", "hung"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A process's own words; the fields are the keys of its file.

    Attributes:
      host: number of the process, from 0.
      hostname: of the machine.
      pid: of the process.
      phase: what it does.
      step: at which, if that is known.
      phase_seconds: how long it has done so.
      time: seconds since 1970 by the clock of the machine.
      state: running until it ends; stopped is an end after which the run goes on, hung
        one by the watchdog.
      error: exception and first line, of a process that has failed.
    """

    host: int
    hostname: str
    pid: int
    phase: str
    step: int | None
    phase_seconds: float
    time: float
    state: State
    error: str | None = None


def folder(directory: str) -> str:
    """Return where the processes of a run post."""
    return f"{directory}/hosts"


def write(directory: str, beat: Heartbeat) -> None:
    """Post a heartbeat in place of the process's last; UserError when it cannot be."""
    text = json.dumps(dataclasses.asdict(beat), indent=2) + "\n"
    gfiles.write_text(_path(directory, beat.host), text)


def read(directory: str, process: int) -> Heartbeat | None:
    """Return a process's last heartbeat, None when there is none that can be read."""
    try:
        return Heartbeat(**gfiles.read_json(_path(directory, process)))
    except (UserError, Restart, TypeError):  # TypeError: not the fields of a heartbeat
        return None


def strangers(directory: str) -> list[str]:
    """Return the files that a run would write over, and no process of one has written.

    Raises:
      UserError: one cannot be read.
    """
    if gfiles.kind(folder(directory)) != files.FOLDER:
        return []
    paths = [f"{folder(directory)}/{name}" for name in gfiles.tree(folder(directory))]
    named = [path for path in paths if re.search(r"/host-\d+\.json$", path)]
    return [p for p in named if not gfiles.read_json(p).keys() >= {"host", "pid"}]


def _path(directory: str, process: int) -> str:
    return f"{folder(directory)}/host-{process}.json"


def table(beats: Sequence[Heartbeat | None], now: float) -> str:
    """Return a line for each process, the first one being number 0.

    Args:
      beats: of all processes, in order.
      now: seconds since 1970.
    """
    rows = [("process", "machine", "state", "step", "heartbeat", "phase")]
    for process, beat in enumerate(beats):
        if beat is None:
            rows.append((str(process), "?", "?", "?", "none", "?"))
            continue
        step = "?" if beat.step is None else f"{beat.step:,}"
        age = f"{_age(beat, now):,.0f} s ago"
        rows.append((str(process), beat.hostname, beat.state, step, age, beat.phase))
    return "\n".join(console.table(rows))


def suspects(beats: Sequence[Heartbeat | None], now: float) -> str:
    """Say which process the others seem to wait for; arguments are those of `table`."""
    # A dead process explains one that is behind, and that one another phase.
    named = [*_gone(beats, now)] or [*_behind(beats)] or [*_elsewhere(beats)]
    if named:
        return "suspect: " + "; ".join(named)
    if len({beat.phase for beat in beats if beat}) > 1:
        return "suspect: nobody; the processes are in different phases"
    return (
        "suspect: nobody; all wait in the same phase, perhaps for what they share: "
        "network, storage, data"
    )


def _gone(beats: Sequence[Heartbeat | None], now: float) -> Iterator[str]:
    for process, beat in enumerate(beats):
        if beat is None:
            yield f"process {process} has no heartbeat that can be read"
        elif beat.state in ("finished", "stopped", "failed"):
            error = f" ({beat.error})" if beat.error else ""
            yield f"process {process} ({beat.hostname}) has {beat.state}{error}"
        elif (age := _age(beat, now)) > SILENT_SECONDS:
            hung = beat.state == "hung"
            why = "ended by its own watchdog" if hung else "dead or unreachable"
            yield (
                f"process {process} ({beat.hostname}) has been silent for about "
                f"{age:,.0f} s: {why}"
            )


def _behind(beats: Sequence[Heartbeat | None]) -> Iterator[str]:
    known = [beat for beat in beats if beat and beat.step is not None]
    steps = {beat.step for beat in known if beat.step is not None}
    for beat in known:
        if len(steps) > 1 and beat.step == min(steps):
            yield (
                f"process {beat.host} ({beat.hostname}) is behind, at step "
                f"{beat.step:,} of {max(steps):,}"
            )


def _elsewhere(beats: Sequence[Heartbeat | None]) -> Iterator[str]:
    phases = collections.Counter(beat.phase for beat in beats if beat)
    [(usual, count)] = phases.most_common(1)
    for beat in beats:
        if beat and beat.phase != usual and count > len(beats) / 2:
            yield (
                f"process {beat.host} ({beat.hostname}) is in another phase than most: "
                f"{beat.phase}"
            )


def _age(beat: Heartbeat, now: float) -> float:
    return max(0.0, now - beat.time)
