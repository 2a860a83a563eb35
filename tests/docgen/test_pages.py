import pytest

from docgen import pages, reference

MODULES = [
    reference.Module("train", "", is_package=True),
    reference.Module("train.run", "", is_package=False),
]
NAVIGATION = """\
nav:
  - Start:
      - index.md
  - Project:
      - A title: contributing.md
      - changelog.md
"""


@pytest.fixture
def root(tmp_path):
    for name, text in {
        "README.md": "",
        "CONTRIBUTING.md": "",
        "CHANGELOG.md": "",
        "mkdocs.yml": NAVIGATION,
        "docs/index.md": "",
        "docs/assets/a.png": "",
        "train/__init__.py": "",
        "train/run.py": "",
        "configs/a.gin": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "page", "text", "on_site"),
    [
        (
            "docs/index.md",
            "index.md",
            "[a](../train/run.py)",
            "[a](reference/train.run.md)",
        ),
        (
            "docs/index.md",
            "index.md",
            "[a](../train/run.py#L7)",
            "[a](reference/train.run.md)",
        ),
        (
            "docs/index.md",
            "index.md",
            "[a](../train/run.py#train.run.Run)",
            "[a](reference/train.run.md#train.run.Run)",
        ),
        ("docs/index.md", "index.md", "[a](../train)", "[a](reference/train.md)"),
        ("docs/index.md", "index.md", "[a](../train/)", "[a](reference/train.md)"),
        ("docs/index.md", "index.md", "[a](../CHANGELOG.md#b)", "[a](changelog.md#b)"),
        ("docs/index.md", "index.md", "[a](../README.md)", "[a](index.md)"),
        ("docs/index.md", "index.md", "[`a[0]`](../configs/a.gin), b", "`a[0]`, b"),
        ("docs/index.md", "index.md", "![a](assets/a.png)", "![a](assets/a.png)"),
        (
            "docs/index.md",
            "index.md",
            "[a](https://b.c) [d](#e)",
            "[a](https://b.c) [d](#e)",
        ),
        (
            "CONTRIBUTING.md",
            "contributing.md",
            "[a](docs/index.md#b)",
            "[a](index.md#b)",
        ),
        (
            "CONTRIBUTING.md",
            "contributing.md",
            "![a](docs/assets/a.png)",
            "![a](assets/a.png)",
        ),
        ("CONTRIBUTING.md", "contributing.md", "[a](configs/)", "a"),
    ],
)
def test_links_of_the_site(root, source, page, text, on_site):
    (root / source).write_text(text)
    pages.write(root, root / "built", MODULES)
    assert (root / "built" / page).read_text() == on_site


def test_writes_docs_pages_of_the_root_and_reference(root):
    pages.write(root, root / "built", MODULES)
    files = {path for path in (root / "built").rglob("*") if path.is_file()}
    assert {str(path.relative_to(root / "built")) for path in files} == {
        "assets/a.png",
        "changelog.md",
        "contributing.md",
        "index.md",
        "reference/index.md",
        "reference/train.md",
        "reference/train.run.md",
    }


def test_the_navigation_and_the_pages(root):
    assert pages.check_navigation(root) == []
    (root / "docs/lost.md").write_text("")
    (root / "docs/index.md").unlink()
    (root / "CHANGELOG.md").unlink()
    assert pages.check_navigation(root) == [
        "mkdocs.yml:3: docs/index.md is not there",
        "mkdocs.yml:6: CHANGELOG.md is not there",
        "docs/lost.md: no entry of mkdocs.yml's nav leads there",
    ]
