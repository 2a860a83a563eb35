"""Modules compiled: from the cache, else by worker processes."""

import concurrent.futures
import errno
import functools
import os
import queue
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tpu_compiler import process, report
from tpu_compiler.cache import Cache, cache_folder
from tpu_compiler.errors import CompilerError
from tpu_compiler.history import History
from tpu_compiler.process import CompilerWorker
from tpu_compiler.report import CompilerReport
from tpu_compiler.topology import Topology


class Compiler:
    """A pool of compilers, a context; at its end it waits for what was asked.

    If an exception ends it, Ctrl-C for one, it stops what still runs and leaves no
    process behind.

    Attributes:
      history: how long compilations took here.
    """

    def __init__(self, workers: int = 1, *, cache_dir: str | Path | None = None):
        """Prepare; a worker starts with the first module that is not in the cache.

        Args:
          workers: processes that compile at the same time. A small module takes one
            0.5 GB of memory, a network's training step 3.5 GB.
          cache_dir: for the answers; by default in the user's folder of caches.

        Raises:
          CompilerError: the compiler is not installed, or the folder cannot be used.
        """
        self._environment = process.environment()
        self._cache = Cache(Path(cache_dir) if cache_dir else cache_folder())
        self.history = History(self._cache.folder)
        self._workers = [CompilerWorker(self._environment) for _ in range(workers)]
        self._idle: queue.SimpleQueue[CompilerWorker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = concurrent.futures.ThreadPoolExecutor(workers)

    @property
    def versions(self) -> dict[str, str]:
        """Of the compiler's packages."""
        return self._environment.versions

    def compile(
        self,
        module: bytes,
        topology: Topology | str,
        num_replicas: int = 1,
        *,
        timeout_seconds: float,
        name: str = "the module",
        kind: str | None = None,
    ) -> "concurrent.futures.Future[CompilerReport]":
        """Compile a module for a slice of TPUs, each replica on one of its devices.

        Args:
          module: StableHLO: its text, bytecode or a portable artifact.
          topology: the slice, or its name such as v3:4x4.
          num_replicas: of the program; at most as many as the slice has devices.
          timeout_seconds: for the compilation, not for the wait until a worker is free.
          name: of the module, for the errors.
          kind: under which `history` is to remember how long it took, if it compiles.

        Returns:
          A future of the report. Its `result` raises CompilerError when there is none:
          out of time, a worker that died, a slice that the compiler does not know.

        Raises:
          CompilerError: no such topology, no replicas or more than it has devices, or
            no time.
        """
        if isinstance(topology, str):
            topology = Topology.parse(topology)
        if num_replicas < 1:
            raise CompilerError(f"{name}: {num_replicas} replicas; take at least 1")
        if num_replicas > topology.num_devices:
            raise CompilerError(
                f"{name}: {num_replicas} replicas on {topology}, which has "
                f"{topology.num_devices} devices; take a larger slice"
            )
        if not timeout_seconds > 0:
            raise CompilerError(
                f"{name}: a time limit of {timeout_seconds:g} seconds; allow more than "
                "0"
            )
        request = {
            "topology": topology.compiler_name,
            "chip_config": topology.chip_config,
            "num_replicas": num_replicas,
        }
        key = self._cache.key(module, request | self._environment.versions)
        read = functools.partial(
            report.read,
            topology=topology,
            num_replicas=num_replicas,
            versions=self._environment.versions,
        )
        if cached := self._cached(key, read):
            future = concurrent.futures.Future[CompilerReport]()
            future.set_result(cached)
            return future

        def run() -> CompilerReport:
            answer, path = self._run(module, request, key, name, timeout_seconds)
            if kind is not None and path is not None:  # a refusal may take no time
                self.history.note(kind, answer["seconds"])
            return read(answer, path, from_cache=False)

        return self._threads.submit(run)

    def _cached(
        self, key: str, read: Callable[..., CompilerReport]
    ) -> CompilerReport | None:
        """Return a report from the cache, None when it has none that can be read."""
        try:
            entry = self._cache.load(key)
            return read(*entry, from_cache=True) if entry else None
        except (
            OSError,
            EOFError,
            zlib.error,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            self._cache.warn(key, error)
            return None

    def _run(
        self,
        module: bytes,
        request: dict[str, Any],
        key: str,
        name: str,
        timeout_seconds: float,
    ) -> tuple[dict[str, Any], Path | None]:
        """Have a worker compile; return its answer and the HLO's path in the cache."""
        worker = self._idle.get()
        try:
            with self._cache.scratch(key) as source, self._cache.scratch(key) as hlo:
                source.write_bytes(module)  # fails at once where nothing can be kept
                answer = worker.ask(
                    {"module": str(source), "hlo": str(hlo), **request},
                    name=name,
                    timeout_seconds=timeout_seconds,
                )
                return answer, self._cache.store(key, answer, hlo)
        except OSError as error:
            raise self._cache.unusable(error) from error
        except CompilerError as error:
            # Of a worker's own log, which does not say where: it writes the HLO.
            if (full := os.strerror(errno.ENOSPC)) in str(error):
                raise self._cache.unusable(OSError(errno.ENOSPC, full)) from error
            raise
        finally:
            self._idle.put(worker)

    def __enter__(self) -> "Compiler":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._threads.shutdown(wait=True)
        finally:  # a Ctrl-C may have ended the waiting
            for worker in self._workers:
                worker.kill()
            self._threads.shutdown(wait=True, cancel_futures=True)
            for worker in self._workers:
                worker.close()


def compile(
    module: bytes,
    topology: Topology | str,
    num_replicas: int = 1,
    *,
    timeout_seconds: float,
    cache_dir: str | Path | None = None,
    name: str = "the module",
) -> CompilerReport:
    """Compile one module; see `Compiler`, which is faster for several.

    Raises:
      CompilerError: there is no report, and why.
    """
    with Compiler(cache_dir=cache_dir) as compiler:
        return compiler.compile(
            module,
            topology,
            num_replicas,
            timeout_seconds=timeout_seconds,
            name=name,
        ).result()
