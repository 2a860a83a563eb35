"""Every flag of a command that takes a path refuses what none can be."""

import importlib
import os

import pytest

from tests.support.commands import status

NO_UTF8 = os.fsdecode(b"n\xff")
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
    ("train.classify", "--tfrecords", ("--export_dir=x",)),
    ("train.export", "--export_dir", ("--model_dir=x",)),
    ("train.export", "--model_dir", ("--export_dir=x",)),
    ("train.main", "--model_dir", ()),
]


@pytest.mark.parametrize(("module", "flag", "others"), FLAGS)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "it is empty: name a file or folder"),
        ("file://~/x", "~/x would be a folder named ~: write $HOME/x, or ./~/x if you "
         "mean it"),
        (NO_UTF8, "n\\xff is not UTF-8, as paths have to be: rename it, or name "
         "another"),
    ],
)  # fmt: skip
def test_what_is_no_path(
    module, flag, others, value, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(module).main
    assert status(main, *others, f"{flag}={value}") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"error: argument {flag}: {said}")
    assert os.listdir(tmp_path) == []
