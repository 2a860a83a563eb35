"""The runner of pages: what is wrong on a page, it finds, and says where."""

import re
import sys

import pytest

from common.errors import UserError
from tests.docs import pages, test_pages
from tests.docs.test_pages import check_flags, check_settings

TRAIN = "python -m train.main --gin_file=gin_configs/runs/mnist_cpu.gin --model_dir=r"
PAGE = """# A page

What came before is there later on.

```bash
NAME=world
greet() { echo "hello $1"; }
greet "$NAME" > greeting
```

```text
ls /nowhere
```

<!-- not run: nobody has it -->
```bash
ls /nowhere
```

```python
from pathlib import Path

Path("copy").write_text(Path("greeting").read_text() * 2)
```
<!-- slow -->
```bash
test "$(greet "$NAME")" = "$(head -1 copy)"
sleep 60 &
```
"""


def run(text, folder, timeout=20.0, fast=False):
    environment = folder / ".venv/bin"
    environment.mkdir(parents=True)
    (environment / "python").symlink_to(sys.executable)
    (environment / "activate").write_text(f"PATH={environment}:$PATH")
    found = [b for b in pages.blocks(text, "docs/a.md") if b.is_run(fast=fast)]
    pages.run("docs/a.md", found, folder, timeout=timeout)
    return [block.start for block in found]


def test_blocks_share_files_and_variables(tmp_path):
    assert run(PAGE, tmp_path) == [5, 20, 26]
    assert (tmp_path / "copy").read_text() == "hello world\n" * 2


def test_slow_blocks_are_left_out(tmp_path):
    assert run(PAGE, tmp_path, fast=True) == [5, 20]


def test_reasons_are_kept():
    reasons = [block.not_run for block in pages.blocks(PAGE, "docs/a.md")]
    assert reasons == [None, None, "nobody has it", None, None]


@pytest.mark.parametrize(
    ("commands", "line", "said"),
    [
        ("true\nls /nowhere \\\n  --all", 32, "exit status 2: ls /nowhere --all"),
        ("false | cat", 31, "exit status 1"),
        ("x=$(ls /nowhere)", 31, "'/nowhere': No such file"),
        ("f() {\n  ls /nowhere\n}\nf", 32, "exit status 2: ls /nowhere"),
        ("unheard_of", 31, "unheard_of: command not found"),
        ("true\necho $UNSET", 32, "UNSET: unbound variable"),
        ("if [", None, "syntax error"),
        ("exit 0", None, "ended early"),
    ],
)
def test_what_fails_is_named(commands, line, said, tmp_path):
    text = f"{PAGE}```bash\n{commands}\n```\n"
    assert text.splitlines()[30] == commands.splitlines()[0]
    with pytest.raises(pytest.fail.Exception) as failed:
        run(text, tmp_path)
    assert said in str(failed.value)
    if line is not None:
        assert re.search(
            rf"^docs/a\.md:( line )?{line}:", str(failed.value), re.MULTILINE
        )


def test_a_python_block_that_fails_is_named(tmp_path):
    with pytest.raises(pytest.fail.Exception) as failed:
        run(f"{PAGE}\n```python\nprint('so far')\n1 / 0\n```\n", tmp_path)
    assert "docs/a.md:31: exit status 1: python -" in str(failed.value)
    assert "so far" in str(failed.value)
    assert "ZeroDivisionError" in str(failed.value)


def test_a_page_may_not_take_for_ever(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="took longer than 1 s:\nso far"):
        run("# A page\n```bash\necho so far\nsleep 60\n```\n", tmp_path, timeout=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```\nls\n```", "docs/a.md:3: '```' is no fence of bash"),
        ("```sh\nls\n```", "docs/a.md:3: '```sh' is no fence of bash"),
        ("* a\n\n  ```bash\n  ls\n  ```", "docs/a.md:5: '  ```bash' is no fence of"),
        ("```bash\nls", "docs/a.md:3: the page ends too early"),
        ("<!-- not run -->\n```bash\nls\n```", "docs/a.md:3: .* is no mark: give a"),
        ("<!-- not run:  -->\n```bash\nls\n```", "docs/a.md:3: .* is no mark"),
        ("<!--slow-->\n```bash\nls\n```", "docs/a.md:3: .* is no mark"),
        ("<!-- slow -->\n\n```bash\nls\n```", "docs/a.md:4: a fence has to follow"),
        ("<!-- slow -->", "docs/a.md:3: the page ends too early"),
    ],
)
def test_unclear_pages_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        pages.blocks(f"# A page\n\n{text}\n", "docs/a.md")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiment.Experiment.epoch = 2", "no parameter 'epoch'; nearest: epochs"),
        ("optimizer.lars.momentum = 0.5", "has no effect"),
        ("experiment.Experiment.epochs = -1", "epochs"),
        ("randaugment.rand_augment.magnitude = 3\nexperiment.X.a = 1", "no 'X'"),
    ],
)
def test_settings_that_are_not_there(text, message):
    with pytest.raises(UserError, match=message):
        check_settings(text)


@pytest.mark.parametrize(
    "text",
    [
        "make no-such-target",
        "python -m train.mian --help",
        "python -m no_such_module",
        "if ! A=1 .venv/bin/python -m train.mian; then",
        "source .venv/bin/activate; python -m train.main --no_such_flag=1",
        "while true; do\n  python -m train.main --mode=none | tee x\ndone",
        f"{TRAIN} \\\n  --mode=none",
    ],
)
def test_commands_that_are_not_there(text):
    with pytest.raises((AssertionError, ModuleNotFoundError, pytest.fail.Exception)):
        check_flags(text)


def test_settings_of_commands_that_are_not_there():
    with pytest.raises(UserError, match="no parameter 'epoch'"):
        check_flags(f'{TRAIN} --gin_param="experiment.Experiment.epoch = 2"  # why')


def test_settings_that_a_command_leaves_out():
    recipe = "gin_configs/models/efficientnet_x_b0.gin --gin_file=gin_configs/runs"
    train = f"python -m train.main --model_dir=r --gin_file={recipe}/imagenet.gin"
    with pytest.raises(UserError, match=r"leaves to you: .*data_dir"):
        check_flags(train)
    check_flags(f"{train} --gin_param=\"experiment.Experiment.data_dir = 'd'\"")


def test_commands_that_are_there(monkeypatch):
    seen = []
    monkeypatch.setattr(test_pages, "check_module", lambda *words: seen.append(words))
    check_flags(
        "make PYTHON=p train  # it\nFOO=1; python -m a.b --c='d e' \\\n  f > g & ls -l"
    )
    assert seen == [("a.b", ["--c=d e", "f"])]
