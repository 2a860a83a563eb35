"""A bucket that fails: how a run ends, and that it loses nothing.

Whatever happens, the same command ends at the bytes of a run on a disk.
"""

import dataclasses
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from common.errors import Status
from tests.support import processes
from tests.support.bucket import Bucket, serving
from tests.support.fake_gcs import Rule, load
from train.evaluation import SCORES

pytestmark = pytest.mark.slow
RUN = "gs://run/one"
WRITES = "start|upload|insert|rewrite|compose|delete"
BROKEN = ["503", "429", "drop", "truncate", "drop_upload", "done_503"]
DEADLINE = {"experiment.Experiment.preemption_deadline_seconds": 10.0}
# TensorFlow's delays, of 196 s in all, in small: it gives up after 11 to 21 s.
PATIENCE = {
    "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "1000000",
    "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "1000000",
}
TABLE = []


@pytest.fixture(scope="module")
def on_a_disk(digits, tmp_path_factory):
    """The run that all of these have to end as, by the same command."""
    folder = tmp_path_factory.mktemp("on_a_disk")
    processes.run(processes.command(digits, folder, {}))
    return folder


@pytest.fixture(scope="module", autouse=True)
def table():
    """Prints what was met and how it ended."""
    yield
    print("", "fault | ends | requests that failed", *TABLE, sep="\n")


@pytest.fixture
def bucket(digits, tmp_path):
    with serving(tmp_path, "run", log=tmp_path / "log") as served:
        load(served.store, f"data/mnist={digits}")
        yield served


@dataclasses.dataclass
class Life:
    """One process of a run, from its start to its end."""

    status: int
    said: str
    seconds: float  # from `then` to the end

    @property
    def last_line(self) -> str:
        return self.said.splitlines()[-1]


def command(**changes):
    return processes.command("gs://data/mnist", RUN, DEADLINE | changes)


def live(
    bucket: Bucket,
    until: Callable[[], object] = lambda: False,
    then: Callable[[subprocess.Popen], object] = lambda _: None,
    **environment: str,
) -> Life:
    """Run the command; once something holds, do something to it."""
    with bucket.started(command(), **environment) as process:
        met = [time.monotonic()]

        def watch() -> None:
            while process.poll() is None:
                if until():
                    met[0] = time.monotonic()
                    then(process)
                    return
                time.sleep(0.01)

        watching = threading.Thread(target=watch)
        watching.start()
        assert process.stderr is not None
        said = process.stderr.read()
        status = process.wait()
        watching.join()
        return Life(status, said, time.monotonic() - met[0])


def assert_ends_as_on_a_disk(bucket, same_files, folder):
    """What counts is equal bit for bit, and nothing lies about."""
    stored = bucket.store.content("run", "one/")
    found = same_files(stored, folder)
    assert found == {"ckpt-0", "ckpt-4", "ckpt-8", "ckpt-12", "best/ckpt-12"}
    for name in ("summary.json", "best/scores-ckpt-12.json"):
        ours, theirs = json.loads(stored[name]), json.loads((folder / name).read_text())
        assert [ours[key] for key in SCORES] == [theirs[key] for key in SCORES]
    # What a heartbeat has left aside goes when it is an hour old.
    left = {name for name in stored if ".staging-" in name or ".part-" in name}
    assert not {name for name in left if not name.startswith("hosts/")}


def note(bucket, fault, *lives):
    """Add a row to the table."""
    failed = sum(
        number
        for op in bucket.store.stats.values()
        for status, number in op["status"].items()
        if status in ("-1", "429", "503")
    )
    ends = ", then ".join(str(life.status) for life in lives)
    TABLE.append(f"{fault} | {ends}, bit-equal | {failed}")


def test_sixteen_percent_of_all_requests_fail(bucket, on_a_disk, same_files):
    # The tries follow at once, all within the second that an object is limited to.
    bucket.store.writes_per_second = 0.0
    rule: Rule = {"chance": 0.16, "do": BROKEN}
    bucket.store.faults = [rule]
    life = live(bucket)
    assert life.status == 0, life.said
    assert rule.get("done", 0) > 60
    assert_ends_as_on_a_disk(bucket, same_files, on_a_disk)
    note(bucket, "16 % of all requests", life)


# What hangs or creeps when the process is killed; the last is the name of an index.
MOMENTS: dict[str, Rule] = {
    "in the middle of an upload": {
        "op": "upload",
        "name": r"ckpt-4.*data",
        "do": "",
        "bytes_per_second": 5000.0,
    },
    "before the first rename": {"op": "rewrite", "name": r"one/ckpt-8\.\w"},
    "between two renames": {"op": "rewrite", "name": r"one/ckpt-8\.\w", "after": 1},
    "before the last rename": {"op": "rewrite", "name": r"one/ckpt-8\.index"},
    "when an old name goes": {"op": "delete", "name": r"staging.*/ckpt-12\.index"},
    "in the copy of the best": {"op": "rewrite", "name": r"one/best/ckpt-12\.index"},
}


def test_killed_in_the_middle_of_writing(bucket, on_a_disk, same_files):
    """One life after another, each killed elsewhere; the last one ends."""
    lives = []
    for moment, rule in MOMENTS.items():
        met: Rule = {"times": 1, "do": "hang", **rule}
        bucket.store.faults = [met]

        def kill(process):
            time.sleep(0.3)  # some of the bytes are there
            process.kill()

        life = live(bucket, lambda met=met: met.get("done"), kill)
        assert life.status == -signal.SIGKILL, (moment, life.said)
        lives.append(life)
    bucket.store.faults = []
    lives.append(live(bucket))
    assert lives[-1].status == 0, lives[-1].said
    assert_ends_as_on_a_disk(bucket, same_files, on_a_disk)
    note(bucket, "kill -9: " + "; ".join(MOMENTS), *lives)


def test_sigterm_while_uploads_hang(bucket, on_a_disk, same_files):
    """It ends with 75 within its deadline; what was under way is lost, no more."""
    rule: Rule = {"op": "upload", "name": "ckpt-8", "do": "hang"}
    bucket.store.faults = [rule]
    life = live(bucket, lambda: rule.get("done"), lambda process: process.terminate())
    assert life.status == Status.RESTART, life.said
    assert life.seconds < 10.0 + 5.0
    bucket.store.faults = []
    again = live(bucket)
    assert again.status == 0, again.said
    assert "going on at step 4" in again.said
    assert_ends_as_on_a_disk(bucket, same_files, on_a_disk)
    note(bucket, "SIGTERM while uploads hang", life, again)


# After the first requests of a kind nothing of that kind is answered any more.
OUTAGES: dict[str, Rule] = {
    "reads of records": {"op": "read", "name": "mnist/train-", "after": 3},
    "reads of a checkpoint": {"op": "read", "name": "ckpt-4"},
    "reads of what is scored": {"op": "read", "name": "mnist/validation-"},
    "writes": {"op": WRITES, "after": 40},
    "uploads": {"op": "upload", "name": "ckpt-8"},
    "renames": {"op": "rewrite", "name": "ckpt-8"},
    "deletes": {"op": "delete", "after": 6},
    "lists": {"op": "list", "after": 100},
    "looks": {"op": "stat", "after": 100},
    "everything": {"after": 300},
}


@pytest.mark.parametrize("what", OUTAGES)
def test_an_outage_that_outlasts_the_retries(bucket, on_a_disk, same_files, what):
    """75 and one line that names the bucket; once it is over, the same command ends."""
    bucket.store.faults = [{"do": "503", **OUTAGES[what]}]
    life = live(bucket)
    assert life.status == Status.RESTART, life.said
    assert "Traceback" not in life.said
    assert "gs://" in life.last_line
    assert "free some space" not in life.said
    bucket.store.faults = []
    again = live(bucket)
    assert again.status == 0, again.said
    assert_ends_as_on_a_disk(bucket, same_files, on_a_disk)
    note(bucket, f"outage of {what}", life, again)


@pytest.mark.parametrize("what", ["reads of records", "writes", "everything"])
def test_an_outage_that_the_retries_outlast(bucket, on_a_disk, same_files, what):
    """Five minutes of Google's in small: five seconds, of a patience of ten."""
    rule: Rule = {"do": "503", **OUTAGES[what]}
    bucket.store.faults = [rule]

    def wait_and_mend(_):
        time.sleep(5)
        bucket.store.faults = []

    life = live(bucket, lambda: rule.get("done"), wait_and_mend, **PATIENCE)
    assert life.status == 0, life.said
    assert rule.get("done", 0) > 1
    assert_ends_as_on_a_disk(bucket, same_files, on_a_disk)
    note(bucket, f"a short outage of {what}", life)


def test_the_token_is_lost(bucket, on_a_disk, same_files):
    """TensorFlow asks for none again once it got none: the next process does."""
    del bucket.environment["GOOGLE_AUTH_TOKEN_FOR_TESTING"]
    bucket.store.tokens.seconds = 61.0  # it asks for the next one a minute before
    lost: Rule = {"op": "token", "do": "503", "after": 1}
    bucket.store.faults = [lost]
    life = live(
        bucket, lambda: lost.get("done", 0) > 10, lambda _: bucket.store.faults.clear()
    )
    assert life.status == Status.RESTART, life.said
    assert "Traceback" not in life.said
    again = live(bucket)
    assert again.status == 0, again.said
    assert_ends_as_on_a_disk(bucket, same_files, on_a_disk)
    note(bucket, "the token is lost", life, again)
