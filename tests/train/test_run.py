"""The whole of a run on real digits: train, stop, go on, score, export, classify."""

import contextlib
import functools
import json
import re
import resource
import shlex
import shutil
import signal
import subprocess
import types

import numpy as np
import pytest
import tensorflow as tf

from common import claims
from common.claims import Held, holder
from common.errors import Restart, UserError
from input_pipeline.dataset_info import load_info
from input_pipeline.errors import DataError
from tests.support import processes
from tests.support.runs import bindings, experiment_of, run_tiny
from tests.support.saved import newest, steps
from train import config, evaluation, run, run_folder, state
from train.checkpoints import bundle, directory
from train.controller import Controller
from train.exports import saved_model
from train.fault_tolerance.preemption import Preemption


def variables(model_dir) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(newest(model_dir))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def assert_same_variables(one, other):
    one, other = variables(one), variables(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_summary(finished):
    model_dir, summary = finished
    assert json.loads((model_dir / "summary.json").read_text()) == summary
    assert summary["variant"] == "tiny"
    assert summary["steps"] == 12
    assert summary["images_seen"] == 240
    assert summary["first_step"] == 0
    assert summary["eval_images"] == 1000
    assert summary["eval_skipped_records"] == 0
    assert summary["checkpoint"] == f"{model_dir}/ckpt-12"
    assert summary["seconds"] > 0
    assert summary["images_per_second"] > 0
    for who in ("", "ema_"):
        assert 0 <= summary[who + "top1"] <= summary[who + "top5"] <= 1
    model = experiment_of("unused").build_model()
    assert summary["parameters"] == sum(
        v.numpy().size for v in model.trainable_variables
    )


def test_checkpoint_holds_everything(finished):
    saved = variables(finished[0])
    model = experiment_of("unused").build_model()
    for part in ("model", "ema"):
        held = [n for n in saved if n.startswith(f"{part}/")]
        assert len(held) == len(model.weights)
    slots = [n for n in saved if n.startswith("optimizer/")]
    assert len(slots) == 2 * len(model.trainable_variables)
    counters = [saved[n] for n in ("step", "skipped_batches", "roll_backs")]
    assert counters == [12, 0, 0]
    assert len(saved) == 2 * len(model.weights) + len(slots) + 3


@pytest.mark.long
def test_evaluation_alone_gives_the_same_scores(digits, finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "copy")
    (tmp_path / "copy" / "summary.json").unlink()
    scores = run.evaluate(experiment_of(digits), str(tmp_path / "copy"))
    for key in ("top1", "top5", "ema_top1", "ema_top5", "eval_images", "steps"):
        assert scores[key] == finished[1][key]
    assert scores["checkpoint"] == str(tmp_path / "copy" / "ckpt-12")
    assert not (tmp_path / "copy" / "summary.json").exists()
    info = load_info(str(digits))
    digest = info.split("validation").digest
    page, answer = sorted((tmp_path / "copy" / "evaluations").iterdir())
    assert answer.name == f"ckpt-12-validation-32px-float32-{digest[:12]}.json"
    assert json.loads(answer.read_text()) == scores
    assert page.name == f"{answer.stem}.html"
    of_the_run = finished[1]["mistakes"] | {"page": page.name}
    assert scores["mistakes"] == of_the_run
    assert page.read_bytes().count(b"<figure>") == len(of_the_run["worst"]) == 24
    of = {
        "eval_split": "validation",
        "eval_data": info.name,
        "eval_digest": digest,
        "eval_data_dir": str(digits),
    }
    best = json.loads((finished[0] / "best" / "scores-ckpt-12.json").read_text())
    lines = (finished[0] / "eval.jsonl").read_text().splitlines()
    for scored in (scores, finished[1], best, json.loads(lines[-1])):
        assert scored.items() >= of.items()
    said = f"on 1,000 images, validation of {info.name} in {digits} ({digest[:12]})\n"
    assert said in capsys.readouterr().err


def contents(folder) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_writer_is_refused(digits, finished, tmp_path, monkeypatch):
    """Of a run that another process trains, nothing changes."""
    monkeypatch.setattr(holder, "PATIENCE_SECONDS", 0.1)
    model_dir = tmp_path / "run"
    shutil.copytree(finished[0], model_dir)
    experiment = experiment_of(digits)
    with claims.hold(str(model_dir), "a run"):
        before = contents(model_dir)
        with pytest.raises(Held, match=f"^{model_dir} is held by a run: process "):
            run_tiny(digits, model_dir)
        assert contents(model_dir) == before
    with claims.hold(f"{model_dir}/best", "an evaluation"):
        before = contents(model_dir)
        with pytest.raises(
            Held, match=f"^{model_dir}/best is held by an evaluation.*--mode=train$"
        ):
            run_tiny(digits, model_dir)
        with pytest.raises(Held, match=f"^{model_dir}/best is held by an evaluation"):
            run.continuous_evaluate(experiment, str(model_dir))
        assert contents(model_dir) == before


@pytest.mark.long
def test_a_run_that_was_taken_over_ends_and_writes_nothing(
    digits, tmp_path, monkeypatch
):
    """It was taken for dead, as one that is suspended where locks tell nothing."""
    model_dir = tmp_path / "run"
    seen = {}

    def save(controller):
        if not seen:
            claim = model_dir / claims.NAME
            theirs = json.loads(claim.read_text()) | {"token": "theirs", "pid": 7}
            claim.write_text(json.dumps(theirs))
            seen.update(contents(model_dir))
        save_as_ever(controller)

    save_as_ever = Controller._save
    monkeypatch.setattr(Controller, "_save", save)
    with pytest.raises(Held, match=f"^{model_dir} is held by a run: process 7 on "):
        run_tiny(digits, model_dir)
    after = contents(model_dir)
    beat = str(model_dir / "hosts" / "host-0.json")
    assert seen.pop(beat) != after.pop(beat)  # it says of itself that it has failed
    del seen[str(model_dir / "best" / claims.NAME)]  # which nobody has taken over
    assert seen == after


def test_what_the_one_before_has_written_last_counts(
    digits, finished, tmp_path, monkeypatch
):
    """It ended while this one waited for the folder, and had other settings."""
    model_dir = tmp_path / "run"
    model_dir.mkdir()
    monkeypatch.setattr(holder, "PATIENCE_SECONDS", 60.0)
    with contextlib.ExitStack() as first:
        first.enter_context(claims.hold(str(model_dir), "a run"))

        def end(_):
            shutil.copytree(finished[0], model_dir, dirs_exist_ok=True)
            first.close()

        monkeypatch.setattr(holder.time, "sleep", end)
        with pytest.raises(UserError, match=r"with another config: .*Experiment\.seed"):
            run_tiny(digits, model_dir, **{"experiment.Experiment.seed": 7})


@pytest.mark.long
def test_data_that_cannot_be_scored_tell_behind_the_first_loop(digits, tmp_path):
    """The first step does not wait for them, nor do they wait for an evaluation."""
    batch = {"experiment.Experiment.eval_batch_size": 2**20}
    with pytest.raises(UserError, match="a batch of 1,048,576 images of 32 px has"):
        run_tiny(digits, tmp_path, **batch)
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [2]
    assert steps(tmp_path) == [0]


def test_a_question_gets_a_file_of_its_own(digits, finished, tmp_path, monkeypatch):
    """Beside a training that holds the folder; what that has scored stays."""
    model_dir = tmp_path / "run"
    shutil.copytree(finished[0], model_dir)
    before = contents(model_dir)
    monkeypatch.setattr(run, "Evaluator", FakeEvaluator)
    experiment = experiment_of(
        digits, **{"experiment.Experiment.eval_split": "validation[1shard:]"}
    )
    with claims.hold(str(model_dir), "a run"):
        one = run.evaluate(experiment, model_dir)
        assert run.evaluate(experiment, model_dir) == one
    other = run.evaluate(experiment_of(digits), model_dir, step=8)
    info = load_info(str(digits))
    half, whole = (info.split(f"validation{part}") for part in ("[1shard:]", ""))
    folder = model_dir / "evaluations"
    assert contents(folder).keys() == {
        f"{folder}/ckpt-12-validation_1shard_-32px-float32-{half.digest[:12]}.json",
        f"{folder}/ckpt-8-validation-32px-float32-{whole.digest[:12]}.json",
    }
    asked = [json.loads(path.read_text()) for path in sorted(folder.iterdir())]
    assert asked == [one, other]
    shutil.rmtree(folder)
    assert contents(model_dir) == before


def test_a_run_that_one_may_not_write_is_scored(
    digits, finished, tmp_path, monkeypatch, capsys
):
    shutil.copytree(finished[0], tmp_path / "run")
    experiment = experiment_of(digits)
    monkeypatch.setattr(run, "Evaluator", FakeEvaluator)
    before = contents(tmp_path / "run")
    with monkeypatch.context() as patch:

        def refuse(*_):
            raise UserError("cannot write it")

        patch.setattr(run.gfiles, "write_json", refuse)
        answer = run.evaluate(experiment, tmp_path / "run")
    assert answer.items() >= FakeEvaluator.scores.items()
    said = "warning: these scores are not kept: cannot write it"
    assert said in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


def test_scores_go_through_no_link(digits, finished, tmp_path, monkeypatch, capsys):
    """Nor does the page of their mistakes, unless it has a place of its own."""
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "run" / "evaluations").symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(FakeEvaluator, "outcomes", "some")
    monkeypatch.setattr(run, "Evaluator", FakeEvaluator)
    report = types.SimpleNamespace(line=str, summary=lambda page: {"page": page})
    monkeypatch.setattr(run.telling, "make_report", lambda *_: report)
    monkeypatch.setattr(run.telling.page, "render", lambda _: b"<html>")
    experiment = experiment_of(digits)
    answer = run.evaluate(experiment, tmp_path / "run")
    assert answer["mistakes"] == {"page": None}
    out, err = capsys.readouterr()
    refusal = f"{tmp_path}/run/evaluations is a link, and a run goes through none"
    assert f"warning: these scores are not kept: {refusal}" in err
    assert "its page is not written" in out + err
    page = str(tmp_path / "page.html")
    answer = run.evaluate(experiment, tmp_path / "run", output=page)
    assert answer["mistakes"] == {"page": "page.html"}
    assert list((tmp_path / "theirs").iterdir()) == []


class FakeEvaluator:
    """Knows the scores without a look at the images."""

    scores = dict.fromkeys(evaluation.SCORES, 0.1) | {
        **{"eval_images": 1, "eval_skipped_records": 0, "eval_digest": None},
        **{"eval_split": "s", "eval_data": "d", "eval_data_dir": "there"},
    }

    outcomes = None

    def __init__(self, *_):
        pass

    def score(self, path):
        return {**self.scores, "checkpoint": path}


def test_which_checkpoint_is_scored(digits, finished, tmp_path, monkeypatch):
    model_dir = tmp_path / "run"
    shutil.copytree(finished[0], model_dir)
    bundle.delete(f"{model_dir}/ckpt-12")
    monkeypatch.setattr(run, "Evaluator", FakeEvaluator)
    evaluate = functools.partial(run.evaluate, experiment_of(digits), model_dir)
    assert evaluate()["checkpoint"] == f"{model_dir}/ckpt-8"
    best = evaluate(best=True)
    assert (best["checkpoint"], best["steps"]) == (f"{model_dir}/best/ckpt-12", 12)
    assert evaluate(step=12) == best  # it is in best/ alone
    assert evaluate(step=4)["checkpoint"] == f"{model_dir}/ckpt-4"
    with pytest.raises(UserError) as refused:
        evaluate(step=400)
    assert str(refused.value) == (
        f"{model_dir} has no checkpoint of step 400, nor has its best/: there are "
        "those of 0, 4, 8, 12"
    )
    shutil.rmtree(model_dir / "best")
    with pytest.raises(UserError, match="has no best checkpoint: a run keeps one when"):
        evaluate(best=True)


def test_the_folder_of_the_best_one_is_the_runs_best(finished, tmp_path):
    assert run_folder.run_of_best(f"{finished[0]}/best") == str(finished[0])
    assert run_folder.run_of_best(str(finished[0])) is None
    shutil.copytree(finished[0], tmp_path / "best")  # a run may be called so
    assert run_folder.run_of_best(f"{tmp_path}/best") is None


@pytest.mark.long
def test_an_evaluation_claims_nothing(digits, finished, tmp_path):
    """It makes no folder for nothing, and names no run in that of the best one."""
    with pytest.raises(UserError, match="no checkpoint in"):
        run.evaluate(experiment_of(digits), f"{tmp_path}/typo")
    assert not (tmp_path / "typo").exists()
    shutil.copytree(finished[0] / "best", tmp_path / "best")
    run.evaluate(experiment_of(digits), f"{tmp_path}/best")
    assert not (tmp_path / "best" / "run.json").exists()


def test_a_checkpoint_of_another_run_is_not_scored(digits, finished, tmp_path):
    model_dir = tmp_path / "run"
    shutil.copytree(finished[0], model_dir)
    for name in ("", "best/"):
        manifest = model_dir / f"{name}ckpt-12.json"
        own = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(own | {"run": "theirs"}))
    before = contents(model_dir)
    experiment = experiment_of(digits)
    for score in (
        lambda: run.evaluate(experiment, str(model_dir)),
        lambda: run_tiny(digits, model_dir),
        lambda: saved_model.export(
            experiment, f"{model_dir}/best", f"{model_dir}/export"
        ),
    ):
        with pytest.raises(UserError, match=r"ckpt-12 is a checkpoint of another run"):
            score()
    assert contents(model_dir) == before


@pytest.mark.long
def test_training_alone_needs_no_validation_split(digits, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    info = json.loads((data / "dataset_info.json").read_text())
    del info["splits"]["validation"]
    (data / "dataset_info.json").write_text(json.dumps(info))
    summary = run.train_and_evaluate(
        experiment_of(data), tmp_path / "run", with_evaluation=False
    )
    assert summary["steps"] == 12
    assert not [name for name in summary if "top1" in name]


@pytest.mark.long
def test_finished_run_is_only_scored_again(digits, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "copy")
    summary = run_tiny(digits, tmp_path / "copy")
    assert summary["steps"] == 12
    assert summary["seconds"] == finished[1]["seconds"]  # of the run that trained
    assert summary["ema_loss"] == finished[1]["ema_loss"]


@pytest.mark.slow
def test_full_disk_keeps_the_last_good_checkpoint(
    digits, finished, tmp_path, monkeypatch
):
    """And the run goes on from there, to the same end, bit for bit.

    A limit on the size of files stands in for a disk without space.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    update = run.Progress.update

    def update_then_fill_disk(self, step, output):
        update(self, step, output)
        if step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))

    try:
        with monkeypatch.context() as patch:
            patch.setattr(run.Progress, "update", update_then_fill_disk)
            with pytest.raises(UserError) as caught:
                run_tiny(digits, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    text = str(caught.value)
    assert f"cannot write a checkpoint to {tmp_path}" in text
    assert "File too large" in text
    assert f"the last good one is {tmp_path}/ckpt-4" in text
    left = sorted(path.name for path in tmp_path.glob("ckpt-*"))
    suffixes = ["data-00000-of-00001", "index", "json"]
    assert left == [f"ckpt-{step}.{suffix}" for step in (0, 4) for suffix in suffixes]
    assert not list(tmp_path.glob(".staging-*"))
    summary = run_tiny(digits, tmp_path)
    assert summary["first_step"] == 4
    assert_same_variables(finished[0], tmp_path)
    scores = ("top1", "top5", "loss", "ema_top1", "ema_top5", "ema_loss")
    assert [summary[s] for s in scores] == [finished[1][s] for s in scores]


def damage(digits, folder, split) -> None:
    """Copies the digits and blanks the first JPEG of every shard of a split."""
    shutil.copytree(digits, folder)
    for shard in folder.glob(f"{split}-*"):
        records = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
        example = tf.train.Example.FromString(records[0])
        encoded = example.features.feature["image/encoded"].bytes_list
        # Of the same length: dataset_info.json knows where the records begin.
        encoded.value[0] = encoded.value[0][:20].ljust(len(encoded.value[0]), b"\0")
        records[0] = example.SerializeToString()
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for record in records:
                writer.write(bytes(record))


@pytest.mark.long
def test_broken_jpeg_stops_training_and_is_named(digits, tmp_path):
    data = tmp_path / "data"
    damage(digits, data, "train")
    with pytest.raises(DataError) as caught:
        # Unshuffled, so that the first batch meets it.
        run_tiny(data, tmp_path / "run", **{"dataset.train_dataset.shuffle_buffer": 1})
    text = str(caught.value)
    assert re.search(rf"{data}/train-0000\d-of-00008, record 0", text)
    assert "on_bad_record" in text
    assert "\n" not in text


@pytest.mark.long
def test_broken_jpeg_is_skipped_and_counted(digits, finished, tmp_path):
    damage(digits, tmp_path / "data", "validation")
    experiment = experiment_of(tmp_path / "data")
    with pytest.raises(DataError, match=r"validation-00000-of-00002, record 0"):
        run.evaluate(experiment, str(finished[0]))
    shutil.copytree(finished[0], tmp_path / "run")
    experiment = experiment_of(
        tmp_path / "data", **{"dataset.eval_dataset.on_bad_record": "skip"}
    )
    summary = run.evaluate(experiment, str(tmp_path / "run"))
    assert (summary["eval_images"], summary["eval_skipped_records"]) == (998, 2)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("efficientnet_x.build_model.num_classes", 7, "has 10 labels but the model"),
        ("experiment.Experiment.accumulation_steps", 3, r"size = \d+ does not divide"),
        ("experiment.Experiment.pretrained", "/no/such", "/no/such"),
    ],
)
def test_a_mistake_leaves_nothing(digits, tmp_path, name, value, why):
    mine = tmp_path / "runs" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(UserError, match=why):
        run_tiny(digits, tmp_path / "runs" / "new" / "run", **{name: value})
    assert [*tmp_path.rglob("*")] == [mine.parent, mine]


def test_no_data(tmp_path):
    with pytest.raises(DataError, match=r"input_pipeline\.prepare"):
        run_tiny(tmp_path / "nowhere", tmp_path / "run")


def test_checkpoint_of_another_model(digits, finished):
    wider = {"efficientnet_x.build_model.width_coefficient": 2.0}
    experiment = experiment_of(digits, **wider)
    path = newest(finished[0])
    fault = (
        r"ckpt-12 does not fit this run: ema/block_0/.* has the shape .* there, .* here"
    )
    models = evaluation.build_models(experiment, load_info(str(digits)), ["ema_"])
    with pytest.raises(UserError, match=fault):
        evaluation.restore_into(models, path)


@pytest.mark.long
def test_sigterm_saves_where_it_is(digits, finished, tmp_path, monkeypatch, capsys):
    """In the middle of a loop, at a step that no interval would save."""
    steps = []

    def requested(self):
        steps.append(None)
        return len(steps) == 2

    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "requested", property(requested))
        with pytest.raises(Restart, match=r"SIGTERM at step (\d+); .*ckpt-\1 is wri"):
            run_tiny(digits, tmp_path)
    saved = bundle.step(newest(tmp_path))
    assert saved == 1
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    (event,) = [line for line in lines if line.get("event") == "preempted"]
    assert (event["step"], event["checkpoint"]) == (saved, f"{tmp_path}/ckpt-{saved}")
    assert json.loads((tmp_path / "hosts" / "host-0.json").read_text())["state"] == (
        "stopped"
    )
    # The same data elsewhere are the same.
    shutil.copytree(digits, tmp_path / "moved")
    capsys.readouterr()
    summary = run_tiny(tmp_path / "moved", tmp_path)
    said = capsys.readouterr().err
    assert "data" not in "".join(
        line for line in said.splitlines() if "warning" in line
    )
    assert summary["first_step"] == saved
    assert_same_variables(finished[0], tmp_path)


@pytest.mark.slow
def test_settings_may_change_as_long_as_only_the_start_is_saved(digits, tmp_path):
    """And a start that lies there is not gone on from: it may be another's."""

    def interrupted(self, step, output):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Progress, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(digits, tmp_path, **{"experiment.Experiment.seed": 1})
    seed_1 = variables(tmp_path)
    assert seed_1["step"] == 0
    one_step = {"experiment.Experiment.epochs": 0.005}
    run_tiny(digits, tmp_path, **one_step)
    assert variables(tmp_path)["step"] == 1
    start = bundle.read(f"{tmp_path}/ckpt-0")
    assert (start["model/classifier/kernel"] != seed_1["model/classifier/kernel"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_sigkill_in_the_middle(digits, tmp_path, devices):
    """The command line, killed for real; the same command ends at the same weights.

    Compared with a process of its own: these tests switch graph rewriting off.
    """
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    changes = {
        "experiment.Experiment.strategy": "mirrored" if devices > 1 else "one_device",
        "experiment.Experiment.batch_norm": "global",
    }
    make = functools.partial(processes.command, digits, devices=devices)
    processes.run(make(whole, changes))
    command = make(folder, changes)
    with processes.started(command) as (process,):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 10/12"):
                process.kill()
    assert process.returncode == -signal.SIGKILL
    newest = directory.newest_intact(str(folder))
    assert newest in (f"{folder}/ckpt-4", f"{folder}/ckpt-8")  # 8 may be under way
    step = bundle.step(newest)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"going on at step {step}" in done.stderr
    assert json.loads(done.stdout)["first_step"] == step
    assert_same_variables(whole, folder)


def disturbed(command, redirection="", *, signals=(), **environment) -> int:
    """Return how a command ends in a shell that redirects, and signals at its start."""
    line = f"exec {shlex.join(command)} {redirection}"
    with processes.started(
        ["env", *(f"{k}={v}" for k, v in environment.items()), "bash", "-c", line]
    ) as (process,):
        assert process.stderr is not None
        for said in process.stderr:
            if "; starting from scratch" in said:
                for number in signals:
                    process.send_signal(number)
        return process.wait(300)


@pytest.mark.slow
def test_no_terminal_and_no_log_changes_a_training(digits, tmp_path):
    """It ends as it would have ended, at the same bytes; after SIGHUP by going on."""
    table = {
        "undisturbed": {},
        "log whose reader is gone": {"redirection": "2> >(exec head -c1 > /dev/null)"},
        "full log": {"redirection": "> /dev/full 2> /dev/full"},
        "closed": {"redirection": "<&- >&- 2>&-"},
        "ascii": {"PYTHONIOENCODING": "ascii", "COLUMNS": "0", "LC_ALL": "C"},
        "suspended": {"signals": (signal.SIGSTOP, signal.SIGCONT)},
        "hung up": {"signals": (signal.SIGHUP,)},
    }
    found = {}
    for name, how in table.items():
        command = processes.command(digits, tmp_path / name, {})
        status = disturbed(command, **how)
        if status == 75:
            assert disturbed(command) == 0
        data = tmp_path / name / "ckpt-12.data-00000-of-00001"
        found[name] = status, data.read_bytes()
    _, wanted = found["undisturbed"]
    assert found == {n: (75 if n == "hung up" else 0, wanted) for n in table}


@pytest.mark.slow
def test_two_replicas(digits, tmp_path, monkeypatch, logical_cpus):
    """Equal weights on both; every image is scored once."""
    states = []
    create = state.create
    monkeypatch.setattr(
        state, "create", lambda *a: states.append(create(*a)) or states[-1]
    )
    settings = {
        "experiment.Experiment.batch_norm": "global",
        "experiment.Experiment.strategy": "mirrored",
    }
    summary = run_tiny(digits, tmp_path, **settings)
    assert (summary["steps"], summary["eval_images"]) == (12, 1000)
    (train_state,) = states
    for model in train_state.models.values():
        for variable in model.weights:
            one, other = variable.value.values
            np.testing.assert_array_equal(one, other, err_msg=variable.path)


# imagenet_pod.gin for a small batch: the rate of biases and batch norm is lower by as
# much as trust_coefficient is higher, so that kernels' steps are as long as there.
POD = [
    "experiment.Experiment.optimizer = @optimizer.lars",
    "experiment.Experiment.learning_rate = @schedule.polynomial",
    "experiment.Experiment.weight_decay = 0.0",
    "optimizer.lars.weight_decay = 1e-5",
    "optimizer.lars.trust_coefficient = 0.004",
    "schedule.polynomial.peak_per_256 = 12.8",
    "schedule.polynomial.warmup_epochs = 1",
]


@pytest.mark.slow
def test_digits_are_learnt_with_the_optimizer_and_the_schedule_of_a_pod(
    digits, tmp_path
):
    sizes = {"experiment.Experiment.epochs": 6}
    found = config.resolve(
        ["gin_configs/runs/mnist_cpu.gin"], [*bindings(digits, sizes), *POD]
    )
    summary = run.train_and_evaluate(
        found.experiment, str(tmp_path / "run"), config=found
    )
    assert summary["top1"] > 0.75  # 0.87 when it was written, after 240 steps
