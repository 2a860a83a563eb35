import pytest

from benchmarks import photos
from tests.support.commands import status
from tests.support.folders import content


@pytest.mark.parametrize("name", ["temple/00000.jpg", "NOTES.md"])
def test_photos_go_to_a_folder_of_their_own(tmp_path, capsys, name):
    path = tmp_path / "photos" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = content(tmp_path)
    assert photos.main([f"--output={tmp_path}/photos", "--images=1"]) == 2
    said = f"error: {tmp_path}/photos is not empty; name a new folder by --output\n"
    assert capsys.readouterr() == ("", said)
    assert content(tmp_path) == before


def test_no_folder_at_all(capsys):
    assert status(photos.main, "--output=") == 2
    assert "argument --output: it is empty: name a file" in capsys.readouterr().err
