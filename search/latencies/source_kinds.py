"""The kinds of sources of latencies that `search.latency_sources` makes.

Imports no framework, and none is imported in this process later on.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from common import extras, isolated
from common.accelerators import TPUS
from common.checks import is_number
from common.errors import UserError, first_line
from common.isolated import Failed
from models.errors import ModelError
from models.variants import Variant
from performance.device_timing import Device, TimedCase
from performance.segments import InferenceOptions, segments_of
from search.latencies import latency_table
from search.latencies.latency_table import MEASURED, BlockRow, Conditions
from search.results import Estimate

DATA = Path(__file__).with_name("data")
_JAX = "pip install jax==0.10.2, for a GPU 'jax[cuda13]==0.10.2'"
_JAX_ENVIRONMENT = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Source(Protocol):
    """What all sources have."""

    @property
    def name(self) -> str:
        """What a table of results calls it."""
        ...

    @property
    def error(self) -> float | None:
        """How far it may be off, see `Estimate.error`."""
        ...

    def __call__(self, variant: Variant) -> Estimate:
        """Return a network's latency."""
        ...

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Return the latencies of several networks, in their order."""
        ...


class Recordable(Source, Protocol):
    """What sources have whose answers are worth keeping, see `latency_log`."""

    @property
    def at_once(self) -> int:
        """How many networks to ask for at once, until the answers are kept."""
        ...

    def noted_conditions(self) -> Conditions:
        """Return what the answers depend on, with versions."""
        ...

    def close(self) -> None:
        """End what the source has started."""
        ...


class _Source:
    """What sources have in common: one network is a list of one."""

    name: str
    error: float | None = None
    conditions: Conditions
    at_once = 1

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        raise NotImplementedError

    def __call__(self, variant: Variant) -> Estimate:
        return self.many([variant])[0]

    def close(self) -> None:
        """End what the source has started."""

    def __enter__(self):
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Compiled(_Source):
    """Networks by the TPU compiler, in a process that starts with the first question.

    Attributes:
      conditions: without the compiler's versions before the first question.
    """

    def __init__(self, name: str, method: str, conditions: Conditions, workers: int):
        self.name, self.conditions = name, conditions
        self.error = None
        if method == "sums":
            self.error = error_of_sum(conditions)
        self._method, self._workers = method, workers
        self.at_once = 4 * workers
        self._process: isolated.IsolatedObject | None = None

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Compile networks side by side.

        Raises:
          UserError: the compiler is not installed, its folders cannot be used, or its
            process has died.
        """
        answers = self._ask(self._method, list(variants))
        return [
            Estimate(one.ms, self.name, one.ms and self.error, one.reason, one.is_final)
            for one in answers
        ]

    def blocks(self, variants: Sequence[Variant]) -> list[BlockRow]:
        """Return the different segments of networks, each compiled by itself."""
        return self._ask("blocks", list(variants))

    def noted_conditions(self) -> Conditions:
        """Return the conditions with the versions of the compiler's packages.

        Raises:
          UserError: it is not installed.
        """
        from tpu_compiler import environment

        versions = dict(environment().versions)
        return dataclasses.replace(self.conditions, versions=versions)

    def close(self) -> None:
        """End the compiler."""
        if self._process is not None:
            with contextlib.suppress(UserError):  # it has died, and that was said
                self._process.ask("close")
            self._process.close()
            self._process = None

    def _ask(self, method: str, variants: list[Variant]) -> Any:
        if self._process is None:
            self._process = isolated.IsolatedObject(
                "search.latencies.compilations",
                "Compilations",
                self.conditions.hardware,
                self.conditions.batch,
                self.conditions.dtype,
                self._workers,
                os.getpid(),
            )
        return self._process.ask(method, variants)


class Measured(_Source):
    """Networks timed on the device that JAX finds, one after another.

    Each has a process of its own: one that fails costs its own answer. The error is the
    calls' own spread: half of what lies between the 16th and the 84th percentile.
    """

    name = MEASURED

    def __init__(self, batch: int, dtype: str, repeats: int):
        if not extras.installed("jax"):
            raise UserError(f"JAX is not installed: {_JAX}")
        self._time = functools.partial(
            TimedCase, batch=batch, dtype=dtype, repeats=repeats
        )
        device = self._call("device")
        if isinstance(device, Failed):
            raise UserError(f"JAX finds no device ({device.reason}): {_JAX}")
        self.device: Device = device
        versions = {name: importlib.metadata.version(name) for name in ("jax", "keras")}
        self.conditions = Conditions(device.name, batch, dtype, versions)

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Time networks, one after another: two at once would share the device."""
        return [self._measure(variant) for variant in variants]

    def noted_conditions(self) -> Conditions:
        """Return the conditions."""
        return self.conditions

    def _measure(self, variant: Variant) -> Estimate:
        seconds = self._call("seconds", self._time(variant=variant))
        if isinstance(seconds, Failed):
            return Estimate(
                None, self.name, reason=seconds.reason, is_final=not seconds.killed
            )
        median = statistics.median(seconds)
        return Estimate(median * 1e3, self.name, error=_spread(seconds) / median)

    def _call(self, function: str, *arguments: Any) -> Any:
        return isolated.call(
            "performance.device_jax",
            function,
            *arguments,
            environment=_JAX_ENVIRONMENT,
        )


class Table(_Source):
    """What a file says of networks, else the sum of what it says of their blocks."""

    def __init__(self, path: str | Path):
        self._table = latency_table.read(path)
        self.conditions = self._table.conditions
        self.name = f"table {Path(path).name}"
        self._options = InferenceOptions(
            batch=self.conditions.batch, dtype=self.conditions.dtype
        )

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Look networks up."""
        return [self._look_up(variant) for variant in variants]

    def _look_up(self, variant: Variant) -> Estimate:
        try:
            row = self._table.networks.get(latency_table.digest_of(variant))
            if row is not None and (row.ms is not None or row.reason):
                return Estimate(row.ms, self.name, reason=row.reason)
            if self._table.blocks:
                return self._sum(variant)
        except ModelError as error:
            return Estimate(None, self.name, reason=str(error))
        return Estimate(None, self.name, reason="not in the table")

    def _sum(self, variant: Variant) -> Estimate:
        total = 0.0
        for segment in segments_of(variant, self._options):
            row = self._table.blocks.get(latency_table.segment_digest(segment))
            if row is None or row.ms is None:
                why = row.reason if row else "not in the table"
                reason = f"{segment.name}: {why}"
                return Estimate(None, self.name, reason=reason)
            total += row.ms
        name = f"{self.name}, sum of blocks"
        return Estimate(total, name, error=error_of_sum(self.conditions))


class Function(_Source):
    """A callable of the user's own."""

    def __init__(self, name: str, call: Callable[[Variant], Any]):
        self.name, self._call = name, call
        self.conditions = Conditions(f"function {name}", 0, "")

    def noted_conditions(self) -> Conditions:
        """Return the function's name, which is all that is known of them."""
        return self.conditions

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Call it for one network after another."""
        return [self._estimate(variant) for variant in variants]

    def _estimate(self, variant: Variant) -> Estimate:
        try:
            found = self._call(variant)
        except Exception as error:
            # Whatever a user's own code raises costs this network alone.
            what = first_line(error)
            if what == type(error).__name__:
                what += " without a message"
            return Estimate(None, self.name, reason=what)
        if isinstance(found, Estimate):
            return found
        if is_number(found) and 0 < found < float("inf"):
            return Estimate(float(found), self.name)
        reason = f"it returned {found!r}, which are no milliseconds"
        return Estimate(None, self.name, reason=reason)


def error_of_sum(conditions: Conditions) -> float | None:
    """Return how far sums are off wholes, by the networks that have both."""
    path = DATA / f"compiled_{conditions.hardware}.json"
    if conditions.hardware not in TPUS or not path.exists():
        return None
    found = latency_table.read(path)
    theirs = found.conditions
    if (theirs.batch, theirs.dtype) != (conditions.batch, conditions.dtype):
        return None
    return found.error_of_sum()


def _spread(seconds: Sequence[float]) -> float:
    """Return half of what lies between the 16th and the 84th percentile."""
    if len(seconds) < 2:
        return 0.0
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return (percentiles[83] - percentiles[15]) / 2
