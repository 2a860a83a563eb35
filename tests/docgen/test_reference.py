import pytest

from common.project import ROOT
from docgen import reference

FOUND = reference.modules(ROOT)


def test_every_room_is_told_of():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(reference.ROOMS) == rooms - {"docgen", "tests"}


def test_a_page_for_each_public_module():
    files = {
        path.relative_to(ROOT)
        for room in reference.ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.name in ("__init__.py", "__main__.py") or path.name[0] != "_"
    }
    names = {str(path.with_suffix("")).replace("/", ".") for path in files}
    pages = set(reference.pages(FOUND)) - {reference.INDEX}
    assert pages == {f"reference/{name.removesuffix('.__init__')}.md" for name in names}
    assert len(pages) > 150


def test_the_navigation_leads_to_each_page_once():
    index, *rooms = reference.navigation(FOUND)["Reference"]
    entries = [page for room in rooms for one in room.values() for page in one]
    pages = [index, *(page for entry in entries for page in entry.values())]
    assert sorted(pages) == sorted(reference.pages(FOUND))
    assert [name for room in rooms for name in room] == list(reference.ROOMS)


@pytest.mark.parametrize("module", FOUND, ids=lambda module: module.name)
def test_each_module_says_what_it_is(module):
    assert module.summary


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "ROOMS", ("house",))
    for path, text in {
        "house/__init__.py": '"""A house."""',
        "house/__main__.py": '"""Open it.\n\nMore."""',
        "house/_secret.py": "",
        "house/attic/__init__.py": '"""Under the roof."""',
        "house/attic/box.py": '"""A box."""',
        "house/no_package/thing.py": "",
        "house/door.py": '"""A door."""',
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return reference.modules(tmp_path)


def test_pages(made_up):
    pages = reference.pages(made_up)
    assert pages.pop("reference/index.md").endswith("\n- [house](house.md): A house.\n")
    assert pages.pop("reference/house.md") == (
        "::: house\n    options:\n      heading: house\n\n## Modules\n\n"
        "- [python -m house](house.__main__.md): Open it.\n"
        "- [house.attic](house.attic.md): Under the roof.\n"
        "    - [house.attic.box](house.attic.box.md): A box.\n"
        "- [house.door](house.door.md): A door.\n"
    )
    assert pages.pop("reference/house.attic.md").endswith(
        "\n- [house.attic.box](house.attic.box.md): A box.\n"
    )
    assert pages == {
        f"reference/{name}.md": f"::: {name}\n    options:\n      heading: {title}\n"
        for name, title in [
            ("house.__main__", "python -m house"),
            ("house.attic.box", "house.attic.box"),
            ("house.door", "house.door"),
        ]
    }


def test_navigation(made_up):
    entries = [
        {"house": "reference/house.md"},
        {"python -m house": "reference/house.__main__.md"},
        {"attic": "reference/house.attic.md"},
        {"attic.box": "reference/house.attic.box.md"},
        {"door": "reference/house.door.md"},
    ]
    assert reference.navigation(made_up) == {
        "Reference": ["reference/index.md", {"house": entries}]
    }
