import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from common import cli, errors
from train.controller import Controller
from train.fault_tolerance import preemption
from train.fault_tolerance.preemption import Preemption

# A call of many seconds, in C, that no signal interrupts.
LONG_CALL = "hashlib.pbkdf2_hmac('sha256', b'', b'', 200_000_000)"
LONG_GRAPH = """
import tensorflow as tf
from train.fault_tolerance.preemption import Preemption

@tf.function
def spin():
    return tf.while_loop(lambda i: i < 2**31 - 1, lambda i: [i + 1], [0])

compiled = spin.get_concrete_function()
with Preemption(0.5):
    print("ready", flush=True)
    compiled()
"""
TRAINING = """
import sys, time
from common.cli import run_command
from common.errors import Restart
from train.fault_tolerance.preemption import Preemption

def train():
    with Preemption(60) as preemption:
        print("ready", flush=True)
        while not preemption.requested:
            time.sleep(0.001)
        raise Restart("stopped at step 7")

sys.exit(run_command(train))
"""
CHILDREN = """
import os, signal, time
from train.fault_tolerance.preemption import Preemption

def fork():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"x")
        time.sleep(60)
    os.read(reading, 1)  # it is on its own
    return child

def end(child):
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

with Preemption(60) as preemption:
    children = [fork(), fork()]
    print(end(children.pop()))
print(preemption.requested)
print(end(children.pop()))  # leaving did not wait for it
"""


def held(call, deadline, report_seconds=2.0):
    """A program that makes a call, and has to be got out of it."""
    return f"""
import hashlib, sys
from train.fault_tolerance import preemption

preemption._REPORT_SECONDS = {report_seconds}
with preemption.Preemption({deadline}, lambda: "process 3 of 4 (thor): training"):
    print("ready", flush=True)
    {call}
"""


def terminated(program, read=True, sent=signal.SIGTERM, **options):
    """Sends a signal to a program that is ready; returns status, seconds and stderr."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "ready\n"
        begin = time.monotonic()
        process.send_signal(sent)
        try:
            status = process.wait(60)
        finally:
            process.kill()
        return status, time.monotonic() - begin, process.stderr.read() if read else ""


def eventually(condition):
    """Waits for the thread that hears signals."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_deadline_ends_a_call_that_does_not_return():
    status, seconds, stderr = terminated(held(LONG_CALL, 0.7))
    assert status == errors.Status.RESTART == 75
    assert seconds >= 0.7
    assert stderr.splitlines() == [
        "SIGTERM: saving, then stopping (deadline 0.7 s)",
        "SIGTERM: not stopped within 0.7 s. process 3 of 4 (thor): training. The "
        "steps since the last checkpoint are lost; the same command goes on from there",
    ]


@pytest.mark.slow
def test_deadline_ends_a_loop_inside_tensorflow():
    status, seconds, stderr = terminated(LONG_GRAPH)
    assert status == 75
    assert seconds >= 0.5
    assert f"machine {socket.gethostname()}" in stderr


def test_deadline_holds_when_nobody_reads_stderr():
    """The main thread hangs in a write to it, and holds its lock."""
    call = "while True: sys.stderr.write('x' * 2**20)"
    status, seconds, _ = terminated(held(call, 0.5, report_seconds=0.2), read=False)
    assert status == 75
    assert seconds >= 0.7


def test_restart_in_time():
    status, _, stderr = terminated(TRAINING)
    assert status == 75
    assert stderr.splitlines() == [  # two threads say them, one after the other
        "SIGTERM: saving, then stopping (deadline 60 s)",
        "stopped at step 7; the same command goes on",
    ]


def test_a_terminal_that_goes_away():
    status, _, stderr = terminated(
        TRAINING,
        sent=signal.SIGHUP,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    assert status == 75
    assert stderr.startswith("SIGHUP: saving, then stopping (deadline 60 s)")


def test_nohup_stays_what_it_is():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Preemption(60) as preemption:
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert not preemption.requested
    finally:
        signal.signal(signal.SIGHUP, old)


def test_forked_children_have_their_own_signals():
    # From Python 3.12 on it warns of a fork beside threads, which is what is tested.
    command = [sys.executable, "-Wignore::DeprecationWarning", "-c", CHILDREN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("-15\nFalse\n-15\n", "")


def test_a_second_signal_changes_nothing(monkeypatch, capsys):
    """The first one's deadline is the only one."""
    deadlines = []

    def noted(seconds):
        deadlines.append(seconds)
        return wait(seconds)

    with Preemption(60) as preemption:
        wait = preemption._is_left.wait
        monkeypatch.setattr(preemption._is_left, "wait", noted)
        assert not preemption.requested
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            assert eventually(lambda: preemption.requested)
        assert eventually(lambda: deadlines)
    assert deadlines == [60]
    assert capsys.readouterr().err.count("SIGTERM") == 1


@pytest.mark.parametrize("is_read", [True, False])
def test_leaving_waits_for_the_line_but_not_for_ever(monkeypatch, is_read):
    said, go_on = [], threading.Event()

    def say(line):
        (context._is_left if is_read else go_on).wait()
        said.append(line)

    monkeypatch.setattr(preemption, "say", say)
    monkeypatch.setattr(preemption, "_REPORT_SECONDS", 60 if is_read else 0.01)
    with Preemption(60) as context:
        signal.raise_signal(signal.SIGTERM)
        assert eventually(lambda: context.requested)
    assert said == ["SIGTERM: saving, then stopping (deadline 60 s)"] * is_read
    go_on.set()


def test_what_was_there_is_restored():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    heard = []
    old_handler = signal.signal(signal.SIGTERM, lambda *_: heard.append("old"))
    old_descriptor = signal.set_wakeup_fd(ours.fileno())
    threads = set(threading.enumerate())
    try:
        with Preemption(60):
            signal.raise_signal(signal.SIGTERM)
        assert heard == []
        signal.raise_signal(signal.SIGTERM)
        assert heard == ["old"]
        assert theirs.recv(10) == bytes([signal.SIGTERM])
    finally:
        assert signal.set_wakeup_fd(old_descriptor) == ours.fileno()
        signal.signal(signal.SIGTERM, old_handler)
        ours.close()
        theirs.close()
    # Those of other tests may end meanwhile.
    assert eventually(lambda: set(threading.enumerate()) <= threads)


def test_another_thread_leaves_signals_alone():
    handler = signal.getsignal(signal.SIGTERM)
    seen = []

    def run():
        with Preemption(60) as preemption:
            seen.extend([signal.getsignal(signal.SIGTERM), preemption.requested])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [handler, False]


def test_ctrl_c_is_not_sigterm():
    with Preemption(60) as preemption, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not preemption.requested  # and the thread that hears signals has ended


def test_system_calls_go_on():
    """As TensorFlow's do, which unlike Python does not try again."""
    reading, writing = os.pipe()
    main = threading.main_thread()
    call = Path(f"/proc/self/task/{main.native_id}/syscall")

    ident = main.ident
    assert ident is not None

    def disturb():
        eventually(lambda: call.read_text().split()[1:2] == [hex(reading)])
        signal.pthread_kill(ident, signal.SIGTERM)
        eventually(lambda: preemption.requested)
        os.write(writing, b"x")

    with Preemption(60) as preemption:
        thread = threading.Thread(target=disturb)
        thread.start()
        count = ctypes.CDLL(None).read(reading, ctypes.create_string_buffer(1), 1)
        thread.join()
    os.close(reading)
    os.close(writing)
    assert count == 1


def test_restart_is_one_line(capsys):
    def stop():
        raise errors.Restart("stopped\nfor a reason")

    assert cli.run_command(stop) == 75
    said = "stopped\\nfor a reason; the same command goes on\n"
    assert capsys.readouterr().err == said


def test_no_callback_of_the_garbage_collector_swallows_an_interrupt(monkeypatch):
    """As jax's would, with which an interrupt comes now and then."""

    def free(*_):
        pass

    free.__module__ = "jax._src.lib"
    monkeypatch.setattr(preemption.gc, "callbacks", [print, free])
    with Preemption(60):
        assert preemption.gc.callbacks == [print]


def test_the_checkpoint_says_that_sigterm_had_it_written():
    """And it comes behind the numbers up to it, which would not come again."""
    controller, parts = Controller.__new__(Controller), mock.Mock()
    for name in ("watchdog", "telemetry", "checkpoints"):
        setattr(controller, f"_{name}", getattr(parts, name))
    with pytest.raises(errors.Restart, match="stopped by SIGTERM at step 7"):
        controller._stop_for_sigterm(7)
    calls = {call[0]: call for call in parts.mock_calls}
    assert [*calls][-3:] == ["telemetry.flush", "checkpoints.save", "telemetry.event"]
    assert calls["checkpoints.save"].kwargs == {"wait": True, "preempted": True}
