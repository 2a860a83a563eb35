import pytest

from common.project import ROOT
from docgen import links, pages
from docgen.links import Link

TEXT = """\
# A title

One [link](a.md) and ![a picture](b.png),
[two](c.md#d "title") `[no](code.md)`

```text
[no](fence.md)
```

    [no](indented.md)

| [cell](e.md) |
|---|
| [below](f.md) |

[by name]

[by name]: g.md
<picture>
  <source srcset="h.png">
  <img src="i.png"></picture>

Inline <a href="j.md">html</a>, <https://k.example>
"""


def test_links_and_their_lines():
    assert links.read(TEXT).links == [
        Link(3, "a.md"),
        Link(3, "b.png"),
        Link(4, "c.md#d"),
        Link(12, "e.md"),
        Link(14, "f.md"),
        Link(16, "g.md"),
        Link(20, "h.png"),
        Link(21, "i.png"),
        Link(23, "j.md"),
        Link(23, "https://k.example"),
    ]


@pytest.mark.parametrize(
    ("text", "anchors"),
    [
        ("# Two words", {"two-words"}),
        ("## `a.b_c` & D-e!", {"ab_c--d-e"}),
        ("# Same\n\n# Same\n\nSame\n----", {"same", "same-1", "same-2"}),
        ("# A [link](b.md)", {"a-link"}),
        ('<a id="mine"></a>\n\n<p name="too">', {"mine", "too"}),
        ("```bash\n# no heading\n```", set()),
    ],
)
def test_anchors(text, anchors):
    assert links.read(text).anchors == anchors


@pytest.mark.parametrize(
    ("target", "mistake"),
    [
        ("docs/page.md", None),
        ("docs", None),
        ("docs/page.md#part", None),
        ("#top", None),
        ("docs/code.py#L3", None),
        ("docs/with%20space.md", None),
        ("https://example.org/nothing", None),
        ("mailto:a@example.org", None),
        ("//example.org/x", None),
        ("docs/none.md", "docs/none.md is not there"),
        ("docs/Page.md", "docs/Page.md is not there"),
        ("/docs/page.md", "/docs/page.md is not there"),
        ("../outside.md", "../outside.md is not there"),
        ("#part", "#part: no heading there has this anchor"),
        (
            "docs/page.md#Part",
            "docs/page.md#Part: no heading there has this anchor",
        ),
    ],
)
def test_dead_links(tmp_path, target, mistake):
    (tmp_path / "outside.md").write_text("")
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "docs/page.md").write_text("## Part")
    (root / "docs/code.py").write_text("")
    (root / "docs/with space.md").write_text("")
    (root / "README.md").write_text(f"# Top\n\nsee\n[x]({target})")
    found = links.check(root, [root / "README.md"])
    assert found == ([f"README.md:4: {mistake}"] if mistake else [])


def test_no_link_of_the_repository_is_dead():
    files = pages.linked(ROOT)
    assert {"README.md", "design.md"} <= {file.name for file in files}
    assert links.check(ROOT, files) == []
