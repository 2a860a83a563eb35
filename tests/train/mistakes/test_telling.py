"""Of a run on digits: what it tells at its end, and what it shows of them."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common.claims import Held
from input_pipeline.dataset_info import load_info
from input_pipeline.records import parse
from tests.support import processes
from tests.support.runs import experiment_of, run_tiny
from tests.train.mistakes.reports import FIVE, make, outcomes_of, picture
from train import run
from train.mistakes import page, pictures, telling
from train.telemetry.telemetry import Telemetry


@pytest.mark.long
def test_pictures_are_those_of_the_records(digits):
    """By their places in the split, in any order."""
    info, experiment = load_info(str(digits)), experiment_of(digits)
    paths = [f"{digits}/{shard.filename}" for shard in info.split("validation").shards]
    records = list(tf.data.TFRecordDataset(paths))
    places = [999, 0, 500]
    examples = [parse(records[n], info.fields, filename=True) for n in places]
    labels = [int(one["label"]) - info.label_offset for one in examples]
    found = pictures.read(experiment, info, places, labels, 32)
    for one, example in zip(found, examples, strict=True):
        assert one.file == bytes(example["filename"].numpy()).decode()
        whole = tf.io.decode_image(example["encoded"]).numpy()
        assert one.photo is not None
        assert one.seen is not None
        assert (one.photo == whole).all()
        assert one.seen.shape == (32, 32, 3)
        kind, data = pictures.encoded(one.photo)
        assert kind == "image/png"  # a small one, without loss
        assert (np.asarray(Image.open(io.BytesIO(data))) == one.photo).all()
    shards = info.split("validation").shards
    assert found[1].record == f"{shards[0].filename}, record 0"
    assert found[0].record == f"{shards[-1].filename}, record {shards[-1].records - 1}"
    assert pictures.read(experiment, info, [], [], 32) == []
    with pytest.raises(RuntimeError, match="the evaluation has seen one of class"):
        pictures.read(experiment, info, places[:1], [(labels[0] + 1) % 10], 32)


@pytest.mark.long
def test_a_record_that_has_gone_bad_has_no_picture(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "data")
    info = load_info(str(tmp_path / "data"))
    shard = tmp_path / "data" / info.split("validation").shards[0].filename
    data = bytearray(shard.read_bytes())
    data[40:60] = b"\xff" * 20  # of the first record
    shard.write_bytes(data)
    experiment = experiment_of(tmp_path / "data")
    (one,) = pictures.read(experiment, info, [0], [0], 32)
    assert one.problem == "the record cannot be read any more"
    assert one.record == f"{shard.name}, record 0"
    made = make(outcomes_of(FIVE[1]), pictures=[one])
    assert "record cannot be read any more" in page.render(made).decode()


def test_what_a_run_leaves(finished):
    """Page, summary and TensorBoard, and all of it agrees with the scores."""
    model_dir, summary = finished
    mistakes = summary["mistakes"]
    assert json.loads((model_dir / "summary.json").read_text())["mistakes"] == mistakes
    assert mistakes["page"] == "mistakes.html"
    assert mistakes["images"] == summary["eval_images"] == 1000
    assert mistakes["right"] / 1000 == summary["ema_top1"]
    counts = np.array(mistakes["confusion_matrix"]["counts"])
    assert np.trace(counts) == mistakes["right"]
    assert counts.sum(1).tolist() == [one["images"] for one in mistakes["classes"]]
    found = mistakes["confusions"]
    assert found[0]["images"] == (counts - np.diag(np.diag(counts))).max()
    assert sum(one["images"] for one in found) == mistakes["wrong"]
    assert page.is_ours((model_dir / "mistakes.html").read_bytes())
    tags = set()
    for path in (model_dir / "eval").iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {(value.tag, event.step) for value in event.summary.value}
    assert {(f"mistakes/{one}", 12) for one in ("worst/0", "classes")} <= tags
    assert ("mistakes/confusion_matrix/0", 12) in tags


def test_a_page_that_may_not_be_written_ends_nothing(tmp_path, capsys):
    """Somebody's own file, a folder, a folder that is a file: said, and left."""
    made = make(outcomes_of(*FIVE), pictures=[picture()] * 3)
    own = tmp_path / "mistakes.html"
    own.write_text("mine")
    (tmp_path / "folder.html").mkdir()
    for path in (own, tmp_path / "folder.html", own / "x.html"):
        assert telling.tell(made, str(path))["page"] is None
        said = capsys.readouterr().err
        assert said.startswith("warning: the page of the mistakes is not written: ")
        assert "taken for square (2): its page is not written" in said
    assert own.read_text() == "mine"
    own.unlink()
    for _ in range(2):  # the second time in place of the first
        assert telling.tell(made, str(own))["page"] == "mistakes.html"
        assert f"square (2): {own}\n" in capsys.readouterr().err
    assert page.is_ours(own.read_bytes())

    def taken():
        raise Held("another process has it")

    before = own.stat()
    with pytest.raises(Held):
        telling.tell(made, str(own), fence=taken)
    assert own.stat() == before
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [own.name]


class FakeEvaluator:
    """Has scored nothing yet, as in a process that finds the run at an early end."""

    def __init__(self):
        self.outcomes = None
        self.scored = []

    def score(self, path):
        self.scored.append(path)
        self.outcomes = outcomes_of(*FIVE)
        return {"checkpoint": path, "ema_top1": 0.4}


def test_a_run_that_had_ended_early_is_told_once(tmp_path, monkeypatch):
    """Also where the process was killed before its summary was written."""
    monkeypatch.setattr(telling, "make_report", lambda *_: make(outcomes_of(*FIVE)))

    class State:
        ema_model = None
        step = tf.constant(8)

    class Alone:
        is_chief = True
        broadcast = staticmethod(lambda value: value)

    def tell(evaluator):
        with Telemetry(
            str(tmp_path), global_batch_size=1, replicas=1, peak_teraflops=None
        ) as telemetry:
            return run.tell_mistakes(
                None,  # pyright: ignore[reportArgumentType]
                None,  # pyright: ignore[reportArgumentType]
                State,  # pyright: ignore[reportArgumentType]
                evaluator,
                f"{tmp_path}/ckpt-8",
                {"ema_top1": 0.4},
                processes=Alone,  # pyright: ignore[reportArgumentType]
                telemetry=telemetry,
                fence=lambda: None,
            )

    first = FakeEvaluator()
    told = tell(first)
    assert first.scored == [f"{tmp_path}/ckpt-8"]
    assert told["mistakes"]["wrong"] == 3
    summary = {"checkpoint": f"{tmp_path}/ckpt-8", "mistakes": told["mistakes"]}
    for text, times in (
        (json.dumps(summary), 0),  # all is there
        (json.dumps(summary | {"checkpoint": "ckpt-7"}), 1),
        (json.dumps({"checkpoint": f"{tmp_path}/ckpt-8"}), 1),  # of an older version
        ("{", 1),
    ):
        (tmp_path / "summary.json").write_text(text)
        again = FakeEvaluator()
        assert tell(again)["mistakes"] == told["mistakes"]
        assert len(again.scored) == times
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "mistakes.html").unlink()
    again = FakeEvaluator()
    tell(again)
    assert (tmp_path / "mistakes.html").exists()


@pytest.mark.slow
def test_killed_before_the_summary(digits, finished, tmp_path, monkeypatch):
    """The next start ends it, with the same summary; a kill leaves none of its own."""
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "mistakes.html").unlink()

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(telling, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(digits, tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()
    summary = run_tiny(digits, tmp_path / "run")
    assert summary["mistakes"] == finished[1]["mistakes"]
    html = (tmp_path / "run" / "mistakes.html").read_text()
    before = (finished[0] / "mistakes.html").read_text()
    assert html.count("<figure>") == before.count("<figure>") == 24


@pytest.mark.slow
def test_bad_records_and_none_of_it(digits, finished, tmp_path):
    """A record that is skipped keeps the places of the others; 0 tells nothing."""
    shutil.copytree(digits, tmp_path / "data")
    info = load_info(str(digits))
    shard = tmp_path / "data" / info.split("validation").shards[0].filename
    data = bytearray(shard.read_bytes())
    data[40:60] = b"\xff" * 20
    shard.write_bytes(data)
    skip = {"dataset.eval_dataset.on_bad_record": "skip"}
    experiment = experiment_of(tmp_path / "data", **skip)
    answer = run.evaluate(experiment, str(finished[0]), output=f"{tmp_path}/x.html")
    lost = answer["eval_skipped_records"]
    assert lost >= 1
    assert answer["mistakes"]["images"] == 1000 - lost
    known = {one["record"] for one in finished[1]["mistakes"]["worst"]}
    found = {one["record"] for one in answer["mistakes"]["worst"]}
    assert len(known & found) >= 24 - lost
    off = {"experiment.Experiment.mistake_images": 0}
    answer = run.evaluate(experiment_of(digits, **off), str(finished[0]))
    assert "mistakes" not in answer


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "workers"), [(2, 1), (1, 2)])
def test_replicas_and_processes_name_the_same_images(
    digits, finished, tmp_path, devices, workers
):
    """Their pictures are read by the places that the replicas' rows stand for."""
    shutil.copytree(finished[0], tmp_path / "run")
    strategy = "multi_worker" if workers > 1 else "mirrored"
    command = processes.command(
        digits,
        tmp_path / "run",
        {"experiment.Experiment.strategy": strategy},
        "--mode=eval",
        devices=devices,
    )
    processes.run(command, workers=workers)
    (answer,) = (tmp_path / "run" / "evaluations").glob("*.json")
    found = json.loads(answer.read_text())
    assert found["mistakes"]["right"] / 1000 == found["ema_top1"]
    one, other = (
        [(image["record"], image["class"]) for image in mistakes["worst"]]
        for mistakes in (finished[1]["mistakes"], found["mistakes"])
    )
    # Other programs of the same layers: of the least sure ones others may be shown.
    assert len(set(one) & set(other)) >= 20
