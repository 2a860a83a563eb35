"""Accuracies by training, in rungs."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import Restart, UserError
from input_pipeline.dataset_info import load_info
from search.accuracies import train_rung, training
from search.accuracies.training import Trained
from search.results import Score
from search.spaces import digest
from tests.support import tiny
from tests.support.runs import TINY, experiment_of

SOURCE = "trained, 0.06 epochs"


@pytest.fixture
def trained(tmp_path):
    return Trained(gin_files=(TINY,), epochs=(0.03, 0.06), search_dir=str(tmp_path))


class Acts:
    """Python code in a training's place.

    `result` is the file that it is to write, `tries` the processes before it.

    Attributes:
      folder: of the trial.
      tries: processes so far.
    """

    def __init__(self, monkeypatch, folder):
        self.folder, self.tries = folder, 0
        monkeypatch.setattr(training._Trial, "_command", lambda t: self._command(t))

    def __call__(self, code):
        self._code = code

    def _command(self, trial):
        known = {"result": str(trial._result), "tries": self.tries}
        self.tries += 1
        return [
            sys.executable,
            "-c",
            "import json, os, signal, sys, time\n"
            f"globals().update({known!r})\n"
            "def write(**found):\n"
            f"    text = json.dumps(found | {{'settings': {trial._fingerprint()!r}}})\n"
            "    with open(result + '.part', 'w') as file:\n"
            "        file.write(text)\n"
            "    os.rename(result + '.part', result)\n" + self._code,
        ]


@pytest.fixture
def acts(monkeypatch, tmp_path):
    return Acts(monkeypatch, tmp_path / "trials" / digest(tiny.variant()))


def test_a_score_is_kept_for_the_next_call(trained, acts):
    acts("write(top1=0.5, ema_top1=0.625, steps=12)")
    assert trained(tiny.variant(), 1) == Score((62.5,), SOURCE)
    acts("sys.exit(2)")
    assert trained(tiny.variant(), 1) == Score((62.5,), SOURCE)
    raw = dataclasses.replace(trained, score="top1")
    assert raw(tiny.variant(), 1) == Score((50.0,), SOURCE)


def test_equal_networks_have_one_training(trained, acts):
    acts("write(top1=0.5, ema_top1=0.625, steps=12)")
    trained(tiny.variant(), 1)
    acts("sys.exit(2)")
    twin = dataclasses.replace(tiny.variant(), name="twin", depth_coefficient=0.9)
    assert trained(twin, 1).samples == (62.5,)


def test_other_settings_are_another_training(trained, acts):
    acts("write(top1=0.5, ema_top1=0.625, steps=12)")
    trained(tiny.variant(), 1)
    other = dataclasses.replace(trained, gin_params=("a.b = 1",))
    with pytest.raises(UserError, match="trained under other settings") as error:
        other(tiny.variant(), 1)
    assert str(acts.folder / "rung-1.json") in str(error.value)


def test_divergence_is_final(trained, acts):
    acts("write(reason='diverged: loss is not finite at step 3', is_final=True)")
    reason = "diverged: loss is not finite at step 3"
    assert trained(tiny.variant(), 1) == Score((), SOURCE, reason)
    acts("sys.exit(2)")
    assert trained(tiny.variant(), 1) == Score((), SOURCE, reason)


def test_want_of_memory_is_not(trained, acts):
    acts("write(reason='does not fit in memory: 3 GB')")
    assert trained(tiny.variant(), 1).reason == "does not fit in memory: 3 GB"
    acts("write(top1=0.5, ema_top1=0.625, steps=12)")
    assert trained(tiny.variant(), 1).top1 == 62.5


def test_a_person_s_mistake_is_an_error(trained, acts):
    acts("print('error: there is no data in data/mnist'); sys.exit(2)")
    with pytest.raises(UserError) as error:
        trained(tiny.variant(), 1)
    assert str(error.value) == (
        "the training of tiny, rung 1: there is no data in data/mnist "
        f"(see {acts.folder}/log.txt)"
    )
    assert acts.tries == 1


def test_a_training_that_was_killed_goes_on(trained, acts):
    acts(
        "os.kill(os.getpid(), 9) if tries < 2 else "
        "write(top1=0.5, ema_top1=0.625, steps=12)"
    )
    assert trained(tiny.variant(), 1).top1 == 62.5
    assert acts.tries == 3


def test_a_training_that_is_killed_every_time(trained, acts):
    acts("os.kill(os.getpid(), 9)")
    reason = "its process was killed 3 times by SIGKILL, perhaps for want of memory"
    assert trained(tiny.variant(), 1) == Score((), SOURCE, reason)
    acts("os.kill(os.getpid(), 14)")
    assert trained(tiny.variant(), 1).reason.endswith("3 times by SIGALRM")


def test_a_training_that_is_stopped_every_time(trained, acts):
    acts("print('stopped by SIGTERM at step 3'); sys.exit(75)")
    with pytest.raises(Restart, match="rung 1: stopped by SIGTERM at step 3"):
        trained(tiny.variant(), 1)


def test_a_training_without_an_answer(trained, acts):
    acts("")
    with pytest.raises(Restart, match=r"rung-1\.json cannot be read"):
        trained(tiny.variant(), 1)


def test_out_of_time(trained, acts, monkeypatch):
    """It is told to end, and does."""

    class Clock:
        """Stands until the training has begun; then time is up."""

        now = 0.0

        def monotonic(self):
            while self.now and not (acts.folder / "ready").exists():
                time.sleep(0.01)
            self.now += 3600
            return self.now

    monkeypatch.setattr(training, "time", Clock())
    acts(
        "signal.pthread_sigmask(signal.SIG_BLOCK, {15})\n"
        "open(os.path.dirname(result) + '/ready', 'w')\n"
        "signal.sigwait({15})\n"
        "print('saved', flush=True)\n"
        "sys.exit(75)"
    )
    hasty = dataclasses.replace(trained, seconds=1800)
    assert hasty(tiny.variant(), 1) == Score((), SOURCE, "out of time: 1800 s")
    assert (acts.folder / "log.txt").read_text() == "saved\n"
    assert acts.tries == 1


def wait_for(path, is_alive):
    """Wait for a file that a process writes."""
    while not path.exists():
        assert is_alive() or path.exists()
        time.sleep(0.01)


def test_it_ends_with_whoever_started_it(trained, acts):
    """Standard input of a training ends when its parent is killed."""
    acts(
        "import select\n"
        "if select.select([0], [], [], 0)[0]: sys.exit('it has ended before')\n"
        "with open(result + '.pid', 'w') as file: file.write(str(os.getpid()))\n"
        "os.rename(result + '.pid', os.path.dirname(result) + '/pid')\n"
        "sys.stdin.read()\n"
        "write(top1=0.25, ema_top1=0.25, steps=1)"
    )
    child = os.fork()
    if not child:
        try:
            trained(tiny.variant(), 1)
        finally:
            os._exit(0)
    wait_for(acts.folder / "pid", lambda: os.waitpid(child, os.WNOHANG) == (0, 0))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    training_process = Path("/proc", (acts.folder / "pid").read_text())
    wait_for(acts.folder / "rung-1.json", training_process.exists)
    assert trained(tiny.variant(), 1).top1 == 25


def test_a_result_that_is_not_ours(trained, acts):
    acts("write(top1=0.5, ema_top1=0.625, steps=12)")
    acts.folder.mkdir(parents=True)
    for text in ("", "[]", '{"settings": "x"}', "{"):
        (acts.folder / "rung-1.json").write_text(text)
        with pytest.raises(UserError, match="is not what a training has written"):
            trained(tiny.variant(), 1)


def test_a_full_disk(trained, acts, monkeypatch):
    def fail(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(training.files, "write_bytes", fail)
    message = r"network\.gin: No space left on device; .* free some space"
    with pytest.raises(UserError, match=message):
        trained(tiny.variant(), 1)
    assert acts.tries == 0


def test_a_folder_that_is_a_file(trained, tmp_path):
    (tmp_path / "trials").write_text("mine")
    with pytest.raises(UserError, match=r"trials.*(File exists|Not a directory)"):
        trained(tiny.variant(), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": ()}, "rising numbers"),
        ({"epochs": (3, 3)}, "rising numbers"),
        ({"epochs": (0, 3)}, "rising numbers"),
        ({"epochs": ("1",)}, "rising numbers"),
        ({"epochs": (float("nan"),)}, "rising numbers"),
        ({"score": "top5"}, "ema_top1 or top1"),
        ({"seconds": -1}, "None or above 0"),
        ({"gin_files": ("none.gin",)}, "there is no gin file none.gin"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        Trained(**{"gin_files": (TINY,), "epochs": (1, 3), **settings})


def test_a_rung_that_there_is_not(trained):
    with pytest.raises(UserError, match=r"epochs = \(0.03, 0.06\) has no rung 2"):
        trained(tiny.variant(), 2)


def test_what_cannot_be_built_is_a_result(trained, acts):
    small = dataclasses.replace(tiny.variant(), resolution=1)
    score = trained(small, 0)
    assert score.samples == ()
    assert score.reason.startswith("cannot be built: resolution 1 is too small")
    assert acts.tries == 0


def test_the_first_part_of_a_run(digits):
    """It ends early; rates and stages until there are the whole run's."""
    stages = [
        {"until_epoch": 0.5, "resolution": 16},
        {"until_epoch": 1.5, "resolution": 24},
    ]
    changes = {"Experiment.epochs": 2, "Experiment.progressive": stages}
    named = {f"experiment.{name}": value for name, value in changes.items()}
    named["schedule.cosine.warmup_epochs"] = 0
    whole, info = experiment_of(digits, **named), load_info(str(digits))
    assert list(whole.stages(info)) == [100, 300, 400]
    for epoch, ends in (
        (0.25, [50]),
        (0.5, [100]),
        (1, [100, 200]),
        (2, [100, 300, 400]),
    ):
        part = train_rung.first_part(whole, epoch)
        assert part.train_steps(info) == 200 * epoch
        found = part.stages(info)
        assert list(found) == ends
        assert list(found.values()) == list(whole.stages(info).values())[: len(ends)]
        for step in (0, 10, 49):
            rates = [e.make_learning_rate(info)(step) for e in (whole, part)]
            assert rates[0] == rates[1]
        assert part.epochs == 2  # of the config
    with pytest.raises(UserError, match=r"epoch 2\.5 is behind the end of the run"):
        train_rung.first_part(whole, 2.5)
    ends_early = dataclasses.replace(whole, early_stopping_patience=2)
    with pytest.raises(UserError, match="patience would end a run before its rung"):
        train_rung.first_part(ends_early, 1)


# Real trainings: processes of 20 seconds each.


@pytest.fixture
def real(trained, digits):
    data = f"experiment.Experiment.data_dir = {str(digits)!r}"
    return dataclasses.replace(trained, gin_params=(data,))


def summary(trained):
    folder = f"{trained.search_dir}/trials/{digest(tiny.variant())}"
    with open(f"{folder}/run/summary.json") as file:
        return json.load(file)


def metrics(trained):
    folder = f"{trained.search_dir}/trials/{digest(tiny.variant())}"
    with open(f"{folder}/run/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    keys = ("step", "loss", "learning_rate")
    return [[line[k] for k in keys] for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_a_rung_goes_on_from_the_one_below(real, tmp_path):
    """In two rungs all numbers are those of one: schedules are the whole run's."""
    cosine = "schedule.cosine.warmup_epochs = 0.01"
    two = dataclasses.replace(real, gin_params=(*real.gin_params, cosine))
    first, second = two(tiny.variant(), 0), two(tiny.variant(), 1)
    assert first.source == "trained, 0.03 epochs"
    assert summary(two)["first_step"] == 6
    at_once = dataclasses.replace(two, search_dir=str(tmp_path / "at_once"))
    assert at_once(tiny.variant(), 1) == second
    assert summary(at_once)["first_step"] == 0
    assert metrics(two) == metrics(at_once)
    names = ("steps", "loss", "top1", "ema_loss", "ema_top1")
    assert [summary(two)[n] for n in names] == [summary(at_once)[n] for n in names]


@pytest.mark.slow
def test_kill_9_and_the_same_call_again(real, tmp_path):
    code = (
        "import sys\nfrom search.accuracies.training import Trained\n"
        "from tests.support import tiny\n"
        f"settings = {vars(real)!r}\n"
        "print(Trained(**settings)(tiny.variant(), 1).top1)\n"
    )
    log = tmp_path / "trials" / digest(tiny.variant()) / training.LOG
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    while not (log.exists() and "step 4/12" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    score = real(tiny.variant(), 1)
    assert summary(real)["steps"] == 12
    other = dataclasses.replace(real, search_dir=str(tmp_path / "undisturbed"))
    assert other(tiny.variant(), 1) == score
    assert metrics(other) == metrics(real)


@pytest.mark.slow
def test_what_diverges_is_a_result(real):
    wild = "schedule.cosine.peak_per_256 = 1e30"
    source = dataclasses.replace(
        real,
        gin_params=(*real.gin_params, wild, "schedule.cosine.warmup_epochs = 0"),
    )
    score = source(tiny.variant(), 1)
    assert score.samples == ()
    assert score.reason.startswith("diverged: ")
    assert "is not finite at step" in score.reason


@pytest.mark.slow
def test_a_mistake_in_the_recipe_is_the_person_s(real):
    for changes, message in (
        (("experiment.Experiment.epoch = 3",), "epoch"),
        (("experiment.Experiment.epochs = 0.05",), "behind the end of the run"),
        (("experiment.Experiment.data_dir = 'nowhere'",), "nowhere"),
    ):
        source = dataclasses.replace(real, gin_params=(*real.gin_params, *changes))
        with pytest.raises(UserError, match=message):
            source(tiny.variant(), 1)
