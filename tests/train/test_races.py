"""Trainers that race for one folder, and what kills, stops and clocks do to them.

Whatever happens, one at a time writes: the run that is left equals one that nobody has
disturbed, bit for bit, scores and best checkpoint, too.
"""

import collections
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.support import processes, racing_trainer
from tests.support.folders import content
from tests.support.watched_bucket import assert_one_after_the_other, watched_bucket

STALE = 3.0
FAULTS = ["503", "drop", "done_503", "429", "truncate"]
RUNS = "runs"


class Trainers:
    """Processes that train, each by its number."""

    pace = 1.0

    def __init__(self, started, log):
        self._started, self._log = started, log
        self.killed, self.ended, self.alive = set(), {}, []

    def _ask(self, line):
        self._started.stdin.write(line + "\n")
        self._started.stdin.flush()
        return self._started.stdout.readline().rstrip("\n")

    def start(self, folder, seed):
        self.alive.append(int(self._ask(f"train {folder} {seed} {self._log}")))

    def look(self, folder):
        return json.loads(self._ask(f"look {folder}"))

    def send(self, pid, sent):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
            if sent == signal.SIGKILL:
                self.killed.add(pid)

    def reap(self):
        """Note the statuses of those that have ended."""
        for pid in [*self.alive]:
            if (status := self._ask(f"status {pid}")) != RUNS:
                self.alive.remove(pid)
                self.ended[pid] = int(status)

    def wait(self, seconds=240):
        until = time.monotonic() + seconds
        while self.alive:
            assert time.monotonic() < until, "they do not end"
            self.reap()
            time.sleep(0.05)


@contextlib.contextmanager
def trainers(tmp_path, environment=None):
    variables = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | (environment or {})
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.racing_trainer", str(STALE)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as started,
    ):
        found = Trainers(started, tmp_path / "log")
        try:
            yield found
        finally:
            for pid in found.alive:
                found.send(pid, signal.SIGCONT)
                found.send(pid, signal.SIGKILL)
            started.kill()


def disturb(dice, racing, folder, store):
    """Kill, stop and start trainers; let the storage's clock jump."""
    pace = racing.pace
    stopped = {}
    for number in range(dice.randint(4, 9)):
        time.sleep(pace * dice.uniform(0, 0.8))
        racing.reap()
        for pid in [pid for pid, until in stopped.items() if time.monotonic() > until]:
            racing.send(pid, signal.SIGCONT)
            del stopped[pid]
        what = dice.choice(["kill", "stop", "stop", "start", "clock"])
        if what == "clock" and store is not None:
            store.clock_skew += dice.choice([-50.0, 100.0])
        elif what == "start" or not racing.alive:
            racing.start(folder, number + 10)
        elif what == "kill":
            racing.send(dice.choice(racing.alive), signal.SIGKILL)
        else:
            pid = dice.choice(racing.alive)
            racing.send(pid, signal.SIGSTOP)
            stopped[pid] = time.monotonic() + dice.uniform(0.1, 2 * STALE)
    time.sleep(max([0.0, *(until - time.monotonic() for until in stopped.values())]))
    for pid in stopped:
        racing.send(pid, signal.SIGCONT)


def race(number, racing, folder, store=None):
    """Let trainers race; return how each has ended."""
    dice = random.Random(number)
    racing.ended = {}
    for seed in range(dice.randint(2, 3)):
        racing.start(folder, seed)
    disturb(dice, racing, folder, store)
    racing.wait()
    for _ in range(5):  # the supervisor's
        if 0 in racing.ended.values():
            break
        racing.start(folder, 99)
        racing.wait()
    ends = collections.Counter(racing.ended.values())
    assert ends.keys() <= {0, 2, 75, -signal.SIGKILL}, ends
    return ends


def race_to_the_end(number, racing, folder, store=None):
    """Let small trainers race; what is left is what one alone leaves."""
    ends = race(number, racing, folder, store)
    found = racing.look(folder)
    assert found == racing_trainer.undisturbed(found["seeds"][0])
    return ends


def assert_only_refusals(said):
    """Of what ended with 2, and of all else, each line is one of the lease's."""
    ours = re.compile(
        r"error: .* is held by .*, or name another folder"
        r"|.* is held by .* Waiting for another one; .*"
        r"|.*; the same command goes on|warning: .*"
    )
    assert [line for line in said.splitlines() if not ours.fullmatch(line)] == []


def races_on_a_disk(tmp_path, numbers):
    ends = collections.Counter()
    with trainers(tmp_path) as racing:
        for number in numbers:
            ends += race_to_the_end(number, racing, tmp_path / f"run{number}")
        assert_never_two_inside(tmp_path / "log", racing.killed)
    assert_only_refusals((tmp_path / "said").read_text())
    return ends


def assert_never_two_inside(log, killed):
    inside = set()
    for line in log.read_text().splitlines():
        pid, what = line.split()
        if what == "in":
            assert {one for one in inside if one not in killed} == set()
            inside = {int(pid)}
        else:
            inside.discard(int(pid))


def races_in_a_bucket(tmp_path, numbers):
    ends = collections.Counter()
    with watched_bucket(tmp_path) as (store, watched, environment):
        with trainers(tmp_path, environment) as racing:
            for number in numbers:
                store.clock_skew = random.Random(number).uniform(-1e6, 1e6)
                store.faults = [{"do": FAULTS, "chance": 0.03}]
                folder = f"gs://bucket/run{number}"
                ends += race_to_the_end(number, racing, folder, store)
                store.faults = []
        for changes in watched.changes.values():
            assert_one_after_the_other(changes)
    assert_only_refusals((tmp_path / "said").read_text())
    return ends


@pytest.mark.long
def test_races_on_a_disk(tmp_path):
    ends = races_on_a_disk(tmp_path, [3])
    assert ends[0] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(10))
def test_a_hundred_races_on_a_disk(tmp_path, tens):
    print(dict(races_on_a_disk(tmp_path, range(10 * tens, 10 * tens + 10))))


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(10))
def test_a_hundred_races_in_a_bucket(tmp_path, tens):
    print(dict(races_in_a_bucket(tmp_path, range(10 * tens, 10 * tens + 10))))


REAL = f"""
import sys
from common import cli
from common.claims import holder
holder.STALE_SECONDS, holder.RENEW_SECONDS = {STALE}, {STALE / 5}
from train import main
cli.leave(main.main(sys.argv[1:]))
"""


class Commands(Trainers):
    """The same of `train.main`."""

    pace = 8.0

    def __init__(self, digits, tmp_path, environment):
        super().__init__(None, None)
        self._digits, self._environment = digits, os.environ | environment
        self._said = (tmp_path / "said").open("w")
        self._processes = {}

    def start(self, folder, seed):
        del seed  # one that began with another is refused
        _, _, _, *flags = processes.command(self._digits, folder, {})
        process = subprocess.Popen(
            [sys.executable, "-c", REAL, *flags],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )
        self._processes[process.pid] = process
        self.alive.append(process.pid)

    def reap(self):
        for pid in [*self.alive]:
            if (status := self._processes[pid].poll()) is not None:
                self.alive.remove(pid)
                self.ended[pid] = status

    def close(self):
        self._said.close()
        for process in self._processes.values():
            process.kill()
            process.wait()


def of_a_run(files):
    """What has to be equal, bit for bit: tensors and scores."""
    scores = {
        name: {key: one for key, one in json.loads(text).items() if "top" in key}
        for name, text in files.items()
        if re.fullmatch(r"(best/scores-ckpt-\d+|summary)\.json", name)
    }
    lines = map(json.loads, files["eval.jsonl"].splitlines())
    return scores | {
        "evaluations": [(line["step"], line["ema_top1"]) for line in lines],
        **{name: one for name, one in files.items() if ".data-" in name},
    }


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    """What one leaves that trains alone, by the same command."""
    folder = tmp_path_factory.mktemp("undisturbed")
    racing = Commands(digits, folder, {})
    try:
        racing.start(folder / "run", 0)
        racing.wait()
    finally:
        racing.close()
    assert [*racing.ended.values()] == [0]
    return of_a_run(content(folder / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("storage", ["disk", "bucket"])
def test_races_of_real_trainers(digits, undisturbed, tmp_path, storage, number):
    with watched_bucket(tmp_path) as (store, watched, environment):
        racing = Commands(digits, tmp_path, environment)
        try:
            folder = tmp_path / "run"
            if storage == "disk":
                ends = race(number, racing, folder)
                found = content(folder)
            else:
                store.faults = [{"do": FAULTS, "chance": 0.03}]
                ends = race(number, racing, "gs://bucket/run", store)
                found = store.content("bucket", "run/")
                assert_one_after_the_other(watched.changes["run"])
        finally:
            racing.close()
    print(storage, number, dict(ends))
    assert of_a_run(found) == undisturbed
