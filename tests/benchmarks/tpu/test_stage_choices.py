import json

import pytest

from benchmarks.support import results
from benchmarks.tpu import stage_choices
from benchmarks.tpu.stage_choices import StageChoice, choices, main, rows
from models.variants import get_variant
from performance.segments import InferenceOptions, segments_of
from search import latency_sources
from search.latencies.latency_table import BlockRow, Conditions, segment_digest
from tests.support.commands import status

OPTIONS = InferenceOptions(batch=64, dtype="bfloat16")


def test_each_stage_has_every_kind_of_block_once():
    found = list(choices())
    assert len(found) == len(set(found)) == 4 + 6 * 6
    own = get_variant("efficientnet-x-b0").stages
    variants = [choice.variant() for choice in found]
    # Each of the seven stages is once as it is.
    assert sum(variant.stages == own for variant in variants) == 7
    changed = StageChoice(5, fused=True, kernel_size=3, expand_ratio=6).variant()
    assert [a == b for a, b in zip(changed.stages, own, strict=True)] == [
        *[True] * 4,
        False,
        *[True] * 2,
    ]


class Source:
    """Blocks of 1 ms, fused ones of 0.5."""

    def __init__(self, failing=""):
        self.failing = failing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def noted_conditions(self):
        return Conditions("v3", 64, "bfloat16", {"libtpu": "1"})

    def blocks(self, variants):
        return [
            BlockRow(
                digest=segment_digest(one),
                kind=one.kind,
                segment={},
                ms=None if one.kind == self.failing else 0.5 + (one.kind != "fused"),
                reason="does not fit" * (one.kind == self.failing),
            )
            for variant in variants
            for one in segments_of(variant, OPTIONS)
        ]


def test_a_stage_is_the_sum_of_its_blocks():
    variants = [choice.variant() for choice in choices()]
    blocks = {row.digest: row for row in Source().blocks(variants)}
    found = rows("v3", blocks, OPTIONS)
    by_kind = {
        (row["stage"], row["fused"], row["kernel_size"], row["expand_ratio"]): row
        for row in found
    }
    # Stage 6 has four blocks, stage 1 one.
    assert by_kind[6, True, 5, 6]["ms"] == pytest.approx(2.0)
    assert by_kind[6, False, 5, 6]["ms"] == pytest.approx(6.0)
    assert by_kind[1, False, 3, 1]["ms"] == pytest.approx(1.5)
    own = [key for key, row in by_kind.items() if row["of_x_b0"]]
    assert own == [
        *((1, False, 3, 1), (2, True, 3, 6), (3, True, 5, 6), (4, False, 3, 6)),
        *((5, False, 5, 6), (6, False, 5, 6), (7, False, 3, 6)),
    ]


@pytest.mark.parametrize(("failing", "expected"), [("", 0), ("fused", 1)])
def test_the_command(failing, expected, monkeypatch, tmp_path, capsys):
    def source(topology, **options):
        assert options == {"batch": 64, "dtype": "bfloat16", "workers": 2}
        return Source(failing)

    monkeypatch.setattr(latency_sources, "sum_of_parts", source)
    path = tmp_path / "tpu.stage_choices.json"
    assert status(main, "--topologies=v3,v5e", f"--output={path}") == expected
    *_, line = capsys.readouterr().out.splitlines()
    report = results.load(path)
    assert json.loads(line) == report
    assert {row["topology"] for row in report["rows"]} == {"v3", "v5e"}
    assert len(report["rows"]) == 80
    reasons = {row["reason"] for row in report["rows"] if row["ms"] is None}
    assert any("does not fit" in reason for reason in reasons) == bool(failing)


def test_a_table_for_people(capsys):
    variants = [choice.variant() for choice in choices()]
    blocks = {row.digest: row for row in Source().blocks(variants)}
    lines = stage_choices.text(rows("v3", blocks, OPTIONS)).splitlines()
    assert lines[0].split()[:3] == ["v3", "stage", "1"]
    (line,) = (line for line in lines if line.startswith("depthwise 3x"))
    # Stages of 1, 2, 2, 3, 3, 4 and 1 blocks of 1.5 ms; a star is X-B0's own.
    assert line.split()[2:] == [
        *("1.50*", "3.00", "3.00", "4.50*", "4.50", "6.00", "1.50*")
    ]
    assert capsys.readouterr().out == ""


def test_the_stored_figures_are_what_made_x_b0():
    """On v3 latency alone chooses fused early and depthwise late; on v6e fused."""
    stored = results.load(results.FOLDER / "tpu.stage_choices.json")["rows"]
    own = {
        (row["topology"], row["stage"]): (row["kernel_size"], row["expand_ratio"])
        for row in stored
        if row["of_x_b0"]
    }

    def ratio(topology, stage):
        """Returns depthwise over fused of the stage's own kernel and expansion."""
        ms = {
            row["fused"]: row["ms"]
            for row in stored
            if (row["topology"], row["stage"]) == (topology, stage)
            and (row["kernel_size"], row["expand_ratio"]) == own[topology, stage]
        }
        return ms[False] / ms[True]

    v3 = [ratio("v3", stage) for stage in range(1, 8)]
    assert [one > 1 for one in v3] == [False, True, True, True, False, False, False]
    assert v3[3] == pytest.approx(1, abs=0.05)
    assert all(ratio("v6e", stage) > 1.5 for stage in range(2, 8))
