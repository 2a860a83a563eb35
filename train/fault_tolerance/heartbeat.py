"""What each host of a run posts of itself, and who of them others wait for."""

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Literal

from common import gfiles
from common.errors import UserError

INTERVAL_SECONDS = 10.0
# An age is the difference of two hosts' clocks, so it is only about right. This leaves
# room for a few late posts and for clocks that are most of a minute apart.
SILENT_SECONDS = 90.0

State = Literal["running", "finished", "stopped", "failed", "hung"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A host's own words.

    Attributes:
      host: number of the host, from 0.
      hostname: of the machine.
      pid: of the process.
      phase: what it does.
      step: at which, if that is known.
      phase_seconds: how long it has done so.
      time: seconds since 1970 by the clock of the host.
      state: running until it ends; stopped is an end after which the run goes on, hung
        one by the watchdog.
      error: exception and first line, of a host that has failed.
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
    """Returns where the hosts of a run post."""
    return f"{directory}/hosts"


def write(directory: str, beat: Heartbeat) -> None:
    """Posts a heartbeat in place of the host's last; UserError when it cannot be."""
    path = f"{folder(directory)}/host-{beat.host}.json"
    gfiles.write_text(path, json.dumps(dataclasses.asdict(beat), indent=2) + "\n")


def read(directory: str, host: int) -> Heartbeat | None:
    """Returns a host's last heartbeat, None when there is none that can be read."""
    try:
        return Heartbeat(**gfiles.read_json(f"{folder(directory)}/host-{host}.json"))
    except (UserError, TypeError):  # TypeError: not the fields of a heartbeat
        return None


def table(beats: Sequence[Heartbeat | None], now: float) -> str:
    """Returns a line for each host, the first one being number 0.

    Args:
      beats: of all hosts, in order.
      now: seconds since 1970.
    """
    rows = [("host", "name", "state", "step", "heartbeat", "phase")]
    for host, beat in enumerate(beats):
        if beat is None:
            rows.append((str(host), "?", "?", "?", "none", "?"))
            continue
        step = "?" if beat.step is None else f"{beat.step:,}"
        age = f"{_age(beat, now):,.0f} s ago"
        rows.append((str(host), beat.hostname, beat.state, step, age, beat.phase))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def suspects(beats: Sequence[Heartbeat | None], now: float) -> str:
    """Says which host the others seem to wait for; arguments are those of `table`."""
    # A dead host explains one that is behind, and that one another phase.
    named = [*_gone(beats, now)] or [*_behind(beats)] or [*_elsewhere(beats)]
    if named:
        return "suspect: " + "; ".join(named)
    if len({beat.phase for beat in beats if beat}) > 1:
        return "suspect: nobody; the hosts are in different phases"
    return (
        "suspect: nobody; all wait in the same phase, perhaps for what they share: "
        "network, storage, data"
    )


def _gone(beats: Sequence[Heartbeat | None], now: float) -> Iterator[str]:
    for host, beat in enumerate(beats):
        if beat is None:
            yield f"host {host} has no heartbeat that can be read"
        elif beat.state in ("finished", "stopped", "failed"):
            error = f" ({beat.error})" if beat.error else ""
            yield f"host {host} ({beat.hostname}) has {beat.state}{error}"
        elif (age := _age(beat, now)) > SILENT_SECONDS:
            hung = beat.state == "hung"
            why = "ended by its own watchdog" if hung else "dead or unreachable"
            yield (
                f"host {host} ({beat.hostname}) has been silent for about "
                f"{age:,.0f} s: {why}"
            )


def _behind(beats: Sequence[Heartbeat | None]) -> Iterator[str]:
    known = [beat for beat in beats if beat and beat.step is not None]
    steps = {beat.step for beat in known if beat.step is not None}
    for beat in known:
        if len(steps) > 1 and beat.step == min(steps):
            yield (
                f"host {beat.host} ({beat.hostname}) is behind, at step {beat.step:,} "
                f"of {max(steps):,}"
            )


def _elsewhere(beats: Sequence[Heartbeat | None]) -> Iterator[str]:
    phases = collections.Counter(beat.phase for beat in beats if beat)
    [(usual, count)] = phases.most_common(1)
    for beat in beats:
        if beat and beat.phase != usual and count > len(beats) / 2:
            yield (
                f"host {beat.host} ({beat.hostname}) is in another phase than most: "
                f"{beat.phase}"
            )


def _age(beat: Heartbeat, now: float) -> float:
    return max(0.0, now - beat.time)
