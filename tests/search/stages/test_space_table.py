"""The blocks of a space, each compiled once, by a compiler that is arithmetic."""

import dataclasses

import pytest

from common.errors import UserError
from performance.segments import InferenceOptions, segments_of
from search import latency_sources, spaces
from search.latencies import latency_table
from search.latencies.latency_table import SUM, BlockRow, Conditions
from search.stages import space_table
from search.supernets import cost_parts
from tests.support import toy_nas

OPTIONS = InferenceOptions(batch=64, dtype="bfloat16")
# The head, and of both stages each combination of what they choose: 2 x 3 of the first,
# 2 x 2 x 2 of the second. A stem is asked for with the first block behind it.
BLOCKS = 1 + 6 + 6 + 8


class Compiler:
    """A source that says the size of a block, and counts what it was asked."""

    name = SUM

    def __init__(self):
        self.asked = []
        self.closed = False

    def noted_conditions(self):
        return Conditions("v3", 64, "bfloat16", {"jax": "1"})

    def blocks(self, variants):
        self.asked += [variant.name for variant in variants]
        return list(self._rows(variants))

    def close(self):
        self.closed = True

    def _rows(self, variants):
        for variant in variants:
            for segment in segments_of(variant, OPTIONS):
                digest = latency_table.segment_digest(segment)
                yield BlockRow(
                    digest=digest,
                    kind=segment.kind,
                    segment=latency_table.segment_json(segment),
                    ms=int(digest, 16) / 16**16,
                )


def test_all_blocks_of_a_space_are_covered():
    assert len(space_table.cover(toy_nas.space(), OPTIONS)) == BLOCKS


def rare_space():
    """One network of 10,000 has a fused block: in stage 5, where all others have 10.

    The expansion of each stage counts only with the last value of the one before.
    """
    second = dataclasses.replace(toy_nas.variant().stages[1], fused=False)
    stages = tuple(
        dataclasses.replace(second, output_filters=8 * number) for number in range(1, 6)
    )
    tenths = {"expand_ratio": list(range(1, 11))}
    when = {
        **{f"{n + 1}.expand_ratio": {f"{n}.expand_ratio": [10]} for n in (1, 2, 3)},
        "5.fused": {"4.expand_ratio": [10]},
    }
    return spaces.blocks(
        dataclasses.replace(toy_nas.variant(), stages=stages),
        {**dict.fromkeys(range(1, 5), tenths), 5: {"fused": [True]}},
        when=when,
    )


def test_a_rare_block_is_not_missed():
    """500 draws would find it once in 20 tries."""
    found = space_table.cover(rare_space(), OPTIONS)
    # The head, ten stems, ten blocks in each of four stages, and two in the last.
    assert len(found) == 1 + 10 + 4 * 10 + 2


def test_a_space_that_is_too_large_is_drawn_from(monkeypatch):
    monkeypatch.setattr(cost_parts, "MOST_COMBINATIONS", 10)
    assert len(space_table.cover(toy_nas.space(), OPTIONS)) == BLOCKS


@dataclasses.dataclass(frozen=True)
class NotBoth:
    """A constraint: no large kernel beside a large expansion in stage 1."""

    def __call__(self, variant):
        first = variant.stages[0]
        both = first.kernel_size == 5 and first.expand_ratio == 4
        return "a large kernel and a large expansion" * both


def test_networks_that_are_not_valid_are_passed_over():
    space = toy_nas.space()
    limited = dataclasses.replace(space, constraints=(NotBoth(),))
    # The block of both, and the stem in front of it.
    assert len(space_table.cover(limited, OPTIONS)) == BLOCKS - 2


def test_a_network_s_time_is_the_sum(tmp_path):
    space, path = toy_nas.space(), tmp_path / "table.json"
    space_table.make(space, Compiler(), path)
    source = latency_sources.table(str(path))
    network = space.first()
    while network is not None:
        variant = space.build(network)
        each = [
            int(digest, 16) / 16**16 for digest in space_table.digests(variant, OPTIONS)
        ]
        assert source(variant).ms == sum(each)
        network = space.following(network)


def test_what_the_table_has_is_not_compiled_again(tmp_path):
    space, path, first = toy_nas.space(), tmp_path / "table.json", Compiler()

    class Killed(Compiler):
        def blocks(self, variants):
            if self.asked:
                raise KeyboardInterrupt
            return super().blocks(variants)

    killed = Killed()
    with pytest.raises(KeyboardInterrupt):
        space_table.make(space, killed, path)
    assert latency_table.read(path).blocks
    space_table.make(space, first, path)
    assert not set(killed.asked) & set(first.asked)
    again = Compiler()
    assert len(space_table.make(space, again, path).blocks) == BLOCKS
    assert again.asked == []


def test_blocks_that_a_process_has_died_of_are_compiled_by_the_next_command(tmp_path):
    space, path = toy_nas.space(), tmp_path / "table.json"

    class Dies(Compiler):
        def blocks(self, variants):
            return [
                dataclasses.replace(row, ms=None, reason="killed", is_final=False)
                if row.kind == "head"
                else row
                for row in super().blocks(variants)
            ]

    dies = Dies()
    with pytest.raises(UserError, match=r"lacks 1 block: killed\. The same command"):
        space_table.make(space, dies, path)
    assert len(latency_table.read(path).blocks) == BLOCKS - 1
    again = Compiler()
    assert len(space_table.make(space, again, path).blocks) == BLOCKS
    assert len(again.asked) == 1


def test_a_compiler_that_says_nothing_is_no_endless_loop(tmp_path):
    class Silent(Compiler):
        def blocks(self, variants):
            return []

    with pytest.raises(UserError, match="the compiler says nothing of"):
        space_table.make(toy_nas.space(), Silent(), tmp_path / "table.json")


def test_which_sources_are_sums():
    assert space_table.is_sum(Compiler())
    assert space_table.is_sum(latency_sources.sum_of_parts("v3"))
    assert not space_table.is_sum(latency_sources.whole("v3"))
    assert not space_table.is_sum(latency_sources.tile_model("v3"))
