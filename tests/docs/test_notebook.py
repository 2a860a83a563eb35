"""The notebook is the quickstart, and runs from its first cell to its last."""

import nbformat
import pytest

from common.errors import Status
from docgen import notebook
from tests.docs import pages

PAGE = """# A page

<!-- not run: a server -->
```bash
serve
```
Between.
<!-- slow -->
```bash
ls
```
```bash
ls -l
```
```text
out
```
```python
print(1)
```
```gin
a.b = 1
```
"""


def test_the_notebook_is_made_from_the_page():
    made = notebook.text_of(notebook.PAGE.read_text())
    assert notebook.NOTEBOOK.read_text() == made, "python -m docgen.notebook"


def test_cells():
    made = nbformat.reads(notebook.text_of(PAGE), as_version=4)
    nbformat.validate(made)
    assert [(cell.cell_type, cell.source) for cell in made.cells] == [
        ("markdown", "# A page\n\n~~~bash\nserve\n~~~\nBetween."),
        ("code", notebook._PROLOGUE),
        ("code", "%%bash\nls"),
        ("code", "%%bash\nls -l"),
        ("markdown", "```text\nout\n```"),
        ("code", "print(1)"),
        ("markdown", "```gin\na.b = 1\n```"),
    ]


def test_the_same_page_gives_the_same_bytes():
    assert notebook.text_of(PAGE) == notebook.text_of(PAGE)


def test_command(tmp_path, monkeypatch, capsys):
    made = tmp_path / "quickstart.ipynb"
    monkeypatch.setattr(notebook, "NOTEBOOK", made)
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    assert notebook.main(["--check"]) == Status.NO
    assert not made.exists()
    assert notebook.main([]) == Status.OK
    assert notebook.main(["--check"]) == Status.OK
    made.write_text(made.read_text().replace("photos", "fotos"))
    assert notebook.main(["--check"]) == Status.NO
    assert "quickstart.ipynb is not made from the page" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs(checkout):
    import nbclient

    made = nbformat.read(checkout / "docs/quickstart.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        made, timeout=1800, resources={"metadata": {"path": str(checkout / "docs")}}
    )
    client.execute()
    said = "".join(
        output.get("text", "")
        for cell in made.cells
        for output in cell.get("outputs", [])
    )
    cells = [cell for cell in made.cells if cell.cell_type == "code"]
    run = [b for b in pages.blocks_of("docs/quickstart.md") if b.is_run(fast=False)]
    assert len(cells) == len(run) + 1  # the prologue
    assert "photos/circle/000.jpg: " in said  # what it is, is a matter of training
    assert (checkout / "runs/photos/export/saved_model.pb").exists()
