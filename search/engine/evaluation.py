"""The process that evaluates networks: a line of JSON in, a line of JSON out.

    python -m search.engine.evaluation

The first line holds the config's text and the search's folder, where sources keep what
took long; each further one a network's encoding and a rung. Frameworks, compilers and
trainings live here, and what they print goes to standard error. When its worker closes
standard input or dies, the process ends with all that it has started.
"""

import dataclasses
import json
import math
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

from common.errors import UserError, first_line
from search.block_search import BlockSearch
from search.results import Estimate, Score

_LONGEST_REASON = 300


def main() -> None:
    """Read the config, then answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()

    def answer(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what, allow_nan=False) + "\n")
        answers.flush()

    try:
        settings = _settings(**json.loads(lines.get()))
    except UserError as error:
        answer({"mistake": str(error)})
        return
    answer({"ready": True})
    while True:
        request = json.loads(lines.get())
        answer(evaluate(settings, request["network"], request["rung"]))


def _settings(config: str, folder: str) -> BlockSearch:
    """Return the settings, whose sources keep in the folder what took long."""
    from search import accuracy_sources, latency_sources
    from search.config import read_text

    settings = read_text(BlockSearch, config)
    return dataclasses.replace(
        settings,
        accuracy=accuracy_sources.in_folder(settings.accuracy, folder),
        latency=latency_sources.in_folder(settings.latency, folder),
    )


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    # In a group of its own, see `evaluator`: no process that it started outlives it.
    os.killpg(os.getpgid(0), signal.SIGKILL)


def evaluate(settings: BlockSearch, network: str, rung: int) -> dict[str, Any]:
    """Evaluate a network.

    Args:
      settings: of the search.
      network: its encoding.
      rung: of its training, from 0.

    Returns:
      Result's fields "value", "top1", "ms", "sources" and "reason".
    """
    try:
        return _evaluate(settings, network, rung)
    except Exception as error:
        # Frameworks, compilers and people's own functions raise too many types to list.
        # Whatever it was costs this one result.
        return _answer(reason=_reason(error)[:_LONGEST_REASON])


def _reason(error: Exception) -> str:
    """Return why there is no value; where an error says nothing, who has raised it."""
    from search.config import message_of

    said = message_of(error).strip()
    if isinstance(error, UserError):  # its line says all
        return first_line(error)
    kind = type(error).__name__
    if said:
        return f"{kind}: {first_line(error)}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}, line {last.lineno}"
    return f"{kind} without a message, raised by {last.name} ({where})"


def _evaluate(settings: BlockSearch, network: str, rung: int) -> dict[str, Any]:
    variant = settings.space.build(settings.space.decode(network))
    estimate: Estimate = settings.latency(variant)
    source = ("", estimate.source)
    if estimate.ms is None:
        return _answer(sources=source, reason=estimate.reason or "no latency")
    if not (math.isfinite(estimate.ms) and estimate.ms > 0):
        reason = f"its latency is {estimate.ms} ms"
        return _answer(sources=source, reason=reason)
    score: Score = settings.accuracy(variant, rung)
    known = {"ms": float(estimate.ms), "sources": (score.source, estimate.source)}
    if score.top1 is None:
        return _answer(**known, reason=score.reason or "no accuracy")
    if not all(map(math.isfinite, score.samples)):
        return _answer(**known, reason="diverged: its top-1 is not a number")
    value = settings.objective(score.top1, estimate.ms)
    if not math.isfinite(value):
        return _answer(**known, reason=f"its objective is {value}")
    top1 = tuple(map(float, score.samples))
    return _answer(**known, top1=top1, value=float(value))


def _answer(
    *,
    value: float | None = None,
    top1: tuple[float, ...] = (),
    ms: float | None = None,
    sources: tuple[str, str] = ("", ""),
    reason: str = "",
) -> dict[str, Any]:
    return {
        "value": value,
        "top1": top1,
        "ms": ms,
        "sources": sources,
        "reason": reason,
    }


if __name__ == "__main__":
    main()
