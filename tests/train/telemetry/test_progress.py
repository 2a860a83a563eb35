import dataclasses
import io
import sys

import pytest

from train.telemetry import progress
from train.telemetry.loop_row import LoopRow, Speed

FIRST = LoopRow(
    loss=1.5,
    top1=0.5,
    learning_rate=0.25,
    gradient_norm=2.0,
    gradient_norm_max=3.0,
    weight_norm=40.0,
    ema_decay=0.99,
    skipped_records=0,
    steps=10,
    images_seen=1000,
    save_seconds=None,
    speed=None,
)
SPEED = Speed(
    images_per_second=1061.4,
    step_ms_p50=94.0,
    step_ms_p90=95.0,
    step_ms_p99=96.0,
    step_ms_max=97.0,
    input_wait=0.04,
    input_bound=0,
    verdict="compute bound",
    mfu=None,
)
LOOP = dataclasses.replace(FIRST, speed=SPEED)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_skipped_steps(clock, capsys):
    scaled = dataclasses.replace(LOOP, loss_scale=2.0**14, skipped_steps=0)
    run(clock, scaled)
    assert "skipped" not in capsys.readouterr().err
    run(clock, dataclasses.replace(scaled, skipped_steps=1))
    assert "  1 step skipped (loss scale 16,384)" in capsys.readouterr().err


def run(clock, row=LOOP):
    """A slow first loop, a fast second one, an evaluation between them."""
    shown = progress.Progress(step=10, train_steps=40, global_batch_size=100)
    clock[0] += 60
    shown.update(20, FIRST)
    clock[0] += 1000
    shown.resume()
    clock[0] += 2
    shown.update(30, row)
    return shown


def test_plain_lines(clock, capsys):
    run(clock)
    assert capsys.readouterr().err.splitlines() == [
        "step 20/40 (50%)  loss 1.5000  lr 0.250000",
        "step 30/40 (75%)  loss 1.5000  lr 0.250000  1,061 images/s  0:00:02 left",
    ]


def test_terminal_has_one_live_line(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "31")
    shown = run(clock)
    shown.update(40, LOOP)
    first, second, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == "step 20/40 (50%)  loss 1.5000 "  # cut to the width
    assert not second.endswith("\n")
    assert last.startswith("step 40/40 (100%)")
    assert last.endswith("0:00:00 left\n")


def test_summary_leaves_out_evaluation_and_the_first_loops_rate(clock):
    assert run(clock, dataclasses.replace(LOOP, skipped_records=3)).summary() == {
        "seconds": 62.0,
        "images_per_second": 500.0,
        "train_skipped_records": 3,
    }


def test_each_stage_has_a_rate_of_its_own(clock, capsys):
    """And a first loop that compiles."""
    shown = run(clock)
    shown.begin_stage("stage 2 of 2")
    for step, seconds, row in ((40, 100, FIRST), (50, 8, LOOP)):
        clock[0] += seconds
        shown.update(step, row)
    lines = capsys.readouterr().err.splitlines()
    assert lines[2] == "stage 2 of 2"
    assert "images/s" not in lines[3]
    assert "1,061 images/s" in lines[4]
    assert shown.summary()["seconds"] == 170
    assert shown.summary()["images_per_second"] == 200


def test_skipped_records_are_shown(clock, capsys):
    run(clock, dataclasses.replace(LOOP, skipped_records=3))
    assert capsys.readouterr().err.endswith("left  3 broken records skipped\n")


def test_waits_and_use_of_the_peak_are_shown(clock, capsys):
    speed = dataclasses.replace(
        SPEED, input_bound=1, input_wait=0.341, verdict="input bound", mfu=0.412
    )
    run(clock, dataclasses.replace(LOOP, speed=speed))
    assert capsys.readouterr().err.endswith(
        "1,061 images/s  input bound (34% wait)  mfu 41%  0:00:02 left\n"
    )


def test_steps_that_are_done_again_count_as_work(clock, capsys):
    shown = run(clock)
    clock[0] += 500  # on what was thrown away, and on the checkpoint
    shown.go_back(20)
    for step in (30, 40):
        clock[0] += 2
        shown.update(step, LOOP)
    assert "step 30/40 (75%)" in capsys.readouterr().err
    assert shown.summary()["images_per_second"] == 500
    assert shown.summary()["seconds"] == 66
