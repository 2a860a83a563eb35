"""The pages of the reference: one for each public module, written for mkdocstrings.

A page says `::: train.config`, and the generator of the site puts the docstrings there.
A package's page lists the modules below it, too. Nothing is imported for that.
"""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

# In the order in which a reader meets them.
ROOMS = (
    "models",
    "input_pipeline",
    "train",
    "preflight",
    "launch",
    "performance",
    "search",
    "tpu_compiler",
    "benchmarks",
    "common",
)
INDEX = "reference/index.md"


@dataclasses.dataclass(frozen=True)
class Module:
    """A public module or package of the project.

    Attributes:
      name: as it is imported.
      summary: the first line of its docstring.
      is_package: whether there are modules below it.
    """

    name: str
    summary: str
    is_package: bool

    @property
    def page(self) -> str:
        """Where its page lies in the folder of the pages."""
        return f"reference/{self.name}.md"

    @property
    def title(self) -> str:
        """What it is called: a package's `__main__` is a command."""
        package, _, last = self.name.rpartition(".")
        return f"python -m {package}" if last == "__main__" else self.name

    @property
    def room(self) -> str:
        """The top-level package that it belongs to."""
        return self.name.partition(".")[0]


def modules(root: Path) -> list[Module]:
    """Return the public modules of all rooms, each package before what it holds."""
    return [module for room in ROOMS for module in _below(root / room, root)]


def _below(package: Path, root: Path) -> Iterator[Module]:
    """Yield a package and its modules, by the alphabet."""
    yield _read(package / "__init__.py", root)
    for path in sorted(package.iterdir()):
        if (path / "__init__.py").exists():
            yield from _below(path, root)
        elif path.suffix == ".py" and _is_public(path):
            yield _read(path, root)


def _is_public(path: Path) -> bool:
    return not path.stem.startswith("_") or path.stem == "__main__"


def _read(path: Path, root: Path) -> Module:
    is_package = path.stem == "__init__"
    parts = (path.parent if is_package else path.with_suffix("")).relative_to(root)
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    summary = docstring.partition("\n")[0]
    return Module(".".join(parts.parts), summary, is_package)


def pages(found: list[Module]) -> dict[str, str]:
    """Return the text of each page of the reference by its path."""
    rooms = [module for module in found if module.name in ROOMS]
    index = f"# Reference\n\nA page for each module.\n\n{_listing(rooms)}"
    return {INDEX: index} | {module.page: _page(module, found) for module in found}


def _page(module: Module, found: list[Module]) -> str:
    heading = f"    options:\n      heading: {module.title}\n"
    text = f"::: {module.name}\n{heading}"
    below = [one for one in found if one.name.startswith(f"{module.name}.")]
    return f"{text}\n## Modules\n\n{_listing(below)}" if below else text


def _listing(shown: list[Module]) -> str:
    """Return a list of links; what a package holds stands below it."""
    least = min(module.name.count(".") for module in shown)
    return "".join(
        f"{'    ' * (module.name.count('.') - least)}- "
        f"[{module.title}]({module.page.removeprefix('reference/')}): "
        f"{module.summary}\n"
        for module in shown
    )


def navigation(found: list[Module]) -> dict[str, list]:
    """Return the reference's entry of the site's navigation."""
    rooms = [{room: _entries(room, found)} for room in ROOMS]
    return {"Reference": [INDEX, *rooms]}


def _entries(room: str, found: list[Module]) -> list[dict[str, str]]:
    return [
        {module.title.removeprefix(f"{room}."): module.page}
        for module in found
        if module.room == room
    ]
