"""Flags of other trainers, and what stands for them here: a setting, or another flag.

Nothing of the trainer is imported, which takes seconds: what its functions take is read
from their sources.
"""

import ast
import functools
import shlex
from collections.abc import Collection, Iterator

from common import checks
from common.project import ROOT
from train.settings.functions import FUNCTIONS, MAKES_VALUES

_E, _BUILD, _DATA = (
    "experiment.Experiment",
    "efficientnet_x.build_model",
    "dataset.train_dataset",
)
_RATE = "schedule.cosine.peak_per_256"
# By the words of other trainers.
_SETTINGS = {
    **dict.fromkeys(("lr", "base_lr", "init_lr", "initial_lr", "base_learning_rate"),
                    _RATE),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epochs", "train_epochs"),
                    f"{_E}.epochs"),
    **dict.fromkeys(("batch_size", "batch", "bs", "train_batch_size"),
                    f"{_E}.global_batch_size"),
    **dict.fromkeys(("eval_batch", "val_batch_size", "validation_batch_size"),
                    f"{_E}.eval_batch_size"),
    **dict.fromkeys(("data", "data_path", "data_root", "dataset", "dataset_dir"),
                    f"{_E}.data_dir"),
    **dict.fromkeys(("opt", "optim"), f"{_E}.optimizer"),
    **dict.fromkeys(("wd", "l2"), f"{_E}.weight_decay"),
    **dict.fromkeys(("smoothing", "label_smooth"), f"{_E}.label_smoothing"),
    **dict.fromkeys(("amp", "fp16", "bf16", "dtype", "mixed_precision", "use_bfloat16"),
                    f"{_E}.precision"),
    **dict.fromkeys(("sched", "scheduler", "lr_schedule"), f"{_E}.learning_rate"),
    **dict.fromkeys(("patience", "early_stop"), f"{_E}.early_stopping_patience"),
    **dict.fromkeys(("weights", "init_checkpoint", "finetune", "pretrained_path"),
                    f"{_E}.pretrained"),
    **dict.fromkeys(("gpus", "num_gpus", "devices", "distribute"), f"{_E}.strategy"),
    **dict.fromkeys(("ema", "model_ema", "moving_average_decay"), f"{_E}.ema_decay"),
    **dict.fromkeys(("classes", "nb_classes", "num_label_classes"),
                    f"{_BUILD}.num_classes"),
    **dict.fromkeys(("image_size", "img_size", "input_size", "size"),
                    f"{_BUILD}.resolution"),
    **dict.fromkeys(("dropout", "drop", "drop_rate"), f"{_BUILD}.dropout_rate"),
    **dict.fromkeys(("drop_path", "drop_connect_rate"), f"{_BUILD}.survival_prob"),
    "warmup": "schedule.cosine.warmup_epochs",
    **dict.fromkeys(("aa", "auto_augment", "augment_name"), f"{_DATA}.augment"),
}  # fmt: skip
# What those of them mean that have no value, or one of another kind.
_MEANT = {
    **dict.fromkeys(("amp", "bf16", "mixed_precision", "use_bfloat16"),
                    "'mixed_bfloat16'"),
    "fp16": "'mixed_float16'",
    **dict.fromkeys(("gpus", "num_gpus", "devices", "distribute"), "'mirrored'"),
}  # fmt: skip
_LISTS = ("intended",)  # settings that are lists of words
_SHARES_KEPT = ("drop_path", "drop_connect_rate")  # given as what is dropped
_WORKERS = ("num_workers", "workers", "j", "num_parallel_calls")
_MODELS = ("model", "model_name", "variant", "arch", "network", "backbone")
_FLAGS = {  # of a command, by other words for them
    **dict.fromkeys(("output", "output_dir", "out_dir", "save_dir", "log_dir", "logdir",
                     "workdir", "job_dir", "checkpoint_dir", "ckpt_dir", "train_dir"),
                    "model_dir"),
    **dict.fromkeys(("config", "cfg", "gin_config", "gin_files", "config_file"),
                    "gin_file"),
    **dict.fromkeys(("gin_bindings", "gin_params", "override", "set"), "gin_param"),
}  # fmt: skip
_EVALUATES = ("eval", "evaluate", "eval_only", "validate")
# Settings that are functions: the module whose functions they may be.
_FUNCTIONS = {
    "optimizer": ("train.optimizer",),
    "learning_rate": ("train.schedule",),
    "augment": ("input_pipeline.randaugment", "input_pipeline.autoaugment"),
    "erase": ("input_pipeline.erasing",),
    "mixing": ("input_pipeline.mixing",),
}
# What the trainer hands over: parameters that are no settings.
_HANDED_OVER = (
    *("data_dir", "split", "batch_size", "num_batches", "start", "num_hosts", "host"),
    *("layout", "patch_size", "seed", "dtype", "make_seed_generator", "reduce_mean"),
)
_WORDS = {"true": "True", "false": "False", "none": "None", "null": "None"}


def explain(name: str, value: str | None, flags: Collection[str]) -> str:
    """Return what to write in place of a flag that a command of the trainer lacks.

    Args:
      name: of the flag, without its dashes, and with _ for -.
      value: that it was given, None for none.
      flags: those of the command, with their dashes.

    Returns:
      To go on a message with, "write --gin_param=experiment.Experiment.epochs=5".
    """
    if name in _MODELS:
        return _model(value)
    if name in _EVALUATES and "--mode" in flags:
        return "write --mode=eval"
    if name == "resume":
        return "leave it out: the same command goes on with its run"
    if name in _WORKERS:
        return "leave it out: the input pipeline uses all cores"
    if (flag := f"--{_FLAGS.get(name)}") in flags:
        return f"write {flag}={value or 'VALUE'}"
    return _setting(name, value) or _nearest(name, value, flags)


def _model(name: str | None) -> str:
    """Return the flag that takes a network, by a name from here or elsewhere."""
    from models.foreign_names import nearest_variants
    from models.variants import VARIANTS

    near = nearest_variants(name or "", VARIANTS) if name else []
    files = [f"gin_configs/models/{one.replace('-', '_')}.gin" for one in near]
    files = [file for file in files if (ROOT / file).exists()]
    if not files:
        return "a model is --gin_file=gin_configs/models/NAME.gin"
    return "write " + " or ".join(f"--gin_file={file}" for file in files)


def _setting(name: str, value: str | None) -> str:
    """Return the flag that sets what other trainers call so; "" for none."""
    if name in _FUNCTIONS and value and _is_number(value):
        # As --learning_rate=0.1: not the function, but the size of what it makes.
        name = {"learning_rate": "lr"}.get(name, name)
    found = _settings_of(name)
    if name in _SHARES_KEPT and value and _is_number(value):
        value = f"{1 - float(value):g}"
    written = " or ".join(_binding(one, _MEANT.get(name, value)) for one in found[:3])
    note = " (for a batch of 256)" * (_RATE in found)
    return f"write {written}{note}" if found else ""


def _nearest(name: str, value: str | None, flags: Collection[str]) -> str:
    """Return the flag or the setting that is likest."""
    own = {flag.lstrip("-"): flag for flag in flags}
    near = checks.nearest_names(name.rpartition(".")[2], [*own, *_known(), *_SETTINGS])
    if not near:
        return "a setting is --gin_param=MODULE.FUNCTION.NAME=VALUE"
    if near[0] in own:
        return f"nearest: {own[near[0]]}"
    return f"perhaps {_binding(_settings_of(near[0])[0], _MEANT.get(near[0], value))}"


def _settings_of(name: str) -> list[str]:
    owner, _, last = name.rpartition(".")
    if owner:  # as gin has it, but as a flag: Experiment.epochs
        return [one for one in _known().get(last, []) if f".{one}".endswith(f".{name}")]
    if name in _known():
        return _known()[name]
    return [_SETTINGS[name]] if name in _SETTINGS else []


def _binding(setting: str, value: str | None) -> str:
    """Return the flag that sets a setting, as a shell takes it."""
    text = f"{setting}={_written(setting, value)}"
    if not set(text) & set(" '\"%()[]{}*?&|;<>$`\\~#!"):
        return f"--gin_param={text}"
    if not set(text) & set('"$`\\!'):
        return f'--gin_param="{text}"'
    return f"--gin_param={shlex.quote(text)}"


def _written(setting: str, value: str | None) -> str:
    """Return a value as gin reads it."""
    name = setting.rpartition(".")[2]
    if value is None or not value.strip():
        return "VALUE"
    if name in _FUNCTIONS and not value.startswith("@"):
        return _reference(name, value)
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if _is_literal(value) or value[0] in "@%":
        return value
    return repr([value] if name in _LISTS else value)


def _reference(name: str, value: str) -> str:
    """Return the function that a word means for a setting, as gin refers to it."""
    known = {
        function: f"@{module.rpartition('.')[2]}.{function}"
        for module in _FUNCTIONS[name]
        for function in FUNCTIONS[module]
    }
    word = value.lower().rpartition(".")[2].replace("-", "_")
    near = checks.nearest_names(word, known)
    return known[near[0]] if near else "@MODULE.FUNCTION"


@functools.cache
def _known() -> dict[str, list[str]]:
    """Return what can be set, by its last name; Experiment's fields alone if such."""
    found: dict[str, list[str]] = {}
    for owner, node in _functions():
        for name in [*_fields(node), *_parameters(node)]:
            if f"{_E}.{name}" not in found.get(name, []):
                found.setdefault(name, []).append(f"{owner}.{name}")
    return {name: sorted(owners, key=_rank) for name, owners in found.items()}


def _functions() -> Iterator[tuple[str, ast.stmt]]:
    """Yield what a config may set, Experiment first, by its name in gin files."""
    modules = sorted(FUNCTIONS, key=lambda module: module != "train.experiment")
    for module in modules:
        if module == MAKES_VALUES:
            continue
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        for node in tree.body:
            name = getattr(node, "name", None)
            if name in FUNCTIONS[module]:
                yield f"{module.rpartition('.')[2]}.{name}", node


def _fields(node: ast.stmt) -> Iterator[str]:
    """Yield the fields of a class; a function has none."""
    for one in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            yield one.target.id


def _parameters(node: ast.stmt) -> Iterator[str]:
    """Yield the parameters of a function that have a default; a class has none."""
    if isinstance(node, ast.FunctionDef):
        options = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        for one, default in options:
            if default is not None and one.arg not in _HANDED_OVER:
                yield one.arg


def _rank(setting: str) -> int:
    """Order the settings of one name: the model's and the data's first."""
    first = (_BUILD, _DATA, "schedule.cosine")
    owner = setting.rpartition(".")[0]
    return first.index(owner) if owner in first else len(first)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True
