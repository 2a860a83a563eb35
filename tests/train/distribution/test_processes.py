"""Replicas and processes against one device that sees the same global batch."""

import json
import shlex
import shutil

import numpy as np
import pytest

from tests.support import processes
from tests.support.rounding import rounding
from tests.support.runs import run_tiny
from tests.train.test_evaluation import rows
from tests.train.test_run import variables
from train.evaluation import SCORES

EXPERIMENT = "experiment.Experiment"
MADE_UP = "tests/data/train/made_up.gin"


def trained(digits, folder, *, devices=1, workers=1, **changes):
    """Losses, gradients' norms and last variables of three steps."""
    changes["strategy"] = "one_device"
    if devices > 1 or workers > 1:
        changes["strategy"] = "mirrored" if workers == 1 else "multi_worker"
    settings = {f"{EXPERIMENT}.{name}": value for name, value in changes.items()}
    if devices == workers == 1:
        run_tiny(digits, folder, gin_file=MADE_UP, **settings)
    else:
        command = processes.command(
            digits, folder, settings, "--mode=train", gin_file=MADE_UP, devices=devices
        )
        processes.run(command, workers=workers)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    loops = [line for line in lines if line["kind"] == "train"]
    assert [loop["step"] for loop in loops] == [1, 2, 3]
    curves = {
        name: [loop[name] for loop in loops] for name in ("loss", "gradient_norm")
    }
    return curves, variables(folder)


# What a replica adds up by itself, and another adds to: gradients, and statistics of
# batch norm over 16 images of 16 x 16 pixels behind the stem.
TERMS = 16 * 16 * 16


def assert_same(one, other):
    """In float32, of which the two add the same numbers in another order."""
    for name, curve in one[0].items():
        np.testing.assert_allclose(
            curve, other[0][name], rtol=rounding(TERMS), err_msg=name
        )
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        # Inside a layer weights are of the order of one, whatever this variable is.
        atol = rounding(TERMS, scale=max(1, np.abs(value).max()))
        np.testing.assert_allclose(
            value, other[1][name], rtol=0, atol=atol, err_msg=name
        )


@pytest.fixture(scope="module")
def alone(digits, tmp_path_factory):
    """One device, whose batch norm sees the global batch."""
    return trained(digits, tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
def test_two_devices(digits, alone, tmp_path):
    assert_same(alone, trained(digits, tmp_path, devices=2, batch_norm="global"))


@pytest.mark.long
def test_two_processes(digits, alone, tmp_path):
    together = trained(digits, tmp_path, workers=2, batch_norm="global")
    assert_same(alone, together)
    assert not list(tmp_path.glob("worker-*"))


@pytest.fixture(scope="module")
def halved(digits, tmp_path_factory):
    """One device that takes two halves of the global batch, one after the other."""
    return trained(digits, tmp_path_factory.mktemp("halved"), accumulation_steps=2)


@pytest.mark.slow
def test_micro_batches_differ_by_their_batch_norm_alone(alone, halved):
    assert halved[0]["loss"][0] != alone[0]["loss"][0]
    assert halved[0]["loss"][0] == pytest.approx(alone[0]["loss"][0], rel=0.1)


@pytest.mark.slow
def test_replicas_by_themselves_are_micro_batches(digits, halved, tmp_path):
    assert_same(halved, trained(digits, tmp_path, devices=2, batch_norm="per_replica"))


@pytest.mark.slow
def test_groups_of_two_of_four_are_two_micro_batches(digits, halved, tmp_path):
    assert_same(halved, trained(digits, tmp_path, devices=4, batch_norm=2))


@pytest.mark.slow
def test_micro_batches_with_shared_batch_norm(digits, tmp_path):
    """Two devices of two micro-batches: the statistics of the i-th ones together."""
    shared = {"batch_norm": "global", "accumulation_steps": 2}
    two = trained(digits, tmp_path / "two", devices=2, **shared)
    own = {"batch_norm": "per_replica", "accumulation_steps": 2}
    other = trained(digits, tmp_path / "own", devices=2, **own)
    assert two[0]["loss"][0] != other[0]["loss"][0]
    assert two[0]["loss"][0] == pytest.approx(other[0]["loss"][0], rel=0.1)


@pytest.mark.slow
def test_all_score_the_checkpoint_that_the_chief_finds(digits, finished, tmp_path):
    """The disk of the second has a newer one, of other weights."""
    for name in ("chief", "second"):
        shutil.copytree(finished[0], tmp_path / name)
    for path in (tmp_path / "chief").glob("ckpt-12.*"):
        path.unlink()
    settings = {f"{EXPERIMENT}.strategy": "multi_worker"}
    chief, second = (
        shlex.join(processes.command(digits, tmp_path / name, settings, "--mode=eval"))
        for name in ("chief", "second")
    )
    second_only = "*'\"index\": 1'*"
    own = f"case $TF_CONFIG in {second_only}) exec {second};; *) exec {chief};; esac"
    with processes.started(["bash", "-c", own], workers=2) as both:
        ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    scores = [json.loads(out) for out, _ in ends]
    for name, one in zip(("chief", "second"), scores, strict=True):
        assert one["checkpoint"] == f"{tmp_path}/{name}/ckpt-8"
    assert {name: scores[0][name] for name in SCORES} == {
        name: scores[1][name] for name in SCORES
    }
    assert scores[0]["ema_loss"] != rows(finished[0])[12]["ema_loss"]
