import errno
import os
from pathlib import Path

import pytest
from PIL import Image

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


class Killed(BaseException):
    """As a kill: nothing is tidied up."""


@pytest.mark.parametrize(
    "error", [Killed(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
)
def test_no_photo_is_half(tmp_path, capsys, monkeypatch, error):
    pytest.importorskip("sklearn")
    write = Path.write_bytes

    def fail(path, data):
        if path.name.startswith("00002"):
            write(path, data[:99])
            raise error
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    command = [f"--output={tmp_path}/photos", "--images=3"]
    if isinstance(error, Killed):
        with pytest.raises(Killed):
            photos.main(command)
    else:
        assert photos.main(command) == 2
        path = f"{tmp_path}/photos/temple/00002.jpg"
        said = f"error: {path}: No space left on device\n"
        assert capsys.readouterr() == ("", said)
    found = [name for name in content(tmp_path) if "0000" in name]
    assert found == ["photos/flower/00001.jpg", "photos/temple/00000.jpg"]
    for name in found:
        Image.open(tmp_path / name).load()


def test_no_folder_at_all(capsys):
    assert status(photos.main, "--output=") == 2
    assert "argument --output: it is empty: name a file" in capsys.readouterr().err
