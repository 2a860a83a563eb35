"""Whose a folder is, and what is not written once it is somebody else's."""

import contextlib
import json
import os
import shutil

import pytest

from common.claims import Held
from common.errors import UserError
from tests.support.saved import flip, restored, saves, set_to, variables
from train import evaluation, run_folder
from train.checkpoints import bundle, ownership
from train.checkpoints.manager import Checkpoints
from train.distribution.cluster import Cluster
from train.telemetry.telemetry import Telemetry

THEIRS = "7" * 32


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def foreign(path, theirs, ours):
    return (
        f"{path} is a checkpoint of another run ({theirs}) than that of this folder "
        f"({ours}, says run.json); move its files elsewhere: to begin from them is "
        "Experiment.pretrained"
    )


def refusal(function, *arguments) -> str:
    with pytest.raises(UserError) as refused:
        function(*arguments)
    return str(refused.value)


def test_a_run_keeps_its_name(tmp_path):
    owner = ownership.begin(str(tmp_path))
    assert len(owner) == 32
    assert json.loads((tmp_path / "run.json").read_text()) == {"run": owner}
    saves(tmp_path, 10, run=owner)
    assert ownership.begin(str(tmp_path)) == owner
    assert ownership.read(str(tmp_path)) == owner
    (tmp_path / "run.json").unlink()  # as where checkpoints alone were copied
    assert ownership.begin(str(tmp_path)) == owner


def test_runs_have_names_of_their_own(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (ownership.begin(f"{tmp_path}/{name}") for name in ("one", "other"))
    assert one != other


def test_a_run_of_an_earlier_version_gets_a_name(folder):
    for path in folder.glob("*.json"):  # whose manifests name none
        manifest = json.loads(path.read_text())
        assert manifest.pop("run") is None
        path.write_text(json.dumps(manifest))
    owner = ownership.begin(str(folder))
    assert restored(folder) == 20
    saves(folder, 30, run=owner)
    assert ownership.begin(str(folder)) == owner


def test_a_checkpoint_of_another_run_is_refused(folder, tmp_path):
    """It was put over ours, or beside them; here or where the best one is."""
    owner = ownership.begin(str(folder))
    saves(tmp_path / "other", 20, 30, run=THEIRS)
    best = folder / "best"
    saves(best, 20, run=owner)
    ownership.refuse_foreign(str(best))
    for file in (tmp_path / "other").glob("ckpt-20.*"):
        shutil.copy(file, folder)
        shutil.copy(file, best)
    before = contents(folder)
    said = foreign(f"{folder}/ckpt-20", THEIRS, owner)
    assert refusal(ownership.begin, str(folder)) == said
    assert refusal(ownership.refuse_foreign, str(folder)) == said
    assert refusal(ownership.refuse_foreign, str(best)) == foreign(
        f"{best}/ckpt-20", THEIRS, owner
    )
    # What is corrupt tells of no run, and is passed over as ever.
    flip(folder / "ckpt-20.index", 5)
    ownership.refuse_foreign(str(folder))
    assert contents(folder).keys() == before.keys()


@pytest.mark.parametrize(
    "name",
    [
        "summary.json",
        "data.json",
        "operative_config.gin",
        "metrics.jsonl",
        "eval.jsonl",
        "non_finite",
        "ckpt-3.data-00000-of-00001",
        "ckpt-4.json",
    ],
)
def test_files_of_somebody_else_are_refused(tmp_path, name):
    """Or of a run whose checkpoints somebody has deleted."""
    (tmp_path / name).write_text("theirs")
    said = (
        f"{tmp_path} holds no checkpoint of a run to go on with, but {name}: %s. To "
        "begin anew there, move all of these out of the folder; or name another one"
    )
    assert refusal(ownership.begin, str(tmp_path)) == said % "somebody else's"
    assert contents(tmp_path) == {name: b"theirs"}
    (tmp_path / "run.json").write_text(json.dumps({"run": THEIRS}))
    assert refusal(ownership.begin, str(tmp_path)) == said % "what is left of a run"


def test_a_run_that_begins_anew_has_another_name(tmp_path):
    first = ownership.begin(str(tmp_path))
    assert ownership.begin(str(tmp_path)) != first  # killed before its ckpt-0
    saves(tmp_path / "best", 10, run=first)
    (tmp_path / "eval.jsonl").touch()
    said = refusal(ownership.begin, str(tmp_path))
    assert "but eval.jsonl, best/: what is left of a run." in said


def test_a_run_that_was_killed_when_it_wrote_its_first_one_goes_on(tmp_path):
    """For the second time, under other settings: it had written the rest already."""
    owner = ownership.begin(str(tmp_path))
    saves(tmp_path, 0, run=owner)
    (tmp_path / "operative_config.gin").touch()
    (tmp_path / "ckpt-0.index").unlink()
    assert ownership.begin(str(tmp_path)) == owner


@pytest.mark.parametrize(
    "content",
    [
        *(b"[]", b"null", b"hello", b"{}", b"[" * 200_000, b"\xe9", b"\xff\xfe{\0"),
        *(b'{"run": %s}' % value for value in (b"5", b'"ab"', b"null", b"1" * 5000)),
        b'{"run": "%s"}' % (b"A" * 32),
        b'{"run": "%s", "note": 1}' % (b"0" * 32),
    ],
)
def test_a_run_json_that_names_none(folder, content):
    (folder / "run.json").write_bytes(content)
    before = contents(folder)
    said = f"{folder}/run.json names no run: it is damaged, or no file of this project"
    assert refusal(ownership.begin, str(folder)).startswith(said)
    assert contents(folder) == before


def test_names_of_any_bytes_are_no_hindrance(folder, tmp_path):
    for place in (folder, tmp_path / "new"):
        place.mkdir(exist_ok=True)
        (place / os.fsdecode(b"caf\xe9")).touch()
        assert len(ownership.begin(str(place))) == 32
        ownership.refuse_foreign(str(place))


def test_an_empty_run_json_is_none(tmp_path):
    """Which a power cut may leave."""
    (tmp_path / "run.json").touch()
    owner = ownership.begin(str(tmp_path))
    assert ownership.read(str(tmp_path)) == owner
    # Beside the first checkpoint, which knows its run; without one it was put there.
    saves(tmp_path, 0, run=THEIRS)
    (tmp_path / "run.json").write_bytes(b"")
    assert ownership.begin(str(tmp_path)) == THEIRS
    (tmp_path / "run.json").unlink()
    said = refusal(ownership.begin, str(tmp_path))
    assert said == foreign(f"{tmp_path}/ckpt-0", THEIRS, "none")


def test_a_run_may_be_called_best(tmp_path):
    for name in (".", "best"):
        (tmp_path / name).mkdir(exist_ok=True)
    above, owner = (ownership.begin(f"{tmp_path}/{name}") for name in (".", "best"))
    assert above != owner
    saves(tmp_path / "best", 10, run=owner)
    ownership.refuse_foreign(f"{tmp_path}/best")
    saves(tmp_path / "best", 20, run=THEIRS)
    with pytest.raises(UserError):
        ownership.refuse_foreign(f"{tmp_path}/best")


def test_scores_of_what_a_run_is_to_start_from_are_its_own(tmp_path):
    summary = tmp_path / "summary.json"
    summary.write_text('{"variant": "tiny", "steps": 0}')
    ownership.begin(str(tmp_path))


@pytest.mark.parametrize(
    "text", ['{"thesis": 1, "steps": 0}', '{"accuracy": 1}', "[]", "theirs"]
)
def test_another_summary_is_refused_beside_checkpoints(folder, text):
    ownership.begin(str(folder))
    (folder / "summary.json").write_text(text)
    assert refusal(ownership.begin, str(folder)) == (
        f"{folder}/summary.json is not what a run writes there: move it elsewhere, or "
        "name another folder"
    )


@pytest.mark.parametrize("suffix", [".json", ".index"])
def test_a_pipe_is_not_waited_for(folder, suffix):
    (folder / f"ckpt-20{suffix}").unlink()
    os.mkfifo(folder / f"ckpt-20{suffix}")
    assert refusal(ownership.begin, str(folder)) == (
        f"cannot read {folder}/ckpt-20{suffix}: it is a named pipe; move it away"
    )


def test_the_folder_above_decides_for_the_best_alone(tmp_path):
    owner = ownership.begin(str(tmp_path))
    saves(tmp_path / "best", 10, run=THEIRS)
    saves(tmp_path / "copied", 10, run=THEIRS)
    ownership.refuse_foreign(str(tmp_path / "copied"))
    assert refusal(ownership.refuse_foreign, str(tmp_path / "best")) == foreign(
        f"{tmp_path}/best/ckpt-10", THEIRS, owner
    )


class Process:
    """One of two; what the chief broadcasts."""

    def __init__(self, *, number, told=()):
        self.cluster = Cluster(("a:1", "b:1"), number)
        self.told = list(told)

    def broadcast(self, value):
        if self.cluster.is_chief:
            self.told.append(value)
        return self.told[-1]


def not_asked():
    raise AssertionError("no run has begun here")


def enter(folder, process):
    with contextlib.ExitStack() as stack:
        settings = {"accept_changes": False, "with_evaluation": True}
        claim = run_folder.claim(
            str(folder),
            process.cluster,
            stack,
            config=None,
            compare_data=not_asked,
            **settings,
        )
        run_folder.agree(claim, str(folder), process)
        return claim


def test_what_the_chief_is_refused_is_refused_to_all(tmp_path):
    chief = Process(number=0)
    assert enter(tmp_path, chief).name == ownership.read(str(tmp_path))
    assert chief.told == [1]
    assert enter(tmp_path, Process(number=1, told=[1])).name is None
    (tmp_path / "run.json").write_text("theirs")
    assert "run.json names no run" in refusal(enter, tmp_path, chief)
    assert chief.told == [1, 0]
    assert refusal(enter, tmp_path, Process(number=1, told=[0])) == (
        f"the chief is refused {tmp_path}; it says why"
    )


def test_a_first_checkpoint_that_is_not_ours_is_not_replaced(tmp_path):
    for name in ("ckpt-0.index", "ckpt-0.data-00000-of-00001"):
        (tmp_path / name).write_text("theirs")
    before = contents(tmp_path)
    assert refusal(ownership.begin, str(tmp_path)) == (
        f"{tmp_path}/ckpt-0 is damaged, or no checkpoint of this project "
        f"({tmp_path}/ckpt-0.json; No such file or directory); name another folder, or "
        "move its files elsewhere"
    )
    assert contents(tmp_path) == before


def test_checkpoints_of_others_in_a_fresh_folder_are_refused(tmp_path):
    for name in ("ckpt-7.index", "ckpt-7.data-00000-of-00001"):
        (tmp_path / name).write_text("theirs")
    before = contents(tmp_path)
    assert refusal(ownership.begin, str(tmp_path)).startswith(
        f"{tmp_path}/ckpt-7 is damaged, or no checkpoint of this project ("
    )
    (tmp_path / "best").mkdir()
    for name in list(before):
        (tmp_path / name).rename(tmp_path / "best" / name)
    assert "but best/: somebody else's." in refusal(ownership.begin, str(tmp_path))
    saves(tmp_path, 10)
    assert refusal(ownership.begin, str(tmp_path)) == (
        f"{tmp_path}/best/ckpt-7 is no checkpoint of this project (it has no .json); "
        "move its files elsewhere, or name another folder"
    )
    assert contents(tmp_path / "best") == before
    assert not (tmp_path / "run.json").exists()


def test_the_first_checkpoint_of_another_run_is_not_made_again(tmp_path):
    """Else what comes after it would pass for this run's, too."""
    saves(tmp_path, 0, run=THEIRS)
    before = contents(tmp_path)
    said = foreign(f"{tmp_path}/ckpt-0", THEIRS, "none")
    assert refusal(ownership.begin, str(tmp_path)) == said
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["best", "hosts", "train", "eval", "non_finite", "evaluations"]
)
def test_a_folder_of_a_run_is_no_link(tmp_path, name):
    run_dir, theirs = tmp_path / "run", tmp_path / "theirs"
    run_dir.mkdir()
    theirs.mkdir()
    (theirs / "host-0.json").write_text("theirs")
    (run_dir / name).symlink_to(theirs)
    assert refusal(ownership.begin, str(run_dir)) == (
        f"{run_dir}/{name} is a link, and a run goes through none: put the whole "
        "folder of the run behind a link, or name another one"
    )
    with pytest.raises(UserError), run_folder.hold_best(str(run_dir)):
        pass
    assert contents(theirs) == {"host-0.json": b"theirs"}


def test_what_is_no_heartbeat_stays(tmp_path):
    (tmp_path / "hosts").mkdir()
    beat = tmp_path / "hosts" / "host-0.json"
    beat.write_text('{"host": 0, "pid": 7, "of": "an earlier version"}')
    ownership.begin(str(tmp_path))
    beat.write_text("theirs")
    assert refusal(ownership.begin, str(tmp_path)) == (
        f"{beat} is no heartbeat of a run: move it elsewhere, or name another folder"
    )
    assert beat.read_text() == "theirs"


def test_other_files_are_nobodys_business(tmp_path):
    (tmp_path / "NOTES.md").write_text("theirs")
    ownership.begin(str(tmp_path))
    assert contents(tmp_path)["NOTES.md"] == b"theirs"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"run": 7}',
        '{"run": "my tuesday run"}',
        '{"run": "0123456789abcdef0123456789abcdef", "notes": "three weeks"}',
        "[" * 99_999,
    ],
)
def test_another_run_json_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert refusal(ownership.begin, str(tmp_path)).startswith(
        f"{tmp_path}/run.json names no run: it is damaged, or no file of this project"
    )
    assert (tmp_path / "run.json").read_text() == text


def taken_over():
    raise Held("the folder is held by another process")


def test_nothing_is_written_or_deleted_behind_the_fence(folder):
    before = contents(folder)
    held = variables()
    of_others = r"^the folder is held by another process$"
    checkpoints = Checkpoints(held, str(folder), keep=2, fence=taken_over)
    assert checkpoints.restore_newest() == f"{folder}/ckpt-20"
    set_to(held, 30)
    with pytest.raises(Held, match=of_others):
        checkpoints._write(checkpoints._snapshot(), preempted=False)
    assert contents(folder) == before
    checkpoints = Checkpoints(held, str(folder), keep=1, fence=taken_over)
    with pytest.raises(Held, match=of_others):
        checkpoints.restore_newest()  # which deletes what need not stay
    assert contents(folder) == before


def test_only_what_names_this_run_is_left_of_it(tmp_path):
    """Of a deletion that was cut short; not what somebody is copying there."""
    saves(tmp_path, 1, 2, 3, run="ours")
    for name in ("ckpt-1.index", "ckpt-2.index", "ckpt-2.json"):
        (tmp_path / name).unlink()
    saves(tmp_path / "other", 1, run="theirs")
    (tmp_path / "other" / "ckpt-1.json").rename(tmp_path / "ckpt-0.json")
    before = contents(tmp_path)
    saves(tmp_path, 10, run="ours")
    gone = before.keys() - contents(tmp_path).keys()
    assert gone == {"ckpt-1.json", "ckpt-1.data-00000-of-00001"}


def test_a_rotation_stops_at_the_fence(folder):
    """It is taken over right behind the commit."""
    passes = iter([None] * 4)  # of an index that goes, and three files

    def fence():
        if next(passes, taken_over):
            taken_over()

    held = variables(30)
    checkpoints = Checkpoints(held, str(folder), keep=1, fence=fence)
    with pytest.raises(Held):
        checkpoints._write(checkpoints._snapshot(), preempted=False)
    assert bundle.steps(str(folder)) == {10, 20, 30}


def test_the_best_one_is_not_replaced_behind_the_fence(folder):
    scores = {"checkpoint": f"{folder}/ckpt-10", "ema_top1": 0.5}
    assert evaluation.keep_best(str(folder), scores)
    before = contents(folder / "best")
    better = {"checkpoint": f"{folder}/ckpt-20", "ema_top1": 0.6}
    with pytest.raises(Held):
        evaluation.keep_best(str(folder), better, taken_over)
    assert contents(folder / "best") == before


def test_of_best_ones_only_what_can_be_read_is_deleted(folder):
    scores = {"checkpoint": f"{folder}/ckpt-10", "ema_top1": 0.5}
    assert evaluation.keep_best(str(folder), scores)
    theirs = {f"ckpt-7{suffix}": b"theirs" for suffix in (".json", ".index")}
    for name, text in theirs.items():
        (folder / "best" / name).write_bytes(text)
    assert evaluation.keep_best(
        str(folder), {"checkpoint": f"{folder}/ckpt-20", "ema_top1": 0.6}
    )
    left = contents(folder / "best")
    assert "ckpt-10.index" not in left
    assert theirs.items() <= left.items()


def test_one_best_is_left_where_a_kill_has_left_two(folder):
    """Between the copy of the better one and the deletion of the one before."""
    for step in (10, 20):
        bundle.copy(f"{folder}/ckpt-{step}", f"{folder}/best")
        (folder / "best" / f"scores-ckpt-{step}.json").write_text('{"ema_top1": 0.5}')
    scores = {"checkpoint": f"{folder}/ckpt-10", "ema_top1": 0.4}
    assert not evaluation.keep_best(str(folder), scores)
    assert bundle.steps(f"{folder}/best") == {20}
    assert not (folder / "best" / "scores-ckpt-10.json").exists()


def test_no_number_is_written_behind_the_fence(tmp_path):
    telemetry = Telemetry(
        str(tmp_path),
        global_batch_size=1,
        replicas=1,
        peak_teraflops=None,
        fence=taken_over,
    )
    with pytest.raises(Held):
        telemetry.event(10, "resumed")
    with pytest.raises(Held):
        telemetry.close()
    assert contents(tmp_path) == {}
