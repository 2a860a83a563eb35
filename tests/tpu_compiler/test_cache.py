"""The cache, with a process that only plays compiler."""

import errno
import os
import subprocess
import time

import pytest

import tpu_compiler
from tests.support.folders import content
from tests.tpu_compiler.conftest import ROOT, command, compile, eventually
from tpu_compiler import Compiler, CompilerError, process


def test_the_same_again_comes_from_the_cache_without_a_process(fake, monkeypatch):
    first = compile(fake, "compile")
    with monkeypatch.context() as patch:
        patch.setattr("tpu_compiler.process.subprocess.Popen", None)
        again = compile(fake, "compile")
    assert again.from_cache
    assert again.costs == first.costs
    assert again.memory == first.memory
    assert again.hlo_path == first.hlo_path
    assert len(fake.requests) == 1


def test_what_is_not_the_same_is_compiled(fake):
    compile(fake, "compile")
    compile(fake, "compile more")
    compile(fake, "compile", "v5e")
    compile(fake, "compile", "v3:1x1", 2)
    fake.set_version("1.1")
    process._environment.cache_clear()
    report = compile(fake, "compile")
    assert report.versions["libtpu"] == "1.1"
    assert len(fake.requests) == 5
    compile(fake, "compile", "v3:1x1", 1)  # the same but for its name
    assert len(fake.requests) == 5


def _truncate_hlo(folder):
    [path] = folder.glob("*.hlo.gz")
    path.write_bytes(path.read_bytes()[:-5])


def _garble_hlo(folder):
    [path] = folder.glob("*.hlo.gz")
    path.write_bytes(b"x" * path.stat().st_size)


def _remove_hlo(folder):
    [path] = folder.glob("*.hlo.gz")
    path.unlink()


def _replace_entry(text):
    def corrupt(folder):
        [path] = folder.glob("*.json")
        path.write_text(text)

    return corrupt


@pytest.mark.parametrize(
    "corrupt",
    [
        _truncate_hlo,
        _garble_hlo,
        _remove_hlo,
        _replace_entry(""),
        _replace_entry("[]"),
        _replace_entry('{"answer": 3, "hlo": null}'),
        _replace_entry('{"answer": {}, "hlo": null}'),
    ],
)
def test_a_corrupt_entry_is_compiled_anew_with_a_warning(fake, capfd, corrupt):
    good = compile(fake, "compile")
    assert capfd.readouterr().err == ""
    corrupt(fake.cache)
    mended = compile(fake, "compile")
    warning = capfd.readouterr().err
    assert warning.startswith(f"warning: {fake.cache}")
    assert warning.endswith("compiled anew\n")
    assert not mended.from_cache
    assert mended.costs == good.costs
    assert compile(fake, "compile").from_cache
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "named pipe"), (os.mkdir, "folder")]
)
@pytest.mark.parametrize("linked", [False, True])
def test_what_stands_in_an_entrys_place_stays_and_is_no_answer(
    fake, capfd, make, what, linked
):
    good = compile(fake, "compile")
    [entry] = fake.cache.glob("*.json")
    entry.unlink()
    if linked:
        make(fake.cache / "theirs")
        entry.symlink_to("theirs")
    else:
        make(entry)
    before = content(fake.cache)
    anew = compile(fake, "compile")
    assert capfd.readouterr().err == (
        f"warning: {entry}: it is a {what}: move it away; compiled anew\n"
    )
    assert not anew.from_cache
    assert anew.costs == good.costs
    if linked:  # the link is replaced, and not what it says
        del before[entry.name]
        assert content(fake.cache).items() > before.items()
        assert compile(fake, "compile").from_cache
    else:
        assert content(fake.cache) == before


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "named pipe"), (os.mkdir, "folder")]
)
def test_what_stands_in_the_place_of_hlo_stays(fake, make, what):
    compile(fake, "compile")
    [hlo] = fake.cache.glob("*.hlo.gz")
    hlo.unlink()
    make(hlo)
    before = content(fake.cache)
    with pytest.raises(CompilerError) as refused:
        compile(fake, "compile")
    assert str(refused.value) == (
        f"cannot use {fake.cache} for compiled modules: a {what} is not replaced; move "
        f"{hlo} away or name another folder by cache_dir or XDG_CACHE_HOME"
    )
    assert content(fake.cache) == before


STAGED = f"{'0a' * 32}.part-{'1b' * 16}"  # a module under its key


def test_stale_files_of_killed_processes_go_after_a_day(fake):
    """And nobody else's, however old."""
    fake.cache.mkdir()
    ours = STAGED, STAGED.replace(".part", ".json.part")
    foreign = {"a.part-1", f"thesis.tex{STAGED[64:]}", f"{STAGED}.txt", "NOTES"}
    new = STAGED.replace("0a", "0c")
    for name in (*ours, *foreign):
        (fake.cache / name).write_text("half")
        os.utime(fake.cache / name, (0, time.time() - 25 * 3600))
    (fake.cache / new).write_text("half")
    compile(fake, "compile")
    left = {path.name for path in fake.cache.iterdir()}
    assert not left & set(ours)
    assert left >= {new, *foreign}


def test_a_folder_that_cannot_be_used_is_one_line(fake, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CompilerError, match=r"cannot use .*file/below .*name another"):
        Compiler(cache_dir=tmp_path / "file" / "below")


def test_an_answer_that_cannot_be_kept_is_one_line(fake, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "entry")

    monkeypatch.setattr("tpu_compiler.cache.os.replace", full)
    unusable = f"cannot use {fake.cache} for compiled modules: No space left .*; free"
    with pytest.raises(CompilerError, match=unusable):
        compile(fake, "compile")
    assert list(fake.cache.iterdir()) == []


@pytest.fixture
def read_only(fake, monkeypatch):
    """Function: makes the cache's folder one of a file system that is read only."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def protect():
        for name in ("write_bytes", "write_text", "unlink"):
            monkeypatch.setattr(f"tpu_compiler.cache.Path.{name}", refuse)

    return protect


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest_at_once(
    fake, read_only
):
    fake.cache.mkdir()
    old = fake.cache / STAGED
    compile(fake, "compile")
    old.write_text("half")
    os.utime(old, (0, time.time() - 25 * 3600))
    read_only()
    assert compile(fake, "compile").from_cache
    with pytest.raises(CompilerError) as refused:
        compile(fake, "compile more")
    assert str(refused.value) == (
        f"cannot use {fake.cache} for compiled modules: Read-only file system; free "
        "some space, mend the permissions or name another folder by cache_dir or "
        "XDG_CACHE_HOME"
    )
    assert len(fake.requests) == 1  # nothing was compiled in vain


def test_a_user_without_a_home_has_to_name_a_folder(fake, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tpu_compiler.cache.os.path.expanduser", lambda path: path)
    with pytest.raises(CompilerError, match=r"no home folder.* by XDG_CACHE_HOME"):
        Compiler()


def test_a_killed_process_leaves_its_module_where_stale_files_go(fake, tmp_path):
    path = tmp_path / "step.mlir"
    path.write_text("hang")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        command(fake, path), cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)}
    )
    assert eventually(lambda: fake.requests)
    process.kill()
    process.wait()
    assert list(temporary.iterdir()) == []
    [left] = fake.cache.iterdir()
    assert left.read_text() == "hang"
    os.utime(left, (0, time.time() - 25 * 3600))
    compile(fake, "compile")
    assert not left.exists()


def test_the_default_folder_is_the_users(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    report = tpu_compiler.compile(b"compile", "v3", timeout_seconds=20)
    assert report.hlo_path is not None
    assert report.hlo_path.parent == tmp_path / "xdg/efficientnet-x/tpu_compiler"
