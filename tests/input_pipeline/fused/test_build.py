"""The build of the fused ops, and what becomes of one that fails."""

import platform
import stat
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from input_pipeline.fused import build, check, library


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """Another environment, in which nothing is built."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    library.find.cache_clear()
    yield tmp_path / "environment"
    library.find.cache_clear()


def test_a_library_is_of_its_sources_and_of_one_tensorflow(monkeypatch):
    before = library.path()
    assert before == library.path()
    monkeypatch.setattr(library.tf, "__version__", "2.99.0")
    other = library.path()
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-g"))
    assert len({before, other, library.path()}) == 3
    assert {path.name for path in library.sources()} >= {"resize.cc", "simd.h"}


def test_what_does_not_load_is_not_used(prefix, monkeypatch, capsys):
    assert library.find() == library.Found(None, "they are not built")
    library.find.cache_clear()
    library.path().parent.mkdir(parents=True)
    library.path().write_bytes(b"no library")
    found = library.find()
    assert found.ops is None
    assert "file too short" in found.why_not or "invalid ELF" in found.why_not
    said = capsys.readouterr().err
    assert "fused input ops do not load (" in said
    assert "python -m input_pipeline.fused.build builds them anew" in said
    # It is not taken for one that is there.
    monkeypatch.setattr(build, "_compile", lambda command, output: output.touch())
    monkeypatch.setattr(build, "_compare", lambda path: 160)
    assert build.main([]) == 0
    assert "equal to TensorFlow's own in 160 cases" in capsys.readouterr().out
    assert library.path().read_bytes() == b""


@pytest.mark.parametrize("optional", [True, False])
def test_without_a_compiler(prefix, monkeypatch, capsys, optional):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    status = build.main(["--optional"] if optional else [])
    said = capsys.readouterr()
    why = "no C++ compiler here (g++, clang++ or c++): install one, as by apt-get "
    if optional:
        assert status == 0
        assert said.out.startswith(f"No fused input ops: {why}")
        assert said.out.count("\n") == 1
        assert "the same ones in more time" in said.out
    else:
        assert status == 2
        assert said.err.startswith(f"error: {why}")
    assert not prefix.exists()


def test_what_is_there_needs_no_compiler(ops, monkeypatch, capsys):
    """As in the image, whose last stage has none."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert build.main([]) == 0
    assert capsys.readouterr().out.endswith(".so is there\n")


def test_another_processor(prefix, monkeypatch, capsys):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert build.main([]) == 2
    assert "this is linux on aarch64: others round" in capsys.readouterr().err


def compiler(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_compiler_that_fails_or_is_not_there(prefix, monkeypatch, capsys, tmp_path):
    text = "echo 'In file x:' >&2; echo 'a.h:3: fatal error: no such file' >&2; exit 1"
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", text))
    assert build.main([]) == 2
    assert "failed: a.h:3: fatal error: no such file" in capsys.readouterr().err
    monkeypatch.setenv("CXX", "/no/such -O1")
    assert build.main([]) == 2
    assert "$CXX is '/no/such'" in capsys.readouterr().err
    assert not list((prefix / "lib" / "efficientnet_x").iterdir())


def test_a_library_that_does_not_load_is_not_kept(
    prefix, monkeypatch, capsys, tmp_path
):
    text = 'while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", text))
    assert build.main([]) == 2
    assert "what was built does not load: " in capsys.readouterr().err
    assert not list((prefix / "lib" / "efficientnet_x").iterdir())


@pytest.mark.long
@pytest.mark.parametrize("op", ["efficientnetx_images", "efficientnetx_augment"])
def test_one_level_of_difference_is_found(ops, op):
    """In one pixel of one channel of each image."""

    def almost(*inputs, **attributes):
        made = getattr(ops, op)(*inputs, **attributes)
        images, *others = made if isinstance(made, tuple) else (made,)
        pixels = images.numpy()
        first = pixels[..., 0, 0, 0]
        pixels[..., 0, 0, 0] = np.where(first > 0, first - 1, first + 1)
        changed = library.tf.constant(pixels, images.dtype)
        return (changed, *others) if others else changed

    names = ("efficientnetx_images", "efficientnetx_augment")
    other = SimpleNamespace(**{name: getattr(ops, name) for name in names})
    setattr(other, op, almost)
    outcome = check.compare(other)
    assert outcome.cases == 160
    assert len(outcome.different) == 80


def test_what_differs_is_not_kept(prefix, monkeypatch, capsys):
    monkeypatch.setattr(build, "_compile", lambda command, output: output.touch())
    monkeypatch.setattr(library.tf, "load_op_library", lambda path: "its ops")
    outcome = check.Outcome(160, ["Rotate at 10"])
    monkeypatch.setattr(check, "compare", lambda ops: outcome)
    assert build.main([]) == 2
    said = capsys.readouterr().err
    assert "1 of 160 cases are not as TensorFlow" in said
    assert "the first: Rotate at 10" in said
    assert not list((prefix / "lib" / "efficientnet_x").iterdir())


@pytest.mark.long
def test_a_build(ops, prefix, tmp_path):
    """By the command, in a process without the library; the second finds it."""
    code = (
        f"import sys; sys.prefix = {str(prefix)!r}; "
        "from input_pipeline.fused import build; sys.exit(build.main([]))"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    )
    assert "; equal to TensorFlow's own in 160 cases" in first
    assert second.endswith(f"{library.path()} is there\n")
