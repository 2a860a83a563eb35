"""The command, and its table in the documentation."""

import json

import pytest

from common.project import ROOT
from docgen import tables
from launch.doctor import __main__ as doctor
from launch.doctor.case import Case
from launch.doctor.checks import CHECKS, NODE_CHECKS
from tests.support.commands import status
from tests.support.google import client


@pytest.fixture
def known(google, monkeypatch):
    """Let the command ask a Google on which nothing fails."""
    monkeypatch.setattr(Case, "google", property(lambda case: client(google)))
    return google


def run(*arguments):
    return status(doctor.main, *map(str, arguments))


def test_a_line_for_each_check(job, capsys):
    flags = ("--offline", "--no_preflight")
    assert run(f"--job={job()}", *flags) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 25
    assert [int(line[:2]) for line in lines] == list(range(1, 26))
    assert lines[4] == " 5  unknown  credentials: offline"
    assert said.err.endswith("4 ok, 0 fails, 21 unknown\n")


@pytest.mark.usefixtures("no_commands")
def test_something_fails(job, known, capsys):
    known.said["service_account"] = None
    path = job(("slice: v5e:4x8 ", "slice: v5e:4x4 "))
    flags = ("--no_preflight", "--json", "--node=n", "--to=gcloud")
    assert run(f"--job={path}", *flags) == 1
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 28
    assert rows[15] == {
        "number": 16,
        "name": "machines' account",
        "outcome": "fails",
        "found": "there is no trainer@my-project.iam.gserviceaccount.com",
        "remedy": "gcloud iam service-accounts create trainer --project=my-project",
        "source": "https://cloud.google.com/iam/docs/service-account-overview",
    }


def test_a_file_that_is_not_sound(job, capsys):
    path = job(("hours: 48", "hours: many"))
    assert run(f"--job={path}", "--offline") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f" 1  fails    job file: {path}:12: budget.hours: ")
    assert {line[4:11] for line in lines[1:]} == {"unknown"}
    assert lines[1].endswith("machines: the job file is not sound yet")


def test_mistakes(tmp_path, capsys):
    assert run(f"--job={tmp_path}/none.yaml") == 2
    assert capsys.readouterr().err == (
        f"error: cannot read the job file {tmp_path}/none.yaml: No such file or "
        "directory\n"
    )
    assert run(f"--job={tmp_path}", "--node=--force") == 2
    assert "is no name of a TPU VM" in capsys.readouterr().err


def test_docs_have_the_table():
    text = (ROOT / "docs/doctor.md").read_text()
    assert tables.BLOCKS["doctor.checks"]() in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for number, check in enumerate(CHECKS + NODE_CHECKS, 1):
        assert any(row.startswith(f"| {number} | {check.name} |") for row in rows)


@pytest.mark.parametrize("check", CHECKS + NODE_CHECKS, ids=lambda check: check.name)
def test_sources(check):
    if "://" not in check.source:
        assert (ROOT / check.source).is_file()
    assert check.look.__doc__
