import contextlib
import dataclasses
import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types

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
with Watchdog(
    directory, process=1, processes=4, timeout_seconds=1, poll_seconds=0.1
) as dog:
    dog.phase("steps 100 to 200", 100)
    never_returns()
"""
LOCKED = """
import ctypes, signal, time
from train.fault_tolerance import watchdog

watchdog._REPORT_SECONDS = 0.2

c = ctypes.PyDLL(None)

def never_releases():
    c.sleep(60)

with watchdog.Watchdog(
    sys.argv[1], process=0, processes=1, timeout_seconds=1, poll_seconds=0.05
) as dog:
    while signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        time.sleep(0.01)
    dog.phase("locked")
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


def posted(directory, process=0):
    return json.loads((directory / "hosts" / f"host-{process}.json").read_text())


def eventually(condition, seconds=60.0):
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

    def make(timeout_seconds, directory=tmp_path, processes=1):
        return Watchdog(
            str(directory),
            process=0,
            processes=processes,
            timeout_seconds=timeout_seconds,
            poll_seconds=0.005,
            exit=statuses.append,
        )

    return make


@pytest.fixture
def advance(monkeypatch, statuses):
    """Moves the clock of phases on; returns when the watchdog has looked at it."""
    now, looks = [0.0], []
    # Every look begins with it; and no alarm may end pytest.
    monkeypatch.setattr(watchdog, "_end_by_alarm", lambda **_: looks.append(now[0]))
    clock = types.SimpleNamespace(**vars(time) | {"monotonic": lambda: now[0]})
    monkeypatch.setattr(watchdog, "time", clock)

    def advance(seconds):
        now[0] += seconds
        seen = len(looks)
        assert eventually(lambda: statuses or len(looks) >= seen + 2)

    return advance


def ended(program, directory):
    """Runs a program that hangs; returns its status and standard error."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT + program, str(directory)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
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
    assert re.match(
        rf"watchdog: process 1 of 4 \({me}\): steps 100 to 200, for \d+ s, since ",
        lines[0],
    )
    assert lines[0].endswith("the same command goes on from the last checkpoint")
    assert lines[1] == "thread MainThread:"
    # Python 3.13 has the source of what stands behind -c, too, a line to each place.
    places = [line for line in lines[2:] if line.startswith("  File ")]
    assert places[1].endswith("in never_returns")
    rows = [line.split() for line in lines[-6:-1]]
    assert rows[0] == ["process", "machine", "state", "step", "heartbeat", "phase"]
    assert rows[1][:4] == ["0", "vm-0", "running", "100"]
    assert rows[2][:4] == ["1", me, "running", "100"]
    assert rows[3][-1] == "restoring"
    assert re.match(
        r"suspect: process 2 \(vm-2\) has been silent for about 5\d\d s: dead",
        lines[-1],
    )
    assert posted(tmp_path, 1)["state"] == "hung"


def test_a_call_that_keeps_the_interpreters_lock_is_ended_too(tmp_path):
    status, said = ended(LOCKED, tmp_path)
    assert status == -signal.SIGALRM
    assert "in never_releases" in said  # by faulthandler


def test_who_is_gone_is_not_waited_for(tmp_path, statuses, capsys):
    """Once may be chance: TensorFlow says it by itself where it can."""
    answers = iter(["", "worker 1", "worker 1", "", *["worker 2"] * 3])
    with Watchdog(
        str(tmp_path),
        process=0,
        processes=1,
        timeout_seconds=1000,
        gone=lambda: next(answers),
        gone_seconds=0.0,
        poll_seconds=0.005,
        exit=statuses.append,
    ) as dog:
        dog.phase("restoring")
        assert eventually(lambda: statuses)
    assert statuses == [75]
    assert next(answers, "none") == "none"
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"watchdog: worker 2 is gone, and process 0 of 1 \(.*\): restoring, for 0 s\. "
        "This process ends; the same command goes on from the last checkpoint\n",
        said,
    )


def test_no_alarm_while_phases_go_on(make, statuses, advance, capsys):
    with make(10) as dog:
        for step in range(5):
            dog.phase("steps 0 to 20", step)  # the same name is a sign of life, too
            advance(9)
    assert statuses == []
    assert capsys.readouterr().err == ""


def test_a_phase_may_have_more_time(make, statuses, advance):
    with make(10) as dog:
        dog.phase("building", timeout_factor=100)
        advance(1000)
        dog.phase("steps 0 to 20")
        advance(10)
        assert statuses == []
        advance(1)
    assert statuses == [75]


def test_without_timeout_there_are_only_heartbeats(make, statuses, tmp_path):
    with make(None) as dog:
        dog.phase("evaluation at step 200", 200)
        assert eventually(lambda: (tmp_path / "hosts" / "host-0.json").exists())
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert statuses == []
    assert posted(tmp_path)["step"] == 200


def test_nothing_is_left_behind(make):
    threads = set(threading.enumerate())
    with make(100):
        assert eventually(lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 100)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert not faulthandler.unregister(signal.SIGALRM)
    assert set(threading.enumerate()) <= threads


def test_heartbeats_tell_the_time_while_a_phase_lasts(make, tmp_path):
    before = time.time()
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
        assert before <= first["time"] <= time.time()
        assert first["state"] == "running"
        assert re.fullmatch(
            rf"process 0 of 1 \({first['hostname']}\): evaluation at step 200, "
            r"for \d+ s",
            dog.describe(),
        )


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [
        (None, "finished", None),
        (Restart("SIGTERM"), "stopped", None),
        (KeyboardInterrupt(), "stopped", None),
        (ValueError("no such file\nat all"), "failed", "ValueError: no such file"),
        (StopIteration(), "failed", "StopIteration"),
    ],
)
def test_the_last_heartbeat_says_how_it_ended(make, tmp_path, error, state, line):
    with contextlib.suppress(BaseException), make(None):
        if error:
            raise error
    assert (posted(tmp_path)["state"], posted(tmp_path)["error"]) == (state, line)
    assert heartbeat.read(str(tmp_path), 0) == Heartbeat(**posted(tmp_path))


def test_a_folder_that_cannot_be_written_is_one_warning(
    make, statuses, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("")
    tries, make_folder = [], gfiles.make_folder
    monkeypatch.setattr(
        gfiles, "make_folder", lambda path: (tries.append(path), make_folder(path))
    )
    with make(100, tmp_path / "file") as dog:
        dog.phase("steps 0 to 20")
        assert eventually(lambda: len(tries) > 2)
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
    with make(0.1, processes=2) as dog:
        dog.phase("waiting for ckpt-100", 100)
        assert eventually(lambda: statuses == [75])
        answer.set()
    said = []  # by threads that no one waits for
    assert eventually(
        lambda: said.append(capsys.readouterr().err) or "suspect: " in "".join(said)
    )
    assert "waiting for ckpt-100" in "".join(said)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"host": 1}'])
def test_heartbeats_that_cannot_be_read(tmp_path, content):
    (tmp_path / "hosts").mkdir()
    if content is not None:
        (tmp_path / "hosts" / "host-1.json").write_text(content)
    assert heartbeat.read(str(tmp_path), 1) is None


def test_table():
    beats = [beat(0, step=1_200), None, beat(2, step=None, state="stopped", time=0)]
    assert heartbeat.table(beats, NOW).splitlines() == [
        "process  machine  state    step   heartbeat        phase",
        "0        vm-0     running  1,200  5 s ago          steps 100 to 200",
        "1        ?        ?        ?      none             ?",
        "2        vm-2     stopped  ?      1,000,000 s ago  steps 100 to 200",
    ]


@pytest.mark.parametrize(
    ("changes", "suspects"),
    [
        (
            [{}, {"time": NOW - 100, "step": 1}, {"step": 0}],
            "process 1 (vm-1) has been silent for about 100 s: dead or unreachable",
        ),
        (
            [{}, {"time": NOW - 100, "state": "hung"}, {}],
            "process 1 (vm-1) has been silent for about 100 s: ended by its own "
            "watchdog",
        ),
        (
            [{}, {"state": "failed", "error": "ValueError: x"}, {}],
            "process 1 (vm-1) has failed (ValueError: x)",
        ),
        ([{}, None, {}], "process 1 has no heartbeat that can be read"),
        (
            [{}, {"time": NOW - 80, "step": 90}, {"time": NOW + 80, "phase": "x"}],
            "process 1 (vm-1) is behind, at step 90 of 100",
        ),
        (
            [{}, {"state": "hung"}, {"phase": "restoring", "step": None}],
            "process 2 (vm-2) is in another phase than most: restoring",
        ),
        ([{}, {"phase": "restoring"}], "nobody; the processes are in different phases"),
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
