"""`python -m search.blocks`, as a person runs it, kills it and runs it again."""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import Status
from search import blocks
from search.engine import progress, result_files, search_folder
from search.results import Result
from tests.support.commands import status
from tests.support.toy_search import CONFIG

EVALUATIONS = 30
SLOWLY = "toy_search.accuracy.seconds = 0.05"
LAG = "block_search.BlockSearch.lag = 6"


def written(folder, *lines):
    """A gin file of the toy with these lines more."""
    path = folder / "toy.gin"
    path.write_text("\n".join((CONFIG, LAG, *lines, "")))
    return path


@pytest.fixture
def gin_file(tmp_path):
    return written(tmp_path)


def flags(gin_file, folder, *more, evaluations=EVALUATIONS):
    return [
        f"--gin_file={gin_file}",
        f"--search_dir={folder}",
        f"--evaluations={evaluations}",
        "--noreport",
        *more,
    ]


def what(folder):
    """All that has to be the same."""
    return [
        (r.number, r.network, r.value, r.top1, r.ms, r.reason)
        for r in result_files.read(folder)
    ]


@contextlib.contextmanager
def started(*arguments, **options):
    """The command in a process of its own; at the end nothing of it is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search.blocks", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        kill(process.pid, *children(process.pid))
        process.communicate()


def children(pid):
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return list(map(int, text.split()))


def kill(*pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until(holds, process):
    until = time.monotonic() + 60
    while not (found := holds()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)
    return found


def done(folder):
    """How many were evaluated, by the lines in workers' files."""
    return sum(p.read_bytes().count(b"\n") for p in folder.glob("results/*.jsonl"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What comes out of one worker that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = written(folder)
    command = flags(path, folder / "s", "--workers=1", "--storage=folder")
    assert status(blocks.main, *command) == Status.OK
    return what(folder / "s")


@pytest.mark.long
def test_a_search_and_its_files(gin_file, tmp_path, undisturbed, capsys):
    folder = tmp_path / "s"
    assert status(blocks.main, *flags(gin_file, folder, "--workers=3")) == Status.OK
    assert what(folder) == undisturbed
    said = capsys.readouterr()
    # Every ten seconds a line of how far it is, where it takes so long.
    assert all(" of 30 evaluated" in line for line in said.err.splitlines())
    lines = said.out.splitlines()
    assert lines[0].startswith("30 of 30 evaluated; best: ")
    assert lines[1].split() == ["value", "top-1", "%", "ms", "number", "network"]
    best = max(undisturbed, key=lambda row: (row[2], -row[0]))
    assert lines[2].split()[-2:] == [str(best[0]), best[1]]
    assert lines[-3] == "top-1: toy %; latency: toy ms"
    assert lines[-2].startswith("what the objective trades is not known")
    assert lines[-1].endswith("--workers=3 --evaluations=60 --noreport")
    # Without Optuna: a line a result, by number.
    rows = list(map(json.loads, (folder / "results.jsonl").read_text().splitlines()))
    assert [row["number"] for row in rows] == list(range(30))
    assert rows[3]["sources"] == ["toy %", "toy ms"]
    found = json.loads((folder / "search.json").read_text())
    assert found["storage"] == "embedded"
    assert "toy_search.Space()" in found["config"]
    assert sorted(p.name for p in folder.iterdir()) == [
        *("engine.journal", "engine.journal.flock", "logs", "results"),
        *("results.jsonl", "search.json"),
    ]

    # The same command again has nothing to do; one with more goes on.
    assert status(blocks.main, *flags(gin_file, folder)) == Status.OK
    assert done(folder) == 30
    more = flags(gin_file, folder, "--workers=1", evaluations=33)
    assert status(blocks.main, *more) == Status.OK
    assert done(folder) == 33
    assert what(folder)[:30] == undisturbed
    capsys.readouterr()

    assert status(blocks.main, f"--search_dir={folder}", "--status") == Status.OK
    said = capsys.readouterr().out
    assert said.startswith("33 evaluated; best: ")
    assert "goes on with: python -m search.blocks --gin_file=" in said


@pytest.mark.slow
def test_a_worker_and_then_all_are_killed(tmp_path, undisturbed):
    folder = tmp_path / "s"
    command = flags(written(tmp_path, SLOWLY), folder, "--workers=2")
    with started(*command) as process:
        wait_until(lambda: done(folder) >= 6, process)
        kill(children(process.pid)[0])
        wait_until(lambda: done(folder) >= 14, process)
        kill(process.pid, *children(process.pid))
        assert process.wait() == -signal.SIGKILL
    assert 14 <= done(folder) < 30
    done_before = done(folder)
    assert status(blocks.main, *command) == Status.OK
    assert what(folder) == undisturbed
    # Little was done twice: at most what the two kills have interrupted.
    assert done(folder) <= 30 + 2 * 2
    assert done(folder) > done_before


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["embedded", "folder"])
def test_all_are_killed_at_ten_moments(tmp_path, storage):
    expected, folder = tmp_path / "expected", tmp_path / "s"
    options = {"evaluations": 150}
    alone = flags(written(tmp_path), expected, "--workers=1", **options)
    assert status(blocks.main, *alone) == Status.OK
    slowly = written(tmp_path, SLOWLY)
    command = flags(slowly, folder, "--workers=3", f"--storage={storage}", **options)
    rng = random.Random(7)
    moments = sorted(rng.sample(range(1, 140), 10))
    for moment in moments:
        with started(*command) as process:
            wait_until(lambda m=moment: done(folder) >= m, process)
            time.sleep(rng.uniform(0, 0.1))  # in the middle of whatever it is doing
            victims = [process.pid, *children(process.pid)]
            if rng.random() < 0.3:  # the master alone: workers have to notice
                victims = victims[:1]
            kill(*victims)
            process.wait()
    assert status(blocks.main, *command) == Status.OK
    assert what(folder) == what(expected)
    assert len(what(folder)) == 150


@pytest.mark.long
def test_ctrl_c_and_sigterm_stop_in_order(tmp_path):
    folder = tmp_path / "s"
    path = written(tmp_path, SLOWLY)
    command = flags(path, folder, "--workers=1", "--storage=folder")
    for sign, ends in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        before = done(folder)
        with started(*command, preexec_fn=_heed_interrupts) as process:
            wait_until(lambda n=before: done(folder) > n, process)
            process.send_signal(sign)
            _, said = process.communicate(timeout=60)
        assert process.returncode == ends
        assert "the same command goes on" in said
        assert "Traceback" not in said
    assert len(result_files.read(folder)) == done(folder) < 30
    assert len((folder / "results.jsonl").read_text().splitlines()) == done(folder)
    assert all(result.attempt == 1 for result in result_files.read(folder))


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.long
def test_a_damaged_journal_is_made_anew(gin_file, tmp_path, undisturbed, capsys):
    folder = tmp_path / "s"
    begun = flags(gin_file, folder, "--workers=1", evaluations=15)
    assert status(blocks.main, *begun) == Status.OK
    journal = folder / "engine.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[7] = b'{"op_code":4,"wor\n'
    journal.write_bytes(b"".join(lines))
    assert status(blocks.main, *flags(gin_file, folder, "--workers=1")) == Status.OK
    assert "the journal was damaged" in capsys.readouterr().err
    assert what(folder) == undisturbed
    assert done(folder) == 30  # nothing was evaluated again


def test_another_search_is_refused(gin_file, tmp_path, capsys):
    folder = tmp_path / "s"
    few = flags(gin_file, folder, "--storage=folder", "--workers=1", evaluations=1)
    assert status(blocks.main, *few) == Status.OK
    capsys.readouterr()
    written(tmp_path, "toy_search.Sampler.seed = 2")
    assert status(blocks.main, *few) == Status.MISTAKE
    said = capsys.readouterr().err
    assert "another config" in said
    # Each differing line is one of its own, and no import that the command line added.
    assert said.splitlines()[:-1] == ["  +toy_search.Sampler.seed = 2"]
    assert "\\n" not in said
    # What decides no network may change.
    written(tmp_path, "block_search.BlockSearch.seconds_per_evaluation = 7")
    assert status(blocks.main, *few) == Status.OK
    found = json.loads((folder / "search.json").read_text())
    found["space"] = "f" * 16
    (folder / "search.json").write_text(json.dumps(found))
    assert status(blocks.main, *few) == Status.MISTAKE
    assert "another space" in capsys.readouterr().err
    (folder / "search.json").write_text("{")
    assert status(blocks.main, *few) == Status.MISTAKE
    (folder / "search.json").unlink()
    assert status(blocks.main, *few) == Status.MISTAKE
    assert "no search.json" in capsys.readouterr().err


def test_a_binding_that_changes_nothing_is_the_same_search(gin_file, tmp_path, capsys):
    folder = tmp_path / "s"
    few = flags(gin_file, folder, "--storage=folder", "--workers=1", evaluations=1)
    assert status(blocks.main, *few) == Status.OK
    # As an earlier version has written it.
    found = json.loads((folder / "search.json").read_text())
    assert "import block_search" not in found["config"]
    found["config"] = f"from search import block_search\n# Of\n{found['config']}\n"
    (folder / "search.json").write_text(json.dumps(found))
    again = "--gin_param=block_search.BlockSearch.lag = 6"
    assert status(blocks.main, *few, again) == Status.OK
    other = "--gin_param=block_search.BlockSearch.lag = 7"
    capsys.readouterr()
    assert status(blocks.main, *few, other) == Status.MISTAKE
    assert capsys.readouterr().err.splitlines()[:-1] == [
        "  -block_search.BlockSearch.lag = 6",
        "  +block_search.BlockSearch.lag = 7",
    ]


def test_what_a_name_means_is_of_the_search():
    lines = "from search import samplers\n\n# Of samplers:\n# ====\nsamplers.A.b = 1"
    ours = search_folder.identity(lines, "f")
    assert ours == search_folder.Identity("samplers.A.b = 1", "f")
    for other in ("from mine import samplers", "from search import x as samplers"):
        theirs = lines.replace("from search import samplers", other)
        assert search_folder.identity(theirs, "f") != ours


def test_fewer_evaluations_than_there_are(gin_file, tmp_path, capsys):
    folder = tmp_path / "s"
    alone = ("--storage=folder", "--workers=1")
    assert status(blocks.main, *flags(gin_file, folder, *alone, evaluations=5)) == 0
    capsys.readouterr()
    assert status(blocks.main, *flags(gin_file, folder, *alone, evaluations=2)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 evaluated; best: ")
    assert lines[-1].endswith("--workers=1 --evaluations=10 --noreport")


def test_a_space_without_further_networks_does_not_go_on(tmp_path, capsys):
    path = written(tmp_path, "toy_search.Sampler.size = 3")
    command = flags(path, tmp_path / "s", "--storage=folder", "--workers=1")
    assert status(blocks.main, *command) == Status.OK
    said = capsys.readouterr().out
    assert said.startswith("3 of 30 evaluated; ")
    assert "the space has no other networks" in said
    assert "to go on" not in said


def test_a_version_that_has_changed_is_said(tmp_path, capsys):
    search = search_folder.Identity("a = 1", "0" * 16)
    search_folder.enter(tmp_path, search, "folder", ["x"])
    found = json.loads((tmp_path / "search.json").read_text())
    found["versions"]["numpy"] = "0.1"
    (tmp_path / "search.json").write_text(json.dumps(found))
    search_folder.enter(tmp_path, search, "folder", ["x"])
    assert "warning: the search was begun with numpy 0.1" in capsys.readouterr().err


@pytest.mark.long
def test_nobody_else_may_work_in_an_embedded_search(gin_file, tmp_path, capsys):
    from common import claims

    folder = tmp_path / "s"
    folder.mkdir()
    with claims.hold(str(folder), "another search"):
        assert status(blocks.main, *flags(gin_file, folder)) == Status.MISTAKE
    assert "held by another search" in capsys.readouterr().err


@pytest.mark.long
def test_nothing_that_works(tmp_path, capsys):
    folder = tmp_path / "s"
    path = written(tmp_path, "block_search.BlockSearch.accuracy = @toy_search.raises")
    alone = ("--workers=1", "--storage=folder")
    few = flags(path, folder, *alone, evaluations=5)
    assert status(blocks.main, *few) == Status.NO
    said = capsys.readouterr().out
    assert "5 of 5 evaluated; 5 failed (5 KeyError: 'not in the table')" in said
    many = flags(path, folder, *alone, evaluations=60)
    assert status(blocks.main, *many) == Status.MISTAKE
    assert "evaluations have all failed: KeyError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--workers=7"], "more than BlockSearch.lag = 6"),
        (["--workers=0"], "1 or more"),
        (["--storage=nowhere"], "not known"),
        (["--storage=mysql://a/b"], "mysql is not known"),
        (["--storage=postgresql://a:secret@b/c"], "leave the password out"),
        (["--gin_file={wrong}"], "lag = 'x'"),
        (["--gin_param=block_search.nothing = 1"], "block_search.nothing"),
        (["--gin_file=no.gin"], "no gin file"),
        (["--evaluations=-1"], "1 or more"),
        (["--gin_param=block_search.BlockSearch.sampler = 'random'"], "@samplers."),
        (["--gin_param=block_search.BlockSearch.space = 5"], "@spaces.blocks()"),
    ],
)
def test_mistakes_are_said_in_a_line(gin_file, tmp_path, capsys, more, why):
    folder, wrong = tmp_path / "s", tmp_path / "wrong.gin"
    wrong.write_text(CONFIG + "block_search.BlockSearch.lag = 'x'\n")
    more = [flag.format(wrong=wrong) for flag in more]
    arguments = [f"--gin_file={gin_file}", f"--search_dir={folder}", *more]
    assert status(blocks.main, *arguments) == Status.MISTAKE
    said = capsys.readouterr().err
    assert why in said
    assert "secret" not in said
    assert "Traceback" not in said
    assert not folder.exists()


def test_a_mistake_that_only_the_evaluation_meets(tmp_path, capfd):
    folder = tmp_path / "s"
    path = written(
        tmp_path,
        "block_search.BlockSearch.objective = @toy_search.breaks_elsewhere()",
        f"toy_search.breaks_elsewhere.pid = {os.getpid()}",
    )
    arguments = flags(path, folder, "--workers=1", "--storage=folder")
    assert status(blocks.main, *arguments) == Status.MISTAKE
    said = capfd.readouterr().err
    assert "error: evaluations cannot begin: no source here" in said
    assert "error: a worker has ended with a mistake, see above" in said
    assert done(folder) == 0


def test_status_of_what_is_none(tmp_path, capsys):
    assert status(blocks.main, f"--search_dir={tmp_path}", "--status") == Status.MISTAKE
    assert "is no search's folder" in capsys.readouterr().err


# -- lines and tables ---------------------------------------------------------------


def result(number, value, **changes):
    known = {"network": f"n{number}", "digest": f"d{number}"}
    return Result(number=number, value=value, **{**known, **changes})


def test_the_best():
    rows = [
        result(0, 1.0),
        result(1, 3.0),
        result(2, 3.0),
        result(3, None, reason="x"),
        result(4, 5.0, digest="d1"),
        result(5, 2.0, rung=1),
    ]
    assert [r.number for r in progress.best(rows)] == [5, 4, 2, 0]
    assert [r.number for r in progress.best(rows, 1)] == [5]
    assert progress.best([]) == []


def test_a_line_of_progress():
    rows = [
        result(0, 1.25, top1=(80.0, 81.0, 82.5), ms=3.14159),
        result(1, None, reason="does not fit: 17 GB of 16 GB"),
        result(2, None, reason="does not fit: 18 GB of 16 GB"),
        result(3, None, reason="killed by signal 9, perhaps for want of memory"),
        result(4, 1.0, digest="d0"),
    ]
    assert progress.line(rows, 9) == (
        "5 of 9 evaluated; best: 1.25 (81.00 (80.20-82.20) % in 3.142 ms), number 0; "
        "3 failed (2 does not fit: 17 GB of 16 GB; 1 killed by signal 9, perhaps for "
        "want of memory); 1 repetition"
    )
    # There may be more than a later command asks for.
    assert progress.line(rows, 4).startswith("5 evaluated; best: ")
    assert progress.line(rows, 5).startswith("5 of 5 evaluated; ")
    assert progress.line([], None) == "0 evaluated"
    assert progress.table([]) == []


def test_reasons_are_short_and_whole():
    rows = [
        result(0, None, reason="it returned '12', which are no milliseconds"),
        result(1, None, reason="it returned '7', which are no milliseconds"),
        result(2, None, reason="word " * 40),
        result(3, None, reason="w" * 200),
        result(4, None),
    ]
    assert progress.line(rows, None) == (
        "5 evaluated; 5 failed (2 it returned '12', which are no milliseconds; "
        f"1 {'word ' * 15}...; 1 {'w' * 80}...; 1 no reason is given)"
    )
    more = [result(n, None, reason=chr(97 + n)) for n in range(7)]
    assert progress.line(more, None) == (
        "7 evaluated; 7 failed (1 a; 1 b; 1 c; 1 d; 1 e; ...)"
    )


BASELINE = """
from __gin__ import dynamic_registration
from search import accuracy_sources
from search import block_search
from search import latency_sources
from search import objectives
from search import samplers
from search import spaces

block_search.BlockSearch:
  space = @spaces.scaling()
  sampler = @samplers.AgeingEvolution()
  objective = @objectives.OneSided()
  latency = @latency_sources.function()
  accuracy = @accuracy_sources.function()
  evaluations = 12
  lag = 4
samplers.AgeingEvolution.population = 4
samplers.AgeingEvolution.sample = 2
spaces.scaling.base = 'efficientnet-x-b0'
objectives.OneSided.target_ms = 30.0
objectives.OneSided.penalty = 0.1
latency_sources.function.name = 'tests.support.toy_lacs:milliseconds'
accuracy_sources.function.name = 'tests.support.toy_lacs:top1'
"""


@pytest.mark.long
def test_a_baseline_of_equal_budget_and_the_report(tmp_path, capsys):
    gin_file, folder = tmp_path / "s.gin", tmp_path / "s"
    gin_file.write_text(BASELINE)
    command = [f"--gin_file={gin_file}", f"--search_dir={folder}", "--baseline"]
    assert status(blocks.main, *command) == Status.OK
    said = capsys.readouterr().out
    assert "1 point of top-1 buys" in said
    assert "at random: 12 of 12 evaluated" in said
    assert f"report: {folder / 'report.html'}" in said
    ours, drawn = result_files.read(folder), result_files.read(folder / "random")
    assert [len(ours), len(drawn)] == [12, 12]
    # The first ones are drawn in both; by evolution the later ones are better.
    assert {r.digest for r in ours} != {r.digest for r in drawn}
    below = search_folder.read(folder / "random")
    assert below["command"] == shlex.join(["python", "-m", "search.blocks", *command])
    config = below["config"]
    assert "BlockSearch.sampler = @baseline/samplers.RandomSearch()" in config
    kept = map(json.loads, (folder / "latency.jsonl").read_text().splitlines())
    assert {row["ms"] for row in kept} == {r.ms for r in ours}

    before = what(folder / "random")
    assert status(blocks.main, *command) == Status.OK
    assert what(folder / "random") == before
