"""Runs that are killed again and again, and end where an undisturbed one does."""

import contextlib
import json
import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from common.errors import Status
from tests.support import processes
from tests.support.saved import steps
from tests.train.test_run import assert_same_variables

E = "experiment.Experiment"
# Long enough for 20 lives; a checkpoint every 10 steps, an evaluation every 40.
SETTINGS = {
    f"{E}.epochs": 6.0,
    f"{E}.steps_per_loop": 5,
    f"{E}.checkpoint_every_steps": 10,
    f"{E}.keep_checkpoints": 3,
    f"{E}.eval_every_epochs": 0.2,
    f"{E}.preemption_deadline_seconds": 60.0,
}
STEPS = 1200
MOMENTS = ["training"] * 6 + ["evaluation"] * 5 + ["checkpointing"] * 6 + ["start"] * 3
SCORES = [f"{who}{what}" for who in ("", "ema_") for what in ("loss", "top1", "top5")]


def wait_for(moment, lines, model_dir, chance, alone) -> None:
    """Returns at a random instant of training, evaluation or checkpointing."""
    begun = alone
    for line in lines:
        if line.startswith("step "):
            step = int(line.split()[1].split("/")[0].replace(",", ""))
            evaluates = step % 40 == 0
            if moment == "training" and chance.random() < 0.2:
                time.sleep(chance.uniform(0, 0.1))
                return
            if moment == "evaluation" and evaluates:
                time.sleep(chance.uniform(0, 0.3))
                return
            if moment == "checkpointing" and chance.random() < 0.5:
                deadline = time.monotonic() + 0.5
                while time.monotonic() < deadline:
                    if list(model_dir.glob(".staging-*")):
                        time.sleep(chance.uniform(0, 0.01))
                        return
        # Before they have found each other, TensorFlow keeps SIGTERM to itself.
        begun = begun or "starting from" in line or "going on" in line
        if moment == "start" and begun and chance.random() < 0.5:
            return


def live_once(command, workers, model_dir, chance, moment) -> tuple[str, str] | None:
    """Starts a run and sends one signal; None if the run ended before."""
    kind = chance.choice([signal.SIGKILL, signal.SIGTERM])
    with processes.started(command, workers=workers) as group:
        chief, victim = group[0], chance.choice(group)
        assert chief.stderr is not None
        wait_for(moment, chief.stderr, model_dir, chance, workers == 1)
        if chief.poll() is not None:
            return None
        victim.send_signal(kind)
        for process in group:
            _, text = process.communicate(timeout=120)
            # SIGTERM kills a process that is only just starting.
            allowed = {Status.RESTART, 0, -signal.SIGTERM}
            if process is victim and kind == signal.SIGKILL:
                allowed = {-signal.SIGKILL}
            assert process.returncode in allowed, text
    return moment, kind.name


def harass(digits, folder, *, signals, workers, seed):
    """Runs under so many signals; returns what was sent, and the summaries of both."""
    strategy = "multi_worker" if workers > 1 else "one_device"
    settings = SETTINGS | {f"{E}.strategy": strategy}
    whole, killed = folder / "whole", folder / "killed"
    processes.run(
        processes.command(digits, whole, settings), workers=workers, timeout=1200
    )
    command = processes.command(digits, killed, settings)
    chance, sent = random.Random(seed), []
    moments = MOMENTS * 2
    chance.shuffle(moments)
    for moment in moments[:signals]:
        event = live_once(command, workers, killed, chance, moment)
        assert event is not None, f"the run ended after {len(sent)} signals"
        sent.append(event)
    processes.run(command, workers=workers, timeout=1200)
    assert_same_variables(whole, killed)
    summaries = [
        json.loads((path / "summary.json").read_text()) for path in (whole, killed)
    ]
    assert [summaries[1][name] for name in SCORES] == [
        summaries[0][name] for name in SCORES
    ]
    assert summaries[1]["steps"] == STEPS
    assert summaries[1]["first_step"] > 0
    assert_one_history(whole, killed)
    return Counter(sent)


def assert_one_history(whole, killed) -> None:
    """The numbers of all lives together are those of the undisturbed run."""

    def history(model_dir, file, names):
        lines = map(json.loads, (model_dir / file).read_text().splitlines())
        return {
            line["step"]: [line[name] for name in names]
            for line in lines
            if line["kind"] != "event"
        }

    assert history(whole, "eval.jsonl", SCORES) == history(killed, "eval.jsonl", SCORES)
    lived = history(killed, "metrics.jsonl", ["learning_rate"])
    assert history(whole, "metrics.jsonl", ["learning_rate"]).keys() <= lived.keys()


@pytest.mark.slow
def test_one_process(digits, tmp_path):
    print(harass(digits, tmp_path, signals=20, workers=1, seed=1))


@pytest.mark.slow
def test_two_processes(digits, tmp_path):
    print(harass(digits, tmp_path, signals=20, workers=2, seed=2))


def race_once(command, model_dir, chance) -> list[int]:
    """Starts three trainers of one folder, kills one; returns how each has ended."""
    begun = max(steps(model_dir), default=0)
    until = begun + chance.randrange(10, 60)
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(processes.started(command))[0] for _ in range(3)]
        while max(steps(model_dir), default=0) < until:
            if all(racer.poll() is not None for racer in racers):
                break
            time.sleep(0.01)
        one_of_them = begun and chance.random() < 0.3
        (chance.choice(racers) if one_of_them else holder(racers)).kill()
        ends = []
        for racer in racers:
            _, said = racer.communicate(timeout=600)
            ends.append(racer.returncode)
            assert racer.returncode in (0, Status.MISTAKE, -signal.SIGKILL), said
            if racer.returncode == Status.MISTAKE:
                assert "is held by a" in said.splitlines()[-1], said
    return ends


def holder(racers) -> subprocess.Popen:
    """The one that trains: the others are refused, or will be."""
    return next((racer for racer in racers if racer.poll() is None), racers[0])


@pytest.mark.slow
def test_trainers_that_race_for_one_folder(digits, tmp_path):
    settings = SETTINGS | {f"{E}.epochs": 1.2}
    whole, raced = tmp_path / "whole", tmp_path / "raced"
    processes.run(processes.command(digits, whole, settings), timeout=600)
    command = processes.command(digits, raced, settings)
    raced.mkdir()
    chance, ends = random.Random(3), Counter()
    while max(steps(raced), default=0) < 240:
        ends.update(race_once(command, raced, chance))
    processes.run(command, timeout=600)
    print(ends)
    assert ends[Status.MISTAKE] > 0
    assert ends[-signal.SIGKILL] > 0
    assert_same_variables(whole, raced)
    assert_one_history(whole, raced)
    run = json.loads((raced / "run.json").read_text())["run"]
    for manifest in raced.rglob("ckpt-*.json"):
        if not manifest.name.startswith("scores-"):
            assert json.loads(manifest.read_text())["run"] == run
    (best,) = steps(whole / "best")
    assert steps(raced / "best") == [best]
    for name in (f"ckpt-{best}.data-00000-of-00001", f"ckpt-{best}.index"):
        ours, theirs = (folder / "best" / name for folder in (whole, raced))
        assert ours.read_bytes() == theirs.read_bytes()
    ours, theirs = (
        json.loads((folder / "best" / f"scores-ckpt-{best}.json").read_text())
        for folder in (whole, raced)
    )
    assert [ours[name] for name in SCORES] == [theirs[name] for name in SCORES]
