"""What the TPU compiler says of networks, in a process that may load TensorFlow.

Of `latency_sources` alone, which makes a `Compilations` by `common.isolated`.
"""

import dataclasses
import os
import threading
import time
from collections.abc import Sequence

from models.errors import ModelError
from models.variants import Variant
from performance import compile_requests
from performance.segments import InferenceOptions, Segment
from search.latencies.latency_table import BlockRow, segment_digest, segment_json
from tpu_compiler import Compiler, CompilerError, Topology

_LOOK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """Milliseconds of a network or its segments, or why there are none.

    `is_final` is as in `search.results.Estimate`.
    """

    ms: float | None
    reason: str = ""
    is_final: bool = True


class Compilations:
    """A compiler, and what it is asked for."""

    def __init__(
        self, topology: str, batch: int, dtype: str, workers: int, parent: int
    ):
        """Start the compiler.

        Args:
          topology: whose device.
          batch: images at once.
          dtype: of the arithmetic.
          workers: compilations at once.
          parent: the process with which this one ends.

        Raises:
          ModelError: of batch or dtype.
          CompilerError: no such topology, or the compiler is not installed.
        """
        _end_with(parent)
        self._topology = Topology.parse(topology)
        self._options = InferenceOptions(batch=batch, dtype=dtype)
        self._compiler = Compiler(workers)

    def close(self) -> None:
        """End the compiler's processes, whatever they do: nobody waits for it now."""
        self._compiler.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def whole(self, variants: Sequence[Variant]) -> list[Answer]:
        """Compile networks, all workers at once.

        Raises:
          CompilerError: the folder of caches cannot be used.
        """
        requests = [self._request(one) for one in variants]
        return [one if isinstance(one, Answer) else _answer(one) for one in requests]

    def sums(self, variants: Sequence[Variant]) -> list[Answer]:
        """Compile the segments of networks, each by itself, equal ones once.

        Raises:
          CompilerError: the folder of caches cannot be used.
        """
        requests = [self._segments(one) for one in variants]
        return [one if isinstance(one, Answer) else _sum(one) for one in requests]

    def blocks(self, variants: Sequence[Variant]) -> list[BlockRow]:
        """Return the different segments of networks, but for those of one that cannot
        be built.

        Raises:
          CompilerError: the folder of caches cannot be used.
        """  # noqa: D205 (one sentence)
        requests = [self._segments(one) for one in variants]
        found = {}
        for segments in requests:
            for segment, future in () if isinstance(segments, Answer) else segments:
                digest = segment_digest(segment)
                if digest not in found:
                    answer = _answer(future)
                    found[digest] = BlockRow(
                        digest=digest,
                        kind=segment.kind,
                        segment=segment_json(segment),
                        ms=answer.ms,
                        reason=answer.reason,
                        is_final=answer.is_final,
                    )
        return list(found.values())

    def _request(self, variant: Variant) -> compile_requests.Answer | Answer:
        try:
            return compile_requests.network(
                variant, self._compiler, self._topology, self._options
            )
        except ModelError as error:
            return Answer(None, str(error))

    def _segments(
        self, variant: Variant
    ) -> list[tuple[Segment, compile_requests.Answer]] | Answer:
        try:
            return compile_requests.segments(
                variant, self._compiler, self._topology, self._options
            )
        except ModelError as error:
            return Answer(None, str(error))


def _answer(request: compile_requests.Answer) -> Answer:
    """Wait for a compilation; that it fails is an answer, a full disk is none.

    That the compiler refuses is final. A worker that has died, or was too slow, may
    have had too little of a busy machine.
    """
    try:
        report = request.result()
    except CompilerError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return Answer(None, str(error), is_final=False)
    if not report.compiled:
        return Answer(None, report.message)
    return Answer(report.milliseconds)


def _sum(segments: Sequence[tuple[Segment, compile_requests.Answer]]) -> Answer:
    total = 0.0
    for segment, request in segments:
        answer = _answer(request)
        if answer.ms is None:
            reason = f"{segment.name} by itself: {answer.reason}"
            return Answer(None, reason, answer.is_final)
        total += answer.ms
    return Answer(total)


def _end_with(parent: int) -> None:
    """End this process with its parent, also where that one is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
