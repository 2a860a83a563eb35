"""The generator itself, on a project of two pages."""

import subprocess

import pytest

from common.project import ROOT
from docgen import pages, reference, site

GENERATOR = ROOT / ".venv-docs/bin/python"
with_generator = pytest.mark.skipif(
    not GENERATOR.exists(), reason="`make docs` installs the generator"
)
FUNCTION = '''

def enter(door):
  """Go in by a door.

  Args:
    door: any.
  """
'''
SOUND = f'"""A house."""\n{FUNCTION}'
BUILD = "import sys; from docgen import site; from pathlib import Path; "
BUILD += "print(*site.build(Path(sys.argv[1])), sep='\\n')"


@pytest.fixture
def root(tmp_path):
    settings, _, _ = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")
    navigation = "\nnav: \n  - index.md\n  - contributing.md\n  - changelog.md\n"
    for name, text in {
        "mkdocs.yml": settings + navigation,
        "README.md": "[docs](docs/index.md#a--b)",
        "CONTRIBUTING.md": "# Contributing\n",
        "CHANGELOG.md": "# Changelog\n",
        "docs/index.md": "# A & B\n\n[a](#a--b), [room](../train#train.enter)\n",
        "docs/assets/site.css": "",
        **{f"{room}/__init__.py": SOUND for room in reference.ROOMS},
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def build(root):
    process = subprocess.run(
        [GENERATOR, "-c", BUILD, root], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split("\n")[:-1]


def append(path, text):
    path.write_text(path.read_text() + text)


@with_generator
def test_a_sound_project_is_published(root):
    assert build(root) == [""]
    assert "Go in by a door." in (root / "site/reference/train.html").read_text()
    assert 'href="reference/train.html#train.enter"' in (
        (root / "site/index.html").read_text().replace('"./', '"')
    )


@with_generator
def test_what_the_generator_warns_of(root):
    (root / "site").mkdir()
    append(root / "docs/index.md", "\n[x][train.Nobody]\n")
    append(root / "CONTRIBUTING.md", "\n[y][train.nothing]\n")
    append(
        root / "train/__init__.py",
        FUNCTION.replace("door: any", "roof: any"),
    )
    assert build(root) == [
        "train/__init__.py:16: Parameter 'roof' does not appear in the function "
        "signature",
        "CONTRIBUTING.md:3: unresolved autoref",
        "docs/index.md:5: unresolved autoref",
    ]
    assert list((root / "site").iterdir()) == []


@with_generator
def test_a_page_of_a_module_that_is_not_there(root):
    append(root / "docs/index.md", "\n::: train.nothing\n")
    assert build(root) == ["mkdocstrings: train.nothing could not be found"]


@with_generator
def test_what_only_the_pages_show(root):
    page = root / "docs/index.md"
    append(page, '\n<script src="https://example.org/x.js"></script>\n')
    append(
        root / "train/__init__.py", '\n\ndef leave():\n  """By a [door](d.html)."""\n'
    )
    assert build(root) == [
        "index.html: loads https://example.org/x.js from outside",
        "reference/train.html: d.html is not there",
    ]


def test_what_is_found_without_the_generator(root, monkeypatch):
    monkeypatch.setattr(site, "_generate", lambda root: pytest.fail("it was started"))
    append(root / "README.md", "\n[gone](docs/gone.md)\n")
    append(root / "mkdocs.yml", "  - gone.md\n")
    last = len((root / "mkdocs.yml").read_text().splitlines())
    assert site.build(root) == [
        f"mkdocs.yml:{last}: docs/gone.md is not there",
        "README.md:2: docs/gone.md is not there",
    ]


def test_complaints(root):
    log = (
        "Build started\ngriffe: train/a.py:3: wrong\n"
        "mkdocstrings: train.b could not be found\n"
        "\x1b[33mWarning:\x1b[0m page does not exist\n"
        "   \x1b[38;5;246m╭\x1b[0m─[ changelog.md:9:5 ]\n   │\n"
        "Warning: odd\n    ╭─[ reference/train.md:1:1 ]\n"
    )
    assert site.complaints(log, pages.sources(root), root) == [
        "train/a.py:3: wrong",
        "mkdocstrings: train.b could not be found",
        "CHANGELOG.md:9: page does not exist",
        "build/docs/reference/train.md:1: odd",
    ]


@pytest.mark.parametrize(("mistakes", "status"), [([], 0), (["a:1: wrong"], 1)])
def test_the_command(monkeypatch, capsys, tmp_path, mistakes, status):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text('<a href="index.html">')
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "find_spec", lambda name: name == "zensical")
    monkeypatch.setattr(site, "build", lambda root: mistakes)
    assert site.main([]) == status
    said = capsys.readouterr()
    if mistakes:
        assert said.err == "error: a:1: wrong\n1 error; site/ is as it was\n"
    else:
        assert said.out.startswith("site/index.html: 1 page, 1 link, none dead\n")


def test_without_the_generator(monkeypatch, capsys):
    monkeypatch.setattr(site, "find_spec", lambda name: None)
    assert site.main([]) == 2
    assert "run `make docs`" in capsys.readouterr().err
