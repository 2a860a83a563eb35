import numpy as np
from PIL import ImageFont

from input_pipeline.images import contact_sheet


def test_sheet_has_every_picture_in_its_place():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    pictures = [np.full([50, 50, 3], colour, np.uint8) for colour in colours]
    images = [contact_sheet.Shown([x, x, x], "name", 0, "source") for x in pictures]
    sheet = np.asarray(contact_sheet.draw_sheet(["title"], ["a", "b", "c"], images))
    places = []
    for colour in colours:
        rows, columns = np.nonzero((sheet == colour).all(axis=-1))
        assert rows.size == 3 * 242 * 242
        places.append((rows.min(), columns.min()))
    rows, columns = zip(*places, strict=True)
    assert columns == (32, 824, 32, 824, 32)
    assert rows[0] == rows[1] < rows[2] == rows[3] < rows[4]


def test_letterbox_keeps_the_proportions():
    picture = np.full([30, 60, 3], 255, np.uint8)
    boxed = np.asarray(contact_sheet.letterboxed(picture, 120))
    white = (boxed == 255).all(axis=-1)
    assert boxed.shape == (120, 120, 3)
    assert white[30:90].all()
    assert white.sum() == 60 * 120


def test_long_text_is_cut_with_an_ellipsis():
    font = ImageFont.load_default(size=17)
    name = "a name that is far too long for its place"
    cut = contact_sheet.fitted(name, font, 150)
    assert cut.endswith("…")
    assert name.startswith(cut[:-1])
    assert 120 < font.getlength(cut) <= 150
    assert contact_sheet.fitted("short", font, 150) == "short"
    assert contact_sheet.fitted("crêpe", font, 150) == "crepe"
