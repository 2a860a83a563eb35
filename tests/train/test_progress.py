import io
import sys

import pytest

from train import progress

OUTPUT = {"loss": 1.5, "learning_rate": 0.25, "skipped_records": 0.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, skipped=0.0):
    """A slow first loop, a fast second one, an evaluation between them."""
    shown = progress.Progress(step=10, train_steps=40, global_batch_size=100)
    clock[0] += 60
    shown.update(20, OUTPUT)
    clock[0] += 1000
    shown.resume()
    clock[0] += 2
    shown.update(30, OUTPUT | {"skipped_records": skipped})
    return shown


def test_plain_lines(clock, capsys):
    run(clock)
    assert capsys.readouterr().err.splitlines() == [
        "step 20/40 (50%)  loss 1.5000  lr 0.250000",
        "step 30/40 (75%)  loss 1.5000  lr 0.250000  500 images/s  0:00:02 left",
    ]


def test_terminal_has_one_live_line(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "31")
    shown = run(clock)
    shown.update(40, OUTPUT)
    first, second, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == "step 20/40 (50%)  loss 1.5000 "  # cut to the width
    assert not second.endswith("\n")
    assert last.startswith("step 40/40 (100%)")
    assert last.endswith("0:00:00 left\n")


def test_summary_leaves_out_evaluation_and_the_first_loops_rate(clock):
    assert run(clock, skipped=3.0).summary() == {
        "seconds": 62.0,
        "images_per_second": 500.0,
        "train_skipped_records": 3,
    }


def test_each_stage_has_a_rate_of_its_own(clock, capsys):
    """And a first loop that compiles."""
    shown = run(clock)
    shown.begin_stage("stage 2 of 2")
    for step, seconds in ((40, 100), (50, 8)):
        clock[0] += seconds
        shown.update(step, OUTPUT)
    lines = capsys.readouterr().err.splitlines()
    assert lines[2] == "stage 2 of 2"
    assert "images/s" not in lines[3]
    assert "125 images/s" in lines[4]
    assert shown.summary()["seconds"] == 170
    assert shown.summary()["images_per_second"] == 200


def test_skipped_records_are_shown(clock, capsys):
    run(clock, skipped=3.0)
    assert capsys.readouterr().err.endswith("left  3 broken records skipped\n")


def test_orbit_is_not_heard(capsys):
    with progress.orbit_unheard():
        print("restoring or initializing model...")
    assert capsys.readouterr().out == ""
