"""`python -m search.lacs`, as a person runs it, stops it and runs it again."""

import json

import pytest

from common.errors import Status
from search import lacs, report
from tests.support import toy_lacs
from tests.support.commands import status


@pytest.fixture
def reported(monkeypatch):
    """Folders whose report would be made, which has tests of its own."""
    folders = []
    monkeypatch.setattr(report, "write", folders.append)
    return folders


@pytest.fixture
def run(tmp_path, capsys, reported):
    """Run the command in one folder; return its status, output and errors."""
    del reported
    gin_file = tmp_path / "toy.gin"
    gin_file.write_text(toy_lacs.CONFIG)

    def go(*more, folder=tmp_path / "search"):
        flags = [f"--gin_file={gin_file}", f"--search_dir={folder}", *more]
        return status(lacs.main, *flags), *capsys.readouterr()

    return go


def exact(name="half_again", **more):
    """Bind an exact source, and other fields, on the command line."""
    bindings = {"exact": "@exact/latency_sources.function()", **more}
    params = [
        f"--gin_param=scaling_search.Scaling.{field} = {value}"
        for field, value in bindings.items()
    ]
    source = f"'tests.support.toy_lacs:{name}'"
    return [*params, f"--gin_param=exact/latency_sources.function.name = {source}"]


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_family_is_found_and_written(run, reported, tmp_path):
    code, out, _ = run()
    assert code == Status.OK
    assert "toy-b1" in out
    assert "gain over" in out
    assert f"report: {tmp_path / 'search' / 'report.html'}" in out
    folder = tmp_path / "search"
    family = json.loads((folder / "family.json").read_text())
    chosen = [outcome["chosen"] for outcome in family["outcomes"]]
    assert [one["name"] for one in chosen] == ["toy-b1", "toy-b2"]
    assert family["outcomes"][1]["target"] == "efficientnet-x-b3"
    assert chosen[0]["cheap_ms"] <= 20
    assert {"toy-b1.gin", "toy-b2.gin", "rows.py.txt"} <= set(files_of(folder))
    assert reported == [folder]


def test_the_same_again_is_the_same(run, tmp_path):
    run()
    before = files_of(tmp_path / "search")
    code, _, _ = run()
    assert code == Status.OK
    after = files_of(tmp_path / "search")
    for name in ("family.json", "toy-b1.gin", "toy-b2.gin", "rows.py.txt"):
        assert after[name] == before[name]


def test_what_misses_its_target_is_the_answer_no(run):
    """A named strategy is taken as it is: nothing is repaired."""
    code, out, _ = run(*exact(targets="[100.0]"), "--strategy=x-gpu")
    assert code == Status.NO
    assert "100 ms: not reached: toy-b1 takes 14" in out  # half as much again


def test_what_the_exact_source_says_is_repaired(run):
    code, out, _ = run(*exact(targets="[60.0]"), "--json")
    assert code == Status.OK
    (outcome,) = json.loads(out)["outcomes"]
    assert abs(outcome["chosen"]["exact_ms"] / 60 - 1) <= 0.03
    assert len(outcome["finalists"]) > 3


def test_a_strategy_gives_its_rows(run):
    code, out, _ = run(
        "--strategy=x-tpu",
        "--gin_param=scaling_search.Scaling.targets = ['efficientnet-x-tpu-b2']",
        "--json",
    )
    assert code == Status.OK
    chosen = json.loads(out)["outcomes"][0]["chosen"]
    row = (chosen["depth"], chosen["width"], chosen["resolution"])
    assert row == (1.29, 1.13, 244)


def test_another_config_in_the_folder_is_refused(run, tmp_path):
    run()
    before = files_of(tmp_path / "search")
    code, _, err = run("--gin_param=scaling_search.Scaling.seed = 3")
    assert code == Status.MISTAKE
    assert "another config" in err
    assert err.splitlines()[:-1] == ["  +scaling_search.Scaling.seed = 3"]
    assert files_of(tmp_path / "search") == before


def test_a_binding_that_changes_nothing_is_the_same_search(run):
    run()
    code, _, err = run("--gin_param=scaling_search.Scaling.base = 'efficientnet-x-b0'")
    assert code == Status.OK
    assert "another config" not in err


def test_another_strategy_in_the_folder_is_refused(run):
    run()
    code, _, err = run("--strategy=x-tpu")
    assert code == Status.MISTAKE
    assert "name another folder" in err.lower()


def test_what_a_person_has_changed_stays(run, tmp_path):
    run()
    path = tmp_path / "search" / "toy-b1.gin"
    path.write_text("mine")
    code, _, err = run()
    assert code == Status.MISTAKE
    assert "toy-b1.gin exists, and is not what this command has written" in err
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy=x-tpuu"], "it has to be 'free', "),
        (["--gin_param=scaling_search.Scaling.targets = 3"], "has to be a list"),
        (["--gin_param=scaling_search.Scaling.basis = 3"], "basis"),
        (["--gin_param=scaling_search.Scaling.base = 'x-b0'"], "unknown variant"),
        (
            ["--gin_param=scaling_search.Scaling.cheap = @no/latency_sources.table()"],
            "path",
        ),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, flags, words):
    code, out, err = run(*flags)
    assert (code, out) == (Status.MISTAKE, "")
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "search").exists()


def test_no_config_at_all(capsys, tmp_path):
    assert status(lacs.main, f"--search_dir={tmp_path}") == Status.MISTAKE
    assert "--gin_file names one" in capsys.readouterr().err


def test_a_folder_that_cannot_be(run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(folder=tmp_path / "file" / "search")
    assert code == Status.MISTAKE
    assert "cannot write" in err
