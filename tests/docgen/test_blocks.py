import pytest

from common.errors import UserError
from docgen import blocks
from tests.support.commands import status

RENDER = {"one": lambda: "| a |\n| --- |", "two": lambda: "```text\n<!-- end -->\n```"}
PAGE = """# A page

<!-- generated: one -->
old
<!-- end -->

```text
<!-- generated: one -->
<!-- end -->
```

<!-- generated: one -->

| a |
| --- |

<!-- end -->
"""


def test_blocks_are_made_anew_and_fences_stay():
    text, differ = blocks.renewed(PAGE, "page.md", RENDER)
    assert text == PAGE.replace("old\n", "\n| a |\n| --- |\n\n", 1)
    assert differ == ["one"]
    assert blocks.renewed(text, "page.md", RENDER) == (text, [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "a\n<!-- generated: noe -->\n<!-- end -->\n",
            r"p.md:2: no block .*'noe'.* one",
        ),
        ("<!-- generated: one -->\ntext\n", "p.md:1: '<!-- generated: one -->' is not"),
        ("a\n\n<!-- end -->\n", "p.md:3: '<!-- end -->' is not the begin or the end"),
        ("<!-- generated one -->\n<!-- end -->\n", "p.md:1: "),
        ("  <!-- generated: one -->\n  <!-- end -->\n", "p.md:1: "),
        (
            "<!-- generated: one -->\n<!-- generated: one -->\n<!-- end -->\n",
            "p.md:1: ",
        ),
        ("```\ncode\n```\n<!-- generated: x\n", "p.md:4: "),
    ],
)
def test_a_mistake_is_named_with_its_line(text, error):
    with pytest.raises(UserError, match=error):
        blocks.renewed(text, "p.md", RENDER)


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "renderers", lambda: RENDER)
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_check_says_what_differs_and_writes_nothing(page, capsys):
    assert blocks.main(["--check", str(page)]) == 1
    assert capsys.readouterr().out == f"{page}: one differs\n"
    assert page.read_text() == PAGE


def test_writes_once(page, capsys):
    assert blocks.main([str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: one is new\n"
    assert blocks.main([str(page)]) == 0
    assert blocks.main(["--check", str(page)]) == 0
    assert capsys.readouterr().out == ""


def test_a_mistake_ends_with_2_and_writes_nothing(page, capsys):
    page.write_text(PAGE + "<!-- generated: three -->\n<!-- end -->\n")
    assert status(blocks.main, str(page)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {page}:18: no block is called 'three'")
    assert "old" in page.read_text()


def test_no_page(tmp_path, capsys):
    assert status(blocks.main, str(tmp_path / "none.md")) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none.md: No such")


def test_the_pages_of_the_project_are_up_to_date(capsys):
    """Else: python -m docgen.blocks."""
    assert blocks.main(["--check"]) == 0, capsys.readouterr()
