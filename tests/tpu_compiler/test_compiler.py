"""The real compiler, in the environment that `make tpu-compiler` installs."""

import gzip
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tpu_compiler
from common.accelerators import MIB, TPUS
from tests.tpu_compiler import modules
from tests.tpu_compiler.conftest import eventually, is_alive
from tpu_compiler import Compiler, CompilerError, Topology
from tpu_compiler.costs import Collective
from tpu_compiler.topology import SLICES

ROOT = Path(tpu_compiler.__file__).parent.parent


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    """Two processes that all tests here share."""
    with Compiler(2, cache_dir=tmp_path_factory.mktemp("cache")) as compiler:
        yield compiler


@pytest.fixture(scope="module")
def compile(compiler):
    """Function: a module, a slice and replicas -> the report."""

    def run(module, topology="v3", replicas=1):
        if isinstance(module, str):
            module = module.encode()
        future = compiler.compile(module, topology, replicas, timeout_seconds=60)
        return future.result()

    return run


@pytest.mark.long
def test_a_matrix_product(compile):
    report = compile(modules.MATMUL)
    assert report.compiled
    assert report.versions == {"jax": "0.10.2", "jaxlib": "0.10.2", "libtpu": "0.0.52"}
    [fusion] = report.instructions
    assert fusion.opcode == "fusion"
    assert fusion.op_name == "dense/MatMul"
    assert (fusion.source_file, fusion.source_line) == ("layers.py", 12)
    # At best 2 * 512 * 1024 * 2048 operations at 65536 a cycle.
    assert report.cycles == fusion.cycles == 40770
    assert report.cycles > 32768
    assert report.milliseconds == pytest.approx(40770 / 940e6 * 1e3)
    assert report.memory is not None
    assert report.memory.arguments == 2 * (512 * 1024 + 1024 * 2048)
    assert report.memory.outputs == 4 * 512 * 2048
    assert report.memory.temporaries == report.memory.aliased == 0
    assert report.costs is not None
    assert report.costs.without_estimate == {}
    moved = report.memory.arguments + report.memory.outputs
    assert report.costs.hbm_bytes == fusion.hbm_bytes == moved
    assert report.hlo_path is not None
    text = gzip.decompress(report.hlo_path.read_bytes()).decode()
    assert text.startswith("HloModule matmul, is_scheduled=true")


@pytest.mark.parametrize("topology", ["v4", "v5e"])
@pytest.mark.long
def test_what_is_copied_aside_moves_once(compile, topology):
    """The weights go into the core's own memory while something else works."""
    report = compile(modules.MATMUL, topology)
    moved = {one.opcode: one.hbm_bytes for one in report.instructions}
    assert moved["copy-start"] == 2 * 1024 * 2048
    assert moved["copy-done"] == 0
    assert report.costs.hbm_bytes == report.memory.arguments + report.memory.outputs


def test_one_device_is_as_fast_in_a_slice(compile):
    assert compile(modules.MATMUL, "v3:4x4").cycles == 40770


def test_on_v4_both_cores_of_a_chip_work_as_one(compile):
    """8 matrix units and not 4, which would take twice the least."""
    least = 2 * 512 * 1024 * 2048 / (8 * 2 * 128 * 128)
    assert least < compile(modules.MATMUL, "v4").cycles == 13183 < 2 * least


@pytest.mark.parametrize("topology", ["v3:2x2x1", "v5e:2x4"])
def test_all_reduces_are_found(compile, topology):
    report = compile(modules.ALL_REDUCE, topology, 8)
    assert report.collectives == (
        Collective("all-reduce", 1, 512, group_size=4, runs=1, run_bytes=512),
        Collective("all-reduce", 1, 2**22, group_size=8, runs=1, run_bytes=2**22),
    )
    assert report.costs is not None
    assert report.costs.without_estimate == {"all-reduce": 2}
    assert report.cycles is not None
    assert report.cycles > 0


def test_a_loop_costs_its_rounds(compile):
    once, often = (compile(modules.loop(rounds)).cycles for rounds in (2, 7))
    before = often - (often - once) / 5 * 7
    assert 0 <= before < once / 2  # what is not in the loop
    report = compile(modules.loop(7))
    assert report.costs.unknown_loops == ()
    assert report.costliest(1)[0].repeats == 7


def test_too_large_for_hbm(compile):
    report = compile(modules.TOO_LARGE)
    assert report.verdict == "out_of_memory"
    assert report.needed_bytes == 32 * 2**30
    [buffer] = report.largest_buffers
    assert buffer.bytes == 16 * 2**30
    assert buffer.location == "head/Tanh (heads.py:7)"
    assert compile(modules.TOO_LARGE, "v5p").compiled


@pytest.mark.parametrize("generation", TPUS)
def test_the_hbm_of_each_generation_is_what_the_compiler_enforces(compile, generation):
    """To the MiB, but for the 1 to 3 of them that a program itself takes."""
    limit = TPUS[generation].hbm_bytes // MIB
    assert compile(modules.largest_argument(limit - 3), generation).compiled
    report = compile(modules.largest_argument(limit - 1), generation)
    assert report.verdict == "out_of_memory"
    # The compiler writes hundredths of a GiB.
    assert report.needed_bytes == pytest.approx(limit * MIB, abs=0.005 * 2**30)
    assert report.needed_bytes > report.hbm_bytes
    words = re.findall(r"\d+\.\d\d|a little more", report.message)
    assert len(set(words)) == 2  # it does not say: needs 15.48 GiB and has 15.48
    # Planned already, so it is the compiler that lists the buffers.
    largest = report.largest_buffers[0].bytes
    assert largest == pytest.approx((limit - 1) * MIB, abs=0.005 * 2**30)
    assert report.largest_buffers[0].shape.startswith(f"f32[{limit - 1},1024,256]")


def test_tensorflows_copies_do_no_harm(compile):
    report = compile(modules.COPY)
    assert report.compiled
    assert [one.opcode for one in report.instructions] == ["tanh"]


def test_a_size_with_a_bound_is_none_that_is_unknown(compile):
    assert compile(modules.BOUNDED).compiled


@pytest.mark.parametrize(
    ("module", "message", "op", "location"),
    [
        (
            modules.CUSTOM_CALL,
            "Custom emitter for tf.Frobnicate not found",
            "tf.Frobnicate",
            "stem/Frob (layers.py:33)",
        ),
        (
            modules.FOREIGN,
            "an operation that is not part of StableHLO, so XLA cannot compile it",
            "tf.Sinh",
            "stem/Sinh",
        ),
        (
            modules.DYNAMIC,
            "a dynamic shape, tensor<?x128xf32>: a TPU needs to know every size "
            "beforehand",
            "stablehlo.tanh",
            "stem/Tanh (layers.py:33)",
        ),
    ],
)
def test_a_rejection_names_the_layer(compile, module, message, op, location):
    report = compile(module)
    assert report.verdict == "refused"
    assert (report.message, report.op, report.location) == (message, op, location)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (modules.BAD_TYPE, "contracting dimension sizes must match"),
        ("nothing of the kind", "not a StableHLO module: "),
        (b"", "must have a main function"),
        (b"ML\xefR cut off", "not a StableHLO module: Unable to parse"),
    ],
)
def test_what_is_no_module_is_rejected(compile, module, message):
    report = compile(module)
    assert report.verdict == "refused"
    assert message in report.message
    assert "\n" not in report.message


def test_a_slice_that_cannot_be_is_an_error(compile):
    with pytest.raises(CompilerError, match="no TPU slice v3:3x3: "):
        compile(modules.MATMUL, Topology("v3", (3, 3)))


@pytest.mark.parametrize("generation", SLICES)
def test_the_compiler_knows_the_slices_that_there_are(compile, generation):
    """What is no module is rejected after the slice was found."""
    slices = SLICES[generation]
    for sides in {*slices[:10], slices[-1]}:
        report = compile("nothing of the kind", Topology(generation, sides))
        assert report.verdict == "refused"


@pytest.mark.long
def test_two_at_once(tmp_path):
    """In processes of their own, each with libtpu; and two that are cut short."""
    with Compiler(2, cache_dir=tmp_path) as compiler:
        late = [
            compiler.compile(
                modules.convolutions(64 + i, 40).encode(),
                "v3",
                timeout_seconds=0.1,
                name=f"module {i}",
            )
            for i in range(2)
        ]
        futures = [
            compiler.compile(modules.loop(rounds).encode(), "v3", timeout_seconds=60)
            for rounds in (3, 4)
        ]
        for i, future in enumerate(late):
            with pytest.raises(CompilerError, match=rf"^module {i}: .*0\.1 seconds"):
                future.result()
        assert all(future.result().compiled for future in futures)


def test_the_parents_death_ends_the_process(tmp_path):
    path = tmp_path / "long.mlir"
    path.write_text(modules.convolutions(840, 4))
    command = [sys.executable, "-S", "-m", "tpu_compiler", path, "--topology=v3"]
    parent = subprocess.Popen([*command, f"--cache_dir={tmp_path}"], cwd=ROOT)
    children = Path(f"/proc/{parent.pid}/task")
    found: list[int] = []

    def loaded():
        """Whether there is a worker, and libtpu in it."""
        texts = [file.read_text() for file in children.glob("*/children")]
        found[:] = [int(pid) for pid in " ".join(texts).split()]
        return any("libtpu" in Path(f"/proc/{pid}/maps").read_text() for pid in found)

    def ticks():
        """Hundredths of a second that the worker has computed."""
        stat = Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11])

    assert eventually(loaded, 60)
    before = ticks()
    assert eventually(lambda: ticks() > before + 50, 60)  # it compiles
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not any(map(is_alive, found)), 5)
