"""A search's store in a shared folder: a file for each lease, and the results' files.

    leases/000012-1       who evaluates number 12; its time is that of the last renewal
    leases/000012-1.end   how that ended, if it did without a result
    leases/000012-2       who has taken it over

A lease is made by a link to a file that is whole, which only one process can; this
holds on network disks, too.
"""

import contextlib
import json
import os
import re
from pathlib import Path

from common import files
from search.engine.result_files import ResultReader
from search.engine.store import End, Lease, Sight, patiently
from search.results import Result

_NAME = re.compile(r"(?P<number>\d{6,})-(?P<index>\d+)(?P<end>\.end)?")


class FolderStore:
    """See `engine.store.Store`; finished results are those of the results' files."""

    def __init__(self, folder: Path):
        """Open it, or make it.

        Args:
          folder: of the search, which all machines see.
        """
        self._leases = folder / "leases"
        self._reader = ResultReader(folder)
        self._results: dict[int, Result] = {}
        self._patiently(lambda: self._leases.mkdir(exist_ok=True))

    def look(self) -> Sight:
        """Return what there is now."""
        return self._patiently(self._look)

    def claim(self, number: int, network: str, worker: str) -> Lease | None:
        """Take a number; see `Store`."""
        lease = self._patiently(lambda: self._claim(number, network, worker))
        if lease and number in self.look().results:  # it came in between
            self.finish(self._results[number])
            return None
        return lease

    def renew(self, lease: Lease) -> None:
        """Give the lease's file the time of now, by the disk's clock."""
        with contextlib.suppress(FileNotFoundError):
            self._patiently(lambda: os.utime(lease.key))

    def end(self, lease: Lease, how: End) -> None:
        """End a lease."""
        path = Path(f"{lease.key}.end")
        if not path.exists():
            self._patiently(lambda: files.write_bytes(path, how.encode()))

    def finish(self, result: Result, lease: Lease | None = None) -> None:
        """Remove the leases of a number, whose result stands in a file."""
        for path in self._leases.glob(f"{result.number:06}-*"):
            self._patiently(lambda path=path: path.unlink(missing_ok=True))

    def close(self) -> None:
        """Nothing is held."""

    def _patiently(self, call):
        return patiently(call, (OSError,), str(self._leases))

    def _look(self) -> Sight:
        # First the leases: what ends in between has its result in the files then.
        held, ended = self._list()
        for result in self._reader.new():
            self._results.setdefault(result.number, result)
        leases, deaths = [], {}
        for (number, index), path in held.items():
            if (number, index) in ended:
                if ended[number, index] == "expired":
                    deaths[number] = deaths.get(number, 0) + 1
            elif lease := _read(number, path):
                leases.append(lease)
        return Sight(self._results, tuple(leases), deaths)

    def _list(self) -> tuple[dict[tuple[int, int], Path], dict[tuple[int, int], str]]:
        """Return all leases by number and index, and how some of them have ended."""
        held, ended = {}, {}
        for name in sorted(os.listdir(self._leases)):
            path = self._leases / name
            if match := _NAME.fullmatch(name):
                key = int(match["number"]), int(match["index"])
                if not match["end"]:
                    held[key] = path
                else:
                    with contextlib.suppress(FileNotFoundError):  # finished just now
                        ended[key] = path.read_text()
        return dict(sorted(held.items())), ended

    def _claim(self, number: int, network: str, worker: str) -> Lease | None:
        held, ended = self._list()
        mine = [key for key in held if key[0] == number]
        if mine and mine[-1] not in ended:
            return _read_if_mine(number, held[mine[-1]], worker)
        path = self._leases / f"{number:06}-{len(mine) + 1}"
        text = json.dumps({"worker": worker, "network": network})
        with files.scratch(path) as staging:
            staging.write_text(text)
            try:
                os.link(staging, path)
            except FileExistsError:
                pass
            except PermissionError:  # a disk without hard links: one write in place
                with contextlib.suppress(FileExistsError), path.open("x") as file:
                    file.write(text)
        return _read_if_mine(number, path, worker)


def _read_if_mine(number: int, path: Path, worker: str) -> Lease | None:
    lease = _read(number, path)
    return lease if lease and lease.worker == worker else None


def _read(number: int, path: Path) -> Lease | None:
    """Return what a lease's file says; None where it has just gone."""
    try:
        found = json.loads(path.read_text())
        sign = str(path.stat().st_mtime_ns)
        return Lease(number, found["worker"], found["network"], sign, str(path))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # half a file, of a disk without links
        with contextlib.suppress(FileNotFoundError):
            sign = str(path.stat().st_mtime_ns)
            return Lease(number, "unknown", "", sign, str(path))
        return None
