"""Which network comes next, asked by many workers and told by them, in any order.

Network n is a function of the settings, n, and the results of numbers below n - lag. So
any worker can compute it, a second attempt is of the same network, and the set of
results is the same for any number of workers and after any kill, as far as evaluations
repeat.
"""

import dataclasses
import random
from pathlib import Path
from typing import NamedTuple

from search.block_search import BlockSearch
from search.engine.result_files import ResultLog, is_dead, read_worker
from search.engine.store import Lease, Sight, Store, Watch
from search.networks.space import Exhausted
from search.results import FirstOf, Result


class Task(NamedTuple):
    """An evaluation that this worker has the lease of.

    Attributes:
      lease: number and network of it.
      digest: of the network as it is built.
      rung: of its training, from 0.
      attempt: 1, or more where workers have died.
    """

    lease: Lease
    digest: str
    rung: int
    attempt: int


class Place(NamedTuple):
    """What an evaluation's number stands for.

    Attributes:
      rung: of the training, from 0.
      rank: in rung 0, which new network it is, from 0 in the whole search; above,
        which of the rung below goes on: 0 is its best.
      below: the numbers of the rung below, in the same round.
      needs: how many results from number 0 on have to be there.
    """

    rung: int
    rank: int
    below: range
    needs: int


def place(number: int, rungs: tuple[int, ...], lag: int) -> Place:
    """Return what a number stands for; rungs and lag are those of BlockSearch."""
    if not rungs:
        return Place(0, number, range(0), max(0, number - lag))
    turn, offset = divmod(number, sum(rungs))
    begin = turn * sum(rungs)
    if offset < rungs[0]:
        index = turn * rungs[0] + offset
        return Place(0, index, range(0), _shown(index - lag, rungs))
    rung, below = 0, range(0)
    while offset >= rungs[rung]:
        below = range(begin, begin + rungs[rung])
        begin, offset, rung = below.stop, offset - rungs[rung], rung + 1
    return Place(rung, offset, below, begin)


def _shown(count: int, rungs: tuple[int, ...]) -> int:
    """Return how many results there are when so many are of rung 0."""
    if count <= 0:
        return 0
    turn, offset = divmod(count - 1, rungs[0])
    return turn * sum(rungs) + offset + 1


class Study:
    """A search as one worker sees it."""

    def __init__(
        self, settings: BlockSearch, store: Store, log: ResultLog | None, worker: str
    ):
        """Begin.

        Args:
          settings: of the search.
          store: which it shares with others.
          log: its own file of results; None for one that only looks.
          worker: its name.
        """
        self._settings = settings
        self._store = store
        self._log = log
        self._worker = worker
        self._rng = random.Random(worker)  # in which order it tries what is free
        self._known: list[Result] = []  # without a gap, from number 0
        # Those of rung 0 among them, numbered without a gap: what samplers are shown.
        self._first: list[Result] = []
        self._by_digest: dict[tuple[str, int], Result] = {}
        self._networks: dict[int, tuple[str, str]] = {}  # encoding, digest
        self._last = settings.evaluations

    @property
    def is_done(self) -> bool:
        """Whether all numbers have results, by what was seen last."""
        return len(self._known) >= self._last

    def look(self) -> Sight:
        """Look at what others have done."""
        sight = self._store.look()
        while (result := sight.results.get(len(self._known))) is not None:
            self._networks.pop(result.number, None)
            self._known.append(result)
            self._by_digest.setdefault((result.digest, result.rung), result)
            if result.rung == 0:
                index = len(self._first)
                renumbered = result.number != index
                shown = (
                    dataclasses.replace(result, number=index) if renumbered else result
                )
                self._first.append(shown)
        return sight

    def ask(self) -> Task | None:
        """Return what to evaluate; None where one has to wait for others, or is done.

        Raises:
          UserError: a mistake in sampler or space.
        """
        lost = 0
        while True:
            sight = self.look()
            free = self._free(sight)
            if not free:
                return None
            # Who has lost a race tries another number than all the others who have.
            number = free[self._rng.randrange(min(len(free), 2 * lost + 1))]
            network, digest = self._network(number)
            lease = self._store.claim(number, network, self._worker)
            if lease is None:
                lost += 1
                continue
            attempt = sight.deaths.get(number, 0) + 1
            task = Task(lease, digest, self._place(number).rung, attempt)
            known = self._answer(task)
            if known is None:
                return task
            self.tell(task.lease, known)

    def tell(self, lease: Lease, result: Result) -> None:
        """Keep a result: first in this worker's own file, then in the store."""
        assert self._log is not None, "this study only looks"
        self._log.append(result)
        self._store.finish(result, lease)

    def _free(self, sight: Sight) -> list[int]:
        """Return the numbers that nobody has, and whose network is decided."""
        taken = {lease.number for lease in sight.leases}
        known, free = len(self._known), []
        reach = max(self._settings.lag, sum(self._settings.rungs))
        for number in range(known, min(self._last, known + reach + 1)):
            if number in taken or number in sight.results:
                continue
            if self._place(number).needs > known:
                continue
            if self._is_exhausted(number):
                break
            free.append(number)
        return free

    def _is_exhausted(self, number: int) -> bool:
        """Whether the space has no network for a number; the search ends there."""
        try:
            self._network(number)
        except Exhausted:
            self._last = min(self._last, number)
            return True
        return False

    def _place(self, number: int) -> Place:
        return place(number, self._settings.rungs, self._settings.lag)

    def _network(self, number: int) -> tuple[str, str]:
        """Return a number's network, encoded, and its digest."""
        if number not in self._networks:
            where = self._place(number)
            if where.rung == 0:
                self._networks[number] = self._new_network(where.rank)
            else:
                best = self._ranked(where)[where.rank]
                self._networks[number] = best.network, best.digest
        return self._networks[number]

    def _new_network(self, index: int) -> tuple[str, str]:
        space = self._settings.space
        shown = FirstOf(self._first, max(0, index - self._settings.lag))
        network = self._settings.sampler.ask(space, shown, index)
        return space.encode(network), space.digest(network)

    def _ranked(self, where: Place) -> list[Result]:
        """Return the rung below, best first; the same network again comes last."""
        met: set[str] = set()
        ranked = []
        for number in where.below:
            result = self._known[number]
            again = result.digest in met
            met.add(result.digest)
            failed = result.value is None
            value = 0.0 if result.value is None else -result.value
            ranked.append(((again, failed, value, number), result))
        return [result for _, result in sorted(ranked, key=lambda pair: pair[0])]

    def _answer(self, task: Task) -> Result | None:
        """Return the result of a task that needs no evaluation; None of another."""
        lease, place = task.lease, self._place(task.lease.number)
        if task.attempt > self._settings.attempts:
            count = self._settings.attempts
            return self._failed(task, f"gave up: {count} workers have died with it")
        if place.rung and self._ranked(place)[place.rank].value is None:
            return self._failed(task, "not trained further: the rung below has failed")
        known = self._by_digest.get((task.digest, task.rung))
        if known is None:
            return None
        return dataclasses.replace(
            known,
            number=lease.number,
            network=lease.network,
            seconds=0.0,
            worker=self._worker,
            attempt=task.attempt,
        )

    def _failed(self, task: Task, reason: str) -> Result:
        return Result(
            number=task.lease.number,
            network=task.lease.network,
            digest=task.digest,
            rung=task.rung,
            reason=reason,
            worker=self._worker,
            attempt=task.attempt,
        )


def end_expired(
    sight: Sight, store: Store, watch: Watch, folder: Path
) -> list[tuple[Lease, str]]:
    """End the leases of workers that are dead; to be called every few seconds.

    Args:
      sight: what was just seen.
      store: that it was seen in.
      watch: which has seen the ones before.
      folder: whose results' files tell of workers on this machine.

    Returns:
      The leases, and how their holders' deaths were noticed.
    """
    silent = watch.expired(sight.leases)
    found = []
    for lease in sight.leases:
        if is_dead(folder, lease.worker):
            found.append((lease, "has died"))
        elif lease in silent:
            found.append((lease, "gives no sign any more"))
    for lease, _ in found:
        _end(lease, sight, store, folder)
    return found


def _end(lease: Lease, sight: Sight, store: Store, folder: Path) -> None:
    """End a dead worker's lease; it may have written a result that it did not tell."""
    for result in read_worker(folder, lease.worker):
        if result.number == lease.number:
            store.finish(result, lease)
            return
    store.end(lease, "lost" if lease.number in sight.results else "expired")
