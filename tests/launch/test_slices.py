"""Runs on workers that stand for the hosts of a slice, and what may befall them.

Images are made up, the same on any number of hosts, so that as many mirrored devices
of one process end with the same bits.
"""

import json
import signal
import threading
import time

import pytest

from common.errors import Status
from launch.rehearsal import workers
from launch.rehearsal.workers import SliceShape
from tests.support import fake_gcs, rehearsals

MADE_UP = "tests/data/train/made_up.gin"
TWENTY_STEPS = 20 * 16 / 4000  # in epochs
TOKEN = "GOOGLE_AUTH_TOKEN_FOR_TESTING"
SECONDS = 240  # in which a run has to notice that a worker is gone


def start(slice_, on, digits, model_dir, **options):
    name = {"tpu_name": slice_.tpu_name, "gin_file": MADE_UP}
    return rehearsals.start("tpu", on.cores, digits, model_dir, **(name | options))


def assert_as_mirrored(digits, tmp_path, on, **changes):
    """The run in tmp_path/slice ended as one on mirrored devices does."""
    folder = tmp_path / "mirrored"
    rehearsals.run("mirrored", on.replicas, digits, folder, gin_file=MADE_UP, **changes)
    assert rehearsals.differing(tmp_path / "slice", folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("on", "batch_norm"),
    [
        (SliceShape(2, 1), "reference"),
        (SliceShape(2, 2), 2),
        (SliceShape(4, 2), "global"),
    ],
    ids=["2x1", "2x2-pairs", "4x2-global"],
)
def test_a_slice_ends_as_mirrored_devices_do(digits, tmp_path, on, batch_norm):
    changes = {"batch_norm": batch_norm}
    with workers.started(on.hosts, on.cores) as slice_:
        run = start(slice_, on, digits, tmp_path / "slice", **changes)
        said = rehearsals.end(run)
    assert f"({on.replicas} replicas on {on.hosts} hosts)" in said
    assert_as_mirrored(digits, tmp_path, on, **changes)


def wait_for_a_loop(run, model_dir):
    """Return when the first loop of a run is reported."""
    rows = model_dir / "metrics.jsonl"
    while not (rows.exists() and '"train"' in rows.read_text()):
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)


@pytest.mark.slow
def test_sigterm_and_the_same_command_on_new_workers(digits, tmp_path):
    on, folder = SliceShape(2, 2), tmp_path / "slice"
    changes = {"epochs": TWENTY_STEPS, "batch_norm": 2}
    with workers.started(on.hosts, on.cores) as slice_:
        run = start(slice_, on, digits, folder, **changes)
        wait_for_a_loop(run, folder)
        run.send_signal(signal.SIGTERM)
        assert "stopped by SIGTERM" in rehearsals.end(run, Status.RESTART, SECONDS)
    saved = max(int(path.stem[5:]) for path in folder.glob("ckpt-*.index"))
    assert 0 < saved < 20
    with workers.started(on.hosts, on.cores) as slice_:
        assert f"going on at step {saved}" in rehearsals.end(
            start(slice_, on, digits, folder, **changes)
        )
    assert_as_mirrored(digits, tmp_path, on, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "loop"),
    [
        (signal.SIGKILL, 1),
        (signal.SIGKILL, 200),
        (signal.SIGSTOP, 1),
    ],
    ids=["killed between loops", "killed within a loop", "frozen"],
)
def test_a_worker_is_lost(digits, tmp_path, what, loop):
    on, folder = SliceShape(4, 2), tmp_path / "slice"
    minutes = 0.5 if what == signal.SIGSTOP else 10
    changes = {"epochs": 10, "steps_per_loop": loop, "hang_timeout_minutes": minutes}
    with workers.started(on.hosts, on.cores) as slice_:
        run = start(slice_, on, digits, folder, **changes)
        if loop == 1:
            wait_for_a_loop(run, folder)
        else:
            wait_for_the_program(run, folder)
        slice_.processes[2].send_signal(what)
        said = rehearsals.end(run, Status.RESTART, SECONDS)
    who = f"worker 2 at 127.0.0.1:{slice_.ports[2]} "
    heartbeat = json.loads((folder / "hosts/host-0.json").read_text())
    if what == signal.SIGSTOP:
        # The first call of the program has four times as long; no other has.
        assert "the timeout is 30 s" in said
        assert f"suspect: of the TPU, {who}(timed out)" in said.splitlines()
        assert heartbeat["state"] == "hung"
    else:
        [line] = [line for line in said.splitlines() if " is gone (" in line]
        assert line.startswith(f"{who}(Connection refused) is gone (")
        assert heartbeat["state"] == "stopped"
    assert not [number for number in (0, 1, 3) if f"worker {number} at" in said]


def wait_for_the_program(run, model_dir):
    """Return when the first loop has begun, its program traced: steps run in it."""
    posted = model_dir / "hosts/host-0.json"
    while not (posted.exists() and (json.loads(posted.read_text())["step"] or 0) > 0):
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)


def who_asks(store):
    """Return a set that fills with tokens, each with a bucket that it was shown for."""
    found, its, demand = set(), threading.local(), store.demand

    def remember(headers, *, xml):
        del xml
        its.token = headers.get("Authorization", "").removeprefix("Bearer ")

    def note(bucket, right):
        found.add((its.token, bucket))
        demand(bucket, right)

    store.tokens.demand, store.demand = remember, note
    return found


@pytest.mark.slow
def test_workers_read_a_bucket_in_their_own_environment(digits, tmp_path):
    """Real records, a share a host; the client alone reads and writes checkpoints."""
    on, mode = SliceShape(2, 2), "--mode=train_and_eval"
    (tmp_path / "fake").mkdir()
    server, store, environment = fake_gcs.serve(tmp_path / "fake")
    fake_gcs.load(store, f"bucket/digits={digits}")
    fake_gcs.load(store, "runs")
    asked = who_asks(store)
    data, folder = "gs://bucket/digits", "gs://runs/slice"
    own = {token: environment | {TOKEN: token} for token in ("worker", "client")}
    with workers.started(on.hosts, on.cores, own["worker"]) as slice_:
        options = {"tpu_name": slice_.tpu_name, "environment": own["client"]}
        rehearsals.run("tpu", on.cores, data, folder, mode, **options)
    server.shutdown()
    server.server_close()
    assert asked == {("worker", "bucket"), ("client", "bucket"), ("client", "runs")}
    with workers.started(on.hosts, on.cores) as slice_:
        options = {"tpu_name": slice_.tpu_name}
        rehearsals.run("tpu", on.cores, digits, tmp_path / "local", mode, **options)
    for name in ("ckpt-12.data-00000-of-00001", "best/ckpt-12.data-00000-of-00001"):
        saved = store.buckets["runs"][f"slice/{name}"].blob.read()
        assert saved == (tmp_path / "local" / name).read_bytes()
