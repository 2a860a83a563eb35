"""A search in a real PostgreSQL, which the tests start, kill and stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from common.errors import UserError
from search.engine import engine_optuna, result_files, store
from search.engine.master import Master
from search.results import Result
from tests.support import postgres
from tests.support.processes import start_together
from tests.support.toy_search import CONFIG

LAG = "block_search.BlockSearch.lag = 6"
SLOWLY = "toy_search.accuracy.seconds = 0.05"


@pytest.fixture(scope="module")
def server():
    with postgres.running() as server:
        yield server


def result(number, value=1.0, **changes):
    known = {"network": f"n{number}", "digest": f"{number:016}", "worker": "w"}
    return Result(number=number, value=value, **{**known, **changes})


def claimed(store, number, worker):
    lease = store.claim(number, f"n{number}", worker)
    assert lease is not None
    return lease


@pytest.mark.long
def test_leases_and_results(server):
    one = engine_optuna.database_store(server.url, "leases")
    other = engine_optuna.database_store(server.url, "leases")
    lease = claimed(one, 0, "a")
    assert other.claim(0, "n0", "b") is None
    before = other.look().leases[0].sign
    one.renew(lease)
    assert other.look().leases[0].sign != before
    other.end(lease, "expired")
    assert one.look().deaths == {0: 1}
    assert claimed(other, 0, "b").worker == "b"
    one.finish(result(0, 2.5, top1=(1.0,), sources=("s", "t")), lease)  # late
    other.finish(result(0, 3.5), other.look().leases[0])  # later
    for each in (one, other, engine_optuna.database_store(server.url, "leases")):
        sight = each.look()
        assert sight.results[0] == result(0, 2.5, top1=(1.0,), sources=("s", "t"))
        assert sight.leases == ()
        each.close()


def test_searches_of_one_database_do_not_meet(server):
    one = engine_optuna.database_store(server.url, "one")
    other = engine_optuna.database_store(server.url, "other")
    one.finish(result(0))
    assert other.look().results == {}
    one.close()
    other.close()


@pytest.mark.long
def test_numbers_that_processes_race_for(server):
    engine_optuna.database_store(server.url, "race").close()
    code = (
        "import sys; from search.engine import engine_optuna\n"
        "store = engine_optuna.database_store(sys.argv[1], 'race')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(*[n for n in range(6) if store.claim(n, 'n', sys.argv[2])])\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, server.url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    start_together(processes)
    got = " ".join(process.communicate()[0] for process in processes).split()
    assert sorted(map(int, got)) == list(range(6))


@pytest.mark.long
def test_a_server_that_is_killed_and_comes_back(server, capsys):
    one = engine_optuna.database_store(server.url, "killed")
    lease = claimed(one, 0, "a")
    server.kill()
    back = threading.Timer(1.5, server.start)
    back.start()
    one.finish(result(0), lease)  # waits
    back.join()
    assert one.look().results[0] == result(0)
    assert "does not answer, waiting for it" in capsys.readouterr().err
    one.close()


def test_a_database_that_is_not_there_is_no_outage(server):
    began = time.monotonic()
    with pytest.raises(UserError, match='database "nowhere" does not exist'):
        engine_optuna.database_store(server.url[: -len("postgres")] + "nowhere", "s")
    assert time.monotonic() - began < 60  # and not two minutes


def test_a_server_that_stays_away(monkeypatch):
    from common.errors import Restart

    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(Restart, match="does not answer"):
        engine_optuna.database_store("postgresql://postgres@127.0.0.1:9/x", "s")


# -- the command --------------------------------------------------------------------


@contextlib.contextmanager
def machines(server, folder, count, *, evaluations, workers=1):
    """The command on so many machines, each with a folder of its own."""
    path = folder / "toy.gin"
    path.write_text("\n".join((CONFIG, LAG, SLOWLY, "")))
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "search.blocks", f"--gin_file={path}"),
                *(f"--search_dir={folder / str(place)}", f"--storage={server.url}"),
                *(f"--workers={workers}", f"--evaluations={evaluations}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate()


def what(folder):
    return [(r.number, r.network, r.value) for r in result_files.read(folder)]


def expected(folder, evaluations):
    """What one worker finds that nobody disturbs, without a database."""
    from search import blocks
    from tests.support.commands import status

    path = folder / "alone.gin"
    path.write_text("\n".join((CONFIG, LAG, "")))
    command = [f"--gin_file={path}", f"--search_dir={folder / 'alone'}"]
    command += ["--workers=1", "--storage=folder", f"--evaluations={evaluations}"]
    assert status(blocks.main, *command) == 0
    return what(folder / "alone")


def wait_until(holds, processes):
    until = time.monotonic() + 120
    while not holds():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


def done(*folders):
    return sum(
        path.read_bytes().count(b"\n")
        for folder in folders
        for path in folder.glob("results/*.jsonl")
    )


def outage(server, folder, seconds, evaluations):
    """Two machines, across a server that is away; returns what they have said."""
    folders = (folder / "0", folder / "1")
    with machines(server, folder, 2, evaluations=evaluations) as processes:
        wait_until(lambda: all(done(each) >= 2 for each in folders), processes)
        server.kill()
        time.sleep(seconds)
        server.start()
        said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    wanted = expected(folder, evaluations)
    # Each machine has all results in its file, not its own alone.
    assert what(folders[0]) == what(folders[1]) == wanted
    assert max(done(each) for each in folders) < evaluations
    return [err for _, err in said]


@pytest.mark.slow
def test_machines_work_on_after_two_seconds_without_the_server(server, tmp_path):
    said = outage(server, tmp_path, 2.0, evaluations=14)
    assert any("does not answer, waiting for it" in err for err in said)


@pytest.mark.slow
def test_machines_work_on_after_thirty_seconds_without_the_server(server, tmp_path):
    (tmp_path / "long").mkdir()
    said = outage(server, tmp_path / "long", 30.0, evaluations=60)
    assert all("does not answer, waiting for it" in err for err in said)


@pytest.mark.slow
def test_a_machine_that_is_gone_is_taken_over(server, tmp_path):
    """Its folder is elsewhere: only the silence of its leases tells."""
    path = tmp_path / "toy.gin"
    lease = "block_search.BlockSearch.lease_seconds = 3.0"
    hang = "toy_search.accuracy.seconds = 3600"
    path.write_text("\n".join((CONFIG, LAG, hang, lease, "")))
    name = "gone"
    command = [sys.executable, "-m", "search.engine.worker"]
    order = {
        "folder": str(tmp_path / name),
        "storage": server.url,
        "study": name,
        "config": path.read_text(),
        "evaluations": 8,
    }
    (tmp_path / name).mkdir()
    lost = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert lost.stdin is not None
    lost.stdin.write(json.dumps(order) + "\n")
    lost.stdin.flush()
    seen = engine_optuna.database_store(server.url, name)
    wait_until(lambda: seen.look().leases, [lost])
    os.kill(lost.pid, signal.SIGKILL)
    lost.communicate()

    other = tmp_path / "other"
    other.mkdir()
    master = Master(other, seen, 3.0)
    until = time.monotonic() + 60
    while seen.look().deaths != {0: 1}:
        master.look()
        assert time.monotonic() < until
        time.sleep(0.2)
    assert claimed(seen, 0, "me").worker == "me"
    seen.close()
