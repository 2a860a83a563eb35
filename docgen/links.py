"""Links of Markdown files, as a public host of the repository follows them.

A link leads to a file of the repository, with or without the anchor of a heading. Links
to other hosts are not followed.
"""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from markdown_it.token import Token

_TARGETS = re.compile(r'\b(?:href|src|srcset)="([^"]+)"')
_ANCHORS = re.compile(r'\b(?:id|name)="([^"]+)"')
_BREAKS = ("softbreak", "hardbreak")


def leaves(target: str) -> bool:
    """Whether an address leads to another host, or is none of a page at all."""
    return re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.I) is not None


@dataclasses.dataclass(frozen=True)
class Link:
    """A link or an image, and the line on which it stands."""

    line: int
    target: str

    @property
    def leaves(self) -> bool:
        """Whether it leads to another host, or is no address of a page at all."""
        return leaves(self.target)

    def file(self, page: Path) -> Path:
        """Return the file that it leads to from a page."""
        path = self._parts()[0]
        return (page.parent / path).resolve() if path else page

    @property
    def anchor(self) -> str:
        """What stands behind the #."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        path, _, anchor = unquote(self.target).partition("#")
        return path, anchor


@dataclasses.dataclass(frozen=True)
class Page:
    """What matters here of a Markdown file."""

    links: list[Link]
    anchors: set[str]


def read(text: str) -> Page:
    """Return the links and anchors of a Markdown text."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    titles = [
        _plain(inline)
        for opening, inline in itertools.pairwise(tokens)
        if opening.type == "heading_open"
    ]
    html = "".join(_html(token) for token in tokens)
    return Page(
        [link for token in tokens for link in _links(token)],
        {*_slugs(titles), *_ANCHORS.findall(html)},
    )


def _links(block: "Token") -> Iterator[Link]:
    line = block.map[0] + 1 if block.map else 0
    if block.type == "html_block":
        for offset, text in enumerate(block.content.splitlines()):
            yield from (Link(line + offset, one) for one in _TARGETS.findall(text))
    for token in block.children or ():
        line += token.type in _BREAKS
        if token.type == "html_inline":
            yield from (Link(line, one) for one in _TARGETS.findall(token.content))
        elif token.type in ("link_open", "image"):
            target = token.attrGet("href") or token.attrGet("src")
            yield Link(line, str(target))


def _html(block: "Token") -> str:
    """Return what stands in a block as HTML."""
    inline = (t.content for t in block.children or () if t.type == "html_inline")
    return block.content if block.type == "html_block" else "".join(inline)


def _plain(inline: "Token") -> str:
    return "".join(
        token.content
        for token in inline.children or ()
        if token.type in ("text", "code_inline")
    )


def _slugs(titles: list[str]) -> Iterator[str]:
    """Yield the anchors that hosts give to headings."""
    seen = Counter()
    for title in titles:
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1


def check(root: Path, files: Iterable[Path]) -> list[str]:
    """Return a line for each dead link of some files."""
    root = root.resolve()
    pages = {file.resolve(): read(file.read_text()) for file in files}
    return [
        f"{file.relative_to(root)}:{link.line}: {mistake}"
        for file, page in pages.items()
        for link in page.links
        if not link.leaves and (mistake := _mistake(root, file, link, pages))
    ]


def _mistake(root: Path, page: Path, link: Link, pages: dict[Path, Page]) -> str | None:
    file = link.file(page)
    if not file.is_relative_to(root) or not file.exists():
        return f"{link.target} is not there"
    if link.anchor and file.suffix == ".md":
        anchors = (pages.get(file) or read(file.read_text())).anchors
        if link.anchor not in anchors:
            return f"{link.target}: no heading there has this anchor"
    return None
