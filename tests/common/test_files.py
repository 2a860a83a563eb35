import errno
import hashlib
import os
import stat
import struct
import zlib
from pathlib import Path

import pytest

from common import files
from common.errors import UserError
from tests.support.folders import FOREIGN, content


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


def test_an_error_of_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as raised:
        files.write_bytes(tmp_path / "a", b"")
    assert raised.value.filename == str(tmp_path / "a")
    assert content(tmp_path) == {}


@pytest.mark.parametrize("name", ["x" * 255, "\N{SNOWMAN}" * 85, "x" + "\xe9" * 127])
def test_names_as_long_as_a_disk_allows(tmp_path, name):
    path = tmp_path / name
    staging = files.staging_name(path)
    shown = files.STAGING.fullmatch(os.path.basename(staging))
    assert shown
    assert name.startswith(shown["name"])
    assert len(os.path.basename(staging).encode()) in (253, 254, 255)
    files.write_bytes(path, b"1")
    assert content(tmp_path) == {name: b"1"}


def test_names_that_are_not_too_long_are_kept_whole(tmp_path):
    for name in ("a", "x" * 217, os.fsdecode(b"\xff" * 217)):
        staging = os.path.basename(files.staging_name(tmp_path / name))
        assert staging[:-38] == name
    assert files.staging_name("gs://bucket/a").startswith("gs://bucket/a.part-")


def test_scratch_goes(tmp_path):
    with files.scratch(tmp_path / "a") as path:
        path.write_text("for a moment")
        assert files.STAGING.fullmatch(path.name)
    assert list(tmp_path.iterdir()) == []


# What is not ours


@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
def test_only_files_and_links_are_replaced(tmp_path, make):
    path = tmp_path / "a"
    getattr(os, make)(path)
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match=r"a (folder|named pipe) is not repl"):
        files.write_bytes(path, b"x")
    assert content(tmp_path) == before


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to("target")
    files.write_bytes(tmp_path / "link", b"x")
    assert content(tmp_path) == {"link": b"x", "target": b"mine"}


def is_ours(head):
    return head.startswith(b"ours")


def test_a_file_of_ours_is_replaced(tmp_path):
    path = tmp_path / "a"
    for data in (b"ours 1", b"ours 2"):
        files.write_bytes(path, data, is_ours=is_ours)
    assert content(tmp_path) == {"a": b"ours 2"}


@pytest.mark.parametrize(("make", "said"), FOREIGN)
@pytest.mark.parametrize("late", [False, True])
def test_what_is_not_ours_stays(tmp_path, make, said, late):
    """Whether it stands there before the work is done or comes meanwhile."""
    path = tmp_path / "a"
    (tmp_path / "mine").write_text("ours")

    def write():
        with files.writing(path, is_ours=is_ours) as staging:
            assert late, "the work was done"
            make(path)
            staging.write_text("ours")

    if not late:
        make(path)
    with pytest.raises(UserError) as refused:
        write()
    assert str(refused.value) == f"{path} {said}"
    make(tmp_path / "b")
    found = content(tmp_path)
    assert found.pop("a") == found.pop("b")
    assert found == {"mine": b"ours"}


def test_a_device_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"^/dev/null is a device: name a file to be"):
        files.refuse_foreign("/dev/null", is_ours)
    with pytest.raises(FileExistsError, match="a device is not replaced"):
        files.write_bytes("/dev/null", b"")


def test_pictures_of_ours():
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    begin = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13))
    picture = begin + chunk(b"IDAT", b"x")
    digest = hashlib.sha256(picture).hexdigest()
    text = b"Software\0efficientnet-x, preview, sha256 " + digest.encode()
    marked = files.marked_png(picture, "preview")
    assert marked == begin + chunk(b"tEXt", text) + chunk(b"IDAT", b"x")
    assert files.is_our_png(marked, "preview")
    assert not files.is_our_png(marked, "roofline")
    assert not files.is_our_png(marked + b"x", "preview")
    assert not files.is_our_png(marked.replace(b"\0\0\0\0", b"\0\0\0\1", 1), "preview")
    # By a tool that keeps texts and changes pixels.
    drawn_on = begin + chunk(b"tEXt", text) + chunk(b"IDAT", b"y")
    assert not files.is_our_png(drawn_on, "preview")
    for other in (b"", begin, picture, chunk(b"tEXt", text)):
        assert not files.is_our_png(other, "preview")


def test_what_is_far_too_large_for_ours_is_not_read(tmp_path):
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(files.MOST_BYTES + 1)
    with pytest.raises(UserError, match="a exists, and is not what this command has"):
        files.refuse_foreign(path, lambda data: pytest.fail("it was read"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "sub" / "b").write_text("2")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a").write_text("mine")
    return folder


def ours(path):
    return path in ("a", "sub/", "sub/b")


def test_a_folder_of_ours_is_removed(tmp_path, folder):
    assert files.tree(str(folder)) == {"a": "file", "sub/": "folder", "sub/b": "file"}
    assert files.remove_folder(str(folder), ours) is None
    assert content(tmp_path) == {"theirs": stat.S_IFDIR, "theirs/a": b"mine"}
    assert files.remove_folder(str(folder), ours) is None  # gone already


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "NOTES.md").touch(), "/NOTES.md was not written here"),
        (lambda f: (f / "sub" / "a").touch(), "/sub/a was not written here"),
        (lambda f: (f / "sub" / "sub").mkdir(), "/sub/sub/ was not written here"),
        (lambda f: (f / "sub" / "b").rename(f / "b"), "/b was not written here"),
        (lambda f: (f / "link").symlink_to("../theirs"), "/link is a link"),
        (lambda f: (f / "a").unlink() or (f / "a").symlink_to("../theirs/a"),
         "/a is a link"),
        (lambda f: (f / "sub" / "b").unlink() or os.mkfifo(f / "sub" / "b"),
         "/sub/b is a named pipe"),
        (lambda f: (f / "sub").rename(f / "b") and (f / "sub").symlink_to("../theirs"),
         "/b/ was not written here"),
        (lambda f: f.rename(f.with_name("old")) and f.symlink_to("theirs"),
         " is a link"),
        (lambda f: f.rename(f.with_name("old")) and f.write_text("mine"), " is a file"),
    ],
)  # fmt: skip
def test_nothing_of_a_foreign_folder_is_removed(tmp_path, folder, spoil, said):
    spoil(folder)
    before = content(tmp_path)
    assert files.remove_folder(str(folder), ours) == f"{folder}{said}"
    assert content(tmp_path) == before


def test_two_folders_exchange_their_names(tmp_path, folder):
    theirs = tmp_path / "theirs"
    if not files.exchange(str(folder), str(theirs)):
        pytest.skip("this file system cannot exchange names")
    assert (folder / "a").read_text() == "mine"
    assert (theirs / "a").read_text() == "1"
    with pytest.raises(FileNotFoundError):
        files.exchange(str(folder), str(tmp_path / "none"))


HEX = "0123456789abcdef" * 2


def test_only_old_files_of_ours_are_stale(tmp_path):
    for name in (f"ours.part-{HEX}", f"theirs.part-{HEX}", "ours.part-1", "ours"):
        (tmp_path / name).touch()
    (tmp_path / "target").write_text("mine")
    for name in ("ours 2", "ours 3"):
        (tmp_path / f"{name}.part-{HEX}").symlink_to("target")
    (tmp_path / f"ours 4.part-{HEX}").mkdir()
    before = content(tmp_path)
    files.remove_stale(tmp_path, lambda name: name.startswith("ours"))
    assert content(tmp_path) == before
    files.remove_stale(tmp_path, lambda name: name.startswith("ours"), seconds=-9)
    del before[f"ours.part-{HEX}"]
    assert content(tmp_path) == before
    files.remove_stale(tmp_path / "none", lambda name: True)
