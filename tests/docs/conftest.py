"""Copies of the checkout for pages to work in."""

import shutil
from pathlib import Path

import pytest

from common.project import ROOT
from tests.docs import pages
from tests.support.once import made_once

# What every page may take for granted: `make train`, cut short, but trained well enough
# that a form of it in int8 has the same classes.
PRELUDE = """# What make train leaves
```bash
python -m input_pipeline.prepare mnist --output=data/mnist
python -m train.main --gin_file=gin_configs/runs/mnist_cpu.gin --model_dir=runs/mnist \\
  --gin_param="experiment.Experiment.epochs = 4"
python -m train.export --model_dir=runs/mnist --export_dir=runs/mnist/export
```
"""
# Of the root: what `make` has made there.
MADE = {"data", "runs", "site", "build", "photos"}


@pytest.fixture
def checkout(tmp_path):
    """A fresh one: the files of this one, and its environments."""
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture
def trained_checkout(tmp_path, tmp_path_factory):
    """One in which `make train` was run."""
    made = made_once(tmp_path_factory, "trained_checkout", train_in)
    return shutil.copytree(made, tmp_path / "checkout", symlinks=True)


def train_in(folder: Path) -> None:
    copy_checkout(folder)
    pages.run("prelude", pages.blocks(PRELUDE, "prelude"), folder, timeout=600)


def copy_checkout(folder: Path) -> Path:
    def not_wanted(path: str, names: list[str]) -> set[str]:
        if path != str(ROOT):
            return set()
        return MADE | {name for name in names if name.startswith(".")}

    shutil.copytree(ROOT, folder, ignore=not_wanted)
    for environment in ROOT.glob(".venv*"):
        (folder / environment.name).symlink_to(environment)
    return folder
