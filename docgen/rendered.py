"""Links of the site that was built: all lead somewhere, nothing loads from outside."""

import dataclasses
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from common import console
from docgen import links

# Where a tag names what a browser fetches by itself.
_LOADS = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "video": "src",
}
_OUTSIDE = re.compile(r"(?:https?:)?//")
_OUTSIDE_IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)")
# A server shows it below any address, so that its links begin with a slash.
_SHOWN_ANYWHERE = "404.html"


@dataclasses.dataclass
class _Page(HTMLParser):
    """What matters here of a page of HTML."""

    ids: set[str] = dataclasses.field(default_factory=set)
    links: set[str] = dataclasses.field(default_factory=set)
    loads: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag is called, leads to and loads."""
        found = {name: value or "" for name, value in attrs}
        self.ids.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag in _LOADS and _LOADS[tag] in found:
            self.loads.add(found[_LOADS[tag]])


def check(site: Path) -> list[str]:
    """Return a line for each dead link and each thing from another host.

    What a theme does wrong it does on each page; the first one is named.
    """
    site = site.resolve()
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    where: dict[str, list[Path]] = {}
    for path, mistake in [*_in_pages(pages), *_in_styles(site)]:
        where.setdefault(mistake, []).append(path.relative_to(site))
    return [
        f"{paths[0]}{_and_more(len(paths) - 1)}: {mistake}"
        for mistake, paths in where.items()
    ]


def count_links(site: Path) -> int:
    """Return how many links within the site its pages have."""
    pages = map(_read, site.rglob("*.html"))
    return sum(
        not links.leaves(one) for page in pages for one in page.links | page.loads
    )


def _and_more(number: int) -> str:
    return f" and {console.count(number, 'more page')}" if number else ""


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def _in_pages(pages: dict[Path, _Page]) -> Iterator[tuple[Path, str]]:
    for path, page in pages.items():
        for target in sorted(filter(_OUTSIDE.match, page.loads)):
            yield path, f"loads {target} from outside"
        for target in sorted(page.links | page.loads):
            if path.name == _SHOWN_ANYWHERE or links.leaves(target):
                continue
            if mistake := _mistake(path, target, pages):
                yield path, mistake


def _mistake(path: Path, target: str, pages: dict[Path, _Page]) -> str | None:
    name, _, anchor = unquote(target).partition("#")
    file = (path.parent / name).resolve() if name else path
    if file.is_dir():
        file /= "index.html"
    if not file.is_file():
        return f"{target} is not there"
    if anchor and file in pages and anchor not in pages[file].ids:
        return f"{target}: that page has no such anchor"
    return None


def _in_styles(site: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(site.rglob("*.css")):
        for target in _OUTSIDE_IN_CSS.findall(path.read_text()):
            yield path, f"loads {target} from outside"
