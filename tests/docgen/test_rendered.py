import pytest

from docgen import rendered

PAGE = '<p id="here"></p><a name="there"></a>'


@pytest.fixture
def site(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "deep/index.html").write_text(PAGE)
    (tmp_path / "deep/a.css").write_text("b {background: url(c.png)}")
    (tmp_path / "404.html").write_text('<a href="/anything">x</a>')
    return tmp_path


@pytest.mark.parametrize(
    ("html", "mistake"),
    [
        ('<a href="#here">', None),
        ('<a href="../index.html#there">', None),
        ('<a href="..">', None),
        ('<a href="https://example.org/x">', None),
        ('<link rel="stylesheet" href="a.css">', None),
        ('<img src="data:image/png;base64,AA==">', None),
        ('<a href="b.html">', "b.html is not there"),
        ('<img src="b.png">', "b.png is not there"),
        ('<script src="b.js"></script>', "b.js is not there"),
        ('<a href="#nowhere">', "#nowhere: that page has no such anchor"),
        (
            '<a href="index.html#nowhere">',
            "index.html#nowhere: that page has no such anchor",
        ),
        (
            '<script src="https://example.org/x.js"></script>',
            "loads https://example.org/x.js from outside",
        ),
        (
            '<link rel="preconnect" href="//example.org">',
            "loads //example.org from outside",
        ),
        (
            '<img src="http://example.org/x.png">',
            "loads http://example.org/x.png from outside",
        ),
    ],
)
def test_a_page(site, html, mistake):
    (site / "deep/page.html").write_text(PAGE + html)
    assert rendered.check(site) == ([f"deep/page.html: {mistake}"] if mistake else [])


def test_what_each_page_does_wrong_is_said_once(site):
    for name in "abc":
        (site / f"{name}.html").write_text('<a href="no.html">')
    assert rendered.check(site) == ["a.html and 2 more pages: no.html is not there"]


@pytest.mark.parametrize(
    "css", ['@import "https://example.org/x"', "b {c: url('https://example.org/x')}"]
)
def test_a_style_from_outside(site, css):
    (site / "deep/a.css").write_text(css)
    assert rendered.check(site) == [
        "deep/a.css: loads https://example.org/x from outside"
    ]


def test_counts_links_within_the_site(site):
    (site / "index.html").write_text(
        '<a href="x"><a href="https://y"><img src="z"><a href="#w">'
    )
    (site / "404.html").unlink()
    assert rendered.count_links(site) == 3
