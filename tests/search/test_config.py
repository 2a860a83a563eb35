"""What `search.config` says of mistakes in gin files and on the command line."""

import subprocess
import sys

import pytest

from common.errors import UserError
from search import config
from search.axes import TrustRegion
from search.block_search import BlockSearch
from search.scaling_search import Scaling

CONFIG = """\
from __gin__ import dynamic_registration
from search import accuracy_sources
from search import block_search
from search import latency_sources
from search import objectives
from search import samplers
from search import spaces

block_search.BlockSearch:
  space = @spaces.scaling()
  sampler = @samplers.AgeingEvolution()
  objective = @objectives.OneSided()
  latency = @latency_sources.function()
  accuracy = @accuracy_sources.function()
  evaluations = 12
spaces.scaling.base = 'efficientnet-x-b0'
objectives.OneSided.target_ms = 30.0
latency_sources.function.name = 'tests.support.toy_lacs:milliseconds'
accuracy_sources.function.name = 'tests.support.toy_lacs:top1'
"""


@pytest.fixture
def read(tmp_path):
    """Function: a text, bindings -> the settings, or what is said in their place."""
    path = tmp_path / "x.gin"

    def said(text=CONFIG, *bindings, settings=BlockSearch):
        path.write_text(text)
        try:
            return config.read(settings, [str(path)], bindings)
        except UserError as error:
            return str(error).replace(f"{path}: ", "")

    return said


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("space", "5", " = 5: it has to be a space, as @spaces.blocks()"),
        ("space", "@spaces.scaling", " = @spaces.scaling: the () behind it is missing"),
        ("sampler", "'random'", "has to be a sampler, as @samplers.AgeingEvolution()"),
        ("sampler", "@samplers.Grid", " = @samplers.Grid: the () behind it is missing"),
        ("objective", "@objectives.Absolute", "the () behind it is missing"),
        ("latency", "@latency_sources.function", "the () behind it is missing"),
        ("accuracy", "@accuracy_sources.function", "the () behind it is missing"),
        ("accuracy", "@x/accuracy_sources.table", "the () behind it is missing"),
        ("accuracy", "5", " = 5: it has to be a function, as in @module.function"),
        ("lag", "0", " = 0: it has to be a whole number from 1 to 1,000"),
    ],
)
def test_a_setting_that_cannot_do_its_work(read, field, value, why):
    found = read(CONFIG, f"block_search.BlockSearch.{field} = {value}")
    assert found.startswith(f"block_search.BlockSearch.{field} = ")
    assert why in found
    assert "configurable" not in found


def test_a_function_of_one_s_own_needs_no_parentheses(read):
    text = CONFIG.replace("import spaces", "import spaces\nfrom tests.support import t")
    text = text.replace("import t\n", "import toy_search\n")
    line = "block_search.BlockSearch.accuracy = @toy_search.accuracy"
    assert read(f"{text}{line}\n").accuracy.__name__ == "accuracy"


VALUE = (
    " is no value: a reference begins with @, as in @module.function; a text stands "
    "in quotes; a number is written out, as 0.5 or 1e9"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("@spaces", "spaces", f"'spaces'{VALUE} (line 10)"),
        ("30.0", "float('nan')", f"'float'{VALUE} (line 17)"),
        (
            "from search import spaces\n",
            "",
            "'spaces' is not a module of this config: a file has to import what it "
            "names, as by the line 'from search import spaces' (line 9)",
        ),
        (
            "block_search.BlockSearch:",
            "block_search.BlokSearch:",
            "there is no 'BlokSearch' in search.block_search; nearest: BlockSearch "
            "(line 9)",
        ),
        (
            "evaluations =",
            "evalutions =",
            "block_search.BlockSearch has no parameter 'evalutions'; nearest: "
            "evaluations, evaluations_per_process (line 15)",
        ),
        (
            "import spaces",
            "import spacess",
            "there is no module 'spacess'; nearest: spaces (line 7)",
        ),
        ("30.0", "", "there is no value behind = (line 17)"),
        (
            *("30.0", "%target"),
            "the config does not say what %target is: set it by a line target = ...",
        ),
        ("30.0", "[30.0", "Expected ',' or ']'. (line 18)"),
        (
            "'tests.support.toy_lacs:top1'",
            "[1,",
            "a bracket or a text is opened and not closed",
        ),
        (
            "  evaluations",
            " evaluations",
            "unindent does not match any outer indentation level (line 15)",
        ),
        (
            "latency_sources.function.name = 'tests.support.toy_lacs:milliseconds'",
            "",
            "the config does not say function.name",
        ),
        (
            "  latency = @lat",
            "  lag = 3\n# @",
            "the config does not say BlockSearch.latency",
        ),
    ],
)
def test_mistakes_in_a_file(read, old, new, said):
    assert CONFIG.count(old) == 1
    found = read(CONFIG.replace(old, new))
    assert found == said


def test_mistakes_on_the_command_line(read):
    line = "block_search.BlockSearch.evalutions = 3"
    assert read(CONFIG, line) == (
        f"--gin_param={line!r}: block_search.BlockSearch has no parameter "
        "'evalutions'; nearest: evaluations, evaluations_per_process"
    )
    line = "foo"
    assert read(CONFIG, line) == (
        "--gin_param='foo': a setting is written as module.function.parameter = value"
    )


def test_a_file_without_registration(tmp_path):
    # What an earlier file has registered in a process would stay.
    path = tmp_path / "x.gin"
    path.write_text(CONFIG.partition("\n")[2])
    command = [sys.executable, "-m", "search.blocks", f"--gin_file={path}"]
    found = subprocess.run(
        [*command, f"--search_dir={tmp_path / 's'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        f"error: {path}: @spaces.scaling() is not known: the line 'from __gin__ import "
        "dynamic_registration' is missing above (line 9)\n"
    )


def test_all_modules_of_a_config_are_known_on_the_command_line(read):
    text = """\
from __gin__ import dynamic_registration
from search import scaling_search
"""
    found = read(
        text,
        "scaling_search.Scaling.targets = [1.0]",
        "scaling_search.Scaling.cheap = @latency_sources.tile_model()",
        "scaling_search.Scaling.accuracy = @accuracy_sources.surrogate()",
        "scaling_search.Scaling.name = 'toy-b'",
        "scaling_search.Scaling.base = 'efficientnet-x-b0'",
        "latency_sources.tile_model.topology = 'v5e'",
        "scaling_search.Scaling.trust = @axes.TrustRegion()",
        "axes.TrustRegion.depth = (1.0, 2.0)",
        settings=Scaling,
    )
    assert found.trust == TrustRegion(depth=(1.0, 2.0))
