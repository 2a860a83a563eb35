"""Make docs/quickstart.ipynb from docs/quickstart.md.

    python -m docgen.notebook            writes it
    python -m docgen.notebook --check    says whether it would change; writes nothing

The page is the one source. A bash fence becomes a cell, and so does a Python fence;
what the page marks as not run stays text. The notebook holds no outputs: they would
change with every run.

Exit status: 0 the notebook is the page's, 1 --check has found that it is not.
"""

import argparse
import re
import sys
from typing import TYPE_CHECKING

from common import cli, files
from common.errors import Status
from common.project import ROOT

if TYPE_CHECKING:
    import nbformat

PAGE = ROOT / "docs/quickstart.md"
NOTEBOOK = ROOT / "docs/quickstart.ipynb"
# The commands below are those of a terminal in the clone's folder with the environment
# active; a notebook is opened in the folder of its own, and perhaps without.
_PROLOGUE = """\
# The commands below are at home in the clone's folder and the kernel's environment.
import os
import sys

if os.path.exists("quickstart.ipynb"):
    os.chdir("..")
os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"\
"""
# Without it, the language of most fences would be the notebook's.
_HEADER = """\
---
jupyter:
  kernelspec:
    display_name: Python 3
    language: python
    name: python3
---

"""
_NOT_RUN = re.compile(r"^<!-- not run: .* -->\n```(.*\n(?:.*\n)*?)```$", re.MULTILINE)
_MARK = re.compile(r"^<!-- .* -->\n", re.MULTILINE)


def notebook(page: str) -> "nbformat.NotebookNode":
    """Return the notebook of a page in Markdown."""
    import jupytext
    import nbformat

    # jupytext makes no cell of a fence of tildes.
    text = _MARK.sub("", _NOT_RUN.sub(r"~~~\1~~~", page))
    made = jupytext.reads(_HEADER + text, fmt="md")
    cells = made.cells
    first = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    cells.insert(first, nbformat.v4.new_code_cell(_PROLOGUE))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # nbformat's own are drawn at random
    metadata = {"kernelspec": made.metadata.kernelspec}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def text_of(page: str) -> str:
    """Return the notebook of a page as it is written."""
    import nbformat

    return nbformat.writes(notebook(page)) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("docgen.notebook", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Write the notebook, or say that it is not the page's."""
    made = text_of(PAGE.read_text("utf-8"))
    if NOTEBOOK.exists() and NOTEBOOK.read_text("utf-8") == made:
        return Status.OK
    name = NOTEBOOK.relative_to(ROOT)
    if arguments.check:
        print(f"{name} is not made from the page as it is: python -m docgen.notebook")
        return Status.NO
    files.write_bytes(NOTEBOOK, made.encode())
    print(f"wrote {name}")
    return Status.OK


if __name__ == "__main__":
    sys.exit(main())
