"""The folder of a run may come from somebody else: its config does nothing."""

import importlib
import inspect
import pathlib
import sys

import pytest

from common.errors import UserError
from tests.support.runs import TINY, bound
from train import config, export, main
from train.settings.functions import FUNCTIONS

DYNAMIC = "from __gin__ import dynamic_registration\n"
HEAD = DYNAMIC + "from train import experiment\nfrom input_pipeline import dataset\n"
DATA_DIR = "experiment.Experiment.data_dir"
# Public, and of these modules, but nothing for a config: they take what a caller has.
NOT_FOR_CONFIGS = {
    "input_pipeline.erasing": {"draw_sizes", "fill"},
    "input_pipeline.mixing": {"Mixture", "mix", "beta", "boxes", "image_size"},
    "input_pipeline.randaugment": {"AtLevel", "Policy", "apply_op", "draw", "in_turn"}
    | {"policy_of"},
    "models.efficientnet_x": {"StemForm", "check_activation", "classifier_layers"}
    | {"head_layers", "variant_of"},
    "models.variants": {"replace_fields"},
    "train.experiment": {"setting", "function"},
    "train.optimizer": {"RMSprop", "check", "prepare", "scale_learning_rates"},
    "train.schedule": {"Warmup", "Exponential", "Cosine", "Polynomial", "Constant"}
    | {"WarmupsOfStages"},
}


# By what it tries: the text, the line that is named, and what is not allowed there.
# MARKER is a file that a text would write, if gin saw it.
NOT_ALLOWED = {
    "a command": (
        f"{DYNAMIC}import os\nfrom train import experiment\n"
        f"{DATA_DIR} = @os.system()\nos.system.command = 'touch MARKER'\n",
        2,
        "`import os`",
    ),
    "a command in a macro": (
        f"{DYNAMIC}import subprocess\nX = @subprocess.getoutput()\n"
        "subprocess.getoutput.cmd = 'touch MARKER'\n",
        2,
        "`import subprocess`",
    ),
    "a singleton": (
        f"{HEAD}{DATA_DIR} = @s/gin.singleton()\n"
        "s/gin.singleton.constructor = @dataset.eval_dataset\n",
        4,
        "@s/gin.singleton()",
    ),
    "an import alone": (f"{DYNAMIC}import this\n", 2, "`import this`"),
    "an import without gin's own": ("import this\n", 1, "`import this`"),
    "a module of ours that writes": (
        f"{HEAD}from common import gfiles\n{DATA_DIR} = @gfiles.write_text()\n"
        "gfiles.write_text.path = 'MARKER'\ngfiles.write_text.text = 'x'\n",
        4,
        "`from common import gfiles`",
    ),
    "what a module imports": (
        f"{HEAD}{DATA_DIR} = @experiment.tf.io.gfile.rmtree()\n"
        "experiment.tf.io.gfile.rmtree.path = 'x'\n",
        4,
        "@experiment.tf.io.gfile.rmtree()",
    ),
    "an included file": (f"{HEAD}include '/etc/passwd'\n", 4, "`include`"),
    "an included package": (f"{HEAD}include 'this/x.gin'\n", 4, "`include`"),
    "another import by name": (
        f"{DYNAMIC}from os import system\n",
        2,
        "`from os import system`",
    ),
    "a function by its import": (
        f"{DYNAMIC}from train.experiment import Experiment\n",
        2,
        "`from train.experiment import Experiment`",
    ),
    "os under a good name": (
        f"{DYNAMIC}import os as experiment\n",
        2,
        "`import os as experiment`",
    ),
    "a module without from": (
        f"{DYNAMIC}import train.experiment\n",
        2,
        "`import train.experiment`",
    ),
    "a module without from, named": (
        f"{DYNAMIC}import train.experiment as experiment\n",
        2,
        "`import train.experiment as experiment`",
    ),
    "the package above": (f"{DYNAMIC}import train\n", 2, "`import train`"),
    "another module of a room": (
        f"{DYNAMIC}from train import run\n",
        2,
        "`from train import run`",
    ),
    "a module in other letters": (
        f"{DYNAMIC}from train import e\uff58periment\n",
        2,
        "`from train import e\uff58periment`",
    ),
    "another of gin's own": (
        "from __gin__ import something\n",
        1,
        "`from __gin__ import something`",
    ),
    "gin's own under a name": (
        "from __gin__ import dynamic_registration as d\n",
        1,
        "`from __gin__ import dynamic_registration as d`",
    ),
    "gin's own again": (f"{HEAD}{DYNAMIC}", 4, f"`{DYNAMIC.strip()}`"),
    "gin's own too late": (
        f"X = 1\n{HEAD}",
        1,
        f"a statement in front of `{DYNAMIC.strip()}`",
    ),
    "what others have registered": (
        "gin.macro.value = 1\n",
        1,
        f"a statement in front of `{DYNAMIC.strip()}`",
    ),
    "a name twice": (
        f"{HEAD}from train import optimizer as experiment\n",
        4,
        "`from train import optimizer as experiment`",
    ),
    "a name before its import": (
        f"{DYNAMIC}{DATA_DIR} = 'x'\nfrom train import experiment\n",
        2,
        "experiment.Experiment",
    ),
    "no name of an import": (f"{HEAD}os.system.command = 'x'\n", 4, "os.system"),
    "an imported class": (
        f"{HEAD}experiment.UserError.args = 'x'\n",
        4,
        "experiment.UserError",
    ),
    "an imported function": (
        f"{HEAD}{DATA_DIR} = @dataset.load_info()\n",
        4,
        "@dataset.load_info()",
    ),
    "a method": (
        f"{HEAD}{DATA_DIR} = @experiment.Experiment.stages\n",
        4,
        "@experiment.Experiment.stages",
    ),
    "what Python hides": (
        f"{HEAD}{DATA_DIR} = @experiment.__builtins__.exec()\n",
        4,
        "@experiment.__builtins__.exec()",
    ),
    "what only callers call": (
        f"{HEAD}from train import optimizer\n{DATA_DIR} = @optimizer.prepare\n",
        5,
        "@optimizer.prepare",
    ),
    "a module alone": (f"{HEAD}{DATA_DIR} = @experiment\n", 4, "@experiment"),
    "a call": (
        f"{HEAD}experiment.Experiment.eval_data = @dataset.eval_dataset()\n"
        "dataset.eval_dataset.data_dir = 'x'\n",
        4,
        "@dataset.eval_dataset()",
    ),
    "a call of the experiment": (
        f"{HEAD}{DATA_DIR} = @experiment.Experiment()\n",
        4,
        "@experiment.Experiment()",
    ),
    "gin's registry": (f"{HEAD}{DATA_DIR} = @gin.register\n", 4, "@gin.register"),
    "gin's constants": (
        f"{HEAD}{DATA_DIR} = @os.system/gin.constant()\n",
        4,
        "@os.system/gin.constant()",
    ),
    "a setting of gin": (
        f"{HEAD}s/gin.singleton.constructor = 1\n",
        4,
        "gin.singleton",
    ),
    "behind gin": (
        f"{HEAD}gin.macro.__globals__ = 1\ngin.macro.__call__.x = 1\n",
        5,
        "gin.macro.__call__",
    ),
    "a block": (f"{HEAD}os.system:\n  command = 'x'\n", 4, "os.system"),
    "a reference in a block": (
        f"{HEAD}experiment.Experiment:\n  seed = 1\n  data_dir = @os.system()\n",
        6,
        "@os.system()",
    ),
    "inside a list": (f"{HEAD}X = [1,\n  2,\n  @os.system()]\n", 6, "@os.system()"),
    "inside tuples": (f"{HEAD}X = (((@os.system(),),),)\n", 4, "@os.system()"),
    "a key": (f"{HEAD}X = {{@os.system(): 1}}\n", 4, "@os.system()"),
    "a value": (f"{HEAD}X = {{'a': @os.system()}}\n", 4, "@os.system()"),
    "a value that is replaced": (
        f"{HEAD}X = {{'a': @os.system(), 'a': 1}}\n",
        4,
        "@os.system()",
    ),
    "a binding that is replaced": (
        f"{HEAD}{DATA_DIR} = @os.system()\n{DATA_DIR} = 'x'\n",
        4,
        "@os.system()",
    ),
    "a scope like a good name": (
        f"{HEAD}{DATA_DIR} = @experiment.Experiment/os.system()\n",
        4,
        "@experiment.Experiment/os.system()",
    ),
    "scopes in front": (
        f"{HEAD}a/b/os.system.command = 'x'\n",
        4,
        "os.system",
    ),
    "a line that goes on": (
        f"{HEAD}{DATA_DIR} = \\\n  @os.system()\n",
        5,
        "@os.system()",
    ),
    "behind a comment's end": (
        f"{HEAD}# all is well\nimport os # x\n",
        5,
        "`import os`",
    ),
    "lines of another system": (
        f"{HEAD}import os\n".replace("\n", "\r\n"),
        4,
        "`import os`",
    ),
    "a form feed": (f"{HEAD}\f\fimport os\n", 4, "`import os`"),
    "a name without end": (
        f"{HEAD}{DATA_DIR} = @{'a' * 9999}()\n",
        4,
        f"@{'a' * 79}...",
    ),
}
# What is no config at all, with what is said of it.
UNREADABLE = {
    "bytes": (b"\xff\xfe\x00", ": 'utf-8' codec can't decode byte 0xff in position 0"),
    "a byte order mark": (f"\ufeff{HEAD}".encode(), ", line 1: Unexpected token."),
    "a hidden line": (
        f"{HEAD}X = 1 # all is well\rimport os\n".encode(),
        ", line 4: Expected newline.",
    ),
    "a NUL": (f"{HEAD}X = '\0'\n".encode(), ", line 4: Failed to parse token ''?''"),
    "deep lists": (
        f"{HEAD}X = {'[' * 9999}{']' * 9999}\n".encode(),
        ": it is nested too deep; it is no config",
    ),
    "a list without end": (
        f"{HEAD}X = [1,\n".encode(),
        ", line 5: EOF in multi-line statement",
    ),
    "a word without a meaning": (
        f"{HEAD}X = open\n".encode(),
        ", line 4: Failed to parse token 'open'",
    ),
    "code in a string": (
        f"{HEAD}X = f'{{open(1)}}'\n".encode(),
        ", line 4: Failed to parse token 'f'{open(1)}''",
    ),
    "a sum": (f"{HEAD}X = 1 + 1\n".encode(), ", line 4: Expected newline."),
    "a key of a list": (f"{HEAD}X = {{[1]: 1}}\n".encode(), ": unhashable type"),
    "a terminal's control": (
        f"{HEAD}from train \x1b[2J\n".encode(),
        ", line 4: Expected 'import'.  Got ERRORTOKEN = ?.",
    ),
    "a dot": (f"{HEAD}from . import os\n".encode(), ", line 4: Malformatted scope"),
}
# Since 3.12 Python's tokenizer is its parser's: what was a token is an error, or the
# other way round. Nothing is let through that was not.
SINCE_3_12 = {
    "a byte order mark": ", line 1: Malformatted scope or selector.",
    "a NUL": ", line 4: source code cannot contain null bytes",
    "deep lists": ", line 4: too many nested parentheses",
    "a list without end": ", line 4: unexpected EOF in multi-line statement",
    "code in a string": ", line 4: Unable to parse value.",
    "a terminal's control": ", line 4: invalid non-printable character U+001B",
}
if sys.version_info >= (3, 12):
    for _what, _said in SINCE_3_12.items():
        UNREADABLE[_what] = (UNREADABLE[_what][0], _said)


@pytest.fixture
def gin_calls(monkeypatch):
    """Texts that gin has got."""
    calls = []
    monkeypatch.setattr(config.gin, "parse_config", calls.append)
    return calls


def refusal_of(folder, text):
    """What is said of a folder with this text, in one line."""
    data = text if isinstance(text, bytes) else text.encode()
    (folder / config.SAVED).write_bytes(data)
    with pytest.raises(UserError) as caught:
        config.resolve([], ["experiment.Experiment.epochs = 1"], model_dir=str(folder))
    said = str(caught.value)
    assert said.isprintable(), said  # and so one line
    return said.replace(str(folder), "RUN")


@pytest.mark.parametrize("what", NOT_ALLOWED)
def test_what_acts_is_refused(what, tmp_path, gin_calls):
    text, line, shown = NOT_ALLOWED[what]
    marker = tmp_path / "marker"
    said = refusal_of(tmp_path, text.replace("MARKER", str(marker)))
    assert said == (
        f"RUN/operative_config.gin, line {line}: {shown} is not allowed in a saved "
        "config, which may set this project's own functions and nothing else; if you "
        "trust the folder, --gin_file=RUN/operative_config.gin runs whatever the file "
        "says"
    )
    assert gin_calls == []
    assert not marker.exists()


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_is_no_config_is_refused(what, tmp_path, gin_calls):
    text, wanted = UNREADABLE[what]
    said = refusal_of(tmp_path, text)
    assert said.startswith(f"RUN/operative_config.gin{wanted}")
    assert said.endswith("or take another --model_dir")
    assert gin_calls == []
    # The same of a run that shall go on under it.
    with pytest.raises(UserError) as caught:
        config.resolve([TINY], []).refuse_changes(str(tmp_path))
    assert str(caught.value).replace(str(tmp_path), "RUN") == said


def test_what_sets_too_little(tmp_path):
    assert refusal_of(tmp_path, "").startswith("the config does not set ")
    left = f"{HEAD}{DATA_DIR} = %gin.REQUIRED\n"
    assert refusal_of(tmp_path, left).startswith("the config leaves to you: ")


def save(folder, gin_files, bindings=()):
    found = config.resolve(gin_files, list(bindings))
    found.save(str(folder))
    return found


@pytest.mark.parametrize(
    "gin_file", [TINY, *sorted(map(str, pathlib.Path("gin_configs/runs").iterdir()))]
)
def test_what_a_run_saves_is_read_back(gin_file, tmp_path):
    model = "gin_configs/models/efficientnet_x_b0.gin"
    files = [gin_file] if gin_file == TINY else [model, gin_file]
    left_open = [f"{DATA_DIR} = 'x'", "efficientnet_x.build_model.num_classes = 7"]
    before = save(tmp_path, files, left_open)
    assert config.resolve([], [], model_dir=str(tmp_path)).text == before.text


def test_scopes_macros_and_names_of_imports(tmp_path):
    """What our own runs do not save, but gin has saved of some."""
    path = tmp_path / config.SAVED
    save(tmp_path, [TINY])
    path.write_text(
        path.read_text()
        .replace("import experiment", "import experiment as e")
        # At the end, where it wins.
        .replace("experiment.Experiment.", "e.Experiment.")
        + """
rate = 0.5
a/rate = 0.25
b/c/gin.macro.value = 0.125
e.Experiment.ema_decay = %a/rate
e.Experiment.label_smoothing = %b/c
e.Experiment:
  weight_decay = @rate/gin.macro()
  train_data = @a.b/dataset.train_dataset  # gin allows it
dataset.train_dataset:
  shuffle_buffer = 7
"""
    )
    experiment = config.resolve([], [], model_dir=str(tmp_path)).experiment
    assert experiment.ema_decay == 0.25
    assert experiment.label_smoothing == 0.125
    assert experiment.weight_decay == 0.5
    assert bound(experiment.train_data)["shuffle_buffer"] == 7


OWN = """from __gin__ import dynamic_registration
from input_pipeline import dataset
from tests.support import tiny as mine
dataset.train_dataset.augment = @mine.brighten
mine.brighten.magnitude = 4
"""


def test_a_module_of_ones_own_needs_the_file_named(tmp_path):
    (tmp_path / "own.gin").write_text(OWN)
    before = save(tmp_path, [TINY, str(tmp_path / "own.gin")])
    with pytest.raises(UserError) as caught:
        config.resolve([], [], model_dir=str(tmp_path))
    said = str(caught.value)
    assert "`from tests.support import tiny` is not allowed" in said
    (_, way_on) = said.split("--gin_file=")
    found = config.resolve([way_on.split()[0]], [])
    assert found.text == before.text
    augment = bound(found.experiment.train_data)["augment"]
    assert bound(augment)["magnitude"] == 4


def test_a_run_that_goes_on_runs_nothing_of_it(tmp_path, monkeypatch):
    """Its config is compared with the one that was named, and that is all."""
    found = save(tmp_path, [TINY])
    path = tmp_path / config.SAVED
    split = "experiment.Experiment.train_split"
    path.write_text(f"{path.read_text()}import os\n{split} = @os.system()\n")
    monkeypatch.setattr(config.gin, "parse_config", None)
    with pytest.raises(UserError, match=r"train_split: @os\.system\(\) -> 'train'"):
        found.refuse_changes(str(tmp_path))


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (main, ["--mode=eval"]),
        (main, ["--mode=continuous_eval"]),
        (export, ["--export_dir=RUN/e"]),
    ],
)
def test_commands_say_it_in_one_line(command, flags, tmp_path, capsys):
    marker = tmp_path / "marker"
    (tmp_path / config.SAVED).write_text(
        NOT_ALLOWED["a command"][0].replace("MARKER", str(marker))
    )
    flags = [flag.replace("RUN", str(tmp_path)) for flag in flags]
    assert command.main([f"--model_dir={tmp_path}", *flags]) == 2
    out, said = capsys.readouterr()
    assert said.count("\n") == 1
    assert said.startswith(
        f"error: {tmp_path}/operative_config.gin, line 2: `import os`"
    )
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == [config.SAVED]


def test_the_table_is_of_functions_of_these_modules():
    """A new one is either for configs, or is said here not to be."""
    for module, functions in FUNCTIONS.items():
        found = {
            name
            for name, value in vars(importlib.import_module(module)).items()
            if not name.startswith("_")
            and (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == module
        }
        assert found == {*functions} | NOT_FOR_CONFIGS.get(module, set()), module
