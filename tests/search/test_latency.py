import dataclasses
import json
import pickle
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from models import variants
from models.variants import ModelError, StageSpec, change
from search import latency, lowering
from search.parts import Form, pieces
from tests.train import tiny
from tpu_compiler import Compiler
from tpu_compiler.cache import default_folder

OPTIONS: dict[str, Any] = {"batch": 16, "dtype": "bfloat16"}


class Counting(Compiler):
    """Counts what it is asked for."""

    asked = 0

    def compile(self, *args, **kwargs):
        self.asked += 1
        return super().compile(*args, **kwargs)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Folder: of all caches."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def compiler(cache):
    with Counting(2) as compiler:
        yield compiler


@pytest.fixture(scope="module")
def deep():
    """Variant: tiny's two blocks, and the second one twice more."""
    first, second = tiny.variant().stages
    deeper = dataclasses.replace(second, num_repeat=3)
    return dataclasses.replace(tiny.variant(), name="deep", stages=(first, deeper))


@pytest.fixture(scope="module")
def parts(deep, compiler):
    return latency.parts(deep, compiler, "v3", **OPTIONS)


def test_parts_of_a_network(parts):
    found = [
        (part.name, part.kind, part.input_size, part.output_size) for part in parts
    ]
    assert found == [
        ("stem", "stem", 32, 16),
        ("block_0", "depthwise", 16, 8),
        ("block_1", "fused", 8, 8),
        ("block_2", "fused", 8, 8),
        ("block_3", "fused", 8, 8),
        ("head", "head", 8, 1),
    ]
    channels = [(part.input_filters, part.output_filters) for part in parts]
    assert channels == [(3, 8), *[(8, 8)] * 4, (8, 1000)]
    for part in parts:
        assert part.milliseconds == part.report.milliseconds > 0
    specs = [part.spec for part in parts]
    assert specs[0] is specs[-1] is None
    assert (specs[1].strides, specs[2].strides) == (2, 1)


def test_equal_parts_are_compiled_once(parts, compiler):
    assert parts[2].report is parts[3].report is parts[4].report
    assert compiler.asked == 4


def test_the_sum_is_near_the_whole(parts, deep, compiler):
    whole = latency.whole(deep, compiler, "v3", **OPTIONS)
    total = sum(part.milliseconds for part in parts)
    assert total == pytest.approx(whole.milliseconds, rel=0.1)


def test_known_blocks_in_another_order_cost_milliseconds(parts, deep, compiler):
    """Neither a compilation nor a graph of TensorFlow."""
    asked = compiler.asked
    first, second = deep.stages
    second = dataclasses.replace(second, num_repeat=9)
    another = dataclasses.replace(deep, name="another", stages=(first, second))
    began = time.perf_counter()
    longer = latency.parts(another, compiler, "v3", **OPTIONS)
    assert time.perf_counter() - began < 0.05
    assert compiler.asked == asked
    assert len(longer) == 12
    assert longer[10].milliseconds == parts[2].milliseconds

    latency.parts(another, compiler, "v3", batch=8, dtype="bfloat16")
    assert compiler.asked == asked + 4


def test_another_process_needs_no_tensorflow(parts, tmp_path):
    path = tmp_path / "variant"
    path.write_bytes(pickle.dumps(tiny.variant()))
    code = f"""
import pickle, sys
from search import latency
with open({str(path)!r}, "rb") as file, latency.Compiler() as compiler:
    found = latency.parts(pickle.load(file), compiler, "v3", **{OPTIONS})
assert all(part.report.from_cache for part in found)
assert not {{"tensorflow", "keras"}} & sys.modules.keys()
print(sum(part.milliseconds for part in found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = sum(part.milliseconds for part in [*parts[:3], parts[-1]])
    assert float(done.stdout) == pytest.approx(total)


def signature(program: bytes) -> tuple[str, str]:
    """Returns the types of a program's first argument and of its result."""
    line = re.search(r"func\.func @main\(.*", program.decode())
    assert line is not None
    types = re.findall(r"tensor<(\S+?)>", line[0])
    return types[0], types[-1]


def learned_space_to_depth(**fields):
    """Returns tiny with the learned space-to-depth in its first block."""
    folding = {"space_to_depth": "conv", "strides": 1, **fields}
    leaving = {"space_to_depth": "leave", "strides": 2}
    return change(tiny.variant(), stages={1: folding, 2: leaving})


def batch_domain():
    """Returns tiny with three blocks, the first and second on interleaved images."""
    parts = StageSpec(2, 3, 1, 2, 8, "relu", space_to_batch=2)
    last = dataclasses.replace(parts, num_repeat=1, space_to_batch=1)
    return dataclasses.replace(tiny.variant(), stages=(parts, last))


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (tiny.variant(), {}),
        (tiny.variant(), {"dtype": "float32", "fold_batch_norm": True}),
        (learned_space_to_depth(), {"stem_block_size": 2, "input_layout": "HWCN"}),
        (learned_space_to_depth(), {"stem_block_size": 4, "stem_reshuffle": "host"}),
        (batch_domain(), {"num_classes": 7}),
    ],
)
def test_what_leaves_a_part_enters_the_next(variant, options):
    options = OPTIONS | options
    parts = pieces(variant, Form(**options))
    types = [signature(lowering.part(part, **options)) for part in parts]
    before, behind = signature(lowering.network(variant, **options))
    entering, leaving = zip(*types, strict=True)
    assert entering == (before, *leaving[:-1])
    assert leaving[-1] == behind
    assert before.endswith("xui8")
    assert behind == f"16x{options.get('num_classes', 1000)}xf32"


def test_sections_in_the_batch():
    blocks: list[Any] = [
        part.of for part in pieces(batch_domain(), Form(**OPTIONS))[1:-1]
    ]
    assert [(block.enters, block.leaves) for block in blocks] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_a_program_does_not_depend_on_what_was_lowered_before():
    form = Form(**OPTIONS)
    for piece in pieces(tiny.variant(), form):
        first = lowering._lower(piece.kind, piece.of, form)
        assert lowering._lower(piece.kind, piece.of, form) == first


def test_a_part_does_not_depend_on_the_form_of_others():
    forms = [Form(**OPTIONS), Form(**OPTIONS, input_layout="HWCN", num_classes=7)]
    both = (pieces(tiny.variant(), form) for form in forms)
    for before, after in zip(*both, strict=True):
        assert before.of == after.of
        same = forms[0].of_piece(before.kind) == forms[1].of_piece(before.kind)
        assert same == (before.name not in ("stem", "head"))


def test_a_broken_file_is_lowered_anew(cache):
    program = lowering.network(tiny.variant(), **OPTIONS)
    assert default_folder().is_relative_to(cache)
    for path in default_folder().with_name("lowered").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    assert lowering.network(tiny.variant(), **OPTIONS) == program


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolutions": 64}, "inference has no option 'resolutions': Another"),
        ({"stem_blocksize": 2}, "did you mean stem_block_size"),
        ({"dtype": "int8"}, "dtype must be one of bfloat16, float32, not 'int8'"),
        ({"batch": 0}, "batch must be an integer of 1 or more, not 0"),
        ({"stem_block_size": 4}, "block 0, which efficientnet-b0 has not; use 2"),
    ],
)
def test_what_cannot_be_lowered(compiler, options, message):
    with pytest.raises(ModelError, match=message):
        latency.parts("efficientnet-b0", compiler, "v3", **OPTIONS | options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants=efficientnet-x-b9"], "unknown variant 'efficientnet-x-b9': did"),
        (["--variants=,"], "--variants names none"),
        (["--topology=v9:2x2"], "unknown TPU topology 'v9:2x2'; known are v2"),
        (["--dtype=float64"], "dtype must be one of bfloat16, float32, not"),
        (["--batch=0"], "batch must be an integer of 1 or more, not 0"),
        (["--workers=0"], "--workers must be 1 or more, not 0"),
        (["--stem_block_size=3"], "stem_block_size must be 1, 2 or 4, not 3"),
    ],
)
def test_mistakes_on_the_command_line(capsys, arguments, message):
    assert latency.main(["--variants=efficientnet-x-b0", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.fixture
def command(monkeypatch, capsys, deep):
    """Function: arguments -> exit status and what is printed about deep and tiny."""
    known = {"deep": deep, "tiny": tiny.variant()}
    monkeypatch.setattr(variants, "VARIANTS", known)

    def run(*arguments):
        common = ["--variants=deep,tiny", "--topology=v3", "--batch=16", "--blocks"]
        status = latency.main([*common, *arguments])
        return status, capsys.readouterr().out

    return run


def test_the_command(parts, command):
    status, printed = command("--json")
    assert status == 0
    found = json.loads(printed)
    assert (found["topology"], found["devices"], found["batch"]) == ("v3", 1, 16)
    assert "ratios" in found["worth"]
    deep, shallow = found["networks"]
    assert deep["images_per_second"] == pytest.approx(16e3 / deep["milliseconds"])
    assert deep["milliseconds"] == pytest.approx(deep["cycles"] / 940e3)
    assert 0 < shallow["hbm_bytes"] < found["hbm_limit_bytes"]
    each = [part["milliseconds"] for part in deep["parts"]]
    assert each == [part.milliseconds for part in parts]
    assert deep["sum_of_parts_ms"] == pytest.approx(sum(each))
    assert sum(part["share"] for part in deep["parts"]) == pytest.approx(1)
    error = sum(each) / deep["milliseconds"] - 1
    assert deep["error_of_sum"] == pytest.approx(error)

    status, text = command()
    assert status == 0
    assert "Inference on one device of v3, batch 16, bfloat16; jax" in text
    assert re.search(r"^ +block_0 +depthwise +16->8 +8->8 +2 +2 +\d", text, re.M)
    assert f"error of the sum: {deep['error_of_sum']:+.1%}" in text
    assert "The milliseconds themselves are weak" in " ".join(text.split())


def test_a_batch_too_large(command):
    status, text = command(f"--batch={2**22}")
    assert status == 1
    assert re.search(r"^deep +32  needs [\d.]+ GiB of HBM on each device", text, re.M)


@pytest.mark.slow
def test_the_catalogue():
    """Ratio and sums of the smallest networks, and what the exact rewrites save."""
    names = baseline, x = "efficientnet-b0", "efficientnet-x-b0"
    plain: dict[str, Any] = {"batch": 64, "dtype": "bfloat16"}
    milliseconds: dict[str, Any] = {}
    with Compiler(2) as compiler:
        for name in names:
            whole = latency.whole(name, compiler, "v3:2x2x1", **plain)
            parts = latency.parts(name, compiler, "v3:2x2x1", **plain)
            milliseconds[name] = whole.milliseconds
            total = sum(part.milliseconds for part in parts)
            assert total == pytest.approx(whole.milliseconds, rel=0.04)
        ratio = milliseconds[baseline] / milliseconds[x]
        assert ratio == pytest.approx(1.54, rel=0.1)
        form = {
            "fold_batch_norm": True,
            "stem_block_size": 4,
            "stem_reshuffle": "host",
            "input_layout": "HWCN",
        }
        rewritten = latency.whole(x, compiler, "v3:2x2x1", **plain, **form)
        assert rewritten.compiled
        assert rewritten.milliseconds <= 0.86 * milliseconds[x]
