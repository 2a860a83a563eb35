"""From the job file to the weights, by each engine, with its machines taken away once.

Engines, machines and containers are stand-ins that do what is rendered; the commit is
HEAD, without what is not committed.
"""

import contextlib
import signal
import subprocess
import time

import pytest
import yaml

from common.project import ROOT
from launch.job import job_file
from tests.launch.host import test_trainings
from tests.launch.host.test_trainings import CLUSTER, MADE_UP, SETTINGS, SLICE
from tests.launch.story.engines import GCloud, JobSet, SkyPilot
from tests.launch.story.world import World
from tests.support import processes, rehearsals, storm_steps
from tests.support.fake_gcs.store import Blob
from tests.support.runs import bindings
from tests.support.watched_bucket import assert_one_after_the_other, watched_bucket

QUICK = {"CLIENT": "-m tests.support.story_client"}
PATIENCE = {"ANSWER": "300", "ALONE": "300", "LOST": "120"}
MULTI_WORKER = {"experiment.Experiment.strategy": "multi_worker"}


def job_of(tmp_path, machines, code, **run):
    """An example's job on two hosts, of the image or of this commit."""
    example = {"tpu": "v4_32", "gpu": "gpu_2x8"}[machines]
    said = yaml.safe_load((ROOT / f"launch/jobs/{example}.yaml").read_text())
    if machines == "tpu":
        said["machines"]["slice"] = "v4:2x2x2"
    if code == "commit":
        words = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        head = subprocess.check_output(words, text=True)
        said["code"] = {"commit": head.strip()}
    said["run"] |= {"model_dir": "gs://bucket/run", **run}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(said))
    return job_file.load(str(path))


def interrupted_and_ended(engine, world, first_checkpoint):
    """Let a job be taken away, and end on other machines; then submit it again."""
    engine.submit("job-1")
    until = time.monotonic() + world.seconds
    while f"{first_checkpoint}.index" not in world.run():
        assert time.monotonic() < until, world.text()
        time.sleep(0.02)
    engine.preempt()
    assert engine.statuses() == {75}, world.text()
    assert "stopped by SIGTERM" in world.text()  # says the client, which has saved
    engine.start()
    assert engine.statuses() == {0}, world.text()
    engine.down()
    found = world.run()
    engine.submit("job-2")
    assert engine.statuses() == {0}, world.text()
    assert "Traceback" not in world.text()
    assert not world.end(0)  # nothing is left
    return found


def long(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.long
@pytest.mark.parametrize(
    ("engine", "machines", "code"),
    [
        (SkyPilot, "tpu", "commit"),
        long(JobSet, "gpu", "image"),
        (GCloud, "tpu", "image"),
        long(SkyPilot, "tpu", "image"),
        long(SkyPilot, "gpu", "commit"),
        long(SkyPilot, "gpu", "image"),
        long(JobSet, "tpu", "image"),
        long(GCloud, "tpu", "commit"),
        long(GCloud, "gpu", "commit"),
        long(GCloud, "gpu", "image"),
    ],
)
def test_a_job(engine, machines, code, tmp_path, monkeypatch):
    job = job_of(tmp_path, machines, code)
    with (
        watched_bucket(tmp_path) as (store, watched, environment),
        contextlib.ExitStack() as stack,
    ):
        world = World(tmp_path, store, environment, QUICK)
        stack.callback(world.end, signal.SIGKILL)
        made = engine(world, job, stack, monkeypatch)
        found = interrupted_and_ended(made, world, f"ckpt-{storm_steps.EVERY}")
    assert found[f"ckpt-{storm_steps.LAST}.data-00000-of-00001"] == (
        storm_steps.undisturbed()
    )
    assert_one_after_the_other(watched.changes["run"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "machines", "code"),
    [(JobSet, "tpu", "image"), (SkyPilot, "gpu", "commit")],
)
def test_a_training(engine, machines, code, digits, tmp_path, monkeypatch):
    settings = SETTINGS | ({} if machines == "tpu" else MULTI_WORKER)
    job = job_of(
        tmp_path,
        machines,
        code,
        gin_files=[MADE_UP],
        gin_params=bindings("gs://bucket/digits", settings)[1:],
        data_dir="gs://bucket/digits",
    )
    programs = PATIENCE | (SLICE if machines == "tpu" else CLUSTER)
    with (
        watched_bucket(tmp_path) as (store, _, environment),
        contextlib.ExitStack() as stack,
    ):
        for path in digits.iterdir():
            store.put("bucket", f"digits/{path.name}", Blob(path=path))
        world = World(tmp_path, store, environment, programs, same_address=True)
        stack.callback(world.end, signal.SIGKILL)
        made = engine(world, job, stack, monkeypatch)
        found = interrupted_and_ended(made, world, "ckpt-4")
    for name in [name for name in found if name.startswith("ckpt-")]:
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes(found[name])
    undisturbed(machines, digits, tmp_path / "other", settings)
    assert rehearsals.differing(tmp_path / "run", tmp_path / "other") == []


def undisturbed(machines, digits, folder, settings):
    """The same run on mirrored devices, or on two hosts that nobody takes away."""
    if machines == "tpu":
        short = {name.rpartition(".")[2]: value for name, value in settings.items()}
        mode = "--mode=train_and_eval"
        rehearsals.run("mirrored", 2, digits, folder, mode, gin_file=MADE_UP, **short)
        return
    command = processes.command(digits, folder, settings, gin_file=MADE_UP, devices=1)
    processes.run(command, workers=2, timeout=test_trainings.SECONDS)
