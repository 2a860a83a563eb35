import re

import pytest
from setuptools.config import pyprojecttoml

from common import cli
from common.project import ROOT
from common.version import NAME, VERSION


def test_the_newest_heading_of_the_changelog():
    headings = re.findall(r"^## ([^\s,]+), ", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == VERSION


@pytest.mark.filterwarnings(
    "ignore::setuptools.config.pyprojecttoml._ExperimentalConfiguration"
)
def test_what_a_packager_reads():
    project = pyprojecttoml.read_configuration(ROOT / "pyproject.toml")["project"]
    assert (project["name"], project["version"]) == (NAME, VERSION)
    assert project["requires-python"] == ">=3.11,<3.14"


def test_a_command_says_it(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parser("some.command", None).parse_args(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{NAME} {VERSION}\n"
