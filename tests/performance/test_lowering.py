import errno
import os
import pickle
import subprocess
import sys
import time

import keras
import pytest
import tensorflow as tf

from common import files
from models.errors import ModelError
from models.variants import change
from performance import lowered_cache, lowering
from performance.segments import InferenceOptions, segments_of
from tests.performance.test_latency import batch_domain, learned_space_to_depth
from tests.support import tiny
from tests.support.folders import content
from tpu_compiler import CompilerError, cache_folder

DAY = 24 * 3600
OPTIONS = InferenceOptions(batch=1, dtype="float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder: where what was lowered is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder().with_name("lowered")


def test_a_broken_file_is_lowered_anew(folder, capsys):
    program = lowering.network(tiny.variant(), OPTIONS)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert lowering.network(tiny.variant(), OPTIONS) == program
    assert capsys.readouterr().err == "lowering tiny\n" * 2
    assert lowering.network(tiny.variant(), OPTIONS) == program
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("broken", [b"", b"no gzip"])
def test_what_is_not_kept(folder, broken):
    lowered_cache.store("key", b"program")
    assert lowered_cache.load("key") == b"program"
    assert lowered_cache.load("another") is None
    (folder / "key.mlir.gz").write_bytes(broken)
    assert lowered_cache.load("key") is None


def test_what_nobody_reads_goes(folder):
    """And nothing else, however old it is."""
    read, unread, new = (letter * 64 for letter in "abc")
    lowered_cache.store(read, b"program")
    lowered_cache.store(unread, b"program")
    staging = f".mlir.gz.part-{'0a' * 16}"
    foreign = ["mine.mlir.gz", f"mine{staging}", f"{read}.mlir.gz.part-1", "NOTES"]
    ages = {f"{read}.mlir.gz": 91, f"{unread}.mlir.gz": 91} | dict.fromkeys(foreign, 91)
    ages |= {f"{read}{staging}": 2, f"{new}{staging}": 0}
    for name, days in ages.items():
        (folder / name).touch()
        then = time.time() - days * DAY
        os.utime(folder / name, (then, then))
    (folder / f"{unread[1:]}d.mlir.gz").mkdir()
    (folder / f"{unread[2:]}de.mlir.gz").symlink_to("NOTES")
    kept = [path.name for path in folder.iterdir() if path.name not in ages]
    assert lowered_cache.load(read) == b"program"
    lowered_cache.store(new, b"program")
    left = {path.name for path in folder.iterdir()}
    ours = {f"{read}.mlir.gz", f"{new}.mlir.gz", f"{new}{staging}"}
    assert left == ours | {*foreign, *kept}


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "named pipe"), (os.mkdir, "folder")]
)
def test_what_stands_in_a_programs_place_stays(folder, capsys, make, what):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "key.mlir.gz"
    make(path)
    before = content(folder)
    assert lowered_cache.load("key") is None
    said = f"warning: {path} is a {what}: move it away; lowered anew\n"
    assert capsys.readouterr().err == said
    lowered_cache.store("key", b"program")
    assert content(folder) == before


def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    message = rf"cannot use {folder} for .*: No space left on device; free some space"
    with pytest.raises(CompilerError, match=message):
        lowered_cache.store("key", b"program")
    assert list(folder.iterdir()) == []


# In a process of its own: this one has imported what tests need.
_IMPORTED = """
import pickle, sys
from performance import lowering
from performance.segments import InferenceOptions, segments_of
options = InferenceOptions(batch=1, dtype="float32")
batch_domain, learned = pickle.load(open(sys.argv[1], "rb"))
lowering._lower("network", batch_domain, options)
segment = segments_of(learned, options)[1]
lowering._lower(segment.kind, segment.definition, options)
print(*(name for name in sys.modules if name.split(".")[0] == "models"))
"""


@pytest.mark.long
def test_what_decides_on_a_program(tmp_path):
    """What lowering imports of models is looked at for changes, and nothing else.

    It works, too, where the user's Keras is on another backend.
    """
    path = tmp_path / "variants"
    path.write_bytes(pickle.dumps((batch_domain(), learned_space_to_depth())))
    command = [sys.executable, "-W", "ignore", "-c", _IMPORTED, str(path)]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    names = {name.removeprefix("models").lstrip(".") for name in done.stdout.split()}
    assert {name or "__init__" for name in names} == set(lowering._BUILDING)


def test_keras_on_another_backend_is_refused(folder, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ModelError, match="Keras is running on jax already: take a"):
        lowering.network(tiny.variant(), OPTIONS)


@pytest.mark.parametrize("name", ["rely", "glu"])
def test_an_activation_that_a_block_cannot_have(name):
    changed = change(tiny.variant(), stages={2: {"activation": name}})
    with pytest.raises(ModelError, match=f"unknown activation '{name}'; did you mean"):
        lowering._lower("fused", segments_of(changed, OPTIONS)[2].definition, OPTIONS)


def test_weights_that_do_not_fit_here(monkeypatch):
    def huge(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "shape[65536,65536]")

    monkeypatch.setattr(lowering, "_block", huge)
    with pytest.raises(ModelError, match=r"than there is here: shape\[65536,65536\]"):
        lowering._lower(
            "fused", segments_of(tiny.variant(), OPTIONS)[2].definition, OPTIONS
        )


def test_the_cpu_lowers_wherever_variables_would_be(monkeypatch, logical_cpus):
    """A second device stands for a GPU."""
    devices = []

    def block(*asked):
        devices.append(tf.Variable(tf.zeros([])).device)
        return made(*asked)

    made = lowering._block
    monkeypatch.setattr(lowering, "_block", block)
    segment = segments_of(tiny.variant(), OPTIONS)[1]
    here = lowering._lower(segment.kind, segment.definition, OPTIONS)
    with tf.device(logical_cpus[1]):
        assert lowering._lower(segment.kind, segment.definition, OPTIONS) == here
    assert [name.rpartition(":")[2] for name in devices] == ["0", "0"]


def test_where_packages_lie_does_not_count():
    """Else each checkout would compile anew what another has compiled."""
    segment = segments_of(tiny.variant(), OPTIONS)[1]
    text = lowering._lower(segment.kind, segment.definition, OPTIONS)
    assert b'loc("site-packages/tensorflow/' in text
    assert b'loc("/' not in text
