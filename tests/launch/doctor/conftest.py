"""A job and a Google on which nothing fails; tests change one thing each."""

from pathlib import Path

import pytest

from launch.engines import skypilot
from tests.support import job_files
from tests.support.google import FakeGoogle, case_of, line_of


@pytest.fixture(autouse=True)
def no_skypilot(monkeypatch):
    """Keep a server of SkyPilot's from being started where SkyPilot is installed."""
    monkeypatch.setattr(skypilot, "SKY", Path("/none/sky"))


@pytest.fixture
def no_commands(monkeypatch):
    monkeypatch.setenv("PATH", "/none")


@pytest.fixture
def google():
    return FakeGoogle()


@pytest.fixture
def job(tmp_path):
    """Make a job file of an example, with some of its text replaced."""

    def make(*changes, name="v5e_32"):
        return job_files.write(tmp_path, job_files.text_of(name), *changes)

    return make


@pytest.fixture
def found(google, job, tmp_path):
    """Return a check's line, of an example with some of its text replaced."""

    def look(number, *changes, name="v5e_32", **options):
        case = case_of(google, job(*changes, name=name), **options)
        return line_of(case, number).replace(str(tmp_path), "TMP")

    return look
