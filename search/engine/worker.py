"""A worker of a search: claims a number, has it evaluated apart, tells.

    python -m search.engine.worker

`search.blocks` starts it, and says on standard input what to do. When that is closed,
by the master's end or its death, the worker gives back what it has and ends. It never
imports TensorFlow.
"""

import contextlib
import dataclasses
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from common import cli
from common.errors import Status
from search import config
from search.block_search import BlockSearch
from search.engine import storages
from search.engine.evaluator import Evaluator, Stopped
from search.engine.result_files import ResultLog, worker_name
from search.engine.store import Store, renewing
from search.engine.study import Study, Task
from search.results import Result

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds, while others are at work
_LOGS = "logs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is to do; one line of JSON by these names.

    Attributes:
      folder: of the search.
      storage: see `search.engine.storages.open_store`.
      study: the search's name in a database.
      config: text of the settings.
      evaluations: how many in all.
    """

    folder: str
    storage: str
    study: str
    config: str
    evaluations: int


class Worker:
    """Evaluates until the search is done or it is asked to stop."""

    def __init__(self, order: Order, stop: threading.Event):
        """Open store and files.

        Args:
          order: what to do.
          stop: is set when it is to stop.
        """
        settings = config.read_text(BlockSearch, order.config)
        settings = dataclasses.replace(settings, evaluations=order.evaluations)
        folder = Path(order.folder)
        self._name = worker_name()
        self._seconds = settings.lease_seconds
        self._stop = stop
        self._store: Store = storages.open_store(order.storage, folder, order.study)
        self._log = ResultLog(folder, self._name)
        self._study = Study(settings, self._store, self._log, self._name)
        self._evaluator = Evaluator(
            order.config,
            seconds=settings.seconds_per_evaluation,
            memory_gb=settings.memory_gb,
            per_process=settings.evaluations_per_process,
            folder=folder,
            log=folder / _LOGS / f"{self._name}.txt",
            is_stopped=stop.is_set,
        )

    def work(self) -> None:
        """Evaluate; raises UserError for mistakes, Restart when the store is away."""
        idle = 0
        with contextlib.closing(self._evaluator):
            while not self._stop.is_set():
                if (task := self._study.ask()) is not None:
                    self._evaluate(task)
                    idle = 0
                elif self._study.is_done:
                    break
                else:
                    self._stop.wait(_PAUSES[min(idle, len(_PAUSES) - 1)])
                    idle += 1
        self._log.close()
        self._store.close()

    def _evaluate(self, task: Task) -> None:
        lease = task.lease
        try:
            with renewing(self._store, lease, self._seconds):
                answer = self._evaluator.evaluate(lease.network, task.rung)
        except BaseException:
            self._store.end(lease, "dropped")
            raise
        self._study.tell(lease, self._result(task, answer))

    def _result(self, task: Task, answer: dict[str, Any]) -> Result:
        pairs = {
            name: tuple(answer[name]) for name in ("top1", "sources") if name in answer
        }
        return Result(
            **{**answer, **pairs},
            number=task.lease.number,
            network=task.lease.network,
            digest=task.digest,
            rung=task.rung,
            worker=self._name,
            attempt=task.attempt,
        )


def main() -> int:
    """Take the order and work; return the exit status."""
    stop = threading.Event()
    order = Order(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_wait_for_the_end, args=(stop,), daemon=True).start()

    def run() -> None:
        with contextlib.suppress(Stopped):
            Worker(order, stop).work()

    return cli.run_command(run)


def _wait_for_the_end(stop: threading.Event) -> None:
    sys.stdin.read()  # nothing comes: it ends with the master
    stop.set()
    # Whatever holds the worker up then, as a store that is away: nobody waits for it.
    timer = threading.Timer(5.0, os._exit, (int(Status.RESTART),))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
