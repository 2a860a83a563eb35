"""The scripts that make an environment and fill it, with Pythons and uv made up."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from common.project import ROOT

PYTHON = """#!/bin/bash
# Says what a Python says that has this version, and makes an environment with itself.
echo "$@" >> "$LOG"
if [ "$1" = -c ]; then
  shift
  exec {real} -c "import sys; sys.version_info = (*{version}, 'final', 0); $(cat <<'END'

import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {without} else find(name)
sys.executable = '{path}'
END
)
$1" "${{@:2}}"
fi
[ "$2" = venv ] || exit 0
rm -rf "$4"
mkdir -p "$4/bin" "$4/lib/python3.11/site-packages"
cp "$0" "$4/bin/python"
echo "VIRTUAL_ENV=$(cd "$4" && pwd -P)" > "$4/bin/activate"
"""


class Place:
    """A copy of the scripts, and a PATH with nothing but what is put there."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder / "log"
        self.path = folder / "path"
        self.packages = folder / ".venv/lib/python3.11/site-packages"
        (folder / "requirements").mkdir()
        self.path.mkdir()
        for name in ("environment", "install"):
            shutil.copy(ROOT / "requirements" / name, folder / "requirements")
        for name in ("bash", "cat", "cp", "cut", "dirname", "env", "grep", "ls",
                     "mkdir", "rm", "sed", "tail", "touch"):  # fmt: skip
            (self.path / name).symlink_to(shutil.which(name) or name)

    def python(self, name, version, without=()):
        path = self.path / name
        self.executable(
            path,
            PYTHON.format(
                real=sys.executable, version=version, without=without, path=path
            ),
        )

    def executable(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script, *arguments, **environment):
        return subprocess.run(
            [f"requirements/{script}", *arguments],
            cwd=self.folder,
            env={"PATH": str(self.path), "LOG": str(self.log), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_first_python_that_will_do_makes_the_environment(place):
    place.executable(place.path / "python3.11", "#!/bin/bash\necho no such; exit 127")
    place.python("python3.12", (3, 12, 4), without=("ensurepip",))
    place.python("python3.13", (3, 13, 0))
    place.python("python3", (3, 11, 0))
    made = place.run("environment", ".venv")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == f"Making .venv with Python 3.13.0 {place.path}/python3.13\n"
    stamp = place.folder / ".venv/.made"
    before = stamp.stat().st_mtime_ns
    beside = place.packages / "beside.pth"
    beside.unlink()  # as in one of an earlier version
    again = place.run("environment", ".venv")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert beside.exists()
    assert stamp.stat().st_mtime_ns == before


def test_its_python_finds_the_packages_beside_it(place, monkeypatch):
    place.python("python3.11", (3, 11, 7))
    assert place.run("environment", ".venv").returncode == 0
    monkeypatch.setattr(sys, "path", [])
    site.addsitedir(str(place.packages))
    assert sys.path == [str(place.packages), str(place.folder)]


def test_what_is_missing_and_what_was_found_is_one_line(place):
    place.python("python3.12", (3, 12, 4), without=("ensurepip",))
    place.python("python3", (3, 9, 18))
    refused = place.run("environment", ".venv")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: Python 3.11, 3.12 or 3.13 is missing (found: python3.12 3.12.4 "
        "without ensurepip: install python3.12-venv, python3 is 3.9.18): install one, "
        "or name it: make PYTHON=/path/to/python3.11\n"
    )
    assert not (place.folder / ".venv").exists()


def test_without_any_python(place):
    refused = place.run("environment", ".venv")
    assert refused.returncode == 2
    assert "is missing (found: none): install one" in refused.stderr


def test_an_environment_of_another_python_is_made_anew_where_that_is_asked_for(place):
    place.python("python3.11", (3, 11, 7))
    place.python("python3.13", (3, 13, 0))
    assert place.run("environment", ".venv").returncode == 0
    assert place.run("environment", ".venv", "python3.11").stdout == ""
    anew = place.run("environment", ".venv", "python3.13")
    assert (anew.returncode, anew.stderr) == (0, "")
    assert anew.stdout.splitlines() == [
        ".venv is made anew: it has Python 3.11.7",
        f"Making .venv with Python 3.13.0 {place.path}/python3.13",
    ]
    # Nobody asks for another one now.
    assert place.run("environment", ".venv").stdout == ""
    refused = place.run("environment", ".venv", "python3.14")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr == (
        "error: PYTHON=python3.14 is no Python 3.11, 3.12 or 3.13 (found: none): "
        "install one, or name it: make PYTHON=/path/to/python3.11\n"
    )
    assert (place.folder / ".venv/.made").exists()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda at: (at / "bin/python").unlink(), "its Python does not work here"),
        (
            lambda at: (at / "bin/activate").write_text("VIRTUAL_ENV=/elsewhere/.venv"),
            "it was made for another folder",
        ),
    ],
)
def test_a_spoilt_environment_is_made_anew(place, spoil, why):
    place.python("python3.11", (3, 11, 7))
    assert place.run("environment", ".venv").returncode == 0
    (place.folder / ".venv/.has-core").touch()
    spoil(place.folder / ".venv")
    anew = place.run("environment", ".venv")
    assert (anew.returncode, anew.stderr) == (0, "")
    assert anew.stdout.startswith(f".venv is made anew: {why}\nMaking .venv with ")
    assert not (place.folder / ".venv/.has-core").exists()


@pytest.mark.parametrize("name", ["mine.txt", "bin/python"])
def test_what_somebody_else_has_put_there_stays(place, name):
    place.python("python3.11", (3, 11, 7))
    mine = place.folder / ".venv" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    refused = place.run("environment", ".venv")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: .venv is in the way, and make has not made it (its Python does not "
        "work here): move it away, or delete it\n"
    )
    assert mine.read_text() == "mine"


def test_an_environment_that_a_link_leads_to_is_taken_as_it_is(place):
    place.python("python3.11", (3, 11, 7))
    assert place.run("environment", "elsewhere").returncode == 0
    (place.folder / "elsewhere/lib/python3.11/site-packages/beside.pth").unlink()
    (place.folder / ".venv").symlink_to("elsewhere")
    taken = place.run("environment", ".venv")
    assert (taken.returncode, taken.stdout, taken.stderr) == (0, "", "")
    assert not (place.packages / "beside.pth").exists()


UV = """#!/bin/bash
[[ "$*" != *--dry-run* ]] || { echo "$PROBE" >&2; [ -z "$PROBE" ]; exit; }
echo "uv $*" >> "$LOG"
exit ${UV_STATUS:-0}
"""
PIP = '#!/bin/bash\necho "pip $*" >> "$LOG"\n'
REFUSED = """Using Python 3.11.7 environment at: .venv
error: Failed to fetch: https://index/uv/
  cause: tcp connect error
  cause: Connection refused (os error 111)"""


@pytest.fixture
def filled(place):
    place.executable(place.folder / ".venv/bin/uv", UV)
    place.executable(place.folder / ".venv/bin/python", PIP)

    def install(**environment):
        done = place.run("install", ".venv/bin/python", "a.txt", "b.txt", **environment)
        return done, place.log.read_text().splitlines()

    return install


PIPS = "pip -m pip install --quiet --disable-pip-version-check --require-hashes "


def test_uv_installs_where_it_reaches_an_index(filled):
    done, called = filled(PROBE="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert called == [
        "uv pip install --quiet --compile-bytecode --python .venv/bin/python "
        "--require-hashes --no-deps -ra.txt -rb.txt"
    ]


def test_pip_takes_over_where_uv_reaches_none_and_a_line_says_so(filled):
    done, called = filled(PROBE=REFUSED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "uv reaches no package index (Connection refused (os error 111)): pip installs "
        "instead, which takes longer\n"
    )
    assert called == [PIPS + "--no-deps -ra.txt -rb.txt"]


def test_an_error_of_uv_is_not_tried_again_with_pip(filled):
    done, called = filled(PROBE="", UV_STATUS="2")
    assert done.returncode == 2
    assert [line.split()[0] for line in called] == ["uv"]


def test_pip_is_asked_for(filled):
    done, called = filled(INSTALLER="pip", PROBE="")
    assert (done.returncode, done.stdout) == (0, "")
    assert called == [PIPS + "--no-deps -ra.txt -rb.txt"]


def test_the_scripts_are_executable():
    assert os.access(ROOT / "requirements/environment", os.X_OK)
    assert os.access(ROOT / "requirements/install", os.X_OK)
