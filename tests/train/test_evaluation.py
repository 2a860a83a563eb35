"""Scores of a job's checkpoints as they come, and the best of them."""

import dataclasses
import json
import shutil
import subprocess

import pytest

from common.errors import UserError
from tests.support import processes
from tests.support.runs import experiment_of, run_tiny
from train import evaluation, run
from train.checkpoints import bundle, directory
from train.run_data import SplitData

SCORES = evaluation.SCORES


def rows(model_dir):
    lines = (model_dir / "eval.jsonl").read_text().splitlines()
    return {row["step"]: row for row in map(json.loads, lines)}


@pytest.fixture
def job(finished, tmp_path):
    """The checkpoints 0, 4, 8 and 12 of a job that has scored nothing."""
    shutil.copytree(finished[0], tmp_path / "job")
    shutil.rmtree(tmp_path / "job" / "best")
    (tmp_path / "job" / "eval.jsonl").unlink()
    return tmp_path / "job"


def follow(digits, job, **options):
    options = {"poll_seconds": 0.01, "timeout_minutes": 0.01} | options
    return run.continuous_evaluate(experiment_of(digits), str(job), **options)


@pytest.mark.long
def test_scores_every_checkpoint_and_keeps_the_best(digits, finished, job, monkeypatch):
    scores = follow(digits, job)
    assert [scores[name] for name in SCORES] == [finished[1][name] for name in SCORES]
    assert (scores["steps"], scores["checkpoint"]) == (12, f"{job}/ckpt-12")
    found = rows(job)
    assert sorted(found) == [0, 4, 8, 12]
    assert [row["checkpoint"] for _, row in sorted(found.items())] == [
        f"{job}/ckpt-{step}" for step in (0, 4, 8, 12)
    ]
    top1 = {step: row["ema_top1"] for step, row in found.items()}
    best = max(sorted(top1), key=lambda step: top1[step])
    kept = json.loads((job / "best" / f"scores-ckpt-{best}.json").read_text())
    assert (kept["ema_top1"], kept["checkpoint"]) == (top1[best], f"{job}/ckpt-{best}")
    assert len(list((job / "best").glob("scores-*"))) == 1
    assert directory.list_checkpoints(f"{job}/best") == [f"{job}/best/ckpt-{best}"]
    copied, original = (
        bundle.read(f"{folder}/ckpt-{best}") for folder in (f"{job}/best", job)
    )
    assert {name: value.tobytes() for name, value in copied.items()} == {
        name: value.tobytes() for name, value in original.items()
    }

    # Nothing is scored twice.
    before = (job / "eval.jsonl").read_bytes()
    monkeypatch.setattr(evaluation, "Evaluator", lambda *_: None)
    assert follow(digits, job)["checkpoint"] == f"{job}/ckpt-12"
    assert (job / "eval.jsonl").read_bytes() == before


@pytest.mark.long
def test_damaged_and_vanishing_ones_are_skipped(digits, job, monkeypatch, capsys):
    """And a job without new ones is given up."""
    data = job / "ckpt-0.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-10])
    bundle.delete(f"{job}/ckpt-12")
    restore_into = evaluation.restore_into

    def restore_then_rotate(models, path):
        if path.endswith("ckpt-4"):
            bundle.delete(path)
        restore_into(models, path)

    monkeypatch.setattr(evaluation, "restore_into", restore_then_rotate)
    with pytest.raises(UserError, match=r"no new checkpoint in .*/job for"):
        follow(digits, job)
    assert sorted(rows(job)) == [8]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warn" in line]
    assert len(warnings) == 2
    for step, warning in zip((0, 4), warnings, strict=True):
        assert f"ckpt-{step} is skipped: cannot read" in warning


def test_best_needs_more_than_before(finished, tmp_path):
    scores = {**finished[1], "checkpoint": f"{finished[0]}/ckpt-4", "ema_top1": 0.5}
    assert evaluation.keep_best(str(tmp_path), scores)
    same = scores | {"checkpoint": f"{finished[0]}/ckpt-8"}
    assert not evaluation.keep_best(str(tmp_path), same)
    assert evaluation.keep_best(str(tmp_path), same | {"ema_top1": 0.6})
    folder = f"{tmp_path}/best"
    assert directory.list_checkpoints(folder) == [f"{folder}/ckpt-8"]
    # So is one of other images than those that are scored now.
    other = {**scores, "ema_top1": 0.4, "eval_digest": "other"}
    assert evaluation.keep_best(str(tmp_path), other)
    assert not evaluation.keep_best(str(tmp_path), {**other, "ema_top1": 0.3})
    assert evaluation.keep_best(str(tmp_path), same | {"ema_top1": 0.6})
    # A best one that was lost is replaced by the next, whatever its score.
    bundle.delete(f"{folder}/ckpt-8")
    assert evaluation.keep_best(str(tmp_path), scores | {"ema_top1": 0.1})


@pytest.mark.parametrize(
    "scores", [None, "{", '{"ema_top1": NaN}', '{"ema_top1": "1"}', '{"ema_top1": 7}']
)
@pytest.mark.parametrize("logged", [0.5, None])
def test_best_whose_scores_are_damaged(finished, tmp_path, capsys, scores, logged):
    """The log of evaluations tells them; where it does not, nobody knows them."""
    first = {"checkpoint": f"{finished[0]}/ckpt-4", "ema_top1": 0.5}
    assert evaluation.keep_best(str(tmp_path), first)
    path = tmp_path / "best" / "scores-ckpt-4.json"
    path.unlink() if scores is None else path.write_text(scores)
    if logged is not None:
        lines = [(4, 0.1), (8, 0.9), (4, logged)]
        lines = [{"kind": "eval", "step": s, "ema_top1": t} for s, t in lines]
        (tmp_path / "eval.jsonl").write_text("\n".join(map(json.dumps, lines)))
    capsys.readouterr()
    worse = {"checkpoint": f"{finished[0]}/ckpt-8", "ema_top1": 0.4}
    assert evaluation.keep_best(str(tmp_path), worse) is (logged is None)
    (kept,) = directory.list_checkpoints(f"{tmp_path}/best")
    assert kept.endswith("ckpt-8" if logged is None else "ckpt-4")
    warned = capsys.readouterr().err.startswith("warning: nobody knows the scores of ")
    assert warned is (logged is None)


def test_training_keeps_the_best(finished):
    model_dir, summary = finished
    kept = json.loads((model_dir / "best" / "scores-ckpt-12.json").read_text())
    assert {name: kept[name] for name in SCORES} == {
        name: summary[name] for name in SCORES
    }
    assert {name: rows(model_dir)[12][name] for name in SCORES} == {
        name: summary[name] for name in SCORES
    }


@pytest.mark.slow
def test_evaluation_that_was_killed_is_made_up_for(digits, finished, tmp_path):
    """At step 5, whose checkpoint was written."""
    every = {"experiment.Experiment.eval_every_epochs": 0.025}
    score = evaluation.Evaluator.score

    def killed(self, path):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation.Evaluator, "score", killed)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(digits, tmp_path, **every)
    assert directory.newest_intact(str(tmp_path)) == f"{tmp_path}/ckpt-5"
    assert not (tmp_path / "eval.jsonl").exists()

    scored = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            evaluation.Evaluator,
            "score",
            lambda self, path: scored.append(path) or score(self, path),
        )
        run_tiny(digits, tmp_path, **every)
    assert scored == [f"{tmp_path}/ckpt-{step}" for step in (5, 10, 12)]
    assert sorted(rows(tmp_path)) == [5, 10, 12]


@pytest.mark.parametrize(
    ("step", "scored", "expected"),
    [
        (0, False, [10, 20, 25]),
        (7, False, [10, 20, 25]),
        (10, False, [10, 20, 25]),
        (10, True, [20, 25]),
        (20, False, [20, 25]),
        (25, True, [25]),
        (25, False, [25]),
    ],
)
def test_stops(step, scored, expected):
    assert list(run.evaluation_steps(step, 10, 25, scored)) == expected


@pytest.mark.slow
def test_beside_a_training_that_is_killed(digits, tmp_path):
    """Both are processes; the training loses one life on the way."""
    changes = {
        "experiment.Experiment.epochs": 0.5,
        "experiment.Experiment.checkpoint_every_steps": 10,
        "experiment.Experiment.keep_checkpoints": 2,
    }
    train = processes.command(digits, tmp_path, changes, "--mode=train")
    evaluate = processes.command(digits, tmp_path, changes, "--mode=continuous_eval")
    with processes.started(evaluate) as (evaluator,):
        with processes.started(train) as (first,):
            assert first.stderr is not None
            for line in first.stderr:
                if line.startswith("step 40/100"):
                    first.kill()
        processes.run(train)
        output, said = evaluator.communicate(timeout=120)
    assert evaluator.returncode == 0, said
    assert json.loads(output)["steps"] == 100
    found = rows(tmp_path)
    assert 100 in found
    assert len(found) >= 3
    alone = processes.command(digits, tmp_path, changes, "--mode=eval")
    done = subprocess.run(alone, capture_output=True, text=True, check=True)
    again = json.loads(done.stdout)
    assert {name: again[name] for name in SCORES} == {
        name: found[100][name] for name in SCORES
    }


def test_only_the_same_question_replaces_an_answer():
    """Else the scores at another resolution would take the place of the first."""
    data = SplitData("validation", 8, None, "a" * 32, "b" * 32)
    network = {"variant": "efficientnet-lite0", "resolution": 32}
    crop = {"resize": "bilinear", "crop_fraction": 0.875, "pixels": "float32"}
    first = {
        **{"checkpoint": "run/ckpt-4", **network, "precision": "float32"},
        "eval_crop": crop,
    }

    def path(of=data, **changes):
        return evaluation.answer_path("run", first | changes, of)

    weights = "validation-32px-float32-aaaaaaaaaaaa.json"
    assert path() == path(checkpoint="run/best/ckpt-4")
    assert path() == f"run/evaluations/ckpt-4-{weights}"
    pretrained = path(checkpoint="pretrained one/best")
    assert pretrained.startswith("run/evaluations/pretrained-")
    others = [
        path(checkpoint="run/ckpt-8"),
        path(resolution=48),
        path(precision="bfloat16"),
        path(eval_crop=crop | {"pixels": "uint8"}),
        path(eval_crop=crop | {"crop_fraction": "squash"}),
        path(eval_crop=crop | {"resize": "bicubic"}),
        path(dataclasses.replace(data, digest="c" * 32)),
        path(dataclasses.replace(data, digest="")),
        pretrained,
        path(checkpoint="pretrained two/best"),
    ]
    assert len({path(), *others}) == 1 + len(others)
