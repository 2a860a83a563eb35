"""A folder of a bucket has one writer: whatever clocks, answers and processes do."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from common import claims, gcs
from common.claims import Held, Unwritable, bucket, holder
from common.errors import Restart, Status, UserError
from tests.support.holding import holding_process
from tests.support.own_bucket import own_bucket

FOLDER = "gs://bucket/run"
PATH = f"{FOLDER}/{claims.NAME}"


@pytest.fixture
def store(tmp_path):
    with own_bucket(tmp_path, writes_per_second=0) as store:
        yield store


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(holder, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(bucket, "_POLL_SECONDS", 0.05)


@contextlib.contextmanager
def held(purpose="a training"):
    with claims.hold(FOLDER, purpose) as claim:
        assert isinstance(claim, bucket.Object)
        yield claim


def written():
    return json.loads(gcs.read(PATH) or "null")


def put(store, data, age=0.0):
    """Somebody else's words, written so many seconds ago by the storage's clock."""
    store.clock_skew -= age
    found = gcs.look(PATH)
    gcs.write(PATH, data, found.generation if found else 0)
    store.clock_skew += age


def another_machines(**changes):
    other = {
        "token": "theirs",
        "purpose": "a training",
        "host": os.uname().nodename,  # there are two of this name
        "pid": os.getpid(),
        "boot": "another kernel's 7",
        "since": 0.0,
    }
    return json.dumps(other | changes).encode()


def test_says_who_holds_a_folder_and_leaves_it_clean(store):
    with held() as claim:
        claim.check()
        found = written()
        assert (found["purpose"], found["pid"]) == ("a training", os.getpid())
        assert found["host"] == os.uname().nodename
    assert store.buckets["bucket"] == {}


def test_refuses_a_second_writer(store):
    with holding_process(FOLDER) as process:
        with pytest.raises(Held) as refused, claims.hold(FOLDER, "another"):
            pass
        said = str(refused.value)
        assert said.startswith(f"{FOLDER} is held by a training: process {process.pid}")
        assert f"killed, it leaves it 90 s later, or once {PATH} is deleted" in said
        assert written()["pid"] == process.pid  # untouched
        assert process.communicate(input="")[0] == "left\n"
    with claims.hold(FOLDER, "another") as claim:
        claim.check()


def test_the_dead_of_this_machine_hold_nothing(store):
    with holding_process(FOLDER) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert written()["pid"] == process.pid  # nobody has tidied up
        with claims.hold(FOLDER, "the next"):
            assert written()["purpose"] == "the next"


def test_a_number_that_another_process_has_by_now_holds_nothing(store):
    """As that of the first process of a container, which always has the number 1."""
    mine = bucket._boot()
    machine, _, started = mine.rpartition(" ")
    put(store, another_machines(boot=f"{machine} {int(started) + 1}"))
    with held("the next") as claim:
        claim.check()


def test_a_container_of_this_machine_may_be_alive(store):
    """Its numbers are not ours: it is asked for a sign, as another machine is."""
    boot, _, started = bucket._boot().partition(" pid:")
    put(store, another_machines(boot=f"{boot} pid:[1] {started}"), age=30)
    with gives_a_sign(store) as said, pytest.raises(Held):
        claims.hold(FOLDER, "the next").__enter__()
    assert len(said) == 1


@contextlib.contextmanager
def gives_a_sign(store):
    """The other machine's process does, once this one has said that it waits."""
    said = []

    def say(line):
        said.append(line)
        put(store, another_machines())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holder, "say", say)
        yield said


def test_another_machine_that_gives_a_sign_lives(store):
    put(store, another_machines(), age=30)
    with gives_a_sign(store) as said, pytest.raises(Held, match=FOLDER):
        claims.hold(FOLDER, "the next").__enter__()
    assert len(said) == 1
    assert "its last sign of life is 30 s old" in said[0].replace("29", "30")
    assert written()["token"] == "theirs"


@pytest.mark.parametrize("skew", [-1e6, 0.0, 1e6])
def test_another_machine_that_is_silent_counts_as_dead(store, skew, capsys):
    """By the storage's clock alone, whatever that of this machine says."""
    store.clock_skew = skew
    put(store, another_machines(since=skew), age=holder.STALE_SECONDS + 1)
    with held("the next") as claim:
        claim.check()
    assert capsys.readouterr().err == ""


@pytest.mark.long
def test_another_machine_is_waited_for_until_it_counts_as_dead(
    store, capsys, monkeypatch
):
    monkeypatch.setattr(holder, "STALE_SECONDS", 3.0)
    put(store, another_machines(), age=1)
    with claims.hold(FOLDER, "the next"):
        assert written()["purpose"] == "the next"
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{FOLDER} is held by a training: process ")
    assert "without, it counts as dead after 3 s" in said


def test_a_clock_that_is_set_back_is_waited_out(store, monkeypatch):
    monkeypatch.setattr(holder, "STALE_SECONDS", 0.5)
    put(store, another_machines())
    store.clock_skew = -1e6
    with held("the next") as claim:
        claim.check()


def test_a_stopped_process_loses_its_lease(store):
    """It wakes up after another has taken over, on this machine or elsewhere."""
    with held() as first:
        store.clock_skew += holder.STALE_SECONDS + 5
        with held("the next") as second:
            second.check()
            with pytest.raises(Held, match="is held by the next: process"):
                first.check()
        with pytest.raises(Restart, match="whose the folder is now: it is gone"):
            first.check()  # the next has left: what it wrote is to be read
    assert store.buckets["bucket"] == {}


def test_the_one_that_was_taken_for_dead_leaves_the_next_alone(store):
    with contextlib.ExitStack() as second:
        with held() as first:
            store.clock_skew += holder.STALE_SECONDS + 5
            second.enter_context(claims.hold(FOLDER, "the next"))
            first.renew()
            assert written()["purpose"] == "the next"
        assert written()["purpose"] == "the next"


def test_gives_signs_of_life(store, monkeypatch):
    monkeypatch.setattr(holder, "RENEW_SECONDS", 0.05)
    with held() as claim:
        seen, until = set(), time.monotonic() + 60
        while len(seen) <= 3 and time.monotonic() < until:
            if found := slowly_looked_at():
                seen.add(found.generation)
        claim.check()
    assert len(seen) > 3
    assert store.buckets["bucket"] == {}


def slowly_looked_at():
    time.sleep(0.02)
    return gcs.look(PATH)


def test_a_folder_that_nobody_else_took_is_kept_through_an_outage(store):
    with held() as claim:
        store.faults = [{"do": "503"}]
        with pytest.raises(Restart, match="cannot be reached now: 503"):
            claim.check()
        with pytest.raises(Restart):
            claim.renew()
        store.faults = []
        store.clock_skew += 1e4  # nobody has come meanwhile
        claim.check()
        claim.renew()
        claim.check()
    assert store.buckets["bucket"] == {}


def test_who_may_not_look_any_more_cannot_tell(store):
    with held() as claim:
        store.roles["bucket"] = {"objects.list"}
        with pytest.raises(Restart, match=r"whose the folder is now: .*403"):
            claim.check()
        store.roles.clear()
        claim.check()


@pytest.mark.parametrize("op", ["insert", "delete", "stat", "read"])
def test_an_answer_that_got_lost(store, op):
    """It was done: the second try finds itself there."""
    store.faults = [{"op": op, "do": "done_503", "times": 1}]
    with held() as claim:
        claim.check()
        store.faults = [{"op": "insert", "do": "done_503", "times": 1}]
        claim.renew()
        claim.check()
        claim.renew()
        store.faults = [{"op": "insert", "do": "done_503", "times": 1}]
        claim.renew()
        store.faults = [{"op": "delete", "do": "done_503", "times": 1}]
    assert store.buckets["bucket"] == {}


def test_a_last_sign_that_was_not_answered(store):
    """The generation is one that this process has not heard of."""
    with held() as claim:
        lost = {"op": "insert", "do": "done_503", "times": 1}
        store.faults = [lost, {"op": "stat", "do": "503"}]
        with pytest.raises(Restart):
            claim.renew()
        claim.check()
        store.faults = []
    assert store.buckets["bucket"] == {}


@pytest.mark.long
def test_too_many_writes(store):
    store.writes_per_second = 1.0
    with held() as claim:
        claim.renew()
        claim.renew()
        claim.check()


@pytest.mark.parametrize("right", ["create", "delete"])
def test_what_is_not_allowed_is_told(store, right):
    put(store, another_machines(), age=1000)
    store.roles["bucket"] = {
        f"objects.{one}" for one in ("get", "list", "create", "delete") if one != right
    }
    told = rf"^cannot write {PATH}: 403: .*storage\.objects\.{right}.*roles/storage"
    with pytest.raises(Unwritable, match=told), claims.hold(FOLDER, "a run"):
        pass


@pytest.mark.parametrize("text", [b"", b'{"token": "', b'{"token": "7'])
def test_half_a_claim_holds_nothing(store, text):
    put(store, text)
    with held() as claim:
        claim.check()


@pytest.mark.parametrize("text", [b"thesis", b"[1]", b"\xff\0"])
def test_what_is_no_claim_stays(store, text):
    put(store, text)
    told = r"/\.claim\.json is no file of this project: move it elsewhere, or"
    with pytest.raises(UserError, match=told), claims.hold(FOLDER, "a run"):
        pass
    assert gcs.read(PATH) == text


WAIT = """
import sys
from common import claims, cli
def run():
    with claims.hold(sys.argv[1], "a training"):
        print("held")
sys.exit(cli.run_command(run))
"""


@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGTERM, Status.RESTART), (signal.SIGINT, Status.INTERRUPTED)],
)
def test_a_signal_ends_the_waiting(store, sent, status):
    put(store, another_machines())
    command = [sys.executable, "-c", WAIT, FOLDER]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr
        assert "is held by a training" in process.stderr.readline()
        process.send_signal(sent)
        output, said = process.communicate()
    assert (process.returncode, output) == (status, "")
    assert len(said.splitlines()) == 1
    assert written()["token"] == "theirs"


@pytest.mark.long
def test_races(store):
    """Of those that want a folder at once one has it, through faults and all."""
    inside, entered = [0], [0]
    store.faults = [
        {"do": ["503", "drop", "done_503", "429"], "chance": 0.05, "name": "claim"}
    ]

    def race():
        for _ in range(10):
            with contextlib.suppress(Held), claims.hold(FOLDER, "a race") as claim:
                claim.check()
                inside[0] += 1
                assert inside[0] == 1
                entered[0] += 1
                time.sleep(0.002)
                inside[0] -= 1

    failures = []

    def thread():
        try:
            race()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert 0 < entered[0] <= 40
    assert store.buckets["bucket"] == {}
