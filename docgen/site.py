"""The site of the documentation: docs/ and a reference of all modules, as HTML.

    make docs

It ends with a line for each dead link, each page that the navigation lacks, and each
warning of the generator, those about docstrings included; then site/ stays as it was.

Exit status: 0 built, 1 something has to be mended, 2 it could not be tried.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from common import cli, console
from common.errors import Status, UserError
from common.project import ROOT
from docgen import links, pages, reference, rendered

# The generator wants all of it in one folder.
BUILD = "build"
SITE = "site"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# A warning's text, and the page, line and column in the frame below it.
_WARNING = re.compile(r"^(?:Warning|Error): (.+)\n +╭─\[ (\S+?):(\d+):\d+ \]", re.M)
_DOCSTRING = re.compile(r"^(?:griffe: |(?=mkdocstrings: ))(.+)", re.M)


def build(root: Path) -> list[str]:
    """Build the site of a project; return what has to be mended, a line each.

    What is found in an instant is not mixed with what takes the generator, and neither
    with what only its pages show.
    """
    return (
        [*pages.check_navigation(root), *links.check(root, pages.linked(root))]
        or _generate(root)
        or rendered.check(root / BUILD / SITE)
        or _publish(root)
    )


def _generate(root: Path) -> list[str]:
    """Let the generator make pages; return its complaints."""
    folder = root / BUILD
    # Anew: from its cache it would repeat no warning, and overlook a new docstring.
    shutil.rmtree(folder, ignore_errors=True)
    modules = reference.modules(root)
    pages.write(root, folder / "docs", modules)
    config = {
        "INHERIT": "../mkdocs.yml",  # whose navigation goes before this one
        "docs_dir": "docs",
        "site_dir": SITE,
        "nav": [reference.navigation(modules)],
    }
    (folder / "mkdocs.yml").write_text(json.dumps(config, indent=2))
    process = subprocess.run(
        [
            *(sys.executable, "-m", "zensical", "build"),
            *("--strict", "-f", f"{BUILD}/mkdocs.yml"),
        ],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = complaints(process.stdout, pages.sources(root), root)
    if process.returncode and not found:
        said = process.stdout.partition("Traceback")[0] or process.stdout
        raise UserError(f"the generator failed: {said.strip()}")
    return found


def complaints(log: str, sources: dict[str, Path], root: Path) -> list[str]:
    """Return what the generator has warned of, in lines that name a file of ours.

    Its strict mode does not count warnings about docstrings.
    """
    log = _COLOURS.sub("", log)
    warnings = []
    for text, page, line in _WARNING.findall(log):
        source = sources.get(page) or root / BUILD / "docs" / page
        warnings.append(f"{source.relative_to(root)}:{line}: {text}")
    return _DOCSTRING.findall(log) + warnings


def _publish(root: Path) -> list[str]:
    shutil.rmtree(root / SITE, ignore_errors=True)
    shutil.copytree(root / BUILD / SITE, root / SITE)
    return []


def _parser() -> argparse.ArgumentParser:
    return cli.parser("docgen.site", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Build the site and say where it lies, or what has to be mended."""
    del arguments
    if find_spec("zensical") is None:
        raise UserError("the generator is not installed here: run `make docs`")
    mistakes = build(ROOT)
    for mistake in mistakes:
        console.say(f"error: {mistake}")
    if mistakes:
        console.say(f"{console.count(len(mistakes), 'error')}; {SITE}/ is as it was")
        return Status.NO
    site = ROOT / SITE
    count = console.count(len(list(site.rglob("*.html"))), "page")
    followed = console.count(rendered.count_links(site), "link")
    print(f"{SITE}/index.html: {count}, {followed}, none dead")
    print(f"To search in it, too: python -m http.server --directory {SITE}")
    return Status.OK


if __name__ == "__main__":
    sys.exit(main())
