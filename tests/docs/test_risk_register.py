"""The list of private interfaces in docs/design.md is whole, and its tests exist."""

import ast
import functools
import re

from common.project import ROOT

ROOMS = [path.parent for path in sorted(ROOT.glob("*/__init__.py"))]
# Modules that their projects keep for themselves, though no name begins with "_".
PRIVATE_MODULES = ("tensorflow.python", "tensorflow.compiler", "jaxlib", "keras.src")
PUBLIC_IN_SPITE_OF_IT = {"_asdict", "_replace", "_fields"}  # of named tuples


@functools.cache
def trees():
    rooms = [room for room in ROOMS if room.name != "tests"]
    files = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    return [ast.parse(path.read_text()) for path in files]


def own_names():
    """Names that our own code gives to something."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                # self._x = ..., and not what is put into an object of others.
                and getattr(node.value, "id", "") in ("self", "cls")
            ):
                yield node.attr


def is_private(name):
    dunder = name.startswith("__") and name.endswith("__") and name != "__internal__"
    return name.startswith("_") and not dunder


def borrowed():
    """Private attributes and modules of others that our code names."""
    own = set(own_names()) | PUBLIC_IN_SPITE_OF_IT
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                if is_private(node.attr) and node.attr not in own:
                    yield node.attr
            elif isinstance(node, ast.ImportFrom | ast.Import):
                module = getattr(node, "module", None) or ""
                for name in [module, *(alias.name for alias in node.names)]:
                    if name.startswith(PRIVATE_MODULES) or any(
                        map(is_private, name.split("."))
                    ):
                        yield name


def register():
    """What is leaned on, and which tests notice, of each entry."""
    text = (ROOT / "docs/design.md").read_text()
    section = text.split("## What we lean on that nobody has promised")[1]
    entries = section.split("\n## ")[0].split("\n- ")[1:]
    return [entry.split("Noticed by") for entry in entries]


def test_whatever_private_name_the_code_uses_is_listed():
    listed = " ".join(what for what, _ in register())
    found = set(borrowed())
    assert "_flatten_layers" in found
    assert "jax._src.interpreters" in found
    assert {name for name in found if name not in listed} == set()


def test_the_tests_that_notice_exist():
    named = 0
    for what, tests in register():
        path = ""
        for file, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", tests):
            path = file or path
            assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.M), test
            named += 1
        assert path, what
    assert named > 12
