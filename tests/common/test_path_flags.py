"""Every flag of a command that takes a path: what ~ is in it, and what can be none."""

import argparse
import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import commands
from common import checks, cli
from search import accuracy_sources
from search import config as search_config
from tests.support.commands import status
from train.settings.functions import MODULES

COMMANDS = [command.name for command in commands.find()]
# Texts that are no paths.
_TEXTS = """--gin_param --split --topology --dtype --space --settings --storage
--hardware --image_field --label_field --host --listen --family --model --strategy names
network --stem_reshuffle --input_layout --file_column --label_column --split_column
--accept_data --generation --digest --before"""
TEXTS = _TEXTS.split()
NO_UTF8 = os.fsdecode(b"n\xff")


def parser_of(name: str) -> argparse.ArgumentParser:
    try:
        module = importlib.import_module(f"{name}.__main__")
    except ModuleNotFoundError:
        module = importlib.import_module(name)
    return module._parser()


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of those below it that take any text."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from arguments_of(below)
        elif action.nargs != 0 and action.choices is None:
            yield action


def read(action: argparse.Action, text: str) -> Any:
    """What an argument's type makes of a text; None where it refuses it."""
    assert callable(action.type)
    try:
        return action.type(text)
    except (argparse.ArgumentTypeError, TypeError, ValueError):
        return None


@pytest.mark.parametrize("name", COMMANDS)
def test_home_in_every_flag(name, tmp_path, monkeypatch):
    (tmp_path / "x.gin").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    for action in arguments_of(parser_of(name)):
        flag = (action.option_strings or [action.dest])[0]
        if action.type is None:
            assert flag in TEXTS, f"{flag} has no type: a path's is cli.path"
            continue
        for made in ("x.png", "x.gin", "x.csv"):
            whole = read(action, f"{tmp_path}/{made}")
            if str(whole) == f"{tmp_path}/{made}":  # it takes a path of this name
                assert read(action, f"~/{made}") == whole, flag


def test_what_home_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, meant in (
        ("~", f"{tmp_path}"),
        ("~/a b", f"{tmp_path}/a b"),
        ("file://~/x", f"{tmp_path}/x"),
        ("~root/x", f"{os.path.expanduser('~root')}/x"),
        ("./~/x", "./~/x"),
        ("x/~", "x/~"),
        ("~no-such-user", "~no-such-user"),
        ("gs://a/~", "gs://a/~"),
    ):
        assert cli.path(text) == cli.weights_path(text) == meant
    for unknown in ("", "here"):
        monkeypatch.setenv("HOME", unknown)
        with pytest.raises(argparse.ArgumentTypeError, match="would be a folder named"):
            cli.path("~/x")


def test_home_in_every_setting():
    functions = [
        found
        for name in (*MODULES, *(f"search.{name}" for name in search_config._MODULES))
        for found in vars(importlib.import_module(name)).values()
        if getattr(found, "__module__", "") == name
    ]
    paths = {
        f"{function.__name__}.{name}"
        for function in functions
        for name, rule in checks.rules_of(function).items()
        if rule.of_path
    }
    assert paths == {
        "Experiment.data_dir",
        "Experiment.pretrained",
        "fitted.path",
        "surrogate.rows",
        "table.path",
        "tile_model.fit",
        "trained.search_dir",
    }
    texts = {
        name
        for function in functions
        for name, rule in checks.rules_of(function).items()
        if rule.what == checks.TEXT.what and not rule.of_path
    }
    assert not {"path", "data_dir", "model_dir", "file", "folder", "rows"} & texts


def test_home_in_a_setting_of_a_search(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "scores.csv").write_text("network,top1\nefficientnet-b0,77\n")
    found = accuracy_sources.table("~/scores.csv")
    assert found == accuracy_sources.table(f"{tmp_path}/scores.csv")


FLAGS = [
    ("benchmarks.input", "--data_dir", ()),
    ("benchmarks.photos", "--output", ()),
    ("benchmarks.trainer", "--data_dir", ()),
    ("input_pipeline.prepare", "--output", ("mnist",)),
    ("input_pipeline.prepare", "--source", ("imagefolder", "--output=x")),
    ("input_pipeline.prepare", "--source", ("tfrecords",)),
    ("input_pipeline.prepare", "--labels", ("tfrecords", "--source=x")),
    ("input_pipeline.prepare", "--output", ("tfrecords", "--source=x")),
    ("input_pipeline.prepare", "--train_tar", ("imagenet", "--output=x")),
    ("input_pipeline.prepare", "--validation_tar", ("imagenet", "--output=x")),
    ("input_pipeline.prepare", "--labels", ("imagenet", "--output=x")),
    ("input_pipeline.validate", "--data_dir", ()),
    ("performance.roofline", "--output", ()),
    ("preflight.preview", "--data_dir", ("--output=x.png",)),
    ("preflight.preview", "--output", ()),
    ("tpu_compiler.__main__", "--cache_dir", ("x", "--topology=v3")),
    ("tpu_compiler.__main__", "--hlo", ("x", "--topology=v3")),
    ("train.classify", "--export_dir", ("x",)),
    ("train.classify", "--output", ("x", "--export_dir=x")),
    ("train.classify", "--tfrecords", ("--export_dir=x",)),
    ("train.export", "--export_dir", ("--model_dir=x",)),
    ("train.export", "--model_dir", ("--export_dir=x",)),
    ("train.main", "--model_dir", ()),
    ("train.mistakes.__main__", "--model_dir", ()),
    ("train.mistakes.__main__", "--output", ("--model_dir=x",)),
]


@pytest.mark.parametrize(("module", "flag", "others"), FLAGS)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "it is empty: name a file or folder"),
        ("file://~/x", "~/x would be a folder named ~, for HOME names no home folder: "
         "set it, or write ./~/x if you mean it"),
        (NO_UTF8, "n\\xff is not UTF-8, as paths have to be: rename it, or name "
         "another"),
    ],
)  # fmt: skip
def test_what_is_no_path(
    module, flag, others, value, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "")
    main = importlib.import_module(module).main
    assert status(main, *others, f"{flag}={value}") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"error: argument {flag}: {said}")
    assert os.listdir(tmp_path) == []
