"""The pool and its processes, with a process that only plays compiler."""

import concurrent.futures
import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.commands import status
from tests.support.folders import FOREIGN, NOT_OURS, content
from tests.tpu_compiler.conftest import ROOT, command, compile, eventually, is_alive
from tpu_compiler import Compiler, CompilerError, Topology, __main__


def test_a_report(fake):
    report = compile(fake, "compile", "v3:2x2x1", 8)
    assert report.compiled
    assert report.verdict == "compiled"
    assert report.topology == Topology("v3", (2, 2, 1))
    assert report.num_replicas == 8
    assert report.cycles == 940
    assert report.milliseconds == pytest.approx(1e-3)  # at 940 MHz
    assert report.memory is not None
    assert report.needed_bytes == report.memory.total == 100 + 90 - 80 + 7 + 3
    assert report.hbm_bytes == 15854 * 2**20
    assert report.versions == {"jax": "1.0", "jaxlib": "1.0", "libtpu": "1.0"}
    assert (report.seconds, report.from_cache) == (1.5, False)
    assert [one.name for one in report.costliest(10)] == ["y"]
    assert report.hlo_path is not None
    assert report.hlo_path.parent == fake.cache


def test_what_the_process_is_told(fake, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_something")
    monkeypatch.setenv("PYTHONHOME", "elsewhere")
    monkeypatch.setenv("SOMEBODYS_OWN", "kept")
    compile(fake, "compile once", "v4:2x2x1", 4)
    [request] = fake.requests
    assert request["topology"] == "v4:2x2x1"
    assert request["chip_config"] == "megacore"
    assert request["num_replicas"] == 4
    assert request["module"] == "compile once"
    environment = request["environment"]
    assert not {"XLA_FLAGS", "PYTHONHOME", "TPU_COMPILER_PYTHON"} & set(environment)
    assert environment["PYTHONPATH"] == str(ROOT)
    assert environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"
    assert environment["SOMEBODYS_OWN"] == "kept"
    assert request["session"] == request["pid"]  # so Ctrl-C does not reach it


def test_out_of_memory(fake):
    for from_cache in (False, True):
        report = compile(fake, "large")
        assert report.verdict == "out_of_memory"
        assert "needs 32.00 GiB" in report.message
        assert report.needed_bytes == 32 * 2**30
        assert report.largest_buffers[0].location == "head/Tanh"
        assert report.from_cache is from_cache
        assert report.milliseconds is None
        assert report.hlo_path is None
    assert len(fake.requests) == 1


def test_out_of_memory_by_less_than_the_compiler_tells(fake):
    report = compile(fake, "tight")
    assert report.verdict == "out_of_memory"
    assert report.needed_bytes == report.hbm_bytes + 1
    assert report.message == (
        "needs a little more HBM on each device than the 15.48 GiB that it has"
    )


def test_rejected(fake):
    for from_cache in (False, True):
        report = compile(fake, "dynamic")
        assert report.verdict == "refused"
        assert report.message == "a dynamic shape"
        assert (report.op, report.location) == ("stablehlo.tanh", "stem/Tanh")
        assert report.from_cache is from_cache
        assert report.needed_bytes is None
    assert len(fake.requests) == 1


def test_a_time_out_names_the_module_and_goes_on_with_a_new_process(fake):
    with Compiler(cache_dir=fake.cache) as compiler:
        late = compiler.compile(b"hang", "v3", timeout_seconds=0.2, name="step")
        next_one = compiler.compile(b"compile", "v3", timeout_seconds=20)
        with pytest.raises(CompilerError, match=r"^step: .*within 0\.2 seconds"):
            late.result()
        assert next_one.result().compiled
        hung, other = fake.requests
        assert hung["pid"] != other["pid"]
        assert eventually(lambda: not is_alive(hung["pid"]))
    assert eventually(lambda: not is_alive(other["pid"]))
    with pytest.raises(CompilerError):  # it was not kept
        compile(fake, "hang", seconds=0.2)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("killed", r"has died \(SIGKILL, perhaps for want of memory\)"),
        ("abort", r"has died \(SIGABRT\): Check failed: !x$"),
        ("exit", r"has died \(exit status 1\): ModuleNotFoundError: .*'jax'$"),
        (
            "full",
            r"^cannot use .*/cache for compiled modules: No space left .*; free",
        ),
        ("unknown", "^step: INVALID_ARGUMENT: no such topology$"),
    ],
)
def test_a_process_that_dies_is_an_error_and_the_pool_goes_on(fake, word, message):
    with Compiler(cache_dir=fake.cache) as compiler:
        for _ in range(2):  # it is not kept
            future = compiler.compile(
                word.encode(), "v3", timeout_seconds=20, name="step"
            )
            with pytest.raises(CompilerError, match=message):
                future.result()
        assert compiler.compile(b"compile", "v3", timeout_seconds=20).result().compiled
    assert [request["module"] for request in fake.requests] == [word, word, "compile"]
    assert sorted(path.suffix for path in fake.cache.iterdir()) == [".gz", ".json"]


def test_a_process_serves_many_and_several_serve_at_once(fake):
    with Compiler(2, cache_dir=fake.cache) as compiler:
        futures = [
            compiler.compile(f"slow {i}".encode(), "v3", timeout_seconds=20)
            for i in range(6)
        ]
        assert all(future.result().compiled for future in futures)
    assert len(fake.requests) == 6
    assert len({request["pid"] for request in fake.requests}) == 2
    assert not any(is_alive(request["pid"]) for request in fake.requests)


def test_its_end_waits_for_what_was_asked(fake):
    with Compiler(cache_dir=fake.cache) as compiler:
        futures = [compiler.compile(b"slow", "v3", timeout_seconds=20)]
        futures += [compiler.compile(b"slow more", "v3", timeout_seconds=20)]
    assert all(future.done() and future.result().compiled for future in futures)


def test_an_exception_stops_what_runs(fake):
    futures = []

    def interrupted():
        with Compiler(cache_dir=fake.cache) as compiler:
            futures.extend(
                compiler.compile(text, "v3", timeout_seconds=50, name="step")
                for text in (b"hang", b"hang more")
            )
            assert eventually(lambda: fake.requests)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 10
    with pytest.raises(CompilerError, match=r"^step: the compilation was stopped$"):
        futures[0].result()
    with pytest.raises((CompilerError, concurrent.futures.CancelledError)):
        futures[1].result()
    assert not is_alive(fake.requests[0]["pid"])
    assert list(fake.cache.iterdir()) == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_is_refused(fake, seconds):
    with pytest.raises(CompilerError, match=r"^step: a time limit of .*more than 0$"):
        compile(fake, "compile", seconds=seconds)
    assert fake.requests == []


def test_time_without_end(fake):
    assert compile(fake, "slow", seconds=float("inf")).compiled


def test_more_replicas_than_devices_are_refused(fake):
    with pytest.raises(
        CompilerError, match="step: 9 replicas on v3:2x2x1, which has 8"
    ):
        compile(fake, "compile", "v3:2x2x1", 9)
    with pytest.raises(CompilerError, match="0 replicas; take at least 1"):
        compile(fake, "compile", "v3", 0)
    assert fake.requests == []


def test_no_environment_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TPU_COMPILER_PYTHON", str(tmp_path / "bin/python"))
    with pytest.raises(CompilerError, match="not installed: make tpu-compiler"):
        Compiler(cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_it_needs_the_standard_library_alone(fake):
    code = (
        "import sys, tpu_compiler, tpu_compiler.__main__; "
        "names = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(names - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    # -S: without what this environment's .pth files import.
    command = [sys.executable, "-S", "-c", code]
    found = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "['common', 'tpu_compiler']\n"


@pytest.fixture
def interruptible():
    """Processes that are started here hear SIGINT, also where this one must not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_no_process(fake, tmp_path):
    path = tmp_path / "step.mlir"
    path.write_text("hang")
    process = subprocess.Popen(
        command(fake, path),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert eventually(lambda: fake.requests)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (130, "", "stopped\n")
    assert not is_alive(fake.requests[0]["pid"])


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("compile", 0, "compiled: compiles and fits\n"),
        ("large", 1, "out_of_memory: needs 32.00 GiB of HBM on each device, which has"),
        ("dynamic", 1, "refused: a dynamic shape: stablehlo.tanh at stem/Tanh\n"),
    ],
)
def test_the_command(fake, tmp_path, text, status, expected):
    path = tmp_path / "step.mlir"
    path.write_text(text)
    ran = subprocess.run(command(fake, path), cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (status, "")
    assert ran.stdout.startswith(expected)


def compiles(fake, tmp_path, *flags, text="compile"):
    """The command in this process: its exit status."""
    path = tmp_path / "step.mlir"
    path.write_text(text)
    flags = [str(path), "--topology=v3", f"--cache_dir={fake.cache}", *flags]
    return status(__main__.main, *flags)


def test_the_hlo_that_is_asked_for(fake, tmp_path):
    path = tmp_path / "step.hlo"
    for _ in range(2):  # the second replaces the first
        assert compiles(fake, tmp_path, f"--hlo={path}") == 0
        first, _, rest = path.read_text().partition("\n")
        digest = hashlib.sha256(rest.encode()).hexdigest()
        assert first == f"// Written by python -m tpu_compiler; sha256 below: {digest}"
        assert rest.startswith("HloModule ")


def test_hlo_with_somebodys_notes_stays(fake, tmp_path, capsys):
    path = tmp_path / "step.hlo"
    assert compiles(fake, tmp_path, f"--hlo={path}") == 0
    path.write_text(path.read_text() + "// the second fusion is the one\n")
    before = content(tmp_path)
    capsys.readouterr()
    assert compiles(fake, tmp_path, f"--hlo={path}") == 2
    assert capsys.readouterr() == ("", f"error: {path} {NOT_OURS}\n")
    assert content(tmp_path) == before


@pytest.mark.parametrize(("make", "said"), FOREIGN)
def test_hlo_replaces_nothing_but_ours(fake, tmp_path, capsys, make, said):
    path = tmp_path / "step.hlo"
    (tmp_path / "mine").write_bytes(__main__._marked(b""))
    make(path)
    before = content(tmp_path)
    assert compiles(fake, tmp_path, f"--hlo={path}") == 2
    assert capsys.readouterr() == ("", f"error: {path} {said}\n")
    assert fake.requests == []
    (tmp_path / "step.mlir").unlink()
    assert content(tmp_path) == before


def test_no_folder_for_hlo_is_found_before_the_work(fake, tmp_path, capsys):
    assert compiles(fake, tmp_path, f"--hlo={tmp_path}/none/step.hlo") == 2
    said = f"there is no folder {tmp_path}/none for --hlo; make it, or name another"
    assert capsys.readouterr() == ("", f"error: {said}\n")
    assert fake.requests == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("flag", ["--hlo=", "--cache_dir="])
def test_no_path_at_all(fake, tmp_path, capsys, flag):
    assert compiles(fake, tmp_path, flag) == 2
    assert f"error: argument {flag.split('=')[0]}: " in capsys.readouterr().err


def test_devices_are_not_replaced(fake, tmp_path, capsys):
    assert compiles(fake, tmp_path, "--hlo=/dev/null") == 2
    said = "error: /dev/null is a device: name a file to be written anew\n"
    assert capsys.readouterr() == ("", said)


def test_the_commands_errors_are_one_line(fake, tmp_path):
    path = tmp_path / "step.mlir"
    for text in (None, "killed"):
        if text:
            path.write_text(text)
        ran = subprocess.run(
            command(fake, path), cwd=ROOT, capture_output=True, text=True
        )
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"error: {path}: ")
        assert ran.stderr.count("\n") == 1
