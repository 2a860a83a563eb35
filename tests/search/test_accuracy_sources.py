"""Sources of accuracies as gin files name them."""

import dataclasses
import json
import pickle

import pytest

from common.errors import UserError
from models.variants import VARIANTS
from search import accuracy_sources
from search.accuracies.training import Trained
from search.results import Score
from search.spaces import digest

B0, B1 = (VARIANTS[f"efficientnet-x-b{n}"] for n in (0, 1))


def test_the_surrogate():
    source = accuracy_sources.surrogate(family="v2", resamples=2)
    v2 = VARIANTS["efficientnetv2-b1"]
    score = source(v2, 0)
    assert len(score.samples) == 6
    assert source(v2, 3) == score  # of no rung
    wide = VARIANTS["efficientnet-x-tpu-b7"]
    assert accuracy_sources.surrogate(resamples=1)(wide, 0).top1 is None
    free = accuracy_sources.surrogate(resamples=1, extrapolate=True)(wide, 0)
    assert len(free.samples) == 3
    assert "extrapolated: width" in free.source


@pytest.fixture
def table(tmp_path):
    def make(text):
        path = tmp_path / "top1.txt"
        path.write_text(text)
        return accuracy_sources.table(str(path))

    return make


def test_a_table_by_digest_before_name(table):
    source = table(
        f"network,top1,note\n{digest(B0)},77.5,seed 0\n{digest(B0)},77.1,\n"
        "efficientnet-x-b0,1.0,another\nefficientnet-x-b1,79.0,\n"
    )
    assert source(B0, 0) == Score((77.5, 77.1), f"table {source.path}")
    assert source(B1, 0).samples == (79.0,)
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_table_of_json(table):
    source = table(json.dumps({digest(B0): [77.5, 77.1], "efficientnet-x-b1": 79}))
    assert source(B0, 0).samples == (77.5, 77.1)
    assert source(B1, 0).samples == (79.0,)


@pytest.mark.parametrize("text", ["network,top1\nmine,80\n", '{"mine": 80}'])
def test_a_table_with_a_byte_order_mark(tmp_path, text):
    path = tmp_path / "excel.txt"
    path.write_text(text, encoding="utf-8-sig")
    named = dataclasses.replace(B0, name="mine")
    assert accuracy_sources.table(str(path))(named, 0).samples == (80.0,)


def test_a_network_that_no_table_has(table):
    score = table("network,top1\nother,80\n")(B0, 0)
    assert score.samples == ()
    assert f"neither {digest(B0)} nor efficientnet-x-b0 is in" in score.reason


def test_a_network_that_cannot_be_built(table):
    small = dataclasses.replace(B0, resolution=1)
    score = table("network,top1\nother,80\n")(small, 0)
    assert score.reason.startswith("cannot be built: resolution 1 is too small")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column network, top1"),
        ("network,top1\n", "has no network"),
        ("network,top1\na,eighty\n", "line 2: top1 is 'eighty'"),
        ("network,top1\na,nan\n", "line 2: top1 is nan"),
        ("network,top1\na,101\n", "line 2: top1 is 101"),
        ("network,top1\na\n", "line 2: top1 is ''"),
        ("network,top1\n,80\n", "line 2: it names no network"),
        ("{", "is no JSON"),
        ("{}", "has no network"),
        ('{"a": true}', "'a': top1 is True"),
        ('{"a": NaN}', "'a': top1 is nan"),
        ('{"a": {"b": 1}}', "'a': top1 is {'b': 1}"),
    ],
)
def test_a_table_s_mistakes(table, text, message):
    with pytest.raises(UserError, match=r"top1\.txt") as error:
        table(text)
    assert message in str(error.value)


def test_a_table_that_is_not_there():
    with pytest.raises(UserError, match=r"none\.csv: No such file"):
        accuracy_sources.table("none.csv")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Function: name -> the source that calls it, of a module of one's own."""
    (tmp_path / "my_accuracy.py").write_text(
        "from search.results import Score\n"
        "def number(variant, rung): return variant.resolution / 4 + rung\n"
        "def several(variant, rung): return [70, 71]\n"
        "def score(variant, rung): return Score((), 'mine', 'diverged')\n"
        "def high(variant, rung): return 150.0\n"
        "def low(variant, rung): return -1\n"
        "def bounds(variant, rung): return (0, 100)\n"
        "def one_bad(variant, rung): return [70, 101]\n"
        "def bad_score(variant, rung): return Score((150.0,), 'mine')\n"
        "def none(variant, rung): return None\n"
        "def many(variant, rung): return [150.0] * 1000\n"
        "def silent(variant, rung): raise ValueError\n"
        "def lines(variant, rung): raise RuntimeError('boom <b>\\nsecond')\n"
        "def nan(variant, rung): return float('nan')\n"
        "def nothing(variant, rung): return []\n"
        "def text(variant, rung): return 'good'\n"
        "def broken(variant, rung): return 1 / 0\n"
        "constant = 80\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name: accuracy_sources.function(f"my_accuracy:{name}")


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("number", Score((58.0,), "my_accuracy:number")),
        ("several", Score((70.0, 71.0), "my_accuracy:several")),
        ("score", Score((), "mine", "diverged")),
        ("bounds", Score((0.0, 100.0), "my_accuracy:bounds")),
    ],
)
def test_a_function_of_one_s_own(mine, name, score):
    assert mine(name)(B0, 2) == score


@pytest.mark.parametrize(
    ("name", "returned"),
    [
        ("high", "150.0"),
        ("low", "-1"),
        ("nan", "nan"),
        ("nothing", "[]"),
        ("none", "None"),
        ("one_bad", "[70, 101]"),
        ("text", "'good'"),
        ("many", "[150.0, 150.0, 150.0, 150.0, 150.0, 150.0, ...]"),
    ],
)
def test_a_function_that_returns_no_top1(mine, name, returned):
    assert mine(name)(B0, 2) == Score(
        (),
        f"my_accuracy:{name}",
        f"the function returned {returned}; top-1 is a number from 0 to 100, in %",
    )


def test_a_function_s_score_is_of_percents(mine):
    score = mine("bad_score")(B0, 0)
    assert (score.samples, score.source) == ((), "mine")
    assert score.reason.startswith("the function returned (150.0,); top-1 is a number")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("numbr", "my_accuracy has no function 'numbr'; nearest: number"),
        ("constant", "my_accuracy has no function 'constant'"),
    ],
)
def test_a_function_that_is_none(mine, name, message):
    source = mine(name)  # nothing is imported yet
    with pytest.raises(UserError) as error:
        source(B0, 0)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("broken", "ZeroDivisionError: division by zero"),
        ("silent", "ValueError"),
        ("lines", "RuntimeError: boom <b>"),
    ],
)
def test_a_function_that_raises_costs_this_network(mine, name, error):
    assert mine(name)(B0, 0) == Score(
        (), f"my_accuracy:{name}", f"the function raised {error}"
    )


def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "my_broken_accuracy.py").write_text("def number(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="the import ended with SyntaxError: invalid"):
        accuracy_sources.function("my_broken_accuracy:number")(B0, 0)


def test_names_of_functions():
    for name in ("module", "module:", ":function", 3):
        with pytest.raises(UserError, match="of the form 'module:function'"):
            accuracy_sources.function(name)  # type: ignore
    with pytest.raises(UserError, match="no_such_module:f: No module named"):
        accuracy_sources.function("no_such_module:f")(B0, 0)


def test_training_gets_the_search_s_folder():
    recipe = "gin_configs/runs/mnist_cpu.gin"
    source = accuracy_sources.trained(gin_files=recipe, epochs=[1, 3])
    assert isinstance(source, Trained)
    assert source.gin_files == (recipe,)
    assert source.epochs == (1, 3)
    placed = accuracy_sources.in_folder(source, "runs/search")
    assert isinstance(placed, Trained)
    assert placed.search_dir == "runs/search"
    assert accuracy_sources.in_folder(placed, "elsewhere") == placed
    with pytest.raises(UserError, match=r"set accuracy_sources\.trained"):
        source(B0, 0)
    other = accuracy_sources.function("module:function")
    assert accuracy_sources.in_folder(other, "runs/search") is other
