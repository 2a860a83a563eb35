"""Real trainings under the host script: killed in their midst, they end the same."""

import os
import signal
import time

import pytest

from tests.support import processes, rehearsals, slices
from tests.support.runs import bindings

MADE_UP = "tests/data/train/made_up.gin"
SETTINGS = {
    "experiment.Experiment.epochs": 20 * 16 / 4000,  # 20 steps
    "experiment.Experiment.checkpoint_every_steps": 4,
}
SECONDS = 400
SLICE = {
    "WORKER": "-m tests.support.cpu_worker",
    "CLIENT": "-m launch.rehearsal.client tpu 1",
}
# Each of two processes has one CPU, and its graphs are not optimized.
CLUSTER = {"CLIENT": "-m tests.support.several_devices 1"}


def job(digits, folder, machines, **settings):
    return slices.job(
        machines=machines,
        gin_files=(MADE_UP,),
        gin_params=tuple(bindings(digits, SETTINGS | settings)),
        data_dir=str(digits),
        model_dir=str(folder),
        grace_seconds=120.0,
    )


def wait_for_a_checkpoint(folder, hosts):
    until = time.monotonic() + SECONDS
    while not list(folder.glob("ckpt-*[48].index")):
        assert time.monotonic() < until
        assert hosts[0].poll() is None
        time.sleep(0.05)


def client_of(slice_, number):
    """The newest child of a host script: a client is started last."""
    return slice_.pids(number)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["client", "worker", "host"])
def test_a_slice_that_is_killed_ends_as_mirrored_devices_do(digits, tmp_path, what):
    folder = tmp_path / "slice"
    environment = SLICE | {"ANSWER": "300", "ALONE": "300", "LOST": "120"}
    with (
        (tmp_path / "said").open("w") as said,
        slices.running(job(digits, folder, "tpu"), environment, said) as made,
    ):
        wait_for_a_checkpoint(folder, made.hosts)
        if what == "client":
            os.kill(client_of(made, 0), signal.SIGKILL)
        elif what == "worker":
            os.kill(made.pids(1)[-1], signal.SIGKILL)
        else:
            made.hosts[0].kill()
            made.hosts[0].wait()
            made.start(0)
        assert made.statuses(SECONDS) == {0}, (tmp_path / "said").read_text()
    text = (tmp_path / "said").read_text()
    assert "life 2: workers on 2 hosts" in text
    assert "going on at step" in text
    other = tmp_path / "mirrored"
    rehearsals.run(
        *("mirrored", 2, digits, other, "--mode=train_and_eval"),
        gin_file=MADE_UP,
        **{name.rpartition(".")[2]: value for name, value in SETTINGS.items()},
    )
    assert rehearsals.differing(folder, other) == []


@pytest.mark.slow
def test_two_hosts_of_gpus_of_which_one_is_killed(digits, tmp_path):
    strategy = {"experiment.Experiment.strategy": "multi_worker"}
    folder = tmp_path / "hosts"
    environment = CLUSTER | {"ANSWER": "300", "ALONE": "300", "LOST": "120"}
    with (
        (tmp_path / "said").open("w") as said,
        slices.running(
            job(digits, folder, "gpu", **strategy), environment, said
        ) as made,
    ):
        wait_for_a_checkpoint(folder, made.hosts)
        os.kill(client_of(made, 1), signal.SIGKILL)
        assert made.statuses(SECONDS) == {0}, (tmp_path / "said").read_text()
    assert "life 2: 2 hosts" in (tmp_path / "said").read_text()
    other = tmp_path / "undisturbed"
    command = processes.command(
        digits, other, SETTINGS | strategy, gin_file=MADE_UP, devices=1
    )
    processes.run(command, workers=2, timeout=SECONDS)
    assert rehearsals.differing(folder, other) == []
