"""A search's store on Optuna: a journal in its folder, or a database for many machines.

A lease is a trial in state RUNNING, made whole in one step with the number, the network
and the worker as attributes; the first of a number that has not ended holds it. A
network is one attribute and no parameters: Optuna samples nothing. Its dashboard shows
what has failed, or whose worker has died, as "Fail", and what a worker has given back,
or another one had, as "Pruned".

Of Optuna's storages only what their common base class documents is called.
"""

import contextlib
import datetime
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy.engine
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from common import console
from common.errors import UserError, one_line
from search.engine.store import End, Lease, Sight, patiently
from search.results import Result

JOURNAL = "engine.journal"
STUDY = "search"  # in a journal, which has one
_NUMBER, _NETWORK, _WORKER = "number", "network", "worker"
_RENEWED, _END, _RESULT = "renewed", "end", "result"
_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
# What libpq waits for: a server that is gone without a word must not hang a worker.
_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_HOPELESS = re.compile(
    "authentication failed|no password supplied|does not exist|permission denied"
)
_AWAY = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, OSError)
_T = TypeVar("_T")

# Its lines are for programmers; what a person has to know we say.
optuna.logging.set_verbosity(optuna.logging.CRITICAL)


class Flock:
    """The journal's lock: the kernel lets go of it when its process dies.

    Whoever has it writes at the end of the file. If the last line there is torn, by a
    full disk or a kill, it is cut off first: the next one would land on it, and no
    process could read the journal any more.
    """

    def __init__(self, journal: Path):
        self._journal = journal
        # Optuna's own locks are named .lock, and wait 30 s for a file of that name.
        self._path = f"{journal}.flock"
        self._lock = -1

    def acquire(self) -> bool:
        """Wait for the lock, then make sure that the journal ends with a whole line."""
        lock = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._journal.exists():
                cut_torn_line(self._journal)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return True

    def release(self) -> None:
        """Let go of the lock, if this process has it."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def cut_torn_line(path: Path) -> None:
    """Cut what stands behind the last whole line of a file off; OSError if it fails."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        begin = end
        while begin:
            step = min(begin, 1 << 16)
            file.seek(begin - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                begin += found + 1 - step
                break
            begin -= step
        if begin < end:
            file.truncate(begin)


def journal_store(folder: Path) -> "OptunaStore":
    """Open the journal of a search's folder, or make it.

    Raises:
      UserError: it cannot be written.
    """
    path = folder / JOURNAL
    try:
        lock: Any = Flock(path)
        backend = JournalFileBackend(str(path), lock)
        return OptunaStore(
            lambda: JournalStorage(backend), STUDY, str(path), is_near=True
        )
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def mend_journal(folder: Path) -> Path | None:
    """Move a journal away that cannot be read; for who holds the folder alone.

    The results' files have all that counts, and are told to the new one.

    Returns:
      Where it is now; None where it is sound, or there is none.
    """
    path = folder / JOURNAL
    lock = Flock(path)
    lock.acquire()
    try:
        if not path.exists() or _is_sound(path):
            return None
        away = Path(f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        os.replace(path, away)
        return away
    finally:
        lock.release()


def _is_sound(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            return all(isinstance(json.loads(line), dict) for line in file)
        except ValueError:
            return False


def database_store(url: str, study: str) -> "OptunaStore":
    """Open a search in a PostgreSQL, or make it.

    Args:
      url: postgresql://user@host:port/database. A password comes from PGPASSWORD or
        ~/.pgpass.
      study: the search's name in the database, which may hold many.

    Raises:
      UserError: the URL makes no sense, or the server refuses.
      Restart: the server has not answered for two minutes.
    """
    full = "postgresql+psycopg" + check_url(url)[url.index(":") :]
    options = {"pool_pre_ping": True, "connect_args": _CONNECT}

    connected: list[RDBStorage] = []

    def connect() -> BaseStorage:
        connected.append(RDBStorage(full, engine_kwargs=options))
        return get_storage(connected[-1])

    def disconnect() -> None:
        for storage in connected:
            storage.remove_session()
            storage.engine.dispose()

    return OptunaStore(connect, study, url, disconnect)


def check_url(url: str) -> str:
    """Return a database's URL if it is one of ours.

    Raises:
      UserError: it is another database's, makes no sense, or holds a password.
    """
    try:
        parts = sqlalchemy.engine.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UserError(f"--storage={url!r} is no address of a database") from None
    if parts.drivername not in _SCHEMES:
        raise UserError(
            f"--storage: {parts.drivername} is not known; write "
            "postgresql://user@host:port/database, or folder"
        )
    if parts.password is not None or "password" in parts.query:
        # Everybody on the machine can read a command line.
        raise UserError(
            "--storage: leave the password out of the address, and put it into the "
            "environment as PGPASSWORD, or into ~/.pgpass"
        )
    return url


class OptunaStore:
    """See `search.engine.store.Store`; of one process, any of its threads."""

    def __init__(
        self,
        connect: Callable[[], BaseStorage],
        study: str,
        name: str,
        disconnect: Callable[[], None] = lambda: None,
        *,
        is_near: bool = False,
    ):
        """Open a study, or make it.

        Args:
          connect: makes the storage.
          study: the study's name in it.
          name: the store's, for a person.
          disconnect: lets go of it.
          is_near: a trial is had without a question to a server. Then a look takes as
            long after 100,000 trials as after ten: each is asked for until it is over.

        Raises:
          UserError: it refuses.
          Restart: it has not answered for two minutes.
        """
        self._name = name
        self._disconnect = disconnect
        self._lock = threading.RLock()
        self._storage = self._patiently(lambda: _refusals_told(connect, name))
        self._study = self._patiently(lambda: self._open(study))
        self._results: dict[int, Result] = {}
        self._deaths: dict[int, set[int]] = {}  # trials by number
        self._is_near = is_near
        # By their numbers: trials that are under way, and the first that is not known.
        self._under_way: list[int] = []
        self._next = 0

    def look(self) -> Sight:
        """Return what there is now."""
        with self._lock:
            trials = self._patiently(self._unsettled)
            leases = list(map(self._note, trials))
            self._under_way = [t.number for t in trials if not t.state.is_finished()]
            self._next = max([self._next, *(trial.number + 1 for trial in trials)])
            deaths = {number: len(them) for number, them in self._deaths.items()}
            return Sight(self._results, tuple(filter(None, leases)), deaths)

    def _unsettled(self) -> list[FrozenTrial]:
        """Return the trials that may have changed since the last look, in order."""
        if not self._is_near:
            trials = self._storage.get_all_trials(self._study, deepcopy=False)
            return [trials[number] for number in self._under_way] + trials[self._next :]
        found = [self._storage.get_trial(self._id(n)) for n in self._under_way]
        number = self._next
        with contextlib.suppress(KeyError):  # there is none of that number
            while True:
                found.append(self._storage.get_trial(self._id(number)))
                number += 1
        return found

    def _note(self, trial: FrozenTrial) -> Lease | None:
        """Keep what a trial says of its number; return its lease if it has one."""
        attributes = trial.user_attrs
        number = attributes.get(_NUMBER)
        if number is None:  # not ours: somebody else uses the study, too
            return None
        if _RESULT in attributes and number not in self._results:
            self._results[number] = Result.of_json(json.loads(attributes[_RESULT]))
        if attributes.get(_END) == "expired":
            self._deaths.setdefault(number, set()).add(trial.number)
        if trial.state.is_finished():
            return None
        if _END in attributes:  # who ended it has died over it
            self._close(trial.number, attributes)
            return None
        worker, network = attributes[_WORKER], attributes[_NETWORK]
        sign = str(attributes.get(_RENEWED, ""))
        return Lease(number, worker, network, sign, trial.number)

    def claim(self, number: int, network: str, worker: str) -> Lease | None:
        """Take a number; see `Store`."""
        attributes = {_NUMBER: number, _NETWORK: network, _WORKER: worker}
        with self._lock:
            self._create(create_trial(state=TrialState.RUNNING, user_attrs=attributes))
            sight = self.look()
            held = [lease for lease in sight.leases if lease.number == number]
            mine = [lease for lease in held if lease.worker == worker]
            # Of a call that was repeated, as its answer was lost, several are mine.
            taken = number in sight.results or held[:1] != mine[:1]
            for lease in mine if taken else mine[1:]:
                self.end(lease, "lost")
            return None if taken or not mine else mine[0]

    def renew(self, lease: Lease) -> None:
        """Change the sign of a lease."""
        self._set(lease.key, _RENEWED, time.time_ns())

    def end(self, lease: Lease, how: End) -> None:
        """End a lease."""
        trial = self._patiently(lambda: self._storage.get_trial(self._id(lease.key)))
        if _RESULT in trial.user_attrs:
            self._close(lease.key, trial.user_attrs)
        else:
            self._set(lease.key, _END, how)
            self._close(lease.key, {_END: how})

    def finish(self, result: Result, lease: Lease | None = None) -> None:
        """Hand in a result; see `Store`."""
        with self._lock:
            if result.number in self.look().results:
                if lease:
                    self.end(lease, "lost")
                return
            text = json.dumps(result.as_json(), allow_nan=False)
            if lease and self._set(lease.key, _RESULT, text):
                self._close(lease.key, {_RESULT: text})
                return
            self._create(_finished(result, text))

    def close(self) -> None:
        """Let go of the connections."""
        self._disconnect()

    def _create(self, trial: FrozenTrial) -> None:
        """Make a trial."""
        self._patiently(lambda: self._storage.create_new_trial(self._study, trial))

    def _set(self, key: int, name: str, value: Any) -> bool:
        """Set an attribute of a trial; return False where that has ended."""
        return self._changed(
            lambda: self._storage.set_trial_user_attr(self._id(key), name, value)
        )

    def _close(self, key: int, attributes: dict[str, Any]) -> None:
        """Give a trial its last state, by what it holds."""
        value = None
        if _RESULT in attributes:
            value = json.loads(attributes[_RESULT])["value"]
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if attributes.get(_END) in ("dropped", "lost"):
            state = TrialState.PRUNED  # nothing has failed there
        values = None if value is None else [value]
        self._changed(
            lambda: self._storage.set_trial_state_values(self._id(key), state, values)
        )

    def _changed(self, call: Callable[[], Any]) -> bool:
        try:
            self._patiently(call)
        except UpdateFinishedTrialError:
            return False
        return True

    def _id(self, key: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study, key)

    def _open(self, name: str) -> int:
        try:
            return self._storage.create_new_study([StudyDirection.MAXIMIZE], name)
        except optuna.exceptions.DuplicatedStudyError:
            return self._storage.get_study_id_from_name(name)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        return patiently(call, _AWAY, self._name)


def _refusals_told(connect: Callable[[], BaseStorage], name: str) -> BaseStorage:
    """Connect; what will not get better by waiting becomes a UserError."""
    try:
        return connect()
    except _AWAY as error:
        why = one_line(error)
        if _HOPELESS.search(why):
            raise UserError(f"{name}: {console.escaped(why)[:300]}") from error
        raise


def _finished(result: Result, text: str) -> FrozenTrial:
    """Return a trial that was never a lease of this store."""
    attributes = {
        _NUMBER: result.number,
        _NETWORK: result.network,
        _WORKER: result.worker,
        _RESULT: text,
    }
    state = TrialState.FAIL if result.value is None else TrialState.COMPLETE
    trial = create_trial(state=state, value=result.value, user_attrs=attributes)
    trial.datetime_start = trial.datetime_start or datetime.datetime.now()
    return trial
