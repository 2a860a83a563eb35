"""gin files and bindings in, a checked `Experiment` out."""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gin
import tensorflow as tf

from common import gfiles
from common.errors import UserError
from train.checkpoints import directory
from train.experiment import Experiment

# What every .gin file of ours may speak of, under the names that they use. A binding
# on the command line is read as if these lines stood above it.
IMPORTS = """
from __gin__ import dynamic_registration
from input_pipeline import autoaugment
from input_pipeline import dataset
from input_pipeline import erasing
from input_pipeline import mixing
from input_pipeline import randaugment
from models import efficientnet_x
from models import variants
from train import experiment
from train import optimizer
from train import schedule
"""

ROOT = Path(__file__).parent.parent
SAVED = "operative_config.gin"

# The step tells how many images were used up: another batch would shift the data.
UNCHANGEABLE = ("experiment.Experiment.global_batch_size",)

# These change what is saved, scored, watched and shown, and no number of the training.
FREE = frozenset(
    f"experiment.Experiment.{name}"
    for name in (
        "steps_per_loop",
        "checkpoint_every_steps",
        "eval_every_epochs",
        "non_finite",
        "keep_checkpoints",
        "keep_checkpoint_every_hours",
        "preemption_deadline_seconds",
        "hang_timeout_minutes",
        "peak_teraflops",
        "profile_steps",
        "example_images",
        "max_roll_backs",
    )
)


def parse(
    gin_files: Sequence[str], bindings: Iterable[str], *, model_dir: str | None = None
) -> Experiment:
    """Reads gin files, then bindings, which win, and returns the experiment.

    Args:
      gin_files: paths, as given or relative to the project's folder.
      bindings: lines such as "experiment.Experiment.epochs = 2".
      model_dir: of a run whose saved config stands in when no file is given.

    Raises:
      UserError: a file is missing, a name or parameter does not exist (with the
        nearest that do), a required value is not set, or a value makes no sense.
    """
    gin.clear_config()
    gin.add_config_file_search_path(str(ROOT))
    bindings = list(bindings)
    if model_dir is not None and not gin_files:
        _parse(gin.parse_config, _saved(model_dir), f"{model_dir}/{SAVED}")
    elif not gin_files and not bindings:
        raise UserError(f"no config is given; --gin_file names one, {_gin_files()}")
    for path in gin_files:
        if not any(tf.io.gfile.exists(str(f)) for f in (path, ROOT / path)):
            raise UserError(f"there is no gin file {path}; {_gin_files()}")
        _parse(gin.parse_config_file, path, path)
    for binding in bindings:
        _parse(gin.parse_config, IMPORTS + binding, f"--gin_param={binding!r}")
    return _make_experiment()


def bound(function: Callable[..., Any], parameter: str) -> Any:
    """Returns what the config hands to a function for a parameter, None if nothing."""
    try:
        return gin.get_bindings(function).get(parameter)
    except ValueError as error:  # gin knows no function that it has put in a scope
        raise UserError(
            f"Experiment.progressive changes {parameter}, which it cannot find in a "
            "function of a scope: write @dataset.train_dataset without one"
        ) from error


def setting(function: Callable[..., Any], parameter: str) -> Any:
    """Returns what the config hands to a function, else the parameter's default."""
    value = bound(function, parameter)
    if value is not None:
        return value
    return inspect.signature(function).parameters[parameter].default


def operative() -> str:
    """Returns every setting that has been used so far, defaults too, a line each."""
    text = gin.operative_config_str(max_line_length=10_000)
    return re.sub("^# =+\n", "", text, flags=re.MULTILINE)


def compare(
    model_dir: str, bindings: Iterable[str] = (), *, accept_changes: bool = False
) -> None:
    """Looks at the operative config once the run is built.

    Args:
      model_dir: of the run; what it holds already has to be of the same config.
      bindings: those of the command line; each has to have had an effect.
      accept_changes: whether a checkpoint may go on under other settings.

    Raises:
      UserError: says which settings differ, or which had no effect.
    """
    check_effect(bindings)
    new = settings(operative())
    text = gfiles.read_text(f"{model_dir}/{SAVED}")
    if text is None or not directory.has_begun(model_dir):
        return
    old = settings(text)
    changes = [c for c in differences(old, new) if c.split(":")[0] not in FREE]
    if accept_changes:
        changes = [c for c in changes if c.split(":")[0] in UNCHANGEABLE]
    if changes:
        raise UserError(
            f"{model_dir} belongs to a run with another config: {'; '.join(changes)}. "
            "Take another --model_dir, the old settings, or --accept_config_changes to "
            f"go on with the new ones (not for {', '.join(UNCHANGEABLE)})"
        )


def check_effect(bindings: Iterable[str]) -> None:
    """Raises UserError when one of the bindings set nothing in a run that is built."""
    used = settings(operative())
    for name in settings("\n".join(bindings)):
        if "." in name and name not in used:
            raise UserError(
                f"--gin_param={name!r} has no effect: this run does not use it, or the "
                "trainer sets it from another setting"
            )


def save(model_dir: str) -> None:
    """Writes the operative config beside the checkpoints."""
    gfiles.write_text(f"{model_dir}/{SAVED}", operative())


def settings(text: str) -> dict[str, str]:
    """Returns name -> value of every line `name = value` of a config."""
    lines = (line.split("=", 1) for line in text.splitlines() if line[:1] != "#")
    return {line[0].strip(): line[1].strip() for line in lines if len(line) == 2}


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Returns "name: old -> new" for every setting that is not the same."""
    absent = "(not set)"
    return [
        f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _saved(model_dir: str) -> str:
    text = gfiles.read_text(f"{model_dir}/{SAVED}")
    if text is None:
        raise UserError(
            f"{model_dir} holds no {SAVED}; name the --model_dir of a training run"
        )
    return text


def _gin_files() -> str:
    runs = sorted(f"gin_configs/runs/{f.name}" for f in ROOT.glob("gin_configs/runs/*"))
    return f"those of the project: {', '.join(runs)}"


def _make_experiment() -> Experiment:
    _refuse_required(gin.config_str())
    gin.finalize()
    try:
        return gin.get_configurable("train.experiment.Experiment")()
    except TypeError as error:
        missing = re.findall(r"'(\w+)'", str(error).splitlines()[0])
        if "missing" not in str(error) or not missing:
            raise
        raise UserError(
            f"the config does not set experiment.Experiment.{missing[0]}; set it in a "
            f'.gin file or with --gin_param="experiment.Experiment.{missing[0]} = ..."'
        ) from error


def _refuse_required(text: str) -> None:
    missing = [k for k, v in settings(text).items() if v == "%gin.REQUIRED"]
    if missing:
        raise UserError(
            f"the config leaves to you: {', '.join(missing)}; set each, as in "
            f'--gin_param="{missing[0]} = ..."'
        )


def _parse(parser: Callable[[str], Any], text: str, where: str) -> None:
    """Runs one of gin's parsers; any complaint of it becomes one line."""
    try:
        parser(text)
    except Exception as error:
        # gin raises what Python's tokenizer, importer and getattr raise: too many
        # types to list, and whatever the type, the text is what cannot be read.
        what = _suggestion(str(error)) or _first_line(error)
        raise UserError(f"{where}: {what}") from error


def _suggestion(message: str) -> str | None:
    """Returns a better text for the three errors that a misspelt name leads to."""
    if found := re.search(
        r"selector [\w./]*?; <module '([\w.]+)'.* attribute (\w+)", message
    ):
        module, name = found.groups()
        known = [n for n in vars(importlib.import_module(module)) if n[0] != "_"]
        return f"there is no {name!r} in {module}{_nearest(name, known)}"
    if found := re.search(r"'(\w+)' was not provided by an import", message):
        known = [line.split()[-1] for line in IMPORTS.splitlines()[2:]]
        return (
            f"{found[1]!r} is not a module of this config{_nearest(found[1], known)} "
            f"(known: {', '.join(known)}; a .gin file has to import what it names)"
        )
    if found := re.search(
        r"'([\w.]+)' doesn't have a parameter named '(\w+)'", message
    ):
        module, _, name = found[1].rpartition(".")
        configurable = getattr(_module(module), name)
        known = list(inspect.signature(configurable).parameters)
        return f"{name} has no parameter {found[2]!r}{_nearest(found[2], known)}"
    return None


def _module(name: str) -> ModuleType:
    """Returns a module by its full name or by the name that IMPORTS gives it."""
    found = re.search(rf"from (\w+) import {name}$", IMPORTS, re.MULTILINE)
    return importlib.import_module(f"{found[1]}.{name}" if found else name)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; nearest: {', '.join(near)}" if near else f"; it has: {', '.join(known)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["it cannot be read"]
    at = [line.strip() for line in lines[1:] if line.strip().startswith("In ")]
    return lines[0] + "".join(f" ({line})" for line in at[:1])
