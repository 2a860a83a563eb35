"""Numbers of a run are added at the end of their files, by work that grows with them.

On a disk here; in a bucket, of which TensorFlow's client remembers the first that a
process has met, in a process of its own.
"""

import json
import os
import sys

import pytest

from common import gfiles
from common.errors import UserError
from tests.support import bucket
from tests.support.disk import full_disk
from train.telemetry import growing, writers
from train.telemetry.progress import Progress


def row(step, kind="train"):
    return {"kind": kind, "step": step, "time": f"{step:09d}", "text": "x" * 300}


def steps(path):
    return [line["step"] for line in writers.read_lines(str(path))]


@pytest.fixture
def work(monkeypatch):
    """Bytes that were written and read, by how."""
    counted = {"on": 0, "anew": 0, "read": 0}

    def count(name, module, function, size):
        real = getattr(module, function)

        def counting(*arguments, **options):
            result = real(*arguments, **options)
            counted[name] += size(arguments, result)
            return result

        monkeypatch.setattr(module, function, counting)

    count("on", growing, "_write", lambda arguments, _: len(arguments[1]))
    count("anew", gfiles, "write_bytes", lambda arguments, _: len(arguments[1]))
    count("read", gfiles, "read_bytes", lambda _, result: len(result))
    return counted


def written(path, flushes):
    file = writers.JsonLines(str(path))
    file.go_back(0)
    file.flush()
    for step in range(1, flushes + 1):
        file.add(row(step))
        file.flush()
    return file


@pytest.mark.parametrize("kind", ["train", "eval", "event"])
def test_a_flush_writes_what_is_new(tmp_path, work, kind):
    found = []
    for flushes in (100, 1000):
        work.update(dict.fromkeys(work, 0))
        file = writers.JsonLines(str(tmp_path / f"{flushes}.jsonl"))
        for step in range(1000, 1000 + flushes):  # of as many digits
            file.add(row(step, kind))
            file.flush()
        size = os.path.getsize(file.path)
        # The first makes the file, the second reads that one line.
        assert work["on"] + work["anew"] == size
        first = len(json.dumps(row(1000, kind))) + 1
        assert work["read"] == work["anew"] == first
        found.append(size)
        assert steps(file.path) == [*range(1000, 1000 + flushes)]
    assert found[1] == 10 * found[0]


def test_a_second_process_reads_once_and_goes_on(tmp_path, work):
    path = tmp_path / "metrics.jsonl"
    written(path, 100)
    size = os.path.getsize(path)
    work.update(dict.fromkeys(work, 0))
    file = writers.JsonLines(str(path))
    file.go_back(100)
    for step in range(101, 201):
        file.add(row(step))
        file.flush()
    assert work == {"on": os.path.getsize(path) - size, "anew": 0, "read": size}
    assert steps(path) == [*range(1, 201)]


def test_what_is_taken_back_or_replaced_is_written_anew(tmp_path, work):
    path = tmp_path / "metrics.jsonl"
    file = written(path, 10)
    before = dict(work)
    file.go_back(10)  # to where it is: nothing is beyond
    file.flush()
    assert work == before
    file.go_back(5)
    file.flush()
    assert steps(path) == [*range(1, 6)]
    file.add(row(3, "eval"))
    file.flush()
    file.add({**row(3, "eval"), "text": "y"})
    file.add(row(6))
    file.flush()
    assert steps(path) == [1, 2, 3, 4, 5, 3, 6]
    assert [one["text"] for one in file.evaluations().values()] == ["y"]


def test_others_lines_in_between_stay(tmp_path):
    path = tmp_path / "eval.jsonl"
    files = [writers.JsonLines(str(path)) for _ in range(2)]
    for step in range(1, 7):
        files[step % 2].add(row(step, "eval"))
        files[step % 2].flush()
        with path.open("a") as somebody:
            somebody.write(f"a note, {step}\n")
        assert files[step % 2].evaluations().keys() == {*range(1, step + 1)}
    assert steps(path) == [*range(1, 7)]
    assert path.read_text().count("a note") == 6


def test_half_a_line_of_a_killed_process_goes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = written(path, 3)
    file.add(row(4))
    file.flush()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    second = writers.JsonLines(str(path))
    second.go_back(3)
    second.flush()
    assert steps(path) == [1, 2, 3]
    second.add(row(4))
    second.flush()
    assert path.read_bytes() == whole


def test_what_a_full_disk_has_taken_is_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = written(path, 3)
    before = path.read_bytes()
    file.add(row(4))
    with full_disk(len(before) + 100), pytest.raises(UserError, match="cannot write"):
        file.flush()
    assert path.read_bytes() == before
    file.add(row(5))
    file.flush()
    assert steps(path) == [1, 2, 3, 4, 5]


def test_a_file_with_other_names_is_not_written_on(tmp_path):
    """A link to it, or a copy of the folder by hard links, keeps what it has."""
    path, other = tmp_path / "metrics.jsonl", tmp_path / "copy"
    file = written(path, 3)
    before = path.read_bytes()
    other.hardlink_to(path)
    file.add(row(4))
    file.flush()
    assert (other.read_bytes(), steps(path)) == (before, [1, 2, 3, 4])
    path.unlink()
    path.symlink_to(other)
    file.add(row(5))
    file.flush()
    assert (other.read_bytes(), steps(path)) == (before, [1, 2, 3, 5])
    assert not path.is_symlink()


def test_a_file_that_may_not_be_written_on_is_replaced(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = written(path, 3)
    path.chmod(0o444)
    file.add(row(4))
    file.flush()
    assert steps(path) == [1, 2, 3, 4]


def test_a_file_that_is_gone_begins_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = written(path, 3)
    path.unlink()
    file.add(row(4))
    file.flush()
    assert steps(path) == [4]


def test_a_line_on_the_screen_costs_the_same_after_any_number_of_loops(monkeypatch):
    """What it says of a stage's loops is kept as sums, not as a list."""
    progress = Progress(0, 10**6, 8)
    sizes = []
    for stage in ("a", "b"):
        progress.begin_stage(stage)
        sizes.append(len(progress._stages))
        assert not any(
            isinstance(value, list | dict)
            for stage in progress._stages
            for value in vars(stage).values()
        )
    assert sizes == [2, 3]


@pytest.fixture(scope="module")
def in_a_bucket(tmp_path_factory):
    """What `growing_files` has found."""
    folder = tmp_path_factory.mktemp("served")
    with bucket.serving(folder, "run", writes_per_second=0) as served:
        command = [sys.executable, "-m", "tests.train.telemetry.growing_files"]
        status, found, said = served.run(
            [*command, "5", "20", "80"], GCS_RETRY_CONFIG_MAX_RETRIES="2"
        )
    assert not status, said
    return json.loads(found)


@pytest.mark.long
def test_a_bucket_is_sent_what_is_new(in_a_bucket):
    few, more, most = in_a_bucket["sent"]
    for what in ("bytes", "requests", "stored"):
        # Whatever a process does once stays out of the difference.
        growth = (most[what] - more[what]) / (more[what] - few[what])
        assert growth == pytest.approx(60 / 15, rel=0.1), what
    # What the requests and their answers say comes to each of the two kinds of lines.
    assert most["bytes"] < most["stored"] + 80 * 2 * 2000


@pytest.mark.long
def test_a_bucket_that_fails_costs_no_number_and_doubles_none(in_a_bucket):
    met = in_a_bucket["met"]
    for fault, found in met.items():
        assert found["steps"] == [1, 2, 3, 4, 5], fault
        is_down = fault in ("busy", "done, then busy", "not sent")
        assert found["failed"] == ([3] if is_down else []), fault
        assert found["names"] == ["metrics.jsonl"], fault


@pytest.mark.long
def test_two_jobs_in_a_bucket(in_a_bucket):
    assert in_a_bucket["two jobs"] == [*range(1, 7)]
    back = in_a_bucket["taken back"]
    assert back["train"] == [1, 2, 3, 4, 5]
    assert back["event"] == [1, 2, 3, 3, 4, 5]
    assert sorted(back["folders"]) == ["metrics.jsonl", "train"]
