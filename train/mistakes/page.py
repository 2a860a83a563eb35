"""The page of a run's mistakes: one file of HTML that loads nothing, and runs nothing.

What classes and files are called is anybody's: their names come to the page as text
alone, and its Content-Security-Policy forbids a browser to take it for more.
"""

import base64
import html
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from common import files
from common.console import count, escaped
from train.mistakes import confusion, pictures
from train.mistakes.confusion import Class
from train.mistakes.report import MOST_CLASSES, Mistake, Report

_MOST_CONFUSIONS = 10  # in the table of the page
_MARK = "<!-- written by train.mistakes, sha256 "
_SMALL = 120  # pixels up to which a picture is enlarged with its pixels as squares

# Contrast: text and quiet text on ground at least 7:1 and 4.5:1, also on the strongest
# of the matrix's colours, which are half transparent.
_STYLE = """
:root { --ground: #ffffff; --text: #18181b; --quiet: #52525b; --line: #d4d4d8;
  --right: 22, 130, 70; --wrong: 215, 90, 20; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ground: #18181b; --text: #f4f4f5;
  --quiet: #a1a1aa; --line: #3f3f46; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--ground);
  color: var(--text); font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, figcaption { overflow-wrap: anywhere; }
.quiet { color: var(--quiet); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line);
  text-align: start; vertical-align: top; }
th { font-weight: 600; }
.name { min-width: 6.5rem; max-width: 18rem; overflow-wrap: anywhere; }
.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
.matrix { font-size: .8125rem; }
.matrix th { font-weight: 400; vertical-align: bottom; }
.matrix .name { max-width: 9rem; }
.turned { writing-mode: vertical-rl; max-height: 10rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; margin: auto; }
.matrix td { text-align: center; min-width: 2.2rem; padding: .25rem;
  background: rgba(var(--wrong), var(--share, 0)); }
.matrix td.right { background: rgba(var(--right), var(--share, 0)); }
.sheet { display: grid; gap: 1.5rem; list-style: none; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; break-inside: avoid; }
.pair { display: flex; gap: .5rem; align-items: flex-start; }
.pair div { flex: 1 1 0; min-width: 0; }
img { display: block; width: 100%; height: auto; border: 1px solid var(--line); }
img.small { image-rendering: pixelated; }
@media print { :root { --ground: #ffffff; --text: #18181b; --quiet: #52525b; }
  body { max-width: none; font-size: 10pt; }
  td, th { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .wide { overflow: visible; }
  .sheet { grid-template-columns: repeat(3, 1fr); } tr { break-inside: avoid; } }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(report: Report) -> bytes:
    """Return the page, as a file that says that nobody has changed it."""
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="generator" content="efficientnet-x, train.mistakes">',
        f"<title>{_title(report)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        *_head(report),
        *_confusions(report),
        *_matrix(report),
        *_worst(report),
        *_classes(report),
        "</main>",
        "</body>",
        "</html>",
    ]
    return marked("\n".join(lines).encode("utf-8", "backslashreplace") + b"\n")


def marked(page: bytes) -> bytes:
    """Return a page with its digest behind it."""
    return page + f"{_MARK}{files.digest(page)} -->\n".encode()


def is_ours(data: bytes) -> bool:
    """Whether a file was written by `render`, and nobody has changed it since."""
    page, mark, _ = data.rpartition(_MARK.encode())
    return bool(mark) and data == marked(page)


def _text(words: str) -> str:
    """Return words as HTML: no control characters, none that turn what follows."""
    return html.escape(escaped(words))


def _name(name: str) -> str:
    """Return a name as HTML, in its own direction and apart from what is around it."""
    return f"<bdi>{_text(name)}</bdi>"


def _path(path: str) -> str:
    """Return a path as HTML whose parts keep their order, whatever their direction."""
    return "/".join(map(_name, path.split("/"))) if path else ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _title(report: Report) -> str:
    return f"Mistakes of {_text(str(report.scores['eval_data']))}"


def _head(report: Report) -> Iterator[str]:
    scores, images = report.scores, report.images
    yield f"<h1>{_title(report)}</h1>"
    right = f" ({1 - report.wrong / images:.2%} right)" if images else ""
    wrong = f"{report.wrong:,} of {count(images, 'image')}"
    skipped = scores["eval_skipped_records"]
    skipped = f" {count(skipped, 'record')} could not be read." if skipped else ""
    yield f"<p><strong>{wrong} wrong</strong>{right}.{skipped}</p>"
    data = f"{scores['eval_split']} of {scores['eval_data_dir']}"
    yield (
        f'<p class="quiet">{_text(report.network)}, averaged weights of '
        f"{_text(str(scores['checkpoint']))}, scored on {_text(data)}</p>"
    )


def _worst(report: Report) -> Iterator[str]:
    if not report.worst:
        return
    yield "<h2>The surest mistakes</h2>"
    yield (
        '<p class="quiet">Look at the label first: where the network is sure, it may '
        "be the label that is wrong. Left the whole picture, right what the network "
        "sees of it.</p>"
    )
    yield '<ol class="sheet">'
    for one in report.worst:
        yield "<li>"
        yield from _figure(one)
        yield "</li>"
    yield "</ol>"


def _figure(one: Mistake) -> Iterator[str]:
    yield "<figure>"
    picture = one.picture
    if picture is not None and picture.photo is not None and picture.seen is not None:
        alt = f"{one.name}, taken for {one.predicted}"
        yield '<div class="pair">'
        yield f"<div>{_image(picture.photo, alt)}</div>"
        yield f"<div>{_image(picture.seen, f'{alt}: as the network sees it')}</div>"
        yield "</div>"
    yield "<figcaption>"
    likeliest = _guess(
        one.predicted, one.guesses[0].probability if one.guesses else None
    )
    yield f"<strong>{_name(one.name)}</strong> taken for <strong>{likeliest}</strong>"
    others = [_guess(guess.name, guess.probability) for guess in one.guesses[1:]]
    if others:
        yield f'<br><span class="quiet">then {", ".join(others)}</span>'
    if picture is not None:
        where = [_path(picture.file), *map(_text, (picture.record, picture.problem))]
        yield f'<br><span class="quiet">{", ".join(filter(None, where))}</span>'
    yield "</figcaption></figure>"


def _guess(name: str, probability: float | None) -> str:
    share = "" if probability is None else f" {probability:.1%}"
    return f"{_name(name)}{share}"


def _image(pixels: np.ndarray, alt: str) -> str:
    kind, data = pictures.encoded(pixels)
    height, width, _ = pixels.shape
    small = ' class="small"' if max(height, width) <= _SMALL else ""
    return (
        f'<img{small} width="{width}" height="{height}" alt="{_text(alt)}" '
        f'src="data:{kind};base64,{base64.b64encode(data).decode()}">'
    )


def _confusions(report: Report) -> Iterator[str]:
    if not report.confusions:
        return
    yield "<h2>What is taken for what</h2>"
    shown = report.confusions[:_MOST_CONFUSIONS]
    more = len(report.confusions) - len(shown)
    caption = "The most frequent first" + (f"; {more:,} more" if more else "")
    images = {one.name: one.images for one in report.classes}
    rows = [
        (
            _head_cell(report.names[one.name]),
            _name_cell(report.names[one.predicted]),
            _number(f"{one.images:,}"),
            _number(_share(one.images / images[one.name])),
        )
        for one in shown
    ]
    head = ("class", "taken for", "#images", "#of the class")
    yield from _table(caption, head, rows)


def _classes(report: Report) -> Iterator[str]:
    yield "<h2>Classes</h2>"
    with_images = confusion.worst_first(report.classes)
    rest = [one for one in report.classes if not one.images]
    shown = [*with_images, *rest][:MOST_CLASSES]
    caption = "Those with the fewest right come first"
    if more := len(report.classes) - len(shown):
        caption += f"; {more:,} more are not shown"
    head = ("class", "#images", "#right", "#accuracy", "#precision", "taken for most")
    yield from _table(caption, head, [_row(report, one) for one in shown])
    yield (
        '<p class="quiet">Accuracy is the share of the images of a class that are '
        "recognised (recall), precision the share that is right of all that was taken "
        "for it.</p>"
    )


def _row(report: Report, one: Class) -> Sequence[str]:
    wrong = "".join(f"{_name(report.names[n])} ({k:,})" for n, k in one.wrong()[:1])
    return (
        _head_cell(report.names[one.name]),
        _number(f"{one.images:,}"),
        _number(f"{one.right:,}"),
        _number(_share(one.accuracy)),
        _number(_share(one.precision)),
        f'<td class="name">{wrong}</td>',
    )


def _matrix(report: Report) -> Iterator[str]:
    rows = report.matrix_classes()
    columns = [one.name for one in rows]
    counts = confusion.matrix(rows, columns)
    others = [one.images - sum(line) for one, line in zip(rows, counts, strict=True)]
    yield "<h2>Confusion matrix</h2>"
    caption = "A row is what images are of, a column what they were taken for"
    if len(rows) < len(report.classes):
        caption += f"; the {len(rows)} classes with the most mistakes"
    yield f'<p class="quiet">{caption}</p>'
    yield '<div class="wide"><table class="matrix"><thead><tr><td></td>'
    yield from (_turned(report.names[column]) for column in columns)
    if any(others):
        yield _turned("others")
    yield "</tr></thead><tbody>"
    for one, line, rest in zip(rows, counts, others, strict=True):
        yield f"<tr>{_head_cell(report.names[one.name])}"
        for column, images in zip(columns, line, strict=True):
            yield _cell(images, one.images, is_right=column == one.name)
        if any(others):
            yield _cell(rest, one.images, is_right=False)
        yield "</tr>"
    yield "</tbody></table></div>"


def _turned(name: str) -> str:
    title = _text(name)
    return (
        f'<th scope="col"><div class="turned" title="{title}">{_name(name)}</div></th>'
    )


def _cell(images: int, of: int, *, is_right: bool) -> str:
    if not images:
        return "<td></td>"
    kind = ' class="right"' if is_right else ""
    return f'<td{kind} style="--share: {0.1 + images / of * 0.4:.2f}">{images:,}</td>'


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]
) -> Iterator[str]:
    """Yield a table below its caption; a head that begins with # is above numbers."""
    yield f'<p class="quiet">{_text(caption)}</p>'
    yield '<div class="wide"><table><thead><tr>'
    for cell in head:
        kind = ' class="number"' if cell.startswith("#") else ""
        yield f'<th scope="col"{kind}>{_text(cell.removeprefix("#"))}</th>'
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(row)}</tr>"
    yield "</tbody></table></div>"


def _head_cell(name: str) -> str:
    return f'<th scope="row" class="name">{_name(name)}</th>'


def _name_cell(name: str) -> str:
    return f'<td class="name">{_name(name)}</td>'


def _number(text: str) -> str:
    return f'<td class="number">{text}</td>'
