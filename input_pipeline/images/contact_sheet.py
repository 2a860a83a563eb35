"""Draws pictures of images, with their labels, in rows and columns."""

import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

# Pixels of the sheet, and its colours.
_WIDTH, _MARGIN, _COLUMN_GAP, _ROW_GAP, _GAP = 1600, 32, 48, 22, 8
_GROUND, _FRAME, _TEXT, _QUIET = "#18181b", "#27272a", "#f4f4f5", "#a1a1aa"
_LARGE, _NORMAL, _SMALL = (ImageFont.load_default(size=size) for size in (26, 17, 14))
_LINE = 22


@dataclasses.dataclass(frozen=True)
class Shown:
    """One image on the sheet.

    Attributes:
      pictures: uint8[h, w, 3] of any size, one for each heading of the sheet.
      name: of its class.
      number: of its class, from 0; -1 for a bad record.
      source: where it comes from.
      shares: lines that say what is left of the label in the last picture.
    """

    pictures: Sequence[np.ndarray]
    name: str
    number: int
    source: str
    shares: Sequence[str] = ()


def draw_sheet(
    header: Sequence[str], headings: Sequence[str], images: Sequence[Shown]
) -> Image.Image:
    """Draws the sheet.

    Args:
      header: lines at its top, the first one in large letters.
      headings: of the pictures of an image.
      images: in their order: row by row.

    Returns:
      An RGB image, 1600 pixels wide; as high as it needs to be.
    """
    columns = max(2, 6 // len(headings))
    cell = (_WIDTH - 2 * _MARGIN - (columns - 1) * _COLUMN_GAP) // columns
    tile = (cell - (len(headings) - 1) * _GAP) // len(headings)
    lefts = [_MARGIN + i * (cell + _COLUMN_GAP) for i in range(columns)]
    top = _MARGIN + 16 + _LINE * (len(header) + 1)
    row_height = tile + 2 * _LINE + _ROW_GAP
    height = top + _LINE + row_height * -(-len(images) // columns) + _MARGIN - _ROW_GAP
    sheet = Image.new("RGB", (_WIDTH, height), _GROUND)
    draw = ImageDraw.Draw(sheet)

    def write(x: int, y: int, text: str, font: Any, colour: str, room: int) -> None:
        draw.text((x, y), fitted(text, font, room), fill=colour, font=font)

    room = _WIDTH - 2 * _MARGIN
    write(_MARGIN, _MARGIN - 6, header[0], _LARGE, _TEXT, room)
    for i, line in enumerate(header[1:]):
        write(_MARGIN, _MARGIN + 16 + _LINE * (i + 1), line, _NORMAL, _QUIET, room)
    for left in lefts[: len(images)]:
        for i, heading in enumerate(headings):
            write(left + i * (tile + _GAP), top, heading, _SMALL, _QUIET, tile)
    for i, shown in enumerate(images):
        left = lefts[i % columns]
        y = top + _LINE + row_height * (i // columns)
        for k, picture in enumerate(shown.pictures):
            sheet.paste(letterboxed(picture, tile), (left + k * (tile + _GAP), y))
        y += tile + 4
        last = left + (len(headings) - 1) * (tile + _GAP)
        room = (last - _GAP if shown.shares else left + cell) - left
        number = f" · class {shown.number}" if shown.number >= 0 else ""
        name_room = room - round(_NORMAL.getlength(number))
        name = fitted(shown.name, _NORMAL, name_room) + number
        write(left, y, name, _NORMAL, _TEXT, room)
        write(left, y + _LINE, shown.source, _SMALL, _QUIET, room)
        for k, line in enumerate(shown.shares):
            write(last, y + max(_LINE * k, 2), line, _SMALL, _TEXT, tile)
    return sheet


def letterboxed(pixels: np.ndarray, side: int) -> Image.Image:
    """Fits uint8[h, w, 3] into a square without a change of its proportions."""
    small = 2 * max(pixels.shape) <= side
    # The pixels of a small image shall be seen.
    method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return ImageOps.pad(
        Image.fromarray(pixels), (side, side), method=method, color=_FRAME
    )


def fitted(text: str, font: Any, room: int) -> str:
    """Cuts text to so many pixels, with an ellipsis."""
    # Pillow's own font has no letters with accents.
    decomposed = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in decomposed if not unicodedata.combining(c))
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"
