"""Renew the generated parts of README.md and docs/*.md.

    python -m docgen.blocks             writes what has changed
    python -m docgen.blocks --check     says what would change, and writes nothing
    python -m docgen.blocks --list      names all parts that there are

A generated part stands between two lines, outside of fences:

    <!-- generated: models.catalogue -->
    <!-- end -->

Exit status: 0 all is up to date, 1 --check has found something that is not, 2 a part
has no end or a name that nobody knows, or what it is made of is missing.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from common import cli, files
from common.checks import nearest_names
from common.errors import Status, UserError
from common.project import ROOT

Renderers = Mapping[str, Callable[[], str]]

# What a page may have, whichever begins first: a fence, a block, a stray mark.
_PIECE = re.compile(
    r"^ {0,3}(?P<fence>```+|~~~+)[^\n]*\n.*?^ {0,3}(?P=fence) *$"
    r"|^<!-- generated: (?P<name>\S+) -->\n(?P<body>.*?)^<!-- end -->$"
    r"|^ *<!-- *(?:generated|end\b)[^\n]*$",
    re.MULTILINE | re.DOTALL,
)


def renewed(text: str, page: str, render: Renderers) -> tuple[str, list[str]]:
    """Return a page with its blocks made anew, and the names of those that differ.

    Args:
      text: of the page.
      page: its name, for errors.
      render: what makes a block, by name.

    Raises:
      UserError: a block has no end, an end no block or a name is not known; or what a
        block is made of is missing.
    """
    differ = []

    def renew(found: re.Match[str]) -> str:
        if found["fence"]:
            return found[0]
        where = f"{page}:{text.count(chr(10), 0, found.start()) + 1}"
        name, body = found["name"], found["body"]
        if name is None or "<!-- generated" in body:
            raise UserError(
                f"{where}: {found[0].splitlines()[0]!r} is not the begin or the end of "
                "a block: <!-- generated: NAME --> and <!-- end -->, alone in their "
                "lines"
            )
        if name not in render:
            near = nearest_names(name, render) or sorted(render)
            raise UserError(
                f"{where}: no block is called {name!r}; did you mean "
                f"{' or '.join(near)}?"
            )
        made = f"\n{render[name]()}\n\n"
        if body != made:
            differ.append(name)
        return f"<!-- generated: {name} -->\n{made}<!-- end -->"

    return _PIECE.sub(renew, text), differ


def prose(text: str) -> str:
    """Return a page without its blocks and fences, every line at its place."""
    return _PIECE.sub(lambda found: "\n" * found[0].count("\n"), text)


def pages(root: Path = ROOT) -> list[Path]:
    """Return the pages that may have blocks: those that people write."""
    return [root / "README.md", *sorted(root.glob("docs/*.md"))]


def renderers() -> Renderers:
    """Return what makes a block, by name."""
    from docgen import headline, results, tables

    return {**tables.BLOCKS, **results.BLOCKS, **headline.BLOCKS}


def _changed(paths: list[Path], check: bool) -> Iterator[str]:
    """Yield what differs, "page: block"; write it unless it is but to be checked."""
    render = renderers()
    for path in paths:
        text = path.read_text()
        new, differ = renewed(text, str(path), render)
        if new != text and not check:
            files.write_bytes(path, new.encode())
        yield from (f"{path}: {name}" for name in differ)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("docgen.blocks", __doc__)
    parser.add_argument(
        "pages",
        nargs="*",
        type=cli.path,
        metavar="page",
        help="a .md file; default: README.md and docs/*.md",
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--list", action="store_true", help="name all blocks")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Renew the pages, or say which parts of them are not up to date."""
    if arguments.list:
        print(*renderers(), sep="\n")
        return Status.OK
    paths = list(map(Path, arguments.pages)) or pages()
    changed = list(_changed(paths, arguments.check))
    for line in changed:
        print(f"{line} {'differs' if arguments.check else 'is new'}")
    return Status.NO if changed and arguments.check else Status.OK


if __name__ == "__main__":
    sys.exit(main())
