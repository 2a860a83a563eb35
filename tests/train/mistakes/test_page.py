import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.support import browser
from tests.train.mistakes.reports import FIVE, NAMES, image, make, outcomes_of, picture
from train.mistakes import page

BAD = ['<script>alert("x")</script>', "a&b'\"", "\u202e\u0645\u0631\u062d\u0628\u0627"]
_VOID = {"meta", "img", "br"}


class Parsed(HTMLParser):
    """A page's tags with their attributes, and the text of its tables."""

    def __init__(self, data):
        super().__init__()
        self.tags, self.tables, self.text, self._open = [], [], [], []
        self.feed(data.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_what_a_page_says():
    pictures = [picture(), picture(10), picture(20)]
    parsed = Parsed(page.render(make(outcomes_of(*FIVE), pictures=pictures)))
    confusions, matrix, classes = parsed.tables
    assert confusions == [
        ["class", "taken for", "images", "of the class"],
        ["circle", "square", "2", "66.7%"],
        ["square", "triangle", "1", "50.0%"],
    ]
    assert matrix == [
        ["", *NAMES],
        ["circle", "1", "2", ""],
        ["square", "", "1", "1"],
        ["triangle", "", "", ""],
    ]
    assert classes == [
        ["class", "images", "right", "accuracy", "precision", "taken for most"],
        ["circle", "3", "1", "33.3%", "100.0%", "square (2)"],
        ["square", "2", "1", "50.0%", "33.3%", "triangle (1)"],
        ["triangle", "0", "0", "-", "0.0%", ""],
    ]
    said = " ".join("".join(parsed.text).split())
    assert "3 of 5 images wrong (40.00% right)." in said
    assert "averaged weights of run/ckpt-8" in said
    assert "circle taken for square 87.5%" in said
    # Each image is said in words, and holds its own pixels.
    images = parsed.of("img")
    assert [one["alt"] for one in images[:2]] == [
        "circle, taken for square",
        "circle, taken for square: as the network sees it",
    ]
    assert [one["width"] for one in images] == ["200", "100"] * 3
    for one, grey in zip(images, [200, 200, 10, 10, 20, 20], strict=True):
        kind, data = one["src"].split(";base64,")
        assert kind == "data:image/jpeg"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert np.abs(pixels.astype(int) - grey).max() <= 1


def test_a_page_loads_nothing_and_runs_nothing():
    """Whatever classes and files are called."""
    files = ['"><img src=x onerror=alert(1)>/\u0645.jpg', "", "a"]
    pictures = [picture(file=file) for file in files]
    data = page.render(make(outcomes_of(*FIVE), BAD, pictures=pictures))
    parsed = Parsed(data)
    assert {tag for tag, _ in parsed.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p"),
        *("strong", "bdi", "div", "table", "thead", "tbody", "tr", "th", "td"),
        *("ol", "li", "figure", "figcaption", "img", "br", "span"),
    }
    for _, attributes in parsed.tags:
        assert attributes.keys() <= {
            *("lang", "charset", "http-equiv", "content", "name", "class", "scope"),
            *("style", "title", "alt", "src", "width", "height"),
        }
    assert all(one["src"].startswith("data:image/") for one in parsed.of("img"))
    assert not re.search(rb"https?:|url\(|@import", data)
    (policy,) = (one["content"] for one in parsed.of("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'; ")
    text = "".join(parsed.text)
    assert BAD[0] in text
    assert BAD[1] in text
    assert "\u202e" not in text  # it would turn what follows
    assert "\\u202e\u0645\u0631" in text
    assert all("scope" in one for one in parsed.of("th"))


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ([image(0, 0, 1.0, second=0)], ["only"]),  # one class, and no mistake
        ([image(0, 3, 1.0), image(1, 1, 1.0)], ["a", "b"]),  # an output without a name
    ],
)
def test_odd_ones(images, names):
    made = make(outcomes_of(*images), names)
    parsed = Parsed(page.render(made))
    matrix = parsed.tables[-2]
    if made.wrong:
        assert matrix == [
            ["", "a", "b", "others"],
            ["a", "", "", "1"],
            ["b", "", "1", ""],
        ]
    else:
        assert parsed.tables[0] == matrix == [["", "only"], ["only", "1"]]
    assert parsed.of("img") == []


def test_of_many_classes_the_matrix_has_twenty():
    images = [
        image(n, (n + 1) % 30, 0.5) for n in range(30) for _ in range(1 + n // 10)
    ]
    parsed = Parsed(
        page.render(make(outcomes_of(*images), [f"c{n}" for n in range(30)]))
    )
    confusions, matrix, classes = parsed.tables
    assert (len(confusions), len(matrix), len(matrix[0]), len(classes)) == (
        11,
        21,
        22,
        31,
    )
    # c29 is taken for c0 three times; c1 to c10 have the least to do with mistakes.
    assert [row[0] for row in matrix[1:]] == ["c0", *(f"c{n}" for n in range(11, 30))]
    assert matrix[1][1:] == [*[""] * 20, "1"]  # c0, taken for c1
    assert matrix[-1][1:] == ["3", *[""] * 20]


def test_a_page_that_somebody_has_changed_is_theirs():
    data = page.render(make(outcomes_of(*FIVE)))
    assert page.is_ours(data)
    for other in (b"", b"<html></html>", data[:-1], data.replace(b"circle", b"Circle")):
        assert not page.is_ours(other)


@pytest.mark.slow
def test_in_a_browser(tmp_path):
    data = page.render(make(outcomes_of(*FIVE), BAD, pictures=[picture()] * 3))
    (tmp_path / "mistakes.html").write_bytes(data)
    opened = browser.open_page(tmp_path / "mistakes.html", tmp_path / "profile")
    assert opened.console == []
    assert opened.dom.count("<figure>") == 3
    assert "<script>" not in opened.dom
