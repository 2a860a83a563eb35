"""The script for a GPU: what it measures first, that it ends, and a rehearsal."""

import json

import pytest

from benchmarks import gpu
from benchmarks.support import results
from common.errors import Status

PARTS = gpu.parts()


def test_what_counts_most_comes_first():
    first = [(p.what, p.name, p.form, p.batch) for p in PARTS[:6]]
    assert first == [
        ("latency", "efficientnet-x-b0", "jax", 128),
        ("latency", "efficientnet-b0", "jax", 128),
        ("latency", "efficientnet-b0", "compiled", 128),
        ("train step", "efficientnet-x-b0", "ours", 128),
        ("train step", "efficientnet-b0", "ours", 128),
        ("train step", "efficientnet-b0", "timm compiled", 128),
    ]
    assert {p.name for p in PARTS} == {gpu.X_B0, gpu.B0, gpu.X_B3, gpu.B3}
    assert {p.size for p in PARTS if p.name == gpu.X_B3} == {300}


def test_a_rehearsal_has_one_of_each_form():
    small = gpu.parts(rehearse=True)
    forms = {(p.what, p.form) for p in PARTS}
    assert {(p.what, p.form) for p in small} == forms
    assert len(small) == len(forms)
    assert {(p.platform, p.batch, p.size) for p in small} == {("cpu", 2, 32)}


def test_ratios_are_of_one_network_and_batch():
    def row(form, ms, **changes):
        one = {"what": "latency", "name": gpu.B0, "form": form, "batch": 1}
        return {**one, "milliseconds": ms, **changes}

    rows = [
        row("jax", 3.0),
        row("compiled", 2.0),
        row("jax", 9.0, batch=16),
        row("ours", 8.0, what="train step"),
        row("timm compiled", 10.0, what="train step"),
        {"what": "latency", "name": gpu.B0, "form": "compiled", "failed": "x"},
    ]
    assert gpu.ratios(rows) == {
        f"latency, {gpu.B0}, batch 1": 1.5,
        f"train step, {gpu.B0}, batch 1": 0.8,
    }


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(gpu.extras, "installed", lambda name: False)
    said = {gpu.measure(part, 1.0)["failed"] for part in PARTS}
    assert said == {
        "jax is not installed: pip install 'jax[cuda13]==0.10.2'",
        "torch is not installed: make with-peers",
        "tensorflow is not installed: make setup on a machine with a GPU, which takes "
        "requirements/gpu.in",
    }


def test_a_row_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(gpu, "sys", type("", (), {"executable": "sleep"}))
    monkeypatch.setattr(gpu.extras, "installed", lambda name: True)
    command = gpu.subprocess.Popen

    def sleeping(asked, **options):
        return command(["sleep", "1000"], **options)

    monkeypatch.setattr(gpu.subprocess, "Popen", sleeping)
    assert gpu.measure(PARTS[0], 0.1)["failed"] == "it took more than 0 s"


def test_each_row_is_written_and_the_end_comes_in_time(monkeypatch, tmp_path, capsys):
    """By a clock that goes on by a minute at each row: ten begin in nine and a half."""
    path, now, written = tmp_path / "gpu.json", [0.0], []
    keep = results.keep

    def measured(part, seconds):
        assert seconds == 570 - now[0]
        now[0] += 60
        one = {"what": part.what, "name": part.name, "form": part.form}
        return {**one, "batch": part.batch, "milliseconds": now[0]}

    def kept(report, output):
        written.append(len(report["rows"]))
        keep(report, output)

    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "measure", measured)
    monkeypatch.setattr(gpu, "_device", lambda: "NVIDIA H200")
    monkeypatch.setattr(gpu.results, "keep", kept)
    assert gpu.main([f"--output={path}"]) == Status.NO
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    measured_rows = [row for row in report["rows"] if "milliseconds" in row]
    assert written[:10] == [*range(1, 11)]
    assert len(measured_rows) == 10
    assert len(report["rows"]) == len(PARTS)
    assert report["rows"][-1]["failed"] == "no time was left"
    assert report["machine"]["gpu"] == "NVIDIA H200"


def test_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "_device", lambda: None)
    assert gpu.main([]) == Status.MISTAKE
    assert "there is no GPU here" in capsys.readouterr().err


@pytest.mark.long
def test_a_rehearsal_on_this_machine(capsys, tmp_path):
    """Ours is measured; timm's, where torch is installed, else its row says so."""
    status = gpu.main(["--rehearse", f"--output={tmp_path / 'gpu.json'}"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {(row["what"], row["form"]): row for row in report["rows"]}
    for what, form in (("latency", "jax"), ("train step", "ours")):
        assert found[what, form].get("milliseconds", 0) > 0, found[what, form]
    failed = [row["failed"] for row in report["rows"] if "failed" in row]
    assert set(failed) <= {"torch is not installed: make with-peers"}
    assert status == (Status.NO if failed else Status.OK)
