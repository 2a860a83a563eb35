import pytest

from common import files


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_raises_replaces_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def interrupted():
        with files.writing(path) as staging:
            staging.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_what_stands_in_for_it(tmp_path):
    path = tmp_path / "nowhere" / "a"
    with pytest.raises(FileNotFoundError) as raised:
        files.write_bytes(path, b"")
    assert raised.value.filename == str(path)


def test_scratch_goes(tmp_path):
    with files.scratch(tmp_path / "a") as path:
        path.write_text("for a moment")
        assert files.STAGING.fullmatch(path.name)
    assert list(tmp_path.iterdir()) == []
