"""Leases and results: the same demands on a folder and on Optuna's journal."""

import json
import os
import subprocess
import sys
import time

import pytest

from common.errors import Restart, UserError
from search.engine import engine_optuna, result_files, store
from search.engine.folder_store import FolderStore
from search.engine.result_files import ResultLog
from search.engine.store import Lease, Watch, patiently, renewing
from search.results import Result
from tests.support.processes import start_together


def result(number, value: float | None = 1.0, **changes):
    known = {"network": f"n{number}", "digest": f"{number:016}", "worker": "w"}
    return Result(number=number, value=value, **{**known, **changes})


class Kind:
    """Opens a kind of store again and again, as other processes do."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.logs = {}

    def open(self):
        if self.name == "folder":
            return FolderStore(self.folder)
        return engine_optuna.journal_store(self.folder)

    def finish(self, of, what, lease=None):
        """As a worker does: first its own file, then the store."""
        if what.worker not in self.logs:
            self.logs[what.worker] = ResultLog(self.folder, what.worker)
        self.logs[what.worker].append(what)
        of.finish(what, lease)


@pytest.fixture(params=["folder", "journal"])
def kind(request, tmp_path):
    kind = Kind(request.param, tmp_path)
    yield kind
    for log in kind.logs.values():
        log.close()


def leases(of):
    return {lease.number: lease.worker for lease in of.look().leases}


def test_a_number_is_leased_once(kind):
    one, other = kind.open(), kind.open()
    lease = one.claim(3, "net", "a")
    assert (lease.number, lease.worker, lease.network) == (3, "a", "net")
    assert other.claim(3, "net", "b") is None
    assert one.claim(3, "net", "a") == lease  # asked again, as an answer was lost
    assert leases(one) == leases(other) == {3: "a"}
    assert other.claim(4, "other", "b").network == "other"
    assert leases(one) == {3: "a", 4: "b"}


def test_a_result_ends_its_lease_and_the_number(kind):
    one, other = kind.open(), kind.open()
    lease = one.claim(0, "n0", "w")
    kind.finish(one, result(0, 2.5, top1=(7.0, 8.0), ms=1.5, sources=("a", "b")), lease)
    for each in (one, other, kind.open()):
        sight = each.look()
        assert sight.leases == ()
        assert sight.results[0].value == 2.5
        assert sight.results[0].top1 == (7.0, 8.0)
        assert sight.results[0].sources == ("a", "b")
        assert each.claim(0, "n0", "b") is None
        assert each.look().leases == ()


def test_a_failure_is_a_result(kind):
    one = kind.open()
    lease = one.claim(0, "n0", "w")
    kind.finish(one, result(0, None, reason="does not fit"), lease)
    found = kind.open().look().results[0]
    assert (found.value, found.reason) == (None, "does not fit")


def test_only_a_death_counts(kind):
    one, other = kind.open(), kind.open()
    one.end(one.claim(0, "n0", "a"), "dropped")
    assert other.look().deaths == {}
    lease = other.claim(0, "n0", "b")
    assert lease.worker == "b"
    one.end(lease, "expired")
    other.end(lease, "expired")  # a second one that has noticed
    assert one.look().deaths == other.look().deaths == {0: 1}
    assert one.claim(0, "n0", "c").worker == "c"
    assert leases(other) == {0: "c"}


def test_a_late_result_loses_nothing_and_harms_nothing(kind):
    one, other = kind.open(), kind.open()
    old = one.claim(0, "n0", "a")
    other.end(old, "expired")
    new = other.claim(0, "n0", "b")
    one.renew(old)  # it does not know that it was taken for dead
    kind.finish(one, result(0, 1.0, worker="a"), old)
    assert other.look().results[0].worker == "a"
    kind.finish(other, result(0, 1.0, worker="b"), new)
    for each in (one, other):
        sight = each.look()
        assert sight.leases == ()
        assert sight.results[0].worker == "a"
    assert len(kind.open().look().results) == 1


def test_told_twice_counts_once(kind):
    one = kind.open()
    lease = one.claim(0, "n0", "w")
    kind.finish(one, result(0, 1.0), lease)
    one.finish(result(0, 2.0), lease)
    one.finish(result(0, 3.0))
    assert one.look().results[0].value == 1.0
    assert kind.open().look().results[0].value == 1.0


def test_a_result_without_a_lease(kind):
    one, other = kind.open(), kind.open()
    kind.finish(one, result(7, 4.0))
    kind.finish(one, result(8, None, reason="died"))
    sight = other.look()
    assert sight.results[7].value == 4.0
    assert sight.results[8].reason == "died"
    assert sight.leases == ()


def test_a_renewal_changes_the_sign(kind):
    one, other = kind.open(), kind.open()
    lease = one.claim(0, "n0", "a")
    before = other.look().leases[0].sign
    assert other.look().leases[0].sign == before
    with renewing(one, lease, 0.03):
        until = time.monotonic() + 20
        while other.look().leases[0].sign == before:
            assert time.monotonic() < until, "never renewed"
    sign = other.look().leases[0].sign
    assert other.look().leases[0].sign == sign  # nobody renews behind the block


def test_processes_that_race_get_each_number_once(kind):
    code = (
        "import sys, json; from pathlib import Path\n"
        "from search.engine import engine_optuna\n"
        "from search.engine.folder_store import FolderStore\n"
        "folder, name, me = Path(sys.argv[1]), sys.argv[2], sys.argv[3]\n"
        "store = FolderStore(folder) if name == 'folder' else "
        "engine_optuna.journal_store(folder)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(json.dumps([n for n in range(12) if store.claim(n, 'n', me)]))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(kind.folder), kind.name, str(me)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(2)
    ]
    start_together(processes)
    got = [json.loads(process.communicate()[0]) for process in processes]
    assert sorted(got[0] + got[1]) == list(range(12))
    assert set(leases(kind.open())) == set(range(12))


# -- watch and patience -------------------------------------------------------------


def lease(key, sign):
    return Lease(0, "w", "n", sign, key)


def test_a_lease_expires_by_being_watched():
    now = [0.0]
    watch = Watch(10.0, lambda: now[0])
    gone, alive = lease(1, "a"), lease(2, "0")
    for now[0] in range(0, 11):  # 10 s since it was seen first: not more than that
        assert watch.expired([gone, lease(2, str(now[0]))]) == []
    now[0] = 11
    assert watch.expired([gone, alive]) == [gone]
    assert watch.expired([]) == []


def test_time_that_nobody_has_watched_does_not_count():
    now = [0.0]
    watch = Watch(10.0, lambda: now[0])
    assert watch.expired([lease(1, "a")]) == []
    now[0] = 100.0  # the store was away, or the machine slept
    assert watch.expired([lease(1, "a")]) == []
    for now[0] in (104.0, 108.0):
        assert watch.expired([lease(1, "a")]) == []
    now[0] = 110.5
    assert watch.expired([lease(1, "a")]) == [lease(1, "a")]


def test_a_store_that_comes_back_is_waited_for(monkeypatch, capsys):
    naps = []
    monkeypatch.setattr(store.time, "sleep", naps.append)
    answers = [OSError("gone\nfor now"), OSError("gone"), 5]

    def call():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert patiently(call, (OSError,), "the store") == 5
    assert naps == [0.1, 0.2]
    said = capsys.readouterr().err
    assert said == "the store does not answer, waiting for it: gone for now\n"


def test_a_store_that_stays_away_ends_the_worker_with_75(monkeypatch):
    naps = []
    monkeypatch.setattr(store.time, "sleep", naps.append)
    monkeypatch.setattr(store.time, "monotonic", lambda: sum(naps))

    def call():
        raise OSError("gone")

    with pytest.raises(Restart, match="the store does not answer: gone"):
        patiently(call, (OSError,), "the store")
    assert max(naps) == 5.0
    assert 120 < sum(naps) <= 125
    with pytest.raises(KeyError):  # a mistake of ours is not waited out
        patiently(lambda: {}["x"], (OSError,), "the store")


# -- files --------------------------------------------------------------------------


def test_a_worker_s_file_is_its_own(tmp_path):
    log = ResultLog(tmp_path, "w")
    with pytest.raises(UserError, match="cannot write"):
        ResultLog(tmp_path, "w")
    log.append(result(1))
    log.append(result(0, None, reason="why"))
    log.close()
    assert [r.number for r in result_files.read(tmp_path)] == [0, 1]
    assert result_files.read_worker(tmp_path, "w")[1].reason == "why"
    assert result_files.read_worker(tmp_path, "nobody") == []


def test_no_line_says_nan(tmp_path):
    log = ResultLog(tmp_path, "w")
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append(result(1, float("nan")))
    log.append(result(2))
    assert [r.number for r in result_files.read(tmp_path)] == [2]
    log.close()


def test_a_torn_or_damaged_line_costs_that_line(tmp_path, capsys):
    log = ResultLog(tmp_path, "w")
    log.append(result(0))
    log.close()
    path = tmp_path / "results/w.jsonl"
    with path.open("ab") as file:
        file.write(b'\0\0\0\n{"number": 5}\n' + result_files.as_line(result(1)))
        file.write(result_files.as_line(result(2))[:30])
    assert [r.number for r in result_files.read(tmp_path)] == [0, 1]
    assert "w.jsonl: 2 lines cannot be read" in capsys.readouterr().err
    reader = result_files.ResultReader(tmp_path)
    assert [r.number for r in reader.new()] == [0, 1]
    with path.open("ab") as file:  # the rest of it comes
        file.write(result_files.as_line(result(2))[30:])
    assert [r.number for r in reader.new()] == [2]
    assert list(reader.new()) == []


def test_a_full_disk_leaves_no_torn_line(tmp_path, monkeypatch):
    log = ResultLog(tmp_path, "w")
    log.append(result(0))
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:20]))
    with pytest.raises(UserError, match="No space left"):
        log.append(result(1))
    monkeypatch.undo()
    log.append(result(2))
    log.close()
    assert [r.number for r in result_files.read(tmp_path)] == [0, 2]


def test_the_merged_file_and_the_workers_make_one_list(tmp_path):
    result_files.write_merged(tmp_path, [result(0, 1.0), result(1, 2.0)])
    log = ResultLog(tmp_path, "w")
    log.append(result(1, 9.0))  # a repetition: the first counts
    log.append(result(2, 3.0))
    log.close()
    assert [r.value for r in result_files.read(tmp_path)] == [1.0, 2.0, 3.0]


def test_the_kernel_tells_who_is_dead(tmp_path):
    name = result_files.worker_name()
    assert not result_files.is_dead(tmp_path, name)  # of another folder, perhaps
    code = (
        "import sys; from pathlib import Path\n"
        "from search.engine.result_files import *\n"
        "log = ResultLog(Path(sys.argv[1]), sys.argv[2]); print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert not result_files.is_dead(tmp_path, name)
    process.kill()
    process.communicate()
    assert result_files.is_dead(tmp_path, name)
    other = "elsewhere-0000-" + name.rpartition("-")[2]
    (tmp_path / f"results/{other}.jsonl").touch()
    assert not result_files.is_dead(tmp_path, other)  # another machine's: who knows
