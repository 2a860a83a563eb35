import dataclasses
import json
import random
import sys
import types

import pytest

from common.errors import UserError
from models.variants import change, get_variant
from performance.device_timing import Device
from performance.segments import InferenceOptions, segments_of
from search import latency_sources
from search.latencies import latency_table
from search.latencies.latency_table import SUM, WHOLE, BlockRow, segment_digest
from search.networks.scaled import scaled_network
from search.results import Estimate
from search.table import main
from tests.search.networks import CONDITIONS, row, table
from tests.support.commands import status

X_B0 = get_variant("efficientnet-x-b0")
OPTIONS = InferenceOptions(batch=64, dtype="bfloat16")


class Source:
    """Answers with the resolution, or half of it; notes what it is asked for.

    Attributes:
      dies: names of sources that die of every question.
    """

    dies = ()

    def __init__(self, name, asked, versions):
        self.name, self.asked, self.error = name, asked, None
        self.device = Device("gpu", "NVIDIA A100")
        self._noted = dataclasses.replace(CONDITIONS, versions=versions)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.asked.append("closed")

    def noted_conditions(self):
        return self._noted

    def many(self, variants):
        self.asked += [f"{self.name}: {one.name}" for one in variants]
        return [
            Estimate(None, self.name, reason="killed", is_final=False)
            if self.name in self.dies
            else Estimate(None, self.name, reason="does not fit")
            if one.resolution == 600
            else Estimate(one.resolution / (2 if self.name == SUM else 1), self.name)
            for one in variants
        ]

    def blocks(self, variants):
        segments = {
            segment_digest(segment): segment
            for one in variants
            for segment in segments_of(one, OPTIONS)
        }
        return [
            BlockRow(digest=digest, kind=one.kind, segment={}, ms=1.0)
            for digest, one in segments.items()
        ]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Function: flags -> exit status, what was asked, what was printed, the table."""

    def run(*flags, versions=CONDITIONS.versions, topology="--topology=v3"):
        asked = []

        def whole(topology, **_):
            return Source(WHOLE, asked, versions)

        def sum_of_parts(topology, **_):
            return Source(SUM, asked, versions)

        monkeypatch.setattr(latency_sources, "whole", whole)
        monkeypatch.setattr(latency_sources, "sum_of_parts", sum_of_parts)

        def device(**_):
            source = Source("measured", asked, versions)
            source.device = Device("cpu", "cpu")
            return source

        monkeypatch.setattr(latency_sources, "device", device)
        path = tmp_path / "t.json"
        ended = status(main, topology, f"--output={path}", *flags)
        said = capsys.readouterr()
        found = latency_table.read(path) if path.exists() else None
        return ended, asked, said.out + said.err, found

    return run


TWO = "--variants=efficientnet-x-b0,efficientnet-x-b0:1.6:1.2:256"


def test_a_table_is_made_and_read(run, tmp_path):
    ended, asked, said, found = run(TWO)
    assert ended == 0
    assert asked == [
        "compiled whole: efficientnet-x-b0",
        "compiled whole: efficientnet-x-b0:1.6:1.2:256",
        "closed",
    ]
    assert found.conditions == CONDITIONS
    source = latency_sources.table(str(tmp_path / "t.json"))
    assert source(X_B0).ms == 224.0
    assert source(scaled_network("efficientnet-x-b0:1.6:1.2:256")).ms == 256.0
    assert "v3, batch 64, bfloat16; 0 blocks" in said
    assert "efficientnet-x-b0              224.000" in said


def test_what_the_file_has_is_not_asked_again(run):
    run(TWO)
    ended, asked, _, found = run("--variants=efficientnet-x-b0,efficientnet-b0")
    assert ended == 0
    assert asked == ["compiled whole: efficientnet-b0", "closed"]
    assert len(found.networks) == 3


def test_equal_networks_are_asked_once(run):
    ended, asked, _, found = run("--variants=efficientnet-x-b0,efficientnet-x-tpu-b0")
    assert ended == 0
    assert asked == ["compiled whole: efficientnet-x-b0", "closed"]
    assert len(found.networks) == 1


def test_what_does_not_fit_is_an_answer(run):
    ended, _, said, found = run("--variants=efficientnet-x-b7,efficientnet-x-b0")
    assert ended == 1
    assert [one.reason for one in found.networks.values()] == ["does not fit", ""]
    assert "does not fit" in said
    ended, asked, *_ = run("--variants=efficientnet-x-b7")
    assert (ended, asked) == (1, ["closed"])


def test_blocks_and_sums(run, tmp_path):
    run("--variants=efficientnet-x-b0")
    ended, asked, _, found = run("--variants=efficientnet-x-b0", "--blocks")
    assert ended == 0
    assert asked == ["sum of segments: efficientnet-x-b0", "closed", "closed"]
    (one,) = found.networks.values()
    assert (one.ms, one.sum_ms, one.source) == (224.0, 112.0, WHOLE)
    assert len(found.blocks) == 14
    assert found.error_of_sum() == pytest.approx(0.5)
    _, asked, _, _ = run("--variants=efficientnet-x-b0", "--blocks")
    assert asked == ["closed", "closed"]
    # A network of known blocks, which the table does not have.
    deeper = change(X_B0, {4: {"num_repeat": 5}})
    source = latency_sources.table(str(tmp_path / "t.json"))
    assert source(deeper).ms == pytest.approx(20.0)
    assert source(change(X_B0, {4: {"kernel_size": 5}})).ms is None


@pytest.mark.parametrize(
    ("dies", "kept", "again"),
    [
        (WHOLE, None, ["compiled whole: efficientnet-x-b0", "closed"]),
        (SUM, (224.0, None), ["closed"]),
    ],
)
def test_what_a_process_has_died_of_is_asked_again(run, monkeypatch, dies, kept, again):
    flags = "--variants=efficientnet-x-b0", "--blocks"
    monkeypatch.setattr(Source, "dies", (dies,))
    ended, _, said, found = run(*flags)
    assert ended == 1
    assert "killed" in said
    rows = [(one.ms, one.sum_ms) for one in found.networks.values()]
    assert rows == ([kept] if kept else [])
    monkeypatch.setattr(Source, "dies", ())
    ended, asked, _, found = run(*flags)
    assert ended == 0
    assert asked == [*again[:-1], "sum of segments: efficientnet-x-b0", *2 * ["closed"]]
    (one,) = found.networks.values()
    assert (one.ms, one.sum_ms, one.reason) == (224.0, 112.0, "")


def test_blocks_only(run):
    ended, asked, _, found = run("--variants=efficientnet-x-b0", "--blocks=only")
    assert ended == 0
    assert asked[0] == "sum of segments: efficientnet-x-b0"
    (one,) = found.networks.values()
    assert (one.ms, one.sum_ms, one.source) == (None, 112.0, SUM)
    ended, asked, _, found = run("--variants=efficientnet-x-b0")
    (one,) = found.networks.values()
    assert (one.ms, one.sum_ms, one.source) == (224.0, 112.0, WHOLE)


def test_changed_stages_have_a_name_of_their_own(run):
    ended, _, _, found = run(
        "--variants=efficientnet-x-b0", "--stages={4: {'fused': True}}"
    )
    assert ended == 0
    (one,) = found.networks.values()
    assert one.name == f"efficientnet-x-b0-{one.digest[:8]}"
    assert one.variant().stages == change(X_B0, {4: {"fused": True}}).stages


def test_a_device_is_measured(run):
    ended, asked, said, found = run("--variants=efficientnet-b0", topology="--device")
    assert ended == 0
    assert "warning: JAX finds a CPU: these are no figures" in said
    assert asked[0] == "measured: efficientnet-b0"
    (one,) = found.networks.values()
    assert one.source == "measured"


class Sizes:
    """A space: X-B0 at sizes drawn."""

    def sample(self, rng: random.Random) -> int:
        return rng.randrange(64, 512)

    def build(self, drawn):
        return dataclasses.replace(X_B0, name=f"r{drawn}", resolution=drawn)


def test_networks_of_a_space_are_drawn(run, monkeypatch):
    module = types.ModuleType("my_space")
    module.__dict__["sizes"] = Sizes
    monkeypatch.setitem(sys.modules, "my_space", module)
    flags = "--space=my_space:sizes", "--number=3", "--seed=7"
    ended, asked, _, found = run(*flags)
    assert ended == 0
    expected = [random.Random(f"7 {n}").randrange(64, 512) for n in range(3)]
    assert asked[:3] == [f"compiled whole: r{size}" for size in expected]
    assert [one.ms for one in found.networks.values()] == expected
    assert run(*flags)[1] == ["closed"]


def test_other_versions_are_refused(run, tmp_path):
    run(TWO)
    before = (tmp_path / "t.json").read_bytes()
    ended, _, said, _ = run(TWO, versions={"libtpu": "2"})
    assert ended == 2
    assert "was made with libtpu 1, and 2 is installed" in said
    assert (tmp_path / "t.json").read_bytes() == before


def test_rows_added_by_hand_stay(run, tmp_path):
    by_hand = row(get_variant("efficientnet-b3"), 57.0, source="my stopwatch")
    path = tmp_path / "t.json"
    latency_table.write(
        path, table([by_hand], dataclasses.replace(CONDITIONS, versions={}))
    )
    ended, _, _, found = run("--variants=efficientnet-b0,efficientnet-b3")
    assert ended == 0
    assert found.networks[by_hand.digest] == by_hand
    assert len(found.networks) == 2
    assert found.conditions == CONDITIONS


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--variants=efficientnet-b9"], "unknown variant 'efficientnet-b9'"),
        (["--variants=efficientnet-b0:1:1"], "not of the form name:width:depth"),
        (["--variants=efficientnet-b0:1:1:x"], "not of the form name:width:depth"),
        (["--variants=efficientnet-b0:1:1:8"], "resolution 8 is too small"),
        (
            ["--variants=efficientnet-b0:0:1:224"],
            "width_coefficient = 0.0: it has to be",
        ),
        (["--variants= , "], "no name given"),
        (["--space=no_such:f"], "--space=no_such:f: No module named 'no_such'"),
        (["--space=math:pi"], "--space=math:pi: 'float' object is not callable"),
        ([], "one of the arguments --variants --space is required"),
        ([TWO, "--stages={9: {'fused': True}}"], "has no stage 9"),
        ([TWO, "--blocks=some"], "invalid choice: 'some'"),
        ([TWO, "--output=/no/such/folder/t.json"], "there is no folder /no/such"),
        ([TWO, "--batch=0"], "0 is not 1 or more"),
    ],
)
def test_mistakes(run, flags, error):
    ended, asked, said, found = run(*flags)
    assert ended == 2
    assert error in said
    assert asked == []
    assert found is None


def test_a_device_has_no_blocks(run):
    ended, _, said, _ = run(TWO, "--blocks", topology="--device")
    assert ended == 2
    assert "--device times whole networks: leave --blocks out" in said


def test_what_is_no_table_stays(tmp_path, capsys):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"mine": 1}))
    assert status(main, "--topology=v3", TWO, f"--output={path}") == 2
    assert "is not what this command has written" in capsys.readouterr().err
    assert json.loads(path.read_text()) == {"mine": 1}


def test_a_scaled_name():
    found = scaled_network("efficientnet-b0:1.1:2:200")
    assert found.width_coefficient == 1.1
    assert (found.depth_coefficient, found.resolution) == (2.0, 200)
    assert found.se_coefficient == 1
    assert found.name == "efficientnet-b0:1.1:2:200"
    with pytest.raises(UserError, match="not of the form"):
        scaled_network("efficientnet-b0:1:1:1:1")
