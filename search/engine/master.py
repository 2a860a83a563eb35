"""One machine's view of a search: what is there, who has died, the merged file."""

import contextlib
from pathlib import Path

from common import console
from search.engine import progress, result_files
from search.engine.store import Store, Watch
from search.engine.study import end_expired
from search.results import Result


class Master:
    """Looks after a search that workers do; asks for no network itself."""

    def __init__(self, folder: Path, store: Store, lease_seconds: float):
        """Look for the first time.

        Args:
          folder: of the search.
          store: that its workers share.
          lease_seconds: after which a silent worker counts as dead.
        """
        self._folder = folder
        self._store = store
        self._watch = Watch(lease_seconds)
        self._reader = result_files.ResultReader(folder)
        self._written: dict[int, Result] = {}  # by this folder's workers
        self._merged = -1
        self._results = store.look().results

    @property
    def results(self) -> list[Result]:
        """All results that were seen, by number."""
        return [self._results[number] for number in sorted(self._results)]

    @property
    def count(self) -> int:
        """How many results were seen."""
        return len(self._results)

    def has_all(self, evaluations: int) -> bool:
        """Whether nothing is left to do."""
        return all(number in self._results for number in range(evaluations))

    def tell_again(self) -> None:
        """Tell the store what the folder's files have and it lacks.

        Workers have died, or the store has lost it.
        """
        for result in result_files.read(self._folder):
            if result.number not in self._results:
                self._store.finish(result)
        self._results = self._store.look().results

    def look(self) -> None:
        """See what is new; end the leases of the dead."""
        sight = self._store.look()
        self._results = sight.results
        for lease, why in end_expired(sight, self._store, self._watch, self._folder):
            console.say(f"worker {lease.worker} {why}; number {lease.number} is free")

    def merge(self) -> None:
        """Renew results.jsonl, if anything is new; asks the files, not the store."""
        for result in self._reader.new():
            self._written.setdefault(result.number, result)
        merged = {**self._written, **self._results}
        if len(merged) != self._merged:
            # Workers' files have it all; a full disk must not end the search here.
            with contextlib.suppress(OSError):
                rows = [merged[number] for number in sorted(merged)]
                result_files.write_merged(self._folder, rows)
                self._merged = len(merged)

    def line(self, evaluations: int) -> str:
        """Return how far the search is."""
        return progress.line(self.results, evaluations)

    def why_hopeless(self, count: int) -> str:
        """Return why the first so many have all failed; "" where they have not."""
        if len(self._results) < count:
            return ""
        if any(result.value is not None for result in self._results.values()):
            return ""
        return next(iter(progress.failures(self._results.values())))
