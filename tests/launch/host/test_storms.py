"""Hosts of a job, and what kills, stops, engines and a bucket do to them.

Whatever happens, one client at a time writes, no run is lost, and the end is that of a
run which nobody has disturbed.
"""

import collections
import json
import random
import signal
import time

import pytest

from tests.support import quick_host, slices, storm_steps
from tests.support.slices import Slice, send
from tests.support.watched_bucket import assert_one_after_the_other, watched_bucket

SECONDS = 150  # in which a storm, and what follows it, has to be over
FINAL = {0, 1, 2, 130}
AWAY = [{"do": "503"}]
# What the slice does that the engine believes gone.
REPLACED = ["freeze", "hang", "leave"]
FLAKY = [{"do": ["503", "drop", "done_503", "429", "truncate"], "chance": 0.03}]


class Engine:
    """Starts hosts again, as SkyPilot (all) or Kubernetes in place (each) does."""

    def __init__(self, job, environment, said, *, all_at_once):
        environment = environment | {"CLIENT": slices.STORM_CLIENT}
        self._make = lambda name: Slice(job, environment, said, machine=name)
        self._all_at_once = all_at_once
        self.slice, self.left, self.ends = self._make("slice-0"), [], []
        self.restarts = 0

    def look(self):
        """See who has ended; return the status of all once all have ended for good."""
        found = {n: process.poll() for n, process in self.slice.hosts.items()}
        again = [n for n, one in found.items() if one is not None and one not in FINAL]
        self.ends += [found[n] for n in again]
        if again and self._all_at_once:
            self.slice.kill()
            again = [n for n, one in found.items() if one not in FINAL]
        for number in again:
            self.restarts += 1
            self.slice.start(number)
        ended = {*found.values()}
        return ended if ended <= FINAL else None

    def replace(self, how):
        """Give up a slice that only seems to be gone, and take another."""
        if how == "freeze":
            self.slice.send(signal.SIGSTOP)
        elif how == "hang":  # its client goes on
            for process in self.slice.hosts.values():
                send(process.pid, signal.SIGSTOP)
        self.left.append(self.slice)
        self.slice = self._make(f"slice-{len(self.left)}")

    def close(self):
        for machines in (*self.left, self.slice):
            machines.send(signal.SIGCONT)
            machines.kill()


def disturb(dice, engine, store):
    """Let one thing happen; return what, and how it passes."""
    what = dice.choice(
        ["client", "worker", "host", "stop", "stop", "away", "sigterm", *REPLACED]
    )
    number = dice.randrange(len(engine.slice.hosts))
    host, *below = engine.slice.pids(number)
    if what in ("client", "worker"):
        numbers = [0] if what == "client" else [number]
        pids = [pid for n in numbers for pid in engine.slice.pids(n)[1:]]
        if pids:
            send(pids[-1] if what == "client" else pids[0], signal.SIGKILL)
    elif what == "host":
        send(host, signal.SIGKILL)
    elif what == "sigterm":
        send(host, signal.SIGTERM)
    elif what == "stop":
        stopped = [dice.choice([host, *below])]
        for pid in stopped:
            send(pid, signal.SIGSTOP)
        return what, lambda: [send(pid, signal.SIGCONT) for pid in stopped]
    elif what == "away":
        store.faults = AWAY
        return what, lambda: setattr(store, "faults", FLAKY)
    elif not engine.left:
        engine.replace(what)
        left = engine.left[-1]
        return what, lambda: left.send(signal.SIGCONT)
    else:
        what = "nothing"
    return what, lambda: None


def weather(seed, store, engine):
    """Disturb a job until it ends; return what has happened."""
    dice, happened, pending = random.Random(seed), collections.Counter(), []
    store.faults = FLAKY
    until = time.monotonic() + SECONDS
    left, next_at = dice.randint(3, 7), time.monotonic() + dice.uniform(0, 3)
    while True:
        now = time.monotonic()
        assert now < until, "it does not end"
        for at, undo in [one for one in pending if one[0] <= now]:
            undo()
            pending.remove((at, undo))
        if (ended := engine.look()) is not None and not pending:
            return ended, happened
        if left and now >= next_at:
            what, undo = disturb(dice, engine, store)
            happened[what] += 1
            pending.append((now + dice.uniform(0.1, 2 * quick_host.STALE), undo))
            left, next_at = left - 1, now + dice.uniform(0, 2)
        time.sleep(0.05)


def storm_over(seed, tmp_path):
    dice = random.Random(-1 - seed)
    job = slices.job(hosts=dice.randint(1, 3), restarts_without_progress=1000)
    with (
        watched_bucket(tmp_path) as (store, watched, environment),
        (tmp_path / "said").open("w") as said,
    ):
        began = time.monotonic()
        engine = Engine(job, environment, said, all_at_once=dice.random() < 0.5)
        try:
            ended, happened = weather(seed, store, engine)
        finally:
            store.faults = []
            engine.close()
        seconds = time.monotonic() - began
        content = store.content("bucket", "run/")
    assert ended == {0}
    assert content[f"ckpt-{storm_steps.LAST}.data-00000-of-00001"] == (
        storm_steps.undisturbed()
    )
    assert_one_after_the_other(watched.changes["run"])
    text = (tmp_path / "said").read_text()
    assert "has had another client" not in text
    assert "Traceback" not in text
    lives = json.loads(content["launch/job.json"])["life"]
    ends = dict(collections.Counter(engine.ends))
    print(
        f"seed {seed}: {job.hosts} hosts, {dict(happened)}, {lives} lives, "
        f"{engine.restarts} restarts {ends}, {seconds:.0f} s"
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "how", [pytest.param("freeze", marks=pytest.mark.slow), "hang"]
)
def test_the_client_of_a_slice_given_up_never_writes_beside_another(tmp_path, how):
    """A storm seldom lets both live for so long that both would, were there no claim.

    Of one that was frozen the generations of what it writes are a second guard.
    """
    job = slices.job(hosts=1, restarts_without_progress=1000)
    with (
        watched_bucket(tmp_path) as (_, watched, environment),
        (tmp_path / "said").open("w") as said,
    ):
        engine = Engine(job, environment | {"STEP": "0.3"}, said, all_at_once=True)
        changes = watched.changes["run"]

        def await_changes(more):
            until, before = time.monotonic() + SECONDS, len(changes)
            while len(changes) <= before + more:
                assert time.monotonic() < until, (tmp_path / "said").read_text()
                time.sleep(0.02)

        try:
            await_changes(0)
            engine.replace(how)
            await_changes(4)  # more than what was under way
            _, *below = engine.left[0].pids(0)
            for pid in below:  # while nobody is there who would end them
                send(pid, signal.SIGCONT)
            until = time.monotonic() + SECONDS
            while slices.is_running(below[-1]):
                assert time.monotonic() < until
                time.sleep(0.05)
            engine.left[0].send(signal.SIGCONT)
            while not (ended := engine.look()):
                assert time.monotonic() < until, (tmp_path / "said").read_text()
                time.sleep(0.05)
            assert ended == {0}
            assert engine.left[0].statuses(SECONDS) <= {0, 75}
        finally:
            engine.close()
    assert_one_after_the_other(changes)


@pytest.mark.slow
def test_a_storm(tmp_path):
    storm_over(0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_two_hundred_storms(tmp_path, seed):
    storm_over(seed, tmp_path)
