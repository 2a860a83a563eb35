"""What a setting of the command line may name."""

import functools

import gin
import pytest

from common import gin_imports
from common.errors import UserError
from tests.support.runs import bindings
from train import config


def test_a_file_and_what_it_includes(tmp_path):
    first, second = tmp_path / "first.gin", tmp_path / "second.gin"
    head = "from __gin__ import dynamic_registration\n"
    first.write_text(f"{head}from models import scaling\nimport string\n")
    second.write_text(f"{head}from search import spaces\ninclude '{first}'\n")
    parsed = gin.parse_config_file(str(second))
    names = [*gin_imports.modules(parsed)]
    assert names == ["search.spaces", "models.scaling", "string"]
    assert [*gin_imports.modules(gin.parse_config(second.read_text()))] == names


def test_lines():
    files = ["mine", "b.same", "models.one", "a.other", "c.other"]
    assert gin_imports.lines(["a.same", "models.one"], files) == (
        "from __gin__ import dynamic_registration\n"
        "from a import same\n"
        "from models import one\n"
        "import mine\n"
    )


def test_a_setting_of_ones_own_module(digits):
    """It is known by the import of a file; without the file it is not."""
    own = "toy_nas.top1.noise = 0.5"
    given = [*bindings(digits, {}), own]
    with pytest.raises(UserError, match="'toy_nas' is not a module of this config"):
        config.parse(["tests/data/train/tiny.gin"], given)


def test_a_setting_of_a_file_s_module(digits, tmp_path):
    path = tmp_path / "supernet.gin"
    path.write_text(
        "from __gin__ import dynamic_registration\n"
        "from search import supernet\n"
        "from tests.support import toy_nas\n"
        "from train import experiment\n"
        "experiment.Experiment.build_model = @supernet.build_model\n"
        "supernet.build_model.space = @toy_nas.space()\n"
        "supernet.build_model.num_classes = None\n"
    )
    files = ["tests/data/train/tiny.gin", str(path)]
    given = [*bindings(digits, {}), "supernet.build_model.num_classes = 12"]
    found = config.parse(files, given)
    assert isinstance(found.build_model, functools.partial)
    assert found.build_model.keywords["num_classes"] == 12
