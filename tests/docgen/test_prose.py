"""Pages quote no figure of a benchmark but in generated blocks."""

import re

import pytest

from benchmarks.support import results as files
from docgen import blocks, results

PAGES = blocks.pages()
_SCRIPT = re.compile(r"\bbenchmarks\.[a-z]\w*")
_DECIMAL = re.compile(r"(?<![\w.,])\d[\d,]*\.\d+(?![\w.]*\d)")
# What has a point and is no figure: code, targets of links, versions, papers.
_NO_FIGURE = re.compile(
    r"`[^`]*`|\]\([^)]*\)|https?://\S+"
    r"|\b(?:Python|TensorFlow|Keras|JAX|jaxlib|libtpu|torch|timm|CUDA|Apache|version)"
    r" v?\d+(?:\.\d+)*|\b\d{4}\.\d{5}\b"
)


def decimals(text):
    return _DECIMAL.findall(_NO_FIGURE.sub(" ", text))


def paragraphs(text):
    """Yield the numbers of the first lines and the text of paragraphs, rows, items."""
    lines = blocks.prose(text).splitlines()
    begun, found = 1, []
    for number, line in enumerate([*lines, ""], start=1):
        if found and (not line.strip() or re.match(r"\s*([-*|]|\d+\.) ?", line)):
            yield begun, " ".join(found)
            found = []
        if line.strip():
            begun = begun if found else number
            found.append(line)


def quoted(text, page, figures):
    """Return what a page quotes of benchmarks outside of its blocks, with its line."""
    return [
        f"{page}:{line}: {figure}"
        for line, paragraph in paragraphs(text)
        for figure in decimals(paragraph)
        if _SCRIPT.search(paragraph) or figure in figures
    ]


@pytest.fixture(scope="module")
def figures():
    """Numbers of three digits or more that the stored results show in tables."""
    texts = (
        results.RENDERERS[path.stem](files.load(path))
        for path in files.FOLDER.iterdir()
    )
    found = {
        number
        for text in texts
        for line in text.splitlines()
        if line.startswith("| ")
        for number in decimals(line)
    }
    return {number for number in found if len(re.findall(r"\d", number)) >= 3}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_quotes_no_figure_of_a_benchmark(page, figures):
    assert quoted(page.read_text(), page.name, figures) == []


PAGE = """# One of 10.5 ms

`python -m benchmarks.tpu.latency` has measured
that it takes 99.25 ms.

- benchmarks.input: 2.07 ms
- Python 3.12, TensorFlow 2.20, arXiv 2102.05610, version 1.2.3, `0.75`
  and benchmarks.models, to 8 %

It costs 1.25 and 10.5.

<!-- generated: results.tpu.latency -->
benchmarks.tpu.latency 10.5
<!-- end -->

| benchmarks.trainer | 0.99 |
| else | 0.98 |

```text
benchmarks.tpu.latency 10.5
```
"""


def test_finds_what_is_quoted():
    assert quoted(PAGE, "p", {"10.5"}) == [
        "p:1: 10.5",
        "p:3: 99.25",
        "p:6: 2.07",
        "p:10: 10.5",
        "p:16: 0.99",
    ]
