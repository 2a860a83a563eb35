import datetime
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common import gfiles
from common.errors import UserError
from tests.support.disk import full_disk
from train import metrics
from train.telemetry import loop_row, telemetry, writers

MACS = 1e9


def output(step, **changes):
    """A loop of 10 steps of 0.1 s, but for one of 1.1 s: 80 images in 2 s."""
    values = {
        "step": step,
        "steps": 10,
        "seconds": 2.0,
        "step_seconds": np.array([0.1] * 9 + [1.1]),
        "wait_seconds": 0.1,
        "loss": 1.5 + step,
        "top1": 0.25,
        "learning_rate": 0.5,
        "gradient_norm": 2.0,
        "gradient_norm_max": 3.0,
        "weight_norm": 40.0,
        "ema_decay": 0.99,
        "skipped_records": 2,
        "images": 80,
    }
    return metrics.LoopOutput(**values | changes)


def make(folder, **settings):
    defaults = {"global_batch_size": 8, "replicas": 2, "peak_teraflops": 0.5}
    return telemetry.Telemetry(str(folder), **defaults | settings)


def loops(numbers, *steps, **changes):
    for step in steps:
        numbers.loop(output(step, **changes), macs_per_image=MACS)


def lines(path):
    """What a strict parser reads."""

    def refuse(constant):
        raise ValueError(constant)

    texts = path.read_text().splitlines()
    return [json.loads(text, parse_constant=refuse) for text in texts]


def steps(path, kind="train"):
    return [line["step"] for line in lines(path) if line["kind"] == kind]


def curves(folder):
    """What TensorBoard shows of a folder."""
    events = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0, "images": 0})
    return events.Reload()


def points(folder, tag="scores/loss"):
    return [(point.step, point.value) for point in curves(folder).Scalars(tag)]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now[0])
    return now


def test_numbers_of_a_loop(tmp_path):
    row = make(tmp_path).loop(output(20), macs_per_image=MACS, save_seconds=0.75)
    expected = {
        "loss": 21.5,
        "top1": 0.25,
        "learning_rate": 0.5,
        "gradient_norm": 2.0,
        "gradient_norm_max": 3.0,
        "weight_norm": 40.0,
        "ema_decay": 0.99,
        "skipped_records": 2,
        "steps": 10,
        "images_seen": 160,
        "save_seconds": 0.75,
        "images_per_second": 40.0,
        "step_ms_p50": 100.0,
        "step_ms_p90": 200.0,
        "step_ms_p99": 1010.0,
        "step_ms_max": 1100.0,
        "input_wait": 0.05,
        "input_bound": 0,
        "verdict": "compute bound",
        "mfu": 40 * 6 * 1e9 / (2 * 0.5e12),
    }
    assert row.values() == pytest.approx(expected)
    assert list(row.values()) == list(expected)  # and so they are written


def test_a_loop_of_skipped_steps_has_no_norm(tmp_path):
    scaled = {"loss_scale": 2.0**14, "gradient_norm": math.nan}
    with make(tmp_path) as shown:
        shown.loop(output(10, **scaled, skipped_steps=10), macs_per_image=MACS)
        shown.loop(output(20, loss_scale=2.0**14, skipped_steps=9), macs_per_image=MACS)
    none, one = lines(tmp_path / "metrics.jsonl")
    assert (none["loss_scale"], none["skipped_steps"]) == (16384.0, 10)
    assert not none.keys() & {"gradient_norm", "gradient_norm_max"}
    assert (one["gradient_norm"], one["skipped_steps"]) == (2.0, 9)
    assert points(tmp_path / "train", "optimizer/skipped_steps") == [(10, 10), (20, 9)]
    assert points(tmp_path / "train", "optimizer/gradient_norm") == [(20, 2.0)]


def test_a_loop_that_waits_for_more_than_a_tenth_is_input_bound(tmp_path):
    for wait, bound in ((0.2, 0), (0.21, 1), (2.0, 1)):
        waited = output(20, wait_seconds=wait)
        speed = make(tmp_path).loop(waited, macs_per_image=MACS).speed
        assert speed is not None
        assert speed.input_wait == wait / 2
        assert speed.input_bound == bound
        assert speed.verdict == ("compute bound", "input bound")[bound]


def test_nothing_is_said_of_the_speed_of_a_loop_that_compiles(tmp_path):
    with make(tmp_path) as shown:
        first = shown.loop(output(10), macs_per_image=MACS, is_first=True).values()
        shown.loop(output(20), macs_per_image=MACS)
    names = {"steps", "images_seen", *loop_row.TAGS} - first.keys()
    names -= {"loss_scale", "skipped_steps"}  # of float16 alone
    speed = {"images_per_second", "mfu", "input_wait", "input_bound"}
    speed |= {f"step_ms_{name}" for name in ("p50", "p90", "p99", "max")}
    assert names - {"save_seconds"} == speed
    assert "verdict" not in first
    assert points(tmp_path / "train", "speed/images_per_second") == [(20, 40)]


def test_an_unknown_peak_leaves_the_mfu_out(tmp_path):
    with make(tmp_path, peak_teraflops=None) as shown:
        assert "mfu" not in shown.loop(output(20), macs_per_image=MACS).values()
    assert "mfu" not in lines(tmp_path / "metrics.jsonl")[0]
    assert "speed/mfu" not in curves(tmp_path / "train").Tags()["scalars"]


def test_tensorboard_and_the_lines_say_the_same(tmp_path):
    scaled = output(20, loss_scale=2.0**14, skipped_steps=1)
    with make(tmp_path) as shown:
        shown.start(0, "a.b = 1\n\n```c = 2```")
        row = shown.loop(scaled, macs_per_image=MACS, save_seconds=0.5)
        shown.event(20, "preempted", deadline=30.0, where=("a", 1))
    numbers = row.values()
    board = curves(tmp_path / "train")
    assert sorted(board.Tags()["scalars"]) == sorted(loop_row.TAGS.values())
    for name, tag in loop_row.TAGS.items():
        (point,) = board.Scalars(tag)
        assert point.step == 20
        assert point.value == pytest.approx(numbers[name])
    (text,) = board.Tensors("config")
    assert text.step == 0
    assert text.tensor_proto.string_val[0] == b"    a.b = 1\n    \n    ```c = 2```"

    train, event = lines(tmp_path / "metrics.jsonl")
    time = datetime.datetime.fromisoformat(train.pop("time"))
    assert time.utcoffset() == datetime.timedelta(0)
    assert train == {"kind": "train", "step": 20, **numbers}
    event.pop("time")
    assert event == {
        "kind": "event",
        "step": 20,
        "event": "preempted",
        "deadline": 30.0,
        "where": ["a", 1],
    }


def test_a_checkpoint_counts_for_the_loop_that_it_held_up(tmp_path):
    with make(tmp_path) as shown:
        for step, seconds in ((10, 1.5), (20, 0.0), (30, 0.25)):
            row = shown.loop(
                output(step, steps=step),
                macs_per_image=MACS,
                is_first=step == 10,
                save_seconds=seconds,
            )
            rate = row.values().get("images_per_second")
            assert rate == (None if step == 10 else 40)
    written = lines(tmp_path / "metrics.jsonl")
    assert [line.get("save_seconds") for line in written] == [1.5, None, 0.25]
    assert "save_seconds" not in written[1]
    assert [line["steps"] for line in written] == [10, 20, 30]
    saves = points(tmp_path / "train", "speed/save_seconds")
    assert saves == [(10, 1.5), (30, 0.25)]


def test_example_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [2, 4, 6, 3], np.uint8)
    with make(tmp_path) as shown:
        shown.images(5, images, ["a cat", "a dog"])
    board = curves(tmp_path / "train")
    assert board.Tags()["images"] == ["examples/0", "examples/1"]
    for place in range(2):
        (shown,) = board.Images(f"examples/{place}")
        assert (shown.step, shown.height, shown.width) == (5, 4, 6)
        pixels = tf.io.decode_png(shown.encoded_image_string).numpy()
        np.testing.assert_array_equal(pixels, images[place])
    (text,) = board.Tensors("examples/captions")
    assert text.tensor_proto.string_val[0] == b"0. a cat\n1. a dog"


def test_an_evaluation_replaces_the_one_of_its_step(tmp_path):
    scores = {"checkpoint": "ckpt-10", "eval_images": 5, "ema_top1": np.float32(0.5)}
    with make(tmp_path) as shown:
        shown.evaluation(10, scores)
        shown.evaluation(20, {"ema_top1": 0.6})
    with make(tmp_path) as shown:  # killed before it could say that it had scored 10
        shown.evaluation(10, scores | {"ema_top1": 0.75})
        assert shown.evaluations() == {
            20: {"ema_top1": 0.6},
            10: scores | {"ema_top1": 0.75},
        }
    assert steps(tmp_path / "eval.jsonl", "eval") == [20, 10]
    assert curves(tmp_path / "eval").Tags()["scalars"] == ["scores/ema_top1"]
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / "train").exists()


def test_two_jobs_score_one_run(tmp_path):
    with make(tmp_path) as training, make(tmp_path) as follower:
        training.start(0, "")
        training.evaluation(10, {"top1": 0.1})
        follower.evaluation(20, {"top1": 0.2})
        training.evaluation(30, {"top1": 0.3})
    assert steps(tmp_path / "eval.jsonl", "eval") == [10, 20, 30]


def test_a_job_that_only_trains_leaves_the_scores_alone(tmp_path):
    with make(tmp_path) as follower:
        follower.evaluation(20, {"top1": 0.2})
    with make(tmp_path) as training:
        training.start(10, "")
        loops(training, 20)
    assert len(list((tmp_path / "eval").iterdir())) == 1
    assert points(tmp_path / "eval", "scores/top1") == [(20, pytest.approx(0.2))]


def killed_run(folder):
    """A process that dies at step 40, in the middle of writing two files."""
    killed = make(folder)
    killed.start(0, "first = 1")
    loops(killed, 10, 20, 30)
    killed.event(30, "damaged_checkpoint", path="x")
    killed.evaluation(20, {"top1": 0.2})
    killed.evaluation(40, {"top1": 0.4})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 4')
    (events,) = (folder / "train").iterdir()
    events.write_bytes(events.read_bytes()[:-5])


def test_somebodys_file_stays_as_it_is(tmp_path, capsys):
    """And the numbers are written as soon as it is gone."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"my": "notes"}\n')
    telemetry = make(tmp_path)
    telemetry.start(0, "")
    loops(telemetry, 10)
    telemetry.flush()
    assert path.read_text() == '{"my": "notes"}\n'
    (warning,) = capsys.readouterr().err.splitlines()
    said = f"warning: {path} is of no run: move it away. Training goes on"
    assert warning.startswith(said)
    path.unlink()
    telemetry.close()
    assert steps(path) == [10]


def test_a_resumed_run_takes_back_what_a_killed_one_wrote_beyond(tmp_path):
    killed_run(tmp_path)
    loss = [(10, 11.5), (20, 21.5), (30, 31.5)]
    assert points(tmp_path / "train")[:2] == loss[:2]
    resumed = make(tmp_path)
    resumed.start(10, "second = 2")
    assert steps(tmp_path / "metrics.jsonl") == [10]
    assert steps(tmp_path / "metrics.jsonl", "event") == [30]
    assert points(tmp_path / "train") == loss[:1]
    loops(resumed, 20, loss=7.0)
    resumed.evaluation(20, {"top1": 0.3})
    resumed.close()
    assert steps(tmp_path / "metrics.jsonl") == [10, 20]
    assert lines(tmp_path / "metrics.jsonl")[-1]["loss"] == 7
    assert points(tmp_path / "train") == [(10, 11.5), (20, 7)]
    configs = [text.step for text in curves(tmp_path / "train").Tensors("config")]
    assert configs == [0, 10]
    # The scores of step 40 stand in the lines until it is scored again.
    assert steps(tmp_path / "eval.jsonl", "eval") == [40, 20]
    assert points(tmp_path / "eval", "scores/top1") == [(20, pytest.approx(0.3))]


def test_a_run_without_a_checkpoint_starts_all_over(tmp_path):
    killed_run(tmp_path)
    with make(tmp_path) as resumed:
        resumed.start(0, "second = 2")
        loops(resumed, 5)
    assert steps(tmp_path / "metrics.jsonl") == [5]
    assert points(tmp_path / "train") == [(5, 6.5)]


def test_going_back_within_a_process(tmp_path):
    with make(tmp_path) as shown:
        shown.start(0, "")
        loops(shown, 10, 20, 30)
        shown.event(33, "rolled_back", to=10)
        shown.go_back(10)
        assert steps(tmp_path / "metrics.jsonl") == [10]
        assert points(tmp_path / "train") == [(10, 11.5)]
        loops(shown, 20, loss=7.0)
    assert steps(tmp_path / "metrics.jsonl") == [10, 20]
    assert steps(tmp_path / "metrics.jsonl", "event") == [33]
    assert points(tmp_path / "train") == [(10, 11.5), (20, 7)]


def test_what_is_not_finite_is_null_for_strict_parsers(tmp_path):
    with make(tmp_path) as shown:
        loops(shown, 10, loss=math.nan, gradient_norm=np.float32("inf"))
        shown.event(10, "non_finite", losses=np.array([1, np.nan]), x={"y": -math.inf})
    train, event = lines(tmp_path / "metrics.jsonl")
    assert train["loss"] is None
    assert train["gradient_norm"] is None
    assert event["losses"] == [1, None]
    assert event["x"] == {"y": None}
    ((_, loss),) = points(tmp_path / "train")
    assert math.isnan(loss)


def test_only_the_chief_writes(tmp_path):
    with make(tmp_path, writes=False) as shown:
        shown.start(0, "")
        row = shown.loop(output(10), macs_per_image=MACS)
        assert row.values()["images_per_second"] == 40
        shown.evaluation(10, {"top1": 0.1})
        shown.images(10, np.zeros([1, 4, 4, 3], np.uint8), [""])
        shown.event(10, "preempted")
        shown.go_back(0)
    assert not list(tmp_path.iterdir())


def test_loops_are_written_every_half_minute_and_events_at_once(tmp_path, clock):
    file = tmp_path / "metrics.jsonl"
    with make(tmp_path) as shown:
        shown.start(0, "")
        loops(shown, 10)
        clock[0] += 29
        loops(shown, 20)
        assert not file.exists() or steps(file) == []
        clock[0] += 2
        loops(shown, 30)
        assert steps(file) == [10, 20, 30]
        assert [step for step, _ in points(tmp_path / "train")] == [10, 20, 30]
        loops(shown, 40)
        assert steps(file) == [10, 20, 30]
        shown.event(41, "x")
        assert steps(file) == [10, 20, 30, 40]
        loops(shown, 50)
    assert steps(file) == [10, 20, 30, 40, 50]


def test_a_slow_disk_is_written_to_less_often(tmp_path, clock, monkeypatch):
    def slow(path, data, **options):
        clock[0] += 2
        write(path, data, **options)

    write = gfiles.write_bytes
    monkeypatch.setattr(gfiles, "write_bytes", slow)
    with make(tmp_path) as shown:
        shown.event(0, "x")
        for seconds, expected in ((199, []), (2, [1, 2])):
            clock[0] += seconds
            loops(shown, len(expected) or 1)
            assert steps(tmp_path / "metrics.jsonl") == expected


def test_a_full_disk_costs_no_number(tmp_path, clock, monkeypatch):
    def write(shown, *steps):
        for step in steps:
            clock[0] += 60
            loops(shown, step)

    said = []
    monkeypatch.setattr(telemetry.console, "say", said.append)
    noise = np.random.default_rng(0).integers(0, 256, [1, 64, 64, 3], np.uint8)
    with make(tmp_path) as shown:
        shown.start(0, "")
        shown.event(0, "x", text="x" * 50_000)  # metrics.jsonl is the larger file
        write(shown, 10, 20, 30, 40)
        shown.images(50, noise, ["noise"])
        (events,) = (tmp_path / "train").iterdir()
        room = events.stat().st_size + 4000  # for a part of them
        with full_disk(room):
            write(shown, 50, 60, 70)
        assert events.stat().st_size == room
        write(shown, 80, 90)
    metrics, board = f"{tmp_path}/metrics.jsonl", f"{tmp_path}/train"
    assert len(said) == 4
    assert all(line.startswith("warning: ") for line in said[:2])
    assert sum("Training goes on" in line for line in said[:2]) == 2
    assert {*said[2:]} == {f"{path} is written again" for path in (metrics, board)}
    expected = list(range(10, 100, 10))
    assert steps(tmp_path / "metrics.jsonl") == expected
    assert [step for step, _ in points(tmp_path / "train")] == expected
    assert len(curves(tmp_path / "train").Images("examples/0")) == 1


def test_a_folder_that_stays_broken_is_said_at_the_end(tmp_path, clock, capsys):
    (tmp_path / "train").write_text("not a folder")
    with make(tmp_path) as shown:
        shown.start(0, "")
        for step in (10, 20, 30):
            clock[0] += 60
            loops(shown, step)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning: cannot write {tmp_path}/train: ")
    assert last.startswith("warning: the newest numbers are lost: ")
    assert steps(tmp_path / "metrics.jsonl") == [10, 20, 30]


# What a person may write between the lines of a run.
NOTES = (
    b"# the learning rate was halved here",
    b'{"kind": "note", "step": 20, "top1": 0.5}',
    b'{"kind": "train"}',
    b'{"kind": "train", "step": "20"}',
    b'{"kind": ["eval"], "step": 20}',
    b"[1]",
    b"",
    b" \t",
    b'\xff\x00 "',
    b"[" * 10_000,
    b"with a return\r",
    b'{"kind": "tr',
)


@pytest.mark.parametrize("name", ["metrics.jsonl", "eval.jsonl"])
@pytest.mark.parametrize(
    ("last", "stays"),
    [
        (b"", b""),
        (b'{"ki', b""),
        (b'{"kind": "train", "step": 4', b""),
        (b"see above", b"see above\n"),
        (b'{"kind": "note", "of": "mine"}', b'{"kind": "note", "of": "mine"}\n'),
    ],
)
def test_a_persons_lines_stay_where_they_are(tmp_path, name, last, stays):
    """Ours before and behind them go back and are replaced; no reader sees theirs."""

    def ours(step, kind="train"):
        return json.dumps({"kind": kind, "step": step}).encode() + b"\n"

    path = tmp_path / name
    path.write_bytes(
        b"".join(
            note + b"\n" + ours(10 * n) + ours(n, "eval")
            for n, note in enumerate(NOTES)
        )
        + last
    )
    file = writers.JsonLines(str(path))
    file.go_back(30)
    for step in (0, 5):
        file.add({"kind": "eval", "step": step, "top1": 0.5})
    file.add({"kind": "train", "step": 40, "x": math.nan})
    file.flush()
    assert path.read_bytes() == (
        b"".join(
            note
            + b"\n"
            + (ours(10 * n) if n <= 3 else b"")
            + (ours(n, "eval") if n not in (0, 5) else b"")
            for n, note in enumerate(NOTES)
        )
        + stays
        + b'{"kind": "eval", "step": 0, "top1": 0.5}\n'
        + b'{"kind": "eval", "step": 5, "top1": 0.5}\n'
        + b'{"kind": "train", "step": 40, "x": null}\n'
    )
    read = [(line["kind"], line["step"]) for line in writers.read_lines(str(path))]
    trained = [("train", step) for step in (0, 10, 20, 30, 40)]
    scored = [("eval", n) for n in range(len(NOTES))]
    assert sorted(read) == sorted(trained + scored)
    if name == "eval.jsonl":
        assert make(tmp_path).evaluations().keys() == {*range(len(NOTES))}


def test_what_is_not_finite_in_a_line_of_before_is_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "train", "step": 1, "x": NaN}\n')
    with make(tmp_path) as shown:
        shown.event(2, "x")
    assert lines(path)[0] == {"kind": "train", "step": 1, "x": None}


def test_scores_that_cannot_be_read_are_not_taken_for_none(tmp_path):
    (tmp_path / "eval.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*eval\.jsonl"):
        make(tmp_path).evaluations()


KILLED = """
import os, sys
from tests.train.telemetry import test_telemetry
shown = test_telemetry.make(sys.argv[1])
shown.start(0, "")
print("ready", flush=True)
step = 0
while True:
    step += 1
    test_telemetry.loops(shown, step)
    shown.event(step, "x")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.02, 0.5])
def test_a_run_that_is_killed_for_real(tmp_path, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    with process:
        assert process.stdout
        process.stdout.readline()
        signal.sigtimedwait([], seconds)
        process.kill()
    written = writers.read_lines(f"{tmp_path}/metrics.jsonl")
    seen = [line["step"] for line in written if line["kind"] == "train"]
    assert seen == list(range(1, len(seen) + 1))
    with make(tmp_path) as resumed:
        resumed.start(2, "")
        loops(resumed, 3, loss=7.0)
    assert steps(tmp_path / "metrics.jsonl") == [*seen[:2], 3]
    *before, last = points(tmp_path / "train")
    assert last == (3, 7)
    # The kill may have come between the one file and the other.
    assert [step for step, _ in before] in (seen[:2], seen[:1])
