"""What a first look finds is what is found in each record alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import records
from input_pipeline.records import IMAGENET
from input_pipeline.validation import inspect_shard
from input_pipeline.validation.inspect_shard import ShardReport, ShardTask
from input_pipeline.validation.quick_look import TOGETHER, QuickLook, Sound
from tests.input_pipeline import damaged_jpegs, malformed
from tests.input_pipeline.builders import example, jpeg
from tests.input_pipeline.test_jpeg_warnings import CASES
from tests.input_pipeline.test_validate import FAULTY

GOOD = [example(n) for n in range(TOGETHER)]


def look_at(contents: list[bytes], *, decode: bool = True) -> list[Sound] | None:
    return QuickLook(IMAGENET, decode=decode)(tf.constant(contents))


def with_one(content: bytes, place: int = 5) -> list[bytes]:
    return [*GOOD[:place], content, *GOOD[place + 1 :]]


@pytest.mark.parametrize("decode", [True, False])
def test_what_there_is_in_sound_records(decode):
    found = look_at(with_one(example(9, height=1, label=7), 0), decode=decode)
    assert found == [
        Sound(jpeg(n), label, 24, 32, 3)
        for n, label in zip([9, *range(1, 8)], [7, 2, 3, 4, 5, 1, 2, 3], strict=True)
    ]


@pytest.mark.parametrize("name", CASES)
def test_of_what_libjpeg_complains_the_look_says_nothing(name, capfd):
    encoded, line, _ = CASES[name]
    contents = with_one(example(0, encoded=encoded))
    assert (look_at(contents) is None) == (line != "")
    if name in ("a hole", "noise", "cut off, and ended"):
        # Their headers are sound: it is the decoder that tells.
        assert look_at(contents, decode=False) is not None
    assert capfd.readouterr().err == ""


def report(path, contents: list[bytes], *, decode: bool) -> ShardReport:
    """The report of a shard, whose records are its whole story."""
    shard = records.write_shard(str(path), contents)
    task = ShardTask(str(path), shard, range(1, 6), decode)
    return inspect_shard.inspect_shard(task, lambda _: None)


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """Function: records -> their report with the look, without, and how many looks
    have found something."""
    looks = []
    look = QuickLook.__call__

    def counted(self, serialized):
        looks.append(look(self, serialized))
        return looks[-1]

    def both(contents: list[bytes], *, decode: bool = True):
        looks.clear()
        with monkeypatch.context() as patch:
            patch.setattr(QuickLook, "__call__", counted)
            quick = report(tmp_path / "train-0", contents, decode=decode)
        with monkeypatch.context() as patch:
            patch.setattr(QuickLook, "__call__", lambda *_: None)
            alone = report(tmp_path / "train-0", contents, decode=decode)
        return quick, alone, sum(one is not None for one in looks)

    return both


def assert_equal(quick: ShardReport, alone: ShardReport) -> None:
    for field in dataclasses.fields(ShardReport):
        one, other = getattr(quick, field.name), getattr(alone, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def in_groups(cases: list[bytes], seed: int) -> list[bytes]:
    """Those, one in a group now and then, between many sound ones."""
    random, found = np.random.RandomState(seed), []
    for case in cases:
        group = with_one(case, random.randint(TOGETHER))
        found += GOOD * random.randint(2) + group
    return found + GOOD * 20 + GOOD[:3]


@pytest.mark.parametrize("decode", [True, False])
def test_faulty_records_are_named_as_without_it(reports, decode):
    contents = in_groups([record for record, _, _ in FAULTY.values()], seed=0)
    quick, alone, sound = reports(contents, decode=decode)
    assert_equal(quick, alone)
    assert sound >= 5
    assert len(quick.images) > len(FAULTY) * TOGETHER


def test_malformed_records_are_named_as_without_it(reports):
    crafted = [*malformed.CRAFTED.values()]
    contents = in_groups([*crafted[::11], *malformed.mutated(10).values()], seed=1)
    quick, alone, sound = reports(contents)
    assert_equal(quick, alone)
    assert sound >= 5


@pytest.mark.slow
def test_all_that_is_malformed_is_named_as_without_it(reports):
    cases = [*malformed.CRAFTED.values(), *malformed.mutated(300).values()]
    cases += [
        example(0, encoded=encoded)
        for _, encoded in damaged_jpegs.damaged(1500, seed=3)
        if not damaged_jpegs.claims_many_pixels(encoded)
    ]
    for begin in range(0, len(cases), 200):
        quick, alone, sound = reports(in_groups(cases[begin : begin + 200], begin))
        assert_equal(quick, alone)
        assert sound >= 5


def test_where_nothing_is_sound_it_looks_seldom():
    bad, good = tf.constant(with_one(b"")), tf.constant(GOOD)
    look, asked = QuickLook(IMAGENET, decode=True), []

    def count(serialized, times):
        """Of so many calls those that have looked."""
        for _ in range(times):
            asked.append(look._left == 0)
            look(serialized)
        return [n for n, one in enumerate(asked[-times:]) if one]

    assert count(bad, 64) == [0, 2, 6, 14, 30, 46, 62]
    assert look(good) is None
    while look(good) is None:
        pass
    assert count(good, 3) == [0, 1, 2]
    assert count(bad, 3) == [0, 2]
