"""Supernets and their controllers, trained by the command line."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import models
from common.errors import UserError
from input_pipeline.dataset_info import load_info
from models.batch_norm import BatchNormalization
from search.supernets.selection import Selection
from tests.support import processes
from tests.support.runs import bindings, bound, config_of, run_tiny
from tests.train.numerics.test_killed import killed_behind
from tests.train.test_run import assert_same_variables, variables
from train.exports import batch_statistics
from train.weights import pretrained

GIN_FILE = "tests/data/train/searched.gin"
E = "experiment.Experiment"
ALTERNATING = """
from input_pipeline import dataset
experiment.Experiment.train_data = @controller.alternating
experiment.Experiment.train_split = 'train[:6shard]'
controller.alternating.train_data = @dataset.train_dataset
controller.alternating.held_out = 'train[6shard:]'
controller.reinforce.alternates = True
"""
POLICY = ("logits", "squares", "updates", "baseline", "rewards")


def alternating_file(folder):
    """Write the recipe of the alternating form."""
    path = folder / "alternating.gin"
    path.write_text(f"{Path(GIN_FILE).read_text()}\n{ALTERNATING}")
    return str(path)


def test_held_out_batches_are_made_as_the_recipe_makes_its_own(digits, tmp_path):
    """mnist_cpu.gin's digits are not mirrored; the function alone would mirror them."""
    path = alternating_file(tmp_path)
    made = bound(config_of(digits, gin_file=path).experiment.train_data)
    assert bound(made["train_data"])["flip"] is False
    lines = Path(path).read_text().replace("controller.alternating.train_data", "#")
    Path(path).write_text(lines)
    with pytest.raises(UserError, match=r"controller\.alternating\.train_data"):
        config_of(digits, gin_file=path)


def loops_of(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def searched(digits, tmp_path_factory):
    """Twelve steps in this process; warm-up are the first three."""
    folder = tmp_path_factory.mktemp("searched")
    run_tiny(digits, folder, gin_file=GIN_FILE)
    return folder


def policy_of(digits):
    """The settings of the run's controller."""
    return bound(config_of(digits, gin_file=GIN_FILE).experiment.policy)


def space_of(digits):
    return policy_of(digits)["space"]


@pytest.mark.long
def test_what_a_run_keeps_of_its_controller(digits, searched):
    held, space = variables(searched), space_of(digits)
    assert {f"policy/{name}" for name in POLICY} < set(held)
    assert held["policy/rewards"] == 12
    assert held["policy/updates"] == 9
    assert held["policy/logits"].shape == (6, 3)
    assert np.abs(held["policy/logits"]).max() > 0.1
    assert len(space.choices) == 6


@pytest.mark.long
def test_both_models_compute_the_likeliest_network(digits, searched):
    """As evaluation does with them."""
    held, selection = variables(searched), Selection(space_of(digits))
    last = loops_of(searched)[-1]
    network = selection.network(np.array(last["policy_probabilities"]))
    for model in ("model", "ema"):
        (found,) = (
            value
            for name, value in held.items()
            if name == f"{model}/choices/selection"
        )
        assert found.tolist() == selection.of(network).tolist()


@pytest.mark.long
def test_what_telemetry_says(digits, searched):
    space, loops = space_of(digits), loops_of(searched)
    assert [line["step"] for line in loops] == [2, 4, 6, 8, 10, 12]
    selection = Selection(space)
    for line in loops:
        chances = np.array(line["policy_probabilities"])
        assert chances.shape == (selection.size,)
        for where in selection.slices:
            # Three numbers of float32 that add up to 1.
            assert chances[where].sum() == pytest.approx(1, abs=4 * 2.0**-24)
        latency = policy_of(digits)["latency"]
        network = selection.network(chances)
        exact = latency(space.build(network)).ms
        assert line["policy_ms"] == pytest.approx(exact, rel=16 * 2.0**-24)
        assert -0.2 < line["policy_reward"] < 1
    entropies = [line["policy_entropy"] for line in loops]
    # kernel, filters, expansion, fused, activation; SE counts with half of the kernels.
    assert entropies[0] == pytest.approx(3 * np.log(2) + 2 * np.log(3) + np.log(2) / 2)
    assert entropies[-1] < entropies[0]


@pytest.mark.slow
@pytest.mark.parametrize("alternates", [False, True])
def test_killed_runs_end_alike(digits, tmp_path, alternates):
    """Before and behind the end of the warm-up; a checkpoint every four steps."""
    gin_file, changes = GIN_FILE, {}
    if alternates:
        gin_file = alternating_file(tmp_path)
    changes[f"{E}.checkpoint_every_steps"] = 2
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    options = {"gin_file": gin_file, "devices": 1}
    only = "--mode=train"
    command = processes.command(digits, whole, changes, only, **options)
    processes.run(command, timeout=1200)
    command = processes.command(digits, folder, changes, only, **options)
    for line in ("step 4/", "step 8/"):
        killed_behind(command, line)
    processes.run(command, timeout=1200)
    assert_same_variables(whole, folder)
    held = variables(folder)
    # Of nine batches, as six of eight shards have, four are the controller's.
    assert held["step"] == (9 if alternates else 12)
    assert held["policy/rewards"] == (4 if alternates else 12)


def together(digits, folder, *, devices=1, workers=1):
    """What each process says, and what the run has learnt."""
    changes = {
        f"{E}.strategy": "mirrored" if workers == 1 else "multi_worker",
        f"{E}.batch_norm": "per_replica",
        f"{E}.checkpoint_every_steps": 2,
    }
    module = ["tests.support.policy_bits", str(devices)]
    command = [
        *(sys.executable, "-m", *module, f"--gin_file={GIN_FILE}"),
        *(f"--gin_param={binding}" for binding in bindings(digits, changes)),
        *(f"--model_dir={folder}", "--mode=train"),
    ]
    with processes.started(command, workers=workers) as running:
        said = [process.communicate(timeout=1200)[1] for process in running]
    for process, text in zip(running, said, strict=True):
        assert process.returncode == 0, text
    drawn, learnt = {}, []
    for text in said:
        lines = [line.split() for line in text.splitlines()]
        learnt.append([line[1] for line in lines if line[:1] == ["learnt"]])
        for line in lines:
            if line[:1] == ["drawn"]:
                drawn.setdefault(int(line[1]), []).append(line[2])
    return drawn, learnt


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "workers"), [(2, 1), (1, 2)])
def test_replicas_draw_their_own_and_learn_alike(digits, tmp_path, devices, workers):
    drawn, learnt = together(digits, tmp_path, devices=devices, workers=workers)
    assert set(drawn) == {0, 1}
    assert len(drawn[0]) == len(drawn[1]) == 12
    assert sum(a != b for a, b in zip(drawn[0], drawn[1], strict=True)) > 6
    assert len(learnt) == workers
    assert all(digests == learnt[0] for digests in learnt)
    assert len(set(learnt[0])) == len(learnt[0]) >= 6


@pytest.mark.long
def test_a_network_out_of_the_supernet_is_trained_on(digits, searched, tmp_path):
    """By itself, with statistics of its own, and from the file that was written."""
    from search.stages import score

    experiment, space = (
        config_of(digits, gin_file=GIN_FILE).experiment,
        space_of(digits),
    )
    path = str(tmp_path / "found.safetensors")
    found = score.score(
        experiment, str(searched), [], weights=path, statistics_images=400
    )
    alone = found["alone"]
    assert (alone["images"], alone["statistics_images"]) == (1000, 400)
    network = space.decode(found["found"]["network"])
    model = models.build_model(space.build(network), num_classes=10)
    pretrained.load(model, path=path)
    again = batch_statistics.scorer(experiment, model, 1000)()
    assert alone["top1"] == pytest.approx(again.right / 10)
    for layer in model._flatten_layers():
        if isinstance(layer, BatchNormalization):  # those of a new network are 0 and 1
            assert (layer.moving_mean.numpy() != 0).any()
            assert (layer.moving_variance.numpy() != 1).any()
    # The averaged weights of the run, in which this network's are the first channels.
    held = variables(searched)["ema/head_conv/kernel"]
    kernel = model.get_layer("head_conv").kernel.numpy()
    np.testing.assert_array_equal(kernel, held[:, :, : kernel.shape[2]])


@pytest.mark.slow
def test_scores_do_not_see_padding(digits, searched, tmp_path):
    """Batch norm would: of a batch that is half black, or of another size."""
    from search.stages import score
    from train.evaluation import Evaluator

    asked = []

    class Counted(Evaluator):
        def evaluate(self, num_steps):
            asked.append(super().evaluate(num_steps))
            return asked[-1]

    experiment = config_of(digits, gin_file=GIN_FILE).experiment
    total = load_info(str(digits)).split(experiment.eval_split).total
    space = space_of(digits)
    one = space.encode(space.first())
    scores = []
    for size in (total, 2 * total, total - 1):
        experiment = dataclasses.replace(experiment, eval_batch_size=size)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("train.evaluation.Evaluator", Counted)
            own = {"weights": f"{tmp_path}/w", "statistics_images": 100}
            scores.append(score.score(experiment, str(searched), [one], **own))
    assert scores[0] == scores[1]
    assert [one["images"] for one in asked] == [total] * 4 + [total - 1] * 2
    assert scores[0]["step"] == 12
