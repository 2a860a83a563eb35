import contextlib
import dataclasses
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from common import gfiles
from common.errors import Restart
from train.fault_tolerance import heartbeat, watchdog
from train.fault_tolerance.heartbeat import Heartbeat
from train.fault_tolerance.watchdog import Watchdog

NOW = 1_000_000.0
# The local disk by itself: TensorFlow takes seconds to import.
LIGHT = """
import json, os, pathlib, sys, types

sys.modules["common.gfiles"] = types.SimpleNamespace(
    make_folder=lambda path: os.makedirs(path, exist_ok=True),
    write_text=lambda path, text: pathlib.Path(path).write_text(text),
    read_json=lambda path: json.loads(pathlib.Path(path).read_text()),
)
"""
HANGING = """
import time
from train.fault_tolerance.watchdog import Watchdog

def never_returns():
    time.sleep(60)

directory, = sys.argv[1:]
with Watchdog(directory, host=1, hosts=4, timeout_seconds=1, poll_seconds=0.1) as dog:
    dog.phase("steps 100 to 200", 100)
    never_returns()
"""
LOCKED = """
import ctypes, time
from train import watchdog

watchdog._REPORT_SECONDS = 0.2

def never_releases():
    ctypes.PyDLL(None).sleep(60)

with watchdog.Watchdog(
    sys.argv[1], host=0, hosts=1, timeout_seconds=0.5, poll_seconds=0.05
) as dog:
    time.sleep(0.3)
    never_releases()
"""


def beat(host, **changes):
    usual = Heartbeat(
        host=host,
        hostname=f"vm-{host}",
        pid=100 + host,
        phase="steps 100 to 200",
        step=100,
        phase_seconds=12.0,
        time=NOW - 5,
        state="running",
    )
    return dataclasses.replace(usual, **changes)


def posted(directory, host=0):
    return json.loads((directory / "hosts" / f"host-{host}.json").read_text())


def eventually(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def statuses():
    """What processes that watchdogs ended would have exited with."""
    return []


@pytest.fixture
def make(tmp_path, statuses, monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.05)

    def make(timeout_seconds, directory=tmp_path, hosts=1):
        return Watchdog(
            str(directory),
            host=0,
            hosts=hosts,
            timeout_seconds=timeout_seconds,
            poll_seconds=0.02,
            exit=statuses.append,
        )

    return make


def ended(program, directory):
    """Runs a program that hangs; returns its status and standard error."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT + program, str(directory)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr


def test_hang_is_reported_and_ends_the_process(tmp_path):
    (tmp_path / "hosts").mkdir()
    now = time.time()
    for other in (
        beat(0, time=now),
        beat(2, time=now - 500, phase="restoring"),
        beat(3, time=now),
    ):
        heartbeat.write(str(tmp_path), other)
    status, said = ended(HANGING, tmp_path)
    assert status == 75
    lines = said.splitlines()
    me = os.uname().nodename
    assert lines[0].startswith(
        f"watchdog: host 1 of 4 ({me}): steps 100 to 200, for 1 s, since "
    )
    assert lines[0].endswith("the same command goes on from the last checkpoint")
    assert lines[1] == "thread MainThread:"
    assert lines[3].endswith("in never_returns")
    rows = [line.split() for line in lines[-6:-1]]
    assert rows[0] == ["host", "name", "state", "step", "heartbeat", "phase"]
    assert rows[1][:4] == ["0", "vm-0", "running", "100"]
    assert rows[2][:4] == ["1", me, "running", "100"]
    assert rows[3][-1] == "restoring"
    assert lines[-1].startswith("suspect: host 2 (vm-2) has been silent for about 50")
    assert posted(tmp_path, 1)["state"] == "hung"


def test_a_call_that_keeps_the_interpreters_lock_is_ended_too(tmp_path):
    status, said = ended(LOCKED, tmp_path)
    assert status == -signal.SIGALRM
    assert "in never_releases" in said  # by faulthandler


def test_no_alarm_while_phases_go_on(make, statuses, capsys):
    with make(1) as dog:
        for step in range(30):
            dog.phase("steps 0 to 20", step)  # the same name is a sign of life, too
            time.sleep(0.05)
    assert statuses == []
    assert capsys.readouterr().err == ""


def test_patience(make, statuses):
    with make(0.05) as dog:
        dog.phase("building", patience=100)
        time.sleep(0.3)
        assert statuses == []
        dog.phase("steps 0 to 20")
        assert eventually(lambda: statuses == [75])


def test_without_timeout_there_are_only_heartbeats(make, statuses, tmp_path):
    with make(None) as dog:
        dog.phase("evaluation at step 200", 200)
        assert eventually(lambda: (tmp_path / "hosts" / "host-0.json").exists())
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert statuses == []
    assert posted(tmp_path)["step"] == 200


def test_nothing_is_left_behind(make):
    threads = threading.active_count()
    with make(100):
        assert eventually(lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 100)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert not faulthandler.unregister(signal.SIGALRM)
    assert threading.active_count() == threads


def test_heartbeats_tell_the_time_while_a_phase_lasts(make, tmp_path):
    with make(None) as dog:
        dog.phase("evaluation at step 200", 200)
        assert eventually(
            lambda: (
                (tmp_path / "hosts" / "host-0.json").exists()
                and posted(tmp_path)["phase_seconds"] > 0.1
            )
        )
        first = posted(tmp_path)
        assert eventually(lambda: posted(tmp_path)["time"] > first["time"])
        assert first["phase"] == "evaluation at step 200"
        assert (first["host"], first["pid"]) == (0, os.getpid())
        assert abs(first["time"] - time.time()) < 5
        assert first["state"] == "running"
        assert dog.describe() == (
            f"host 0 of 1 ({first['hostname']}): evaluation at step 200, for 0 s"
        )


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [
        (None, "finished", None),
        (Restart("SIGTERM"), "stopped", None),
        (KeyboardInterrupt(), "stopped", None),
        (ValueError("no such file\nat all"), "failed", "ValueError: no such file"),
        (StopIteration(), "failed", "StopIteration: "),
    ],
)
def test_the_last_heartbeat_says_how_it_ended(make, tmp_path, error, state, line):
    with contextlib.suppress(BaseException), make(None):
        if error:
            raise error
    assert (posted(tmp_path)["state"], posted(tmp_path)["error"]) == (state, line)
    assert heartbeat.read(str(tmp_path), 0) == Heartbeat(**posted(tmp_path))


def test_a_folder_that_cannot_be_written_is_one_warning(
    make, statuses, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    with make(100, tmp_path / "file") as dog:
        dog.phase("steps 0 to 20")
        time.sleep(0.3)
    said = capsys.readouterr().err
    assert said.startswith("warning: the run goes on without heartbeats: cannot make")
    assert said.count("\n") == 1
    assert statuses == []


def test_heartbeats_come_back_with_the_disk(make, tmp_path, capsys):
    path = tmp_path / "hosts" / "host-0.json"
    with make(None):
        for aside in ("first", "second"):
            assert eventually(path.exists)
            path.parent.rename(tmp_path / aside)
        assert eventually(path.exists)
    assert capsys.readouterr().err.count("warning") <= 1  # the folder is made again


def test_a_disk_that_does_not_answer_stops_no_watchdog(
    make, statuses, monkeypatch, capsys
):
    answer = threading.Event()
    monkeypatch.setattr(watchdog, "_REPORT_SECONDS", 0.3)
    monkeypatch.setattr(watchdog, "_end_by_alarm", lambda **_: None)  # spares pytest
    monkeypatch.setattr(gfiles, "write_text", lambda *_: answer.wait(20))
    monkeypatch.setattr(gfiles, "read_json", lambda *_: answer.wait(20))
    with make(0.1, hosts=2) as dog:
        dog.phase("waiting for ckpt-100", 100)
        assert eventually(lambda: statuses == [75])
        answer.set()
    assert "waiting for ckpt-100" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"host": 1}'])
def test_heartbeats_that_cannot_be_read(tmp_path, content):
    (tmp_path / "hosts").mkdir()
    if content is not None:
        (tmp_path / "hosts" / "host-1.json").write_text(content)
    assert heartbeat.read(str(tmp_path), 1) is None


def test_table():
    beats = [beat(0, step=1_200), None, beat(2, step=None, state="stopped", time=0)]
    assert heartbeat.table(beats, NOW).splitlines() == [
        "host  name  state    step   heartbeat        phase",
        "0     vm-0  running  1,200  5 s ago          steps 100 to 200",
        "1     ?     ?        ?      none             ?",
        "2     vm-2  stopped  ?      1,000,000 s ago  steps 100 to 200",
    ]


@pytest.mark.parametrize(
    ("changes", "suspects"),
    [
        (
            [{}, {"time": NOW - 100, "step": 1}, {"step": 0}],
            "host 1 (vm-1) has been silent for about 100 s: dead or unreachable",
        ),
        (
            [{}, {"time": NOW - 100, "state": "hung"}, {}],
            "host 1 (vm-1) has been silent for about 100 s: ended by its own watchdog",
        ),
        (
            [{}, {"state": "failed", "error": "ValueError: x"}, {}],
            "host 1 (vm-1) has failed (ValueError: x)",
        ),
        ([{}, None, {}], "host 1 has no heartbeat that can be read"),
        (
            [{}, {"time": NOW - 80, "step": 90}, {"time": NOW + 80, "phase": "x"}],
            "host 1 (vm-1) is behind, at step 90 of 100",
        ),
        (
            [{}, {"state": "hung"}, {"phase": "restoring", "step": None}],
            "host 2 (vm-2) is in another phase than most: restoring",
        ),
        ([{}, {"phase": "restoring"}], "nobody; the hosts are in different phases"),
        (
            [{}, {}],
            "nobody; all wait in the same phase, perhaps for what they share: network, "
            "storage, data",
        ),
    ],
)
def test_suspects(changes, suspects):
    beats = [
        None if change is None else beat(host, **change)
        for host, change in enumerate(changes)
    ]
    assert heartbeat.suspects(beats, NOW) == f"suspect: {suspects}"
