import json

import pytest

from common.errors import UserError
from models import variants
from models.variants import StageSpec, Variant
from search.families import family_files
from search.results import Score
from tests.search.test_scaling_search import search


@pytest.fixture(scope="module")
def family():
    return search(targets=[20.0, 60.0])


def test_a_family_is_json_gin_and_rows(family, tmp_path):
    gins = family_files.write(tmp_path, family)
    assert [path.name for path in gins] == ["mine-b1.gin", "mine-b2.gin"]
    found = json.loads((tmp_path / "family.json").read_text())
    digest = found.pop("sha256")
    assert found == json.loads(json.dumps(family.as_json()))
    assert len(digest) == 64
    rows = (tmp_path / "rows.py.txt").read_text()
    names = {**vars(variants), "StageSpec": StageSpec, "Variant": Variant}
    made = eval(f"[\n{rows}\n]", names)  # written a moment ago, by our own code
    assert made == [outcome.chosen.variant for outcome in family.outcomes]


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (Score((75.0,), "trained, 4 epochs"), "top-1 75.0 % (75.0 to 75.0), trained"),
        (Score((), "predicted", "outside of\nrows"), "no top-1: outside of rows"),
    ],
)
def test_rows_say_what_is_known_of_an_accuracy(tmp_path, score, said):
    found = search(
        targets=[20.0], strategy="resolution", accuracy=lambda variant, rung: score
    )
    family_files.write(tmp_path, found)
    (row,) = found.outcomes
    lines = (tmp_path / "rows.py.txt").read_text().splitlines()
    assert lines[1].startswith(f"# {row.chosen.ms:.2f} ms for 20.00 (20 ms), {said}")
    assert lines[2].startswith("Variant(")


def test_it_is_written_again_over_itself(family, tmp_path):
    family_files.write(tmp_path, family)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    family_files.write(tmp_path, search(targets=[20.0]))
    family_files.write(tmp_path, family)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["family.json", "mine-b1.gin", "rows.py.txt"])
def test_what_a_person_has_changed_is_not_replaced(family, tmp_path, name):
    family_files.write(tmp_path, family)
    path = tmp_path / name
    path.write_text(path.read_text().replace("mine", "yours", 1))
    changed = path.read_text()
    with pytest.raises(UserError, match="is not what this command has written"):
        family_files.write(tmp_path, family)
    assert path.read_text() == changed


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"sha256": 3}'])
def test_what_is_no_family_is_not_replaced(family, tmp_path, data):
    for name in ("family.json", "mine-b1.gin"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match="is not what this command has written"):
            family_files.write(folder, family)
