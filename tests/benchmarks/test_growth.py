"""What grows how: the fit, and the work that is counted; seconds are the script's."""

import dataclasses

import pytest

from benchmarks import growth
from benchmarks.support.growth import case as measuring
from benchmarks.support.growth import data, runs
from benchmarks.support.growth.case import Case, exponent

CASES = growth.cases()


def test_an_exponent_is_that_of_the_large_sizes():
    sizes = [10, 100, 1_000, 10_000, 100_000]
    assert exponent(sizes, [3e-6 * size**2 for size in sizes]) == pytest.approx(2)
    # What each costs, whatever its size, hides the growth in small ones alone.
    costs = [1.0 + 0.01 * size for size in sizes]
    assert exponent(sizes, costs) == pytest.approx(1, abs=0.04)
    assert exponent(sizes, [5.0] * 5) == pytest.approx(0)
    assert exponent([1, 10], [0.0, 0.0]) == 0


@pytest.mark.long
def test_what_is_done_for_each_counts_with_all(tmp_path):
    """And sizes that would take too long are left out, but for the first two."""

    def make(size, folder):
        assert not [*folder.iterdir()]
        return lambda: 7 * size

    case = Case(
        name="x", axis="y", sizes=(1, 10, 100), make=make, times="each", work="bytes"
    )
    found = measuring.measure(case, tmp_path, most_seconds=0.0)
    assert [row["size"] for row in found["rows"]] == [1, 10]
    assert [row["work"] for row in found["rows"]] == [7, 70]
    assert found["exponent_of_work"] == pytest.approx(1)
    once = dataclasses.replace(case, times="once")
    folder = tmp_path / "once"
    folder.mkdir()
    assert len(measuring.measure(once, folder, most_seconds=9.0)["rows"]) == 3


def test_is_linear():
    one = {"exponent": 1.1, "exponent_of_memory": 1.0}
    assert growth.is_linear(one)
    assert not growth.is_linear({**one, "exponent_of_work": 1.5})
    assert not growth.is_linear({**one, "exponent": 1.8})


def test_each_case_has_a_name_of_its_own():
    names = [(case.axis, case.name) for case in CASES]
    assert len({*names}) == len(names)
    axes = {"records", "classes", "files", "hosts", "steps", "checkpoints", "trials"}
    assert axes < {case.axis for case in CASES}
    most = {axis: max(c.sizes[-1] for c in CASES if c.axis == axis) for axis in axes}
    assert (most["records"], most["classes"]) == (10**7, 21_841)
    assert (most["files"], most["hosts"]) == (10_000, 64)
    assert (most["steps"], most["trials"]) == (10**6, 10**5)


def test_made_up_records_are_described_whole():
    info = data.info(1000, files=7, classes=3)
    split = info.splits["train"]
    assert (split.total, len(split.shards), len(info.label_names)) == (1000, 7, 3)
    assert all(len(one.offsets) == -(-one.records // 16) for one in split.shards)


def work(make, sizes, folder):
    found = []
    for size in sizes:
        place = folder / str(size)
        place.mkdir()
        found.append(make(size, place)())
    return found


def test_a_run_s_numbers_are_written_once(tmp_path):
    """Bytes of metrics.jsonl and of TensorBoard's file, by steps of a run."""
    sizes = (1_000, 3_000)
    written = work(runs._on_a_disk, sizes, tmp_path)
    assert exponent(sizes, written) == pytest.approx(1, abs=0.05)
    for size, count in zip(sizes, written, strict=True):
        files = [p for p in (tmp_path / str(size)).rglob("*") if p.is_file()]
        total = sum(path.stat().st_size for path in files)
        assert total <= count < 1.05 * total


def test_manifests_that_are_read_for_checkpoints_that_stay(tmp_path):
    few, many = work(runs._saved, (6, 18), tmp_path)
    # When it is written, and as one of the newest three.
    assert many - few == 12 * 4
