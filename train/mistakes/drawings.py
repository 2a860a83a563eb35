"""The same as pictures and text, for TensorBoard."""

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.console import escaped
from input_pipeline.images.contact_sheet import Shown, draw_sheet, fitted
from train.mistakes import confusion
from train.mistakes.report import Mistake, Report

_MOST = 24  # mistakes on the sheet
_MOST_CLASSES = 100  # in the text
_CELL, _NAMES, _MARGIN = 44, 190, 24  # pixels
_GROUND, _TEXT = (255, 255, 255), (24, 24, 27)
_RIGHT, _WRONG = (22, 130, 70), (215, 90, 20)
_FONT = ImageFont.load_default(size=14)


def sheet(report: Report) -> np.ndarray | None:
    """Return uint8[h, w, 3], the surest mistakes; None where there is no picture."""
    images = [
        shown for one in report.worst[:_MOST] if (shown := _shown(one)) is not None
    ]
    if not images:
        return None
    title = f"{report.wrong:,} of {report.images:,} wrong; the surest mistakes"
    where = f"{report.scores['checkpoint']} on {report.scores['eval_split']}"
    headings = ["whole", "as the network sees it"]
    return np.asarray(draw_sheet([title, escaped(where)], headings, images))


def _shown(one: Mistake) -> Shown | None:
    picture = one.picture
    if picture is None or picture.photo is None or picture.seen is None:
        return None
    return Shown(
        [picture.photo, picture.seen],
        escaped(one.name),
        one.number,
        escaped(picture.file or picture.record),
        [f"{guess.probability:.2f} {escaped(guess.name)}" for guess in one.guesses[:2]],
    )


def matrix(report: Report) -> np.ndarray:
    """Return uint8[h, w, 3], the confusion matrix of the classes of the page."""
    rows = report.matrix_classes()
    columns = [one.name for one in rows]
    names = [_drawable(escaped(report.names[number]), number) for number in columns]
    side = _NAMES + _CELL * len(rows)
    # Names of columns are drawn beside the matrix, and turned with all of it.
    image = Image.new("RGB", (side + 2 * _MARGIN, side + 2 * _MARGIN), _GROUND)
    top = Image.new("RGB", (_NAMES, _CELL * len(rows)), _GROUND)
    pen, turned = ImageDraw.Draw(image), ImageDraw.Draw(top)
    begin = _MARGIN + _NAMES
    for place, name in enumerate(names):
        text = fitted(name, _FONT, _NAMES - 12)
        y = place * _CELL + _CELL // 2
        turned.text((8, y), text, fill=_TEXT, font=_FONT, anchor="lm")
        at = (begin - 8, begin + y)
        pen.text(at, text, fill=_TEXT, font=_FONT, anchor="rm")
    image.paste(top.rotate(90, expand=True), (begin, _MARGIN))
    counts = confusion.matrix(rows, columns)
    for y, (one, line) in enumerate(zip(rows, counts, strict=True)):
        for x, images in enumerate(line):
            box = [begin + x * _CELL, begin + y * _CELL]
            box += [box[0] + _CELL, box[1] + _CELL]
            share = images / one.images if images else 0.0
            pen.rectangle(box, _mixed(_RIGHT if x == y else _WRONG, share), "#d4d4d8")
            if images:
                middle = (box[0] + _CELL // 2, box[1] + _CELL // 2)
                pen.text(middle, f"{images:,}", fill=_TEXT, font=_FONT, anchor="mm")
    return np.asarray(image)


def _drawable(name: str, number: int) -> str:
    """Return a name, or the number of its class where the font lacks its letters."""
    plain = unicodedata.normalize("NFKD", name)
    letters = (one for one in plain if not unicodedata.combining(one))
    missing = _drawn("\U0010fffd")  # a letter that no font has
    lacks = any(_drawn(one) == missing for one in letters)
    return f"class {number}" if lacks else name


def _drawn(letter: str) -> bytes:
    image = Image.new("L", (32, 32))
    ImageDraw.Draw(image).text((4, 4), letter, fill=255, font=_FONT)
    return image.tobytes()


def _mixed(colour: Sequence[int], share: float) -> tuple[int, ...]:
    """Return a colour on the ground, at most half of it so that text can be read."""
    part = 0.1 + share * 0.4 if share else 0.0
    return tuple(
        round(one * part + ground * (1 - part))
        for one, ground in zip(colour, _GROUND, strict=True)
    )


def text(report: Report) -> str:
    """Return the accuracy of the classes as Markdown, the worst ones first."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield "| class | images | right | accuracy | precision | taken for most |"
    yield "|---|---|---|---|---|---|"
    for one in confusion.worst_first(report.classes)[:_MOST_CLASSES]:
        wrong = "".join(f"{report.names[n]} ({k:,})" for n, k in one.wrong()[:1])
        precision = "" if one.precision is None else f"{one.precision:.1%}"
        cells = (
            report.names[one.name],
            f"{one.images:,}",
            f"{one.right:,}",
            f"{one.accuracy:.1%}",
            precision,
            wrong,
        )
        yield f"| {' | '.join(map(_plain, cells))} |"


def _plain(name: str) -> str:
    """Return a name that Markdown takes for text."""
    special = r"\`*_{}[]()<>#+!|~&"
    return "".join(f"\\{one}" if one in special else one for one in escaped(name))
