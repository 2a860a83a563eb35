import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from common import errors
from train.fault_tolerance.preemption import Preemption

# A call of a second's many, in C, that no signal interrupts.
LONG_CALL = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 200_000_000)"
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
import time
from common.errors import Restart, reported
from train.fault_tolerance.preemption import Preemption

with reported(), Preemption(60) as preemption:
    print("ready", flush=True)
    while not preemption.requested:
        time.sleep(0.01)
    assert 59 < preemption.seconds_left <= 60
    raise Restart("stopped at step 7")
"""
CHILDREN = """
import os, signal, time
from train.fault_tolerance.preemption import Preemption

def fork():
    return os.fork() or time.sleep(60)

def end(child):
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

with Preemption(60) as preemption:
    children = [fork(), fork()]
    time.sleep(0.3)  # they are asleep
    print(end(children.pop()), preemption.requested)
print(end(children.pop()))  # leaving did not wait for it
"""


def held(call, deadline, report_seconds=2.0):
    """A program that makes a call, and has to be got out of it."""
    return f"""
import sys
from train import preemption

preemption._REPORT_SECONDS = {report_seconds}
with preemption.Preemption({deadline}, lambda: "host 3 of 4 (thor): training"):
    print("ready", flush=True)
    {call}
"""


def terminated(program, read=True):
    """Sends SIGTERM to a program that is ready; returns status, seconds and stderr."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)  # it is in its call
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(30)
        finally:
            process.kill()
        return status, time.monotonic() - begin, process.stderr.read() if read else ""


def eventually(condition):
    """Waits for the thread that hears signals."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_deadline_ends_a_call_that_does_not_return():
    status, seconds, stderr = terminated(held(LONG_CALL, 0.7))
    assert status == errors.Status.RESTART == 75
    assert 0.7 <= seconds < 2.5
    assert stderr.splitlines() == [
        "SIGTERM: saving, then stopping (deadline 0.7 s)",
        "SIGTERM: not stopped within 0.7 s. host 3 of 4 (thor): training. The steps "
        "since the last checkpoint are lost; the same command goes on from there",
    ]


@pytest.mark.slow
def test_deadline_ends_a_loop_inside_tensorflow():
    status, seconds, stderr = terminated(LONG_GRAPH)
    assert status == 75
    assert 0.5 <= seconds < 2.5
    assert f"host {socket.gethostname()}" in stderr


def test_deadline_holds_when_nobody_reads_stderr():
    """The main thread hangs in a write to it, and holds its lock."""
    call = "while True: sys.stderr.write('x' * 2**20)"
    status, seconds, _ = terminated(held(call, 0.5, report_seconds=0.2), read=False)
    assert status == 75
    assert 0.7 <= seconds < 2.5


def test_restart_in_time():
    status, seconds, stderr = terminated(TRAINING)
    assert status == 75
    assert seconds < 5
    assert sorted(stderr.splitlines()) == [  # two threads say them
        "SIGTERM: saving, then stopping (deadline 60 s)",
        "stopped at step 7; the same command goes on",
    ]


def test_forked_children_have_their_own_signals():
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("-15 False\n-15\n", "")


def test_a_second_signal_changes_nothing(capsys):
    with Preemption(60) as preemption:
        assert not preemption.requested
        assert preemption.seconds_left == math.inf
        signal.raise_signal(signal.SIGTERM)
        assert eventually(lambda: preemption.requested)
        time.sleep(0.1)
        left = preemption.seconds_left
        assert 50 < left <= 59.9
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert preemption.seconds_left <= left - 0.1
    assert capsys.readouterr().err.count("SIGTERM") == 1


def test_what_was_there_is_restored():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    heard = []
    old_handler = signal.signal(signal.SIGTERM, lambda *_: heard.append("old"))
    old_descriptor = signal.set_wakeup_fd(ours.fileno())
    threads = threading.active_count()
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
    assert eventually(lambda: threading.active_count() == threads)


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
    with Preemption(60) as preemption:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.1)
        assert not preemption.requested


def test_system_calls_go_on():
    """As TensorFlow's do, which unlike Python does not try again."""
    reading, writing = os.pipe()
    main = threading.main_thread().ident
    assert main is not None

    def disturb():
        time.sleep(0.1)
        signal.pthread_kill(main, signal.SIGTERM)
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
    with pytest.raises(SystemExit) as exit, errors.reported():
        raise errors.Restart("stopped\nfor a reason")
    assert exit.value.code == 75
    assert capsys.readouterr().err == "stopped; the same command goes on\n"
