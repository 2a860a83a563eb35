import json
import os

from benchmarks import install
from tests.support.commands import status


def test_megabytes_count_a_file_with_two_names_once(tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(3 * 2**20))
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/d").write_bytes(os.urandom(2 * 2**20))
    (tmp_path / "e").symlink_to("nowhere")
    assert install.megabytes(tmp_path) == 5


def test_the_seconds_add_up(monkeypatch, capsys):
    ticks = iter([0, 10, 100, 102, 200, 203, 300, 325])
    monkeypatch.setattr(install.time, "perf_counter", lambda: next(ticks))
    called = []

    class Done:
        returncode = 0

    def run(command, *, cwd, env, **_):
        called.append((command, env["INSTALLER"], "UV_CACHE_DIR" in env))
        assert (cwd / "requirements/core.txt").is_file()
        (cwd / ".venv").mkdir(exist_ok=True)
        return Done

    monkeypatch.setattr(install.subprocess, "run", run)
    assert install.main(["--cases=pip-empty"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["what"], row["seconds"]) for row in report["rows"]] == [
        ("core", 10),
        ("make setup", 12),
        ("make test", 15),
        ("requirements.txt", 25),
    ]
    assert {row["cache"] for row in report["rows"]} == {"empty"}
    assert [command[0] for command, *_ in called] == [
        *["make"] * 3,
        "requirements/environment",
        "requirements/install",
    ]
    assert {(installer, fresh) for _, installer, fresh in called} == {("pip", True)}


def test_an_error_of_the_set_up_ends_it(monkeypatch, capsys):
    class Done:
        returncode = 2

    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: Done)
    assert install.main(["--cases=uv-kept"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("error: make --silent .venv/.has-core ended with 2\n")


def test_a_case_that_is_none(capsys):
    assert status(install.main, "--cases=uv-kept,conda") == 2
    assert "conda is none of uv-kept, uv-empty" in capsys.readouterr().err
