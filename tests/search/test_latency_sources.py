import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess
import sys

import pytest

from common import isolated
from common.errors import UserError
from common.isolated import Failed
from common.project import ROOT
from models import scaling
from models.errors import ModelError
from models.variants import change, get_variant
from performance import compile_requests
from performance.device_timing import Device
from performance.segments import InferenceOptions, segments_of
from search import latency_sources
from search.latencies import compilations, latency_log, latency_table
from search.latencies.compilations import Answer, Compilations
from search.latencies.latency_log import Recorded
from search.latencies.latency_table import (
    MEASURED,
    SUM,
    WHOLE,
    BlockRow,
    Conditions,
    LatencyTable,
    segment_digest,
)
from search.latencies.source_kinds import Compiled
from search.results import Estimate
from tests.performance import made_up
from tests.search.networks import CONDITIONS, row, scaled, table
from tpu_compiler import CompilerError

X_B0, B0 = get_variant("efficientnet-x-b0"), get_variant("efficientnet-b0")
TOO_SMALL = dataclasses.replace(X_B0, resolution=16)
OPTIONS = InferenceOptions(batch=64, dtype="bfloat16")


# -- compiled -----------------------------------------------------------------------


def future(outcome):
    made = concurrent.futures.Future()
    if isinstance(outcome, Exception):
        made.set_exception(outcome)
    else:
        made.set_result(outcome)
    return made


class NoCompiler:
    def __init__(self, workers):
        self.workers, self.closed = workers, False

    def __exit__(self, *_):
        self.closed = True


@pytest.fixture
def compiler(monkeypatch):
    """Dict: what the compiler says, by the network's resolution; else 10 ms, 1 a part.

    `Compilations` runs in this process.
    """
    says = {}

    def network(variant, compiler, topology, options):
        scaling.block_specs(variant)
        return future(says.get(variant.resolution, made_up.compiled(10.0)))

    def segments(variant, compiler, topology, options):
        found = segments_of(variant, options)
        say = says.get(variant.resolution, made_up.compiled(1.0))
        return [(one, future(say)) for one in found]

    class Here:
        def __init__(self, module, name, *arguments):
            assert (module, name) == ("search.latencies.compilations", "Compilations")
            self.made = Compilations(*arguments)

        def ask(self, method, *arguments):
            return getattr(self.made, method)(*arguments)

        def close(self):
            says["closed"] = vars(self.made._compiler)["closed"]

    monkeypatch.setattr(compilations, "Compiler", NoCompiler)
    monkeypatch.setattr(compilations, "_end_with", lambda parent: None)
    monkeypatch.setattr(compile_requests, "network", network)
    monkeypatch.setattr(compile_requests, "segments", segments)
    monkeypatch.setattr(isolated, "IsolatedObject", Here)
    return says


def test_whole_networks_and_why_one_has_no_milliseconds(compiler):
    compiler[256] = made_up.failed("out_of_memory", message="needs 20 GiB")
    compiler[288] = CompilerError("x: the compiler's process has died")
    asked = [X_B0, TOO_SMALL, *(scaled(1, 1, size) for size in (256, 288, 320))]
    with latency_sources.whole("v3") as source:
        found = source.many(asked)
        assert source(X_B0) == found[0]
    assert compiler["closed"]
    # Whole cycles of a v3: 940,000 a millisecond.
    assert found[0] == Estimate(10.0, WHOLE)
    assert "resolution 16 is too small" in found[1].reason
    assert found[2] == Estimate(None, WHOLE, reason="needs 20 GiB")
    died = "x: the compiler's process has died"
    assert found[3] == Estimate(None, WHOLE, reason=died, is_final=False)
    assert found[4].ms == pytest.approx(10.0)


def test_a_full_disk_is_no_answer(compiler):
    full = CompilerError("cannot use the cache")
    full.__cause__ = OSError(28, "No space left on device")
    compiler[224] = full
    with (
        latency_sources.whole("v3") as source,
        pytest.raises(CompilerError, match="cannot use the cache"),
    ):
        source(X_B0)


def test_a_process_that_has_died_is_closed_all_the_same(monkeypatch):
    class Dead:
        def __init__(self, *_):
            pass

        def ask(self, method, *_):
            raise UserError("Compilations: its process was killed")

        def close(self):
            closed.append(True)

    closed = []
    monkeypatch.setattr(isolated, "IsolatedObject", Dead)
    with (
        pytest.raises(UserError, match="its process was killed"),
        latency_sources.whole("v3") as source,
    ):
        source(X_B0)
    assert closed == [True]


def test_sums_of_segments(compiler):
    compiler[256] = made_up.failed("refused", message="no such op")
    compiler[288] = CompilerError("killed")
    with latency_sources.sum_of_parts("v3") as source:
        found = source.many([X_B0, scaled(1, 1, 256), TOO_SMALL, scaled(1, 1, 288)])
        blocks = source.blocks([scaled(1, 1, 256), scaled(1, 1, 288)])
    # Stem, 16 blocks, head.
    assert found[0].ms == pytest.approx(18.0)
    assert found[0].source == SUM
    # What sums of v3 are off, by benchmarks.tpu.latency: 4 % at most.
    assert 0.01 < (found[0].error or 0) < 0.04
    assert found[1] == Estimate(None, SUM, reason="stem by itself: no such op")
    assert "too small" in found[2].reason
    died = "stem by itself: killed"
    assert found[3] == Estimate(None, SUM, reason=died, is_final=False)
    assert {(one.reason, one.is_final) for one in blocks} == {
        ("no such op", True),
        ("killed", False),
    }


def test_blocks_of_networks_are_each_compiled_once(compiler):
    other = change(X_B0, {7: {"kernel_size": 5}})
    with latency_sources.sum_of_parts("v3") as source:
        found = source.blocks([X_B0, other, TOO_SMALL])
    kinds = [one.kind for one in found]
    # 14 of X-B0, and the changed one.
    assert len(found) == 15
    assert (kinds.count("stem"), kinds.count("head")) == (1, 1)
    assert [one.ms for one in found] == pytest.approx([1.0] * 15)
    assert found[-1].segment["spec"]["kernel_size"] == 5


def test_no_framework_is_imported():
    code = (
        "import sys\n"
        "from search import latency_sources, table\n"
        "from search.latencies import compilations, latency_log\n"
        "latency_sources.tile_model('v3')\n"
        "names = 'tensorflow', 'keras', 'jax', 'scipy', 'optuna', 'gin'\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    root = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_nothing_starts_before_the_first_question():
    source = latency_sources.whole("v5e:2x2", batch=8, dtype="float32")
    assert source.conditions == Conditions("v5e", 8, "float32")
    source.close()


@pytest.mark.parametrize(
    ("topology", "options", "error"),
    [
        ("v9", {}, "unknown TPU topology 'v9'"),
        (
            "v3",
            {"batch": 0},
            "batch = 0: it has to be a whole number from 1 to 2,147,483,647",
        ),
        ("v3", {"dtype": "int8"}, "dtype must be one of"),
    ],
)
@pytest.mark.parametrize("name", ["whole", "sum_of_parts", "tile_model"])
def test_mistakes_are_said_at_once(name, topology, options, error):
    with pytest.raises(UserError, match=error):
        getattr(latency_sources, name)(topology, **options)


def test_a_process_ends_with_the_one_that_asks(tmp_path):
    """Else kill -9 of a search would leave a compiler behind."""
    script = tmp_path / "asks.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "child = '''\n"
        "import os, sys\n"
        "from search.latencies.compilations import _end_with\n"
        "_end_with(os.getppid())\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "'''\n"
        "made = subprocess.Popen([sys.executable, '-c', child], stdin=0, stdout=1)\n"
        "made.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    parent.kill()
    # The end of the child's output; its input stays open in this process.
    assert parent.stdout.read() == b""
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()


@pytest.mark.slow
def test_a_tiny_network_by_the_real_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = "tensorflow" in sys.modules
    tiny = dataclasses.replace(
        X_B0, name="tiny", stages=X_B0.stages[:2], resolution=32, head_filters=8
    )
    with latency_sources.whole("v3", batch=8) as source:
        whole, none = source.many([tiny, dataclasses.replace(tiny, resolution=2)])
    with latency_sources.sum_of_parts("v3", batch=8) as source:
        parts = source(tiny)
    assert whole.ms is not None
    assert 0 < whole.ms < 1
    assert "too small" in none.reason
    # Of small segments the edges cost most.
    assert 0.5 * whole.ms < (parts.ms or 0) < 3 * whole.ms
    assert loaded == ("tensorflow" in sys.modules)


# -- measured -----------------------------------------------------------------------


@pytest.fixture
def device(monkeypatch):
    """Function: seconds or Failed by resolution -> the source."""

    def make(outcomes, **options):
        def call(module, function, *arguments, environment):
            assert module == "performance.device_jax"
            assert environment["KERAS_BACKEND"] == "jax"
            if function == "device":
                return outcomes["device"]
            (case,) = arguments
            return outcomes[case.variant.resolution]

        monkeypatch.setattr(isolated, "call", call)
        return latency_sources.device(**options)

    return make


def test_a_device_s_median_and_spread(device):
    calls = [0.010 + 0.001 * step for step in range(11)]
    source = device(
        {
            "device": Device("gpu", "NVIDIA A100"),
            224: calls,
            256: Failed("out of memory"),
            288: Failed("killed", killed=True),
        },
        batch=8,
    )
    found, failed, died = source.many([X_B0, scaled(1, 1, 256), scaled(1, 1, 288)])
    assert found.ms == pytest.approx(15.0)
    # The 16th and the 84th percentile of eleven equal steps: 11.6 and 18.4 ms.
    assert found.error == pytest.approx((18.4 - 11.6) / 2 / 15.0)
    assert found.source == MEASURED
    assert failed == Estimate(None, MEASURED, reason="out of memory")
    assert died == Estimate(None, MEASURED, reason="killed", is_final=False)
    assert source.conditions.hardware == "NVIDIA A100"
    assert source.conditions.batch == 8
    assert set(source.conditions.versions) == {"jax", "keras"}


def test_one_call_has_no_spread(device):
    source = device({"device": Device("gpu", "x"), 224: [0.5]}, repeats=1)
    assert source(X_B0) == Estimate(500.0, MEASURED, error=0.0)


def test_no_device_is_a_line(device, monkeypatch):
    with pytest.raises(UserError, match="JAX finds no device"):
        device({"device": Failed("no driver")})
    with pytest.raises(UserError, match="dtype = 'int8': it has to be"):
        device({}, dtype="int8")
    with pytest.raises(UserError, match="batch = 0: it has to be"):
        device({}, batch=0)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UserError, match="JAX is not installed: pip install"):
        device({})


@pytest.mark.slow
def test_a_tiny_network_on_this_cpu(monkeypatch):
    """By JAX on a CPU alone; not measured on a GPU."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    tiny = dataclasses.replace(X_B0, name="tiny", stages=X_B0.stages[:2], resolution=32)
    source = latency_sources.device(batch=2, dtype="float32", repeats=3)
    found = source(tiny)
    assert found.ms is not None
    assert 0 < found.ms < 1e3
    assert source.conditions.hardware == "cpu"


# -- tables -------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    """Path: of a table of X-B0, of a network that does not fit, and of B0's blocks."""
    segments = segments_of(B0, OPTIONS)
    blocks = [
        BlockRow(digest=segment_digest(one), kind=one.kind, segment={}, ms=2.0)
        for one in segments
    ]
    rows = [row(X_B0, 10.5), row(scaled(2, 2, 600), None, reason="does not fit")]
    full = LatencyTable(
        CONDITIONS,
        {one.digest: one for one in rows},
        {one.digest: one for one in blocks},
    )
    latency_table.write(tmp_path / "t.json", full)
    return tmp_path / "t.json"


def test_a_table_is_looked_up(path):
    source = latency_sources.table(str(path))
    renamed = dataclasses.replace(X_B0, name="another name")
    asked = [renamed, scaled(2, 2, 600), B0, scaled(1, 1, 256), TOO_SMALL]
    found = source.many(asked)
    assert found[0] == Estimate(10.5, "table t.json")
    assert found[1] == Estimate(None, "table t.json", reason="does not fit")
    # Stem, 16 blocks, head.
    assert found[2].ms == pytest.approx(36.0)
    assert found[2].source == "table t.json, sum of blocks"
    assert found[3].ms is None
    assert found[3].reason == "stem: not in the table"
    assert "too small" in found[4].reason
    assert source.conditions == CONDITIONS


def test_a_table_without_blocks(tmp_path):
    latency_table.write(tmp_path / "t.json", table([row(X_B0, 10.5)]))
    source = latency_sources.table(str(tmp_path / "t.json"))
    assert source(B0).reason == "not in the table"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is no table of latencies"),
        ("[]", "is no table of latencies"),
        ('{"format": "another"}', "its format is 'another'"),
        ('{"format": "efficientnet-x latency table 1"}', "is no table"),
        ("\xff", "is no table"),
    ],
)
def test_what_is_no_table(text, error, tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=error):
        latency_sources.table(str(path))


@pytest.mark.parametrize("ms", ["-1", "0", "NaN", "Infinity", '"10"', "true"])
def test_milliseconds_of_a_table_make_sense(ms, path):
    path.write_text(path.read_text().replace("10.5", ms))
    with pytest.raises(UserError, match=r"t\.json: efficientnet-x-b0: .* milliseconds"):
        latency_sources.table(str(path))


def test_a_missing_table_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"python -m search\.table makes such a file"):
        latency_sources.table(str(tmp_path / "none.json"))


def test_a_tile_model_of_a_table_of_one_s_own(path):
    with pytest.raises(UserError, match="needs 8 whole compiled networks"):
        latency_sources.tile_model("v3", fit=str(path))
    with pytest.raises(UserError, match="has latencies of hardware v3, not v4"):
        latency_sources.tile_model("v4", fit=str(path))
    with pytest.raises(UserError, match=r"no compiled networks for v2, only for .*v3"):
        latency_sources.tile_model("v2")
    with pytest.raises(UserError, match="has latencies of batch 64, not 1"):
        latency_sources.tile_model("v3", batch=1)


# -- a function of one's own --------------------------------------------------------


def own(variant):
    """Returns what a user's function might."""
    if variant.resolution == 256:
        raise RuntimeError("the phone is\nnot charged")
    if variant.resolution == 352:
        raise ValueError
    return {224: 12, 288: Estimate(3.0, "mine"), 320: -1.0}.get(variant.resolution)


def test_a_function_of_one_s_own():
    source = latency_sources.function(f"{__name__}:own")
    sizes = (224, 256, 288, 320, 192, 352)
    found = source.many([scaled(1, 1, size) for size in sizes])
    name = f"{__name__}:own"
    assert found == [
        Estimate(12.0, name),
        Estimate(None, name, reason="the phone is"),
        Estimate(3.0, "mine"),
        Estimate(None, name, reason="it returned -1.0, which are no milliseconds"),
        Estimate(None, name, reason="it returned None, which are no milliseconds"),
        Estimate(None, name, reason="ValueError without a message"),
    ]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("math.sqrt", "has to be of the form"),
        (":sqrt", "has to be of the form"),
        (5, "latency_sources.function.name = 5: it has to be of the form"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("math:no_such", "no_such"),
        ("math:pi", "cannot be called"),
    ],
)
def test_a_function_that_is_not_there(name, error):
    with pytest.raises(UserError, match=error):
        latency_sources.function(name)


# -- what a search's folder keeps -----------------------------------------------------


class Counting(Compiled):
    """Answers with the resolution, and counts what it is asked for."""

    at_once = 2

    def __init__(self, name=WHOLE, versions=CONDITIONS.versions):
        self.name, self.error, self.asked = name, 0.01, []
        self._noted = dataclasses.replace(CONDITIONS, versions=versions)

    def noted_conditions(self):
        return self._noted

    def many(self, variants):
        self.asked.append(len(variants))
        return [
            Estimate(None, self.name, reason="does not fit")
            if one.resolution == 600
            else Estimate(float(one.resolution), self.name, self.error)
            for one in variants
        ]

    def close(self):
        self.asked.append("closed")


def test_answers_are_kept_and_not_asked_for_again(tmp_path):
    asked = [scaled(1, 1, size) for size in (224, 256, 600, 224)]
    source = Counting()
    with Recorded(source, tmp_path) as recorded:
        found = recorded.many(asked)
        assert recorded(asked[1]) == found[1]
    assert source.asked == [2, 1, "closed"]
    assert [one.ms for one in found] == [224.0, 256.0, None, 224.0]
    assert found[2].reason == "does not fit"
    again = Counting()
    assert Recorded(again, tmp_path).many(asked) == found
    assert again.asked == []
    lines = (tmp_path / "latency.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0]) == {
        "conditions": {
            "hardware": "v3",
            "batch": 64,
            "dtype": "bfloat16",
            "versions": {"libtpu": "1"},
        },
        "digest": latency_table.digest_of(asked[0]),
        "name": "efficientnet-x-b0:1:1:224",
        "network": {
            "base": "efficientnet-x-b0",
            "fields": {"se_coefficient": 1},
        },
        "ms": 224.0,
        "source": WHOLE,
        "reason": "",
        "error": 0.01,
    }


def test_what_is_not_final_is_asked_once_and_not_kept(tmp_path):
    class Died(Counting):
        def many(self, variants):
            self.asked.append(len(variants))
            return [
                Estimate(None, self.name, reason="killed", is_final=False)
                for _ in variants
            ]

    died, lives = Died(), Counting()
    recorded = Recorded(died, tmp_path)
    found = [recorded(X_B0), recorded(X_B0)]
    assert found == 2 * [Estimate(None, WHOLE, reason="killed", is_final=False)]
    assert died.asked == [1]
    assert not (tmp_path / "latency.jsonl").exists()
    assert Recorded(lives, tmp_path)(X_B0).ms == 224.0


def test_other_conditions_and_sources_are_asked_anew(tmp_path):
    Recorded(Counting(), tmp_path)(X_B0)
    for other in (Counting(SUM), Counting(versions={"libtpu": "2"})):
        Recorded(other, tmp_path)(X_B0)
        assert other.asked == [1]


def test_what_cannot_be_built_is_asked_and_not_kept(tmp_path):
    recorded = Recorded(Counting(), tmp_path)
    assert recorded(TOO_SMALL).ms == 16.0
    assert not (tmp_path / "latency.jsonl").exists()


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_half_a_line_costs_its_own_answer(cut, tmp_path):
    path = tmp_path / "latency.jsonl"
    Recorded(Counting(), tmp_path).many([X_B0, B0])
    path.write_bytes(path.read_bytes()[:-cut])
    again = Counting()
    recorded = Recorded(again, tmp_path)
    # Without its newline alone, a line still says all.
    assert recorded.many([X_B0, B0]) == Counting().many([X_B0, B0])
    assert again.asked == ([] if cut == 1 else [1])
    Recorded(Counting(), tmp_path)(scaled(1, 1, 256))
    last = Counting()
    Recorded(last, tmp_path).many([X_B0, B0, scaled(1, 1, 256)])
    assert last.asked == []


def test_foreign_lines_are_passed_over(tmp_path):
    path = tmp_path / "latency.jsonl"
    path.write_text('\n[]\nnull\n{"conditions": 3}\n{"conditions": {}}\n"\xff\n')
    Recorded(Counting(), tmp_path)(X_B0)
    assert [one.ms for one in latency_log.rows(tmp_path, CONDITIONS)] == [224.0]


def test_a_folder_that_is_not_there(tmp_path):
    recorded = Recorded(Counting(), tmp_path / "none")
    with pytest.raises(UserError, match=r"cannot write .*latency\.jsonl: No such file"):
        recorded(X_B0)
    (tmp_path / "latency.jsonl").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        Recorded(Counting(), tmp_path)


def test_a_tile_model_is_refitted_with_what_was_recorded(tmp_path):
    model = latency_sources.tile_model("v3")
    conditions = model.table.conditions
    versions = dict(conditions.versions)
    new = scaled(1.9, 1.9, 312)
    before = model(new).ms or 0
    Recorded(Counting(versions=versions), tmp_path)(new)
    rows = latency_log.rows(tmp_path, conditions)
    refitted = model.refit(rows)
    assert len(refitted.rows) == len(model.rows) + 1
    assert (refitted(new).ms or 0) > before  # 312 ms were recorded for some 80


def test_answers_of_the_compiler_have_names():
    assert Answer(3.0) == Answer(3.0, "")
    with pytest.raises(ModelError):
        latency_table.digest_of(TOO_SMALL)
    assert re.fullmatch("[0-9a-f]{16}", latency_table.digest_of(X_B0))
