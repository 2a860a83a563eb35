"""A compiler whose answers come when a test says so, and steps that nobody lowers."""

import concurrent.futures
import types
from pathlib import Path
from typing import Any

from common.accelerators import TPUS
from preflight.rows import LoweredStep
from tpu_compiler import Compiler, Topology
from tpu_compiler.costs import Collective
from tpu_compiler.history import History


def report_of(*, needed=0, milliseconds=None, all_reduces=0) -> Any:
    """What a compiler says of a step that needs so many bytes of a v3 core."""
    limit = TPUS["v3"].hbm_bytes
    fits = needed <= limit
    return types.SimpleNamespace(
        verdict="compiled" if fits else "out_of_memory",
        compiled=fits,
        needed_bytes=needed,
        hbm_bytes=limit,
        message=f"needs {needed}",
        seconds=1.0,
        largest_buffers=(),
        memory=None,
        costs=None,
        milliseconds=milliseconds,
        topology=Topology.parse("v3:2x2"),
        collectives=[
            Collective("all-reduce", all_reduces, 0, 8, runs=all_reduces, run_bytes=0),
            Collective("all-gather", 1, 0, 8, runs=1, run_bytes=0),
        ],
    )


def a_line(images):
    """Bytes of a replica: 1 GiB and 0.25 GiB an image."""
    return 2**30 + images * 2**28


class FakeCompiler(Compiler):
    """Answers what it does not hold at once; `answer` lets go of the rest.

    Attributes:
      requests: names of the modules, in the order in which they came.
      seconds: that each was given.
      kinds: of each.
    """

    def __init__(self, *, holds=(), needs=a_line):
        """Args: names that are not answered; images -> bytes, or what goes wrong."""
        self.requests, self.seconds, self.kinds = [], [], []
        self._holds, self._needs = holds, needs
        self._futures: dict[str, concurrent.futures.Future] = {}
        self._images: dict[str, int] = {}
        self.history = History(Path("/nowhere"))

    @property
    def versions(self):
        return {"libtpu": "1.0"}

    def compile(
        self,
        module,
        topology,
        num_replicas=1,
        *,
        timeout_seconds=0.0,
        name="",
        kind=None,
    ):
        future = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        self.requests.append(name)
        self.seconds.append(timeout_seconds)
        self.kinds.append(kind)
        self._futures[name], self._images[name] = future, int(module)
        if name not in self._holds:
            self.answer(name)
        return future

    def answer(self, name):
        """Let a request be answered."""
        found = self._needs(self._images[name])
        if isinstance(found, BaseException):
            self._futures[name].set_exception(found)
        else:
            self._futures[name].set_result(report_of(needed=found))


def lower(stage=None, images=20):
    """Stand in for `LoweredSteps.train_step` and `.eval_step`."""
    return LoweredStep(str(images).encode(), images, 32)
