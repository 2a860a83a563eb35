"""What Optuna's journal and databases do to us, and we to them."""

import json
import subprocess
import sys
import time

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from common.errors import UserError
from search.engine import engine_optuna
from search.engine.engine_optuna import (
    JOURNAL,
    Flock,
    check_url,
    cut_torn_line,
    journal_store,
    mend_journal,
)
from search.results import Result


def result(number, value: float | None = 1.0, **changes):
    known = {"network": f"n{number}", "digest": f"{number:016}", "worker": "w"}
    return Result(number=number, value=value, **{**known, **changes})


def claimed(store, number, worker="w"):
    lease = store.claim(number, f"n{number}", worker)
    assert lease is not None
    return lease


def trials(folder):
    """What Optuna itself reads in a journal."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.load_study(study_name=engine_optuna.STUDY, storage=storage)
    return study.get_trials()


def test_optuna_reads_what_we_have_written(tmp_path):
    store = journal_store(tmp_path)
    store.finish(result(0, 2.5), claimed(store, 0))
    store.finish(result(1, None, reason="no"), claimed(store, 1))
    store.end(claimed(store, 2), "expired")
    store.end(claimed(store, 3), "dropped")
    claimed(store, 4)
    found = trials(tmp_path)
    assert [trial.state for trial in found] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.RUNNING,
    ]
    assert [trial.number for trial in found] == [0, 1, 2, 3, 4]
    assert found[0].value == 2.5
    assert found[0].user_attrs["network"] == "n0"
    assert all(trial.params == {} for trial in found)
    assert json.loads(found[1].user_attrs["result"])["reason"] == "no"


@pytest.mark.parametrize("torn", [b"{", b'{"op_code":6,"worker_id":"x"', b"\0" * 99])
def test_a_torn_tail_is_cut_before_anything_is_written(tmp_path, torn):
    store = journal_store(tmp_path)
    lease = claimed(store, 0)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(torn)
    # The store that is open, and one that opens now, read on and write on.
    other = journal_store(tmp_path)
    assert claimed(other, 1, "v").number == 1
    store.finish(result(0), lease)
    assert [trial.number for trial in trials(tmp_path)] == [0, 1]
    assert all(map(json.loads, (tmp_path / JOURNAL).read_bytes().splitlines()))
    assert mend_journal(tmp_path) is None


@pytest.mark.parametrize("whole", [b"", b"one\n", b"one\n" + b"x" * 200_000 + b"\n"])
@pytest.mark.parametrize("torn", [b"", b"two", b"y" * 200_000])
def test_cut_torn_line(tmp_path, whole, torn):
    path = tmp_path / "file"
    path.write_bytes(whole + torn)
    cut_torn_line(path)
    assert path.read_bytes() == whole


def test_a_damaged_journal_moves_away(tmp_path):
    store = journal_store(tmp_path)
    store.claim(0, "n0", "w")
    path = tmp_path / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{damaged\n", *lines[1:]]))
    damaged = path.read_bytes()
    away = mend_journal(tmp_path)
    assert away is not None
    assert away.read_bytes() == damaged
    assert not path.exists()
    assert mend_journal(tmp_path) is None
    assert journal_store(tmp_path).look().leases == ()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from search.engine.engine_optuna import Flock\n"
        "Flock(Path(sys.argv[1])).acquire(); print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / JOURNAL)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    process.kill()
    began = time.monotonic()
    lock = Flock(tmp_path / JOURNAL)
    assert lock.acquire() is True
    # Optuna's own lock would keep everybody waiting for 30 s.
    assert time.monotonic() - began < 10
    lock.release()
    process.communicate()


def test_who_died_between_two_writes_is_finished_by_others(tmp_path):
    store = journal_store(tmp_path)
    told, ended = claimed(store, 0), claimed(store, 1)
    store._set(told.key, "result", json.dumps(result(0, 3.5).as_json()))
    store._set(ended.key, "end", "expired")
    other = journal_store(tmp_path)
    sight = other.look()
    assert sight.results[0].value == 3.5
    assert sight.deaths == {1: 1}
    assert [lease.number for lease in sight.leases] == [0]
    other.end(sight.leases[0], "lost")
    found = trials(tmp_path)
    assert [trial.state for trial in found] == [TrialState.COMPLETE, TrialState.FAIL]
    assert found[0].value == 3.5
    assert claimed(other, 1, "b").worker == "b"


def test_somebody_else_s_trials_are_left_alone(tmp_path):
    store = journal_store(tmp_path)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    study = optuna.load_study(study_name=engine_optuna.STUDY, storage=storage)
    study.tell(study.ask(), 9.0)
    assert store.look().results == {}
    assert claimed(store, 0).number == 0


def test_ten_thousand_evaluations_open_soon(tmp_path):
    store = journal_store(tmp_path)
    store.finish(result(0), store.claim(0, "network" * 11, "w"))
    path = tmp_path / JOURNAL
    head, *trial = map(json.loads, path.read_bytes().splitlines())
    assert [line["op_code"] for line in trial] == [4, 8, 6]
    lines = [head]
    for number in range(10_000):
        create, attribute, state = (dict(line) for line in trial)
        create["user_attrs"] = {**create["user_attrs"], "number": number}
        text = json.dumps(result(number, float(number)).as_json())
        attribute |= {"trial_id": number, "user_attr": {"result": text}}
        state |= {"trial_id": number, "values": [float(number)]}
        lines += [create, attribute, state]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    began = time.process_time()
    assert mend_journal(tmp_path) is None
    sight = journal_store(tmp_path).look()
    used = time.process_time() - began
    assert len(sight.results) == 10_000
    assert sight.results[9_999].value == 9_999.0
    assert used < 5.0


def test_a_look_at_many_is_cheap_once_they_are_known(tmp_path, monkeypatch):
    store = journal_store(tmp_path)
    for number in range(3):
        store.finish(result(number), store.claim(number, "n", "w"))
    store.look()
    noted = []
    real = store._note
    monkeypatch.setattr(store, "_note", lambda trial: noted.append(1) or real(trial))
    store.claim(3, "n", "w")
    assert len(noted) == 1  # the new one, and none of those that will not change


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://me:secret@host/db", "leave the password out"),
        ("postgresql://me@host/db?password=secret", "leave the password out"),
        ("mysql://me@host/db", "mysql is not known"),
        ("sqlite:///x.db", "sqlite is not known"),
        ("postgresql//x", "no address"),
        ("://", "no address"),
        ("postgresql://host:port/db", "no address"),
    ],
)
def test_an_address_that_is_refused(url, why):
    with pytest.raises(UserError, match=why) as error:
        check_url(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_an_address_that_is_taken(scheme):
    url = f"{scheme}://me@host:5432/db"
    assert check_url(url) == url


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        journal_store(tmp_path / "file")
