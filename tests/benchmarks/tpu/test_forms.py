import json

import pytest

from benchmarks.support import results
from benchmarks.tpu import forms
from common.errors import Status
from preflight.forms import Form
from preflight.tuning_rows import FastestForm, FormEstimate

WRITTEN, PATCHES = Form(), Form(4, "host")


def fastest(extent, best, written):
    def of(form, milliseconds):
        return FormEstimate(
            form=form,
            extent=extent,
            as_written=form == WRITTEN,
            milliseconds=milliseconds,
        )

    known = of(WRITTEN, written)
    found = None if best is None else of(PATCHES, best)
    return FastestForm(extent=extent, best=found, written=known, images=64)


class FakeCompiler:
    def __init__(self, workers):
        assert workers == 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class FakeTuner:
    """Finds the train step of v4 not to fit as written."""

    def __init__(self, topology):
        self._fits = topology.name != "v4"

    def skipped(self):
        return iter(())

    def train_forms(self, training):
        assert training == ["a step"]
        yield fastest("train step", 42.0, 44.6 if self._fits else None)

    def inference_forms(self):
        yield fastest("inference", 9.0, 10.0)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Function: flags -> status and the file's report."""

    def tuner(model, batch, topology, compiler, *, trains):
        assert batch == 64
        return FakeTuner(topology), "a step" if trains else None

    monkeypatch.setattr(forms, "_tuner", tuner)
    monkeypatch.setattr(forms, "Compiler", FakeCompiler)
    path = tmp_path / "tpu.forms.json"

    def run(*flags):
        status = forms.main([*flags, f"--output={path}"])
        return status, results.load(path)

    return run


def test_a_row_for_each_network_and_generation(run, capsys):
    status, report = run(
        "--models=efficientnet_x_b0,efficientnet_x_b3",
        "--training_of=efficientnet_x_b0",
        "--topologies=v3,v5e",
    )
    assert status == Status.OK
    assert json.loads(capsys.readouterr().out) == report
    rows = [
        (row["model"], row["topology"], row["train_step_compiled"])
        for row in report["rows"]
    ]
    assert rows == [
        ("efficientnet_x_b0", "v3", True),
        ("efficientnet_x_b0", "v5e", True),
        ("efficientnet_x_b3", "v3", False),
        ("efficientnet_x_b3", "v5e", False),
    ]
    first, _, last, _ = report["rows"]
    assert first["train_step"]["gain"] == pytest.approx(1 - 42 / 44.6)
    assert last["train_step"] is None
    for row in (first, last):
        assert row["inference"]["settings"] == {
            "stem_block_size": 4,
            "stem_reshuffle": "host",
        }


def test_what_does_not_fit_as_written_is_the_status(run):
    status, report = run("--models=efficientnet_x_b0", "--topologies=v3,v4")
    assert status == Status.NO
    assert [row["train_step"]["milliseconds"] for row in report["rows"]] == [42.0, 42.0]
    assert report["rows"][1]["train_step"]["gain"] is None


def test_what_is_known_is_kept_when_it_ends(run, monkeypatch, tmp_path):
    found = forms._row

    def row(model, batch, topology, compiler, *, trains):
        if topology.name == "v5e":
            raise KeyboardInterrupt
        return found(model, batch, topology, compiler, trains=trains)

    monkeypatch.setattr(forms, "_row", row)
    path = tmp_path / "tpu.forms.json"
    flags = ["--models=efficientnet_x_b0", "--topologies=v3,v5e"]
    assert forms.main([*flags, f"--output={path}"]) == Status.INTERRUPTED
    assert [one["topology"] for one in results.load(path)["rows"]] == ["v3"]


def test_rows_are_added_to_those_of_a_file(run, capsys):
    of_b0 = "--models=efficientnet_x_b0"
    run(of_b0, "--topologies=v3,v5e")
    _, report = run("--add", of_b0, "--topologies=v5e,v6e")
    assert [row["topology"] for row in report["rows"]] == ["v3", "v5e", "v6e"]
    capsys.readouterr()
    status, unchanged = run("--add", of_b0, "--batch=32")
    assert (status, unchanged) == (Status.MISTAKE, report)
    assert "is of batch 64, this would be of 32" in capsys.readouterr().err
    assert forms.main(["--add", of_b0]) == Status.MISTAKE


def test_rows_are_added_to_a_file_of_any_name(run, tmp_path):
    """The status is that of the rows that were asked for."""
    path = tmp_path / "mine.json"
    flags = ["--models=efficientnet_x_b0", f"--output={path}"]
    assert forms.main([*flags, "--topologies=v4"]) == Status.NO
    assert forms.main([*flags, "--topologies=v3", "--add"]) == Status.OK
    report = results.load(path, "tpu.forms")
    assert [row["topology"] for row in report["rows"]] == ["v4", "v3"]


def test_rows_of_another_tensorflow_are_not_added_to(run, monkeypatch, capsys):
    of_b0 = "--models=efficientnet_x_b0"
    _, report = run(of_b0, "--topologies=v3")
    monkeypatch.setattr(forms.metadata, "version", lambda name: f"{name} 99")
    status, unchanged = run("--add", of_b0, "--topologies=v5e")
    assert (status, unchanged) == (Status.MISTAKE, report)
    assert "this would be of {'tensorflow': 'tensorflow 99'" in capsys.readouterr().err
