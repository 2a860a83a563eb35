"""`python -m launch.job`, as a person sees it."""

import subprocess

import pytest
import yaml

from common.project import ROOT
from launch.engines import checked, skypilot
from launch.job.__main__ import main
from tests.launch.engines.stubs import Stubs
from tests.support.commands import status

JOB = str(ROOT / "launch/jobs/v5e_32.yaml")


def run(verb, engine, *more):
    return status(main, verb, f"--to={engine}", f"--job={JOB}", *more)


@pytest.fixture
def unchecked(tmp_path, monkeypatch):
    """As without `make launch`."""
    monkeypatch.setattr(checked, "PYTHON", tmp_path / "no-python")
    monkeypatch.setattr(skypilot, "SKY", tmp_path / "no-sky")


def test_render(capsys):
    assert run("render", "jobset") == 0
    said = capsys.readouterr()
    assert yaml.safe_load(said.out)["kind"] == "JobSet"
    assert said.err == (
        "checked by the schemas of JobSet v1alpha2 and Kubernetes 1.37.0\n"
    )


def test_without_the_environment(unchecked, capsys):
    assert run("render", "skypilot") == 0
    assert capsys.readouterr().err == "not checked: make launch\n"
    assert run("submit", "skypilot") == 2
    assert capsys.readouterr().err == (
        "error: nothing is submitted unchecked, and what checks it is not installed: "
        "make launch\n"
    )
    assert run("down", "skypilot") == 2
    assert "no-sky is not there: make launch installs it; " in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["skypilot", "jobset", "gcloud"])
@pytest.mark.parametrize("verb", ["submit", "status", "logs", "down"])
def test_a_dry_run_is_a_script_and_asks_nobody(
    unchecked, engine, verb, capsys, tmp_path, monkeypatch
):
    stubs = Stubs(tmp_path)
    for name in ("kubectl", "gcloud"):
        stubs.add(name)
    monkeypatch.setenv("PATH", stubs.environment["PATH"])
    assert run(verb, engine, "--dry_run") == 0
    script = capsys.readouterr().out
    program = {"skypilot": "no-sky jobs", "jobset": "kubectl"}.get(engine, "gcloud")
    assert program in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert stubs.calls == []


def test_gcloud_is_a_persons(capsys):
    assert run("down", "gcloud") == 0
    said = capsys.readouterr()
    assert "queued-resources delete b0-v5e-32-q" in said.out
    assert said.err == "printed for a person to run; nothing was run\n"


def test_submit_and_what_becomes_of_it(tmp_path, monkeypatch, capfd):
    stubs = Stubs(tmp_path)
    stubs.add("kubectl", "sys.exit('logs' in sys.argv)")
    monkeypatch.setenv("PATH", stubs.environment["PATH"])
    assert run("submit", "jobset") == 0
    assert [w[1] for w in stubs.words()] == ["create", "create"]
    assert run("status", "jobset") == 0
    assert "$ kubectl get jobset b0-v5e-32 --output=wide" in capfd.readouterr().err
    assert run("logs", "jobset") == 2
    said = "error: kubectl logs --follow ... has ended with 1, see above\n"
    assert capfd.readouterr().err.endswith(said)


def test_a_mistake_in_the_file(capsys, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("name: --force\n")
    assert status(main, "render", "--to=gcloud", f"--job={path}") == 2
    assert capsys.readouterr().err.startswith(f"error: {path}:1: ")
