"""A trainer whose request waits until another has taken over changes nothing.

Once for each request that changes something of one that commits a checkpoint, keeps it
as the best, deletes older ones and writes a summary: the request is on its way, another
process takes the folder over, and only then it is done. That is more than a process
that was stopped anywhere: what it had sent is done late, too.
"""

import contextlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.bucket import serving

STAGED = (".staging-", ".part-", ".claim.json")
CHANGES = ("rewrite", "delete", "insert", "start", "upload")


class Writer:
    """A process of `tests.support.late_writer`."""

    def __init__(self, process):
        self._process = process

    def send(self, what, folder, seed=0):
        self._process.stdin.write(f"{what} {folder} {seed}\n")
        self._process.stdin.flush()

    def answer(self):
        return self._process.stdout.readline().rstrip("\n")

    def ask(self, *command):
        self.send(*command)
        return self.answer()


class Waits:
    """Lets the n-th request that changes something wait for something else."""

    def __init__(self, store):
        self._fault = store.fault
        self.of(math.inf, print)
        store.fault = self._meet

    def of(self, number: float, meanwhile: Callable[[], object]):
        self._left, self._meanwhile, self.at = number, meanwhile, ""

    def _meet(self, op, name):
        self._left -= op in CHANGES
        if self._left == -1 and not self.at:
            self.at = f"{op} {name.partition('/')[2]}"
            self._meanwhile()
        return self._fault(op, name)


@contextlib.contextmanager
def writers(bucket, count=2):
    environment = os.environ | bucket.environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"GCS_REQUEST_IDLE_TIMEOUT_SECS": "600"}  # of what waits
    with contextlib.ExitStack() as stack:
        yield [Writer(stack.enter_context(process(environment))) for _ in range(count)]


@contextlib.contextmanager
def process(environment):
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.late_writer"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def named(store, folder):
    """What has its name in the folder, and what it is.

    What has no index any more is no checkpoint: the rest of it, and its scores, may go.
    """
    content = store.content("bucket", folder)
    return {
        name: data
        for name, data in content.items()
        if not any(one in name for one in STAGED) and index_of(name) in (None, *content)
    }


def index_of(name):
    """The index without which a file is of no use, if there is one."""
    found = re.fullmatch(r"(.*/|)(?:scores-)?(ckpt-\d+)\..+", name)
    return found and f"{found[1]}{found[2]}.index"


def race(bucket, waits, one, other, number, *, writes):
    """Let the n-th request wait; return what it was, None where there are fewer."""
    store, name = bucket.store, f"{number}-{writes}"
    folder, after, answers = f"gs://bucket/{name}", {}, []
    assert one.ask("take", folder) == one.ask("begin", folder, 1) == "done"

    def meanwhile():
        store.clock_skew += 1000
        answers.append(other.ask("take", folder))
        if writes:
            answers.append(other.ask("train", folder, 3))
        after.update(named(store, name))

    waits.of(number, meanwhile)
    end = one.ask("train", folder, 2)
    at = waits.at
    waits.of(math.inf, print)
    one.ask("leave", folder)
    now = named(store, name)
    assert other.ask("faults", folder) == "none", at
    other.ask("leave", folder)
    store.buckets["bucket"].clear()
    assert {*answers} <= {"done"}, (at, answers)
    if not at:
        assert end == "done"
        return None
    # The last request of all that is not asked for once more.
    assert end == "done" or end.split(":")[0] in ("Held", "Restart"), (at, end)
    changed = {n for n in after.keys() | now.keys() if after.get(n) != now.get(n)}
    assert not changed, (changed, at, end)
    return at, end


@pytest.mark.slow
@pytest.mark.parametrize("writes", [False, True])
def test_a_late_writer_changes_nothing(tmp_path, writes):
    seen = []
    with serving(tmp_path, "bucket", writes_per_second=0) as bucket:
        waits = Waits(bucket.store)
        with writers(bucket) as (one, other):
            while at := race(bucket, waits, one, other, len(seen), writes=writes):
                seen.append(at)
                print(json.dumps(at), flush=True)
    # Each rename and each deletion was among them.
    waited = {at for at, _ in seen}
    assert {at for at in waited if at.startswith("delete")} >= {"delete ckpt-20.index"}
    assert len(seen) > 40
