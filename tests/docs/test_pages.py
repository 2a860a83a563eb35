"""README and docs: every fence is what it says, and what is to be run runs."""

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import commands
from common import extras
from common.project import ROOT
from search import config as search_config
from search.block_search import BlockSearch
from search.nas_search import Nas
from search.scaling_search import Scaling
from tests.docs import pages
from tests.docs.pages import Block
from train import config

PAGES = pages.pages()
OURS = {command.name for command in commands.find()}
TARGETS = set(re.findall("^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TARGETS |= {f"with-{extra}" for extra in extras.EXTRAS}
SEARCHES = {"search.blocks": BlockSearch, "search.lacs": Scaling, "search.nas": Nas}
# A fence of settings changes something; what, it may leave open.
BASE = [
    "gin_configs/models/efficientnet_x_b0.gin",
    "gin_configs/runs/imagenet.gin",
]


def run_in(page: str, *, fast: bool) -> list[Block]:
    return [block for block in pages.blocks_of(page) if block.is_run(fast=fast)]


def with_blocks(*, fast: bool) -> list[str]:
    return [page for page in PAGES if run_in(page, fast=fast)]


def of_language(language: str) -> list:
    return [
        pytest.param(block, id=f"{page}:{block.start}")
        for page in PAGES
        for block in pages.blocks_of(page)
        if block.language == language
    ]


def test_pages_are_found():
    assert PAGES[0] == "README.md"
    assert "docs/quickstart.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_some_of_a_page_is_run(page):
    code = [b for b in pages.blocks_of(page) if b.language in ("bash", "python")]
    assert not code or run_in(page, fast=False)


@pytest.mark.long
@pytest.mark.parametrize("page", with_blocks(fast=True))
def test_quick_blocks_run(page, checkout):
    pages.run(page, run_in(page, fast=True), checkout, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_blocks(fast=False))
def test_pages_run(page, trained_checkout):
    pages.run(page, run_in(page, fast=False), trained_checkout, timeout=1800)


@pytest.mark.parametrize("block", of_language("gin"))
def test_settings_are_known(block):
    check_settings(block.text)


def check_settings(text: str) -> None:
    if "from search import" in text:
        search_config.parse(text)
        return
    data = "experiment.Experiment.data_dir = 'data'"
    config.resolve(BASE, [data, text])


@pytest.mark.parametrize("block", of_language("bash"))
def test_flags_are_known(block):
    """Of blocks that are not run, too."""
    check_flags(block.text)


def check_flags(text: str) -> None:
    """Fail where a command of ours has no such flag, or its config no such setting."""
    text, written = without_heredocs(text)
    for words in simple_commands(text):
        words = [w for w in words if w.removeprefix("--gin_file=") not in written]
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= TARGETS, words
        for at, word in enumerate(words[:-2]):
            if words[at + 1] == "-m" and Path(word).name.startswith("python"):
                check_module(words[at + 2], words[at + 3 :])


def without_heredocs(text: str) -> tuple[str, list[str]]:
    """Return the text without files that it writes itself, and their names."""
    heredoc = re.compile(r"^cat > (\S+) <<'(\w+)'\n.*?^\2$", re.M | re.S)
    return heredoc.sub("", text), [found[1] for found in heredoc.finditer(text)]


def simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, what is piped or redirected left out."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
            elif words:
                yield words
                words = []


def check_module(module: str, arguments: list[str]) -> None:
    if module not in OURS:
        assert module.partition(".")[0] not in {name.partition(".")[0] for name in OURS}
        assert importlib.util.find_spec(module), module
        return
    if (ROOT / module.replace(".", "/")).is_dir():
        module += ".__main__"
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            found = importlib.import_module(module)._parser().parse_args(arguments)
    except SystemExit as end:
        if end.code:
            pytest.fail(said.getvalue())
        return
    if module in SEARCHES:
        if found.gin_file:
            search_config.read(SEARCHES[module], found.gin_file, found.gin_param)
    elif getattr(found, "gin_file", None):
        data_dir = getattr(found, "data_dir", None)  # preflight.preview's
        place = [f"experiment.Experiment.data_dir = {data_dir!r}"] if data_dir else []
        config.resolve(found.gin_file, [*found.gin_param, *place])
