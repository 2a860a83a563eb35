"""Whose a folder is, and what is not written once it is somebody else's."""

import json
import shutil

import pytest

from common.claims import Held
from common.errors import UserError
from tests.support.saved import flip, restored, saves, set_to, variables
from train import evaluation
from train.checkpoints import bundle, ownership
from train.checkpoints.manager import Checkpoints
from train.telemetry.telemetry import Telemetry


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
    run = ownership.begin(str(tmp_path))
    assert len(run) == 32
    assert json.loads((tmp_path / "run.json").read_text()) == {"run": run}
    saves(tmp_path, 10, run=run)
    assert ownership.begin(str(tmp_path)) == run
    assert ownership.read(str(tmp_path)) == run
    (tmp_path / "run.json").unlink()  # as where checkpoints alone were copied
    assert ownership.begin(str(tmp_path)) == run


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
    run = ownership.begin(str(folder))
    assert restored(folder) == 20
    saves(folder, 30, run=run)
    assert ownership.begin(str(folder)) == run


def test_a_checkpoint_of_another_run_is_refused(folder, tmp_path):
    """It was put over ours, or beside them; here or where the best one is."""
    run = ownership.begin(str(folder))
    saves(tmp_path / "other", 20, 30, run="theirs")
    best = folder / "best"
    saves(best, 20, run=run)
    ownership.refuse_foreign(str(best))
    for file in (tmp_path / "other").glob("ckpt-20.*"):
        shutil.copy(file, folder)
        shutil.copy(file, best)
    before = contents(folder)
    said = foreign(f"{folder}/ckpt-20", "theirs", run)
    assert refusal(ownership.begin, str(folder)) == said
    assert refusal(ownership.refuse_foreign, str(folder)) == said
    assert refusal(ownership.refuse_foreign, str(best)) == foreign(
        f"{best}/ckpt-20", "theirs", run
    )
    # What is corrupt tells of no run, and is passed over as ever.
    flip(folder / "ckpt-20.index", 5)
    ownership.refuse_foreign(str(folder))
    assert contents(folder).keys() == before.keys()


@pytest.mark.parametrize(
    "name", ["summary.json", "operative_config.gin", "metrics.jsonl", "eval.jsonl"]
)
def test_files_of_somebody_else_are_refused(tmp_path, name):
    (tmp_path / name).write_text("theirs")
    assert refusal(ownership.begin, str(tmp_path)) == (
        f"{tmp_path} holds a {name}, but neither run.json nor a checkpoint: it is no "
        "run's folder. Name another one, or move that file elsewhere"
    )
    assert contents(tmp_path) == {name: b"theirs"}


def test_other_files_are_nobodys_business(tmp_path):
    (tmp_path / "NOTES.md").write_text("theirs")
    ownership.begin(str(tmp_path))
    assert contents(tmp_path)["NOTES.md"] == b"theirs"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"run": 7}', '{"name": "x"}'])
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
    checkpoints = Checkpoints(held, str(folder), keep=1, fence=taken_over)
    assert checkpoints.restore_newest() == f"{folder}/ckpt-20"
    set_to(held, 30)
    with pytest.raises(Held):
        checkpoints.check()
    # And where it is taken over between that look and the commit.
    with pytest.raises(Held, match=r"^the folder is held by another process$"):
        checkpoints._write(checkpoints._snapshot())
    assert contents(folder) == before


def test_a_rotation_stops_at_the_fence(folder):
    """It is taken over right behind the commit."""
    passes = iter([None])

    def fence():
        if next(passes, taken_over):
            taken_over()

    held = variables(30)
    checkpoints = Checkpoints(held, str(folder), keep=1, fence=fence)
    with pytest.raises(Held):
        checkpoints._write(checkpoints._snapshot())
    assert bundle.steps(str(folder)) == {10, 20, 30}


def test_the_best_one_is_not_replaced_behind_the_fence(folder):
    scores = {"checkpoint": f"{folder}/ckpt-10", "ema_top1": 0.5}
    assert evaluation.keep_best(str(folder), scores)
    before = contents(folder / "best")
    better = {"checkpoint": f"{folder}/ckpt-20", "ema_top1": 0.6}
    with pytest.raises(Held):
        evaluation.keep_best(str(folder), better, taken_over)
    assert contents(folder / "best") == before


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
