"""The folder of pages from which the site is built.

It holds docs/ as it is, the files of the root that are pages, too, and the reference.
Links are written for a reader of the repository, and are turned here into those of the
site: one to a module's source leads to its page of the reference, one to a file that
has no page becomes its text alone.
"""

import os
import re
import shutil
from pathlib import Path

from docgen import links, reference

# Files of the root, and where they are read on the site.
OF_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
# The front page of the repository and that of the site are two.
_STANDS_FOR = {"README.md": "index.md"}
_NAV_ENTRY = re.compile(r"^ +- (?:[^:]+: )?(\S+\.md)$")
_LINE_OF_SOURCE = re.compile(r"L\d+")


def sources(root: Path) -> dict[str, Path]:
    """Return the Markdown file of each page that a person has written."""
    docs = root / "docs"
    written = {str(path.relative_to(docs)): path for path in sorted(docs.rglob("*.md"))}
    return written | {page: root / name for name, page in OF_ROOT.items()}


def linked(root: Path) -> list[Path]:
    """Return the files whose links have to lead somewhere."""
    files = [root / "README.md", *sources(root).values()]
    return [file for file in files if file.exists()]


def check_navigation(root: Path) -> list[str]:
    """Return a line for each page that only the navigation or only docs/ has."""
    lines = (root / "mkdocs.yml").read_text().splitlines()
    entries = {
        match[1]: number
        for number, line in enumerate(lines, 1)
        if (match := _NAV_ENTRY.match(line))
    }
    written = sources(root)
    return [
        f"mkdocs.yml:{number}: {_written_at(page)} is not there"
        for page, number in entries.items()
        if page not in written or not written[page].exists()
    ] + [
        f"{path.relative_to(root)}: no entry of mkdocs.yml's nav leads there"
        for page, path in written.items()
        if page not in entries and path.exists()
    ]


def _written_at(page: str) -> str:
    """Return where in the repository a page of the site is written."""
    of_root = {shown: name for name, shown in OF_ROOT.items()}
    return of_root.get(page, f"docs/{page}")


def write(root: Path, folder: Path, modules: list[reference.Module]) -> None:
    """Write all pages and what they show into a folder that is not there yet."""
    shutil.copytree(root / "docs", folder)
    shown = _shown(root, modules)
    for page, path in sources(root).items():
        text = path.read_text()
        (folder / page).write_text(_for_site(text, path, page, shown))
    for page, text in reference.pages(modules).items():
        (folder / page).parent.mkdir(exist_ok=True)
        (folder / page).write_text(text)


def _shown(root: Path, modules: list[reference.Module]) -> dict[Path, str]:
    """Return where on the site a reader finds a file or folder of the repository."""
    docs = root / "docs"
    shown = {path: str(path.relative_to(docs)) for path in docs.rglob("*")}
    shown |= {root / name: page for name, page in (OF_ROOT | _STANDS_FOR).items()}
    for module in modules:
        path = root.joinpath(*module.name.split("."))
        file = path / "__init__.py" if module.is_package else path.with_suffix(".py")
        shown |= {path: module.page, file: module.page}
    return {path.resolve(): page for path, page in shown.items()}


def _for_site(text: str, source: Path, page: str, shown: dict[Path, str]) -> str:
    """Return a page's text with the links of the site."""
    for link in set(links.read(text).links):
        if link.leaves or link.target.startswith("#"):
            continue
        where = shown.get(link.file(source.resolve()))
        if where is None:
            written = rf"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\({re.escape(link.target)}\)"
            text = re.sub(written, r"\1", text)
        else:
            target = os.path.relpath(where, Path(page).parent)
            if link.anchor and not _LINE_OF_SOURCE.match(link.anchor):
                target += f"#{link.anchor}"
            text = text.replace(f"]({link.target})", f"]({target})")
    return text
