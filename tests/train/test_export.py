"""The SavedModel: what it computes, for whom, and what it is checked against."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from common.files import tree
from input_pipeline.records import load_info
from tests.support.disk import full_disk
from tests.support.folders import content
from tests.support.rounding import rounding
from tests.support.tiny import TERMS
from train import classify, config, evaluation, export, serving
from train.exports import export_folder, export_target, saved_model


def saved(model_dir):
    return config.parse([], [], model_dir=str(model_dir))


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """The folder of a SavedModel, and the report of its making."""
    model_dir, folder = str(finished[0]), str(tmp_path_factory.mktemp("export") / "e")
    return folder, saved_model.export(saved(model_dir), model_dir, folder)


def test_export_and_classify(digits, finished, exported):
    """A new process that knows TensorFlow alone predicts what evaluation predicted."""
    summary = finished[1]
    folder, report = exported
    assert report["images_compared"] == 1000
    assert report["largest_logit_difference"] <= rounding(
        TERMS, report["largest_logit"]
    )
    command = f"""
import sys
from train import classify
flags = ["--export_dir={folder}", "--show=3", "--tfrecords={digits}/validation-*"]
assert classify.main(flags) == 0
ours = {{"models", "input_pipeline", "orbit", "official", "gin"}} & set(sys.modules)
assert not ours, ours
"""
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    right = round(summary["ema_top1"] * 1000)
    assert f"SavedModel in a new process: {right:,} of 1,000 right" in done.stdout
    assert "equal to the trainer's: 1,000 of 1,000" in done.stdout


def test_signatures(exported):
    loaded = tf.saved_model.load(exported[0])
    jpeg = tf.io.encode_jpeg(tf.fill([28, 28, 3], tf.constant(90, tf.uint8)))
    png = tf.io.encode_png(tf.fill([28, 28, 3], tf.constant(90, tf.uint8)))
    pixels = tf.fill([3, 32, 32, 3], tf.constant(90, tf.uint8))
    from_bytes = loaded.signatures["serving_default"](tf.stack([jpeg, png, jpeg]))
    from_uint8 = loaded.signatures["images_uint8"](pixels)
    from_float = loaded.signatures["images"](tf.cast(pixels, tf.float32))
    for outputs in (from_bytes, from_uint8, from_float):
        assert outputs["probabilities"].shape == (3, 10)
        largest = float(np.abs(from_float["logits"]).max())
        np.testing.assert_allclose(
            outputs["logits"],
            from_float["logits"],
            rtol=0,
            atol=rounding(TERMS, largest),
        )
        np.testing.assert_allclose(
            tf.reduce_sum(outputs["probabilities"], -1), 1, rtol=rounding(10)
        )
        ids = outputs["class_ids"].numpy()
        assert ids.tolist() == outputs["probabilities"].numpy().argmax(-1).tolist()
        assert outputs["class_names"].numpy().tolist() == [b"%d" % i for i in ids]


def test_other_logits_are_refused(digits, finished, exported):
    """Raw weights stand in for a SavedModel that went wrong."""
    folder, report = exported
    experiment, info = (
        saved(finished[0]),
        load_info(str(digits)),
    )
    models = evaluation.build_models(experiment, info, [""])
    evaluation.restore_into(models, report["checkpoint"])
    with pytest.raises(
        export_folder.StaysAside, match="logits differ from the evaluation's by"
    ):
        saved_model.compare(experiment, info, models[""], folder, check_images=300)


def test_command_line_takes_the_best(finished, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        saved_model, "export", lambda *a, **k: asked.append(a[1:]) or {}
    )
    flags = [f"--model_dir={finished[0]}", f"--export_dir={tmp_path}/e"]
    for more in ([], ["--best"]):
        assert export.main([*flags, *more]) == 0
    folders = [str(finished[0]), f"{finished[0]}/best"]
    assert asked == [(folder, f"{tmp_path}/e") for folder in folders]
    experiment = saved(finished[0])
    info = load_info(experiment.data_dir)
    _, path = saved_model.averaged_model(experiment, info, folders[1])
    assert path == f"{folders[1]}/ckpt-12"
    assert capsys.readouterr().out == "{}\n{}\n"


def test_export_leaves_a_foreign_folder_alone(finished, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and has no assets\.extra/files"):
        saved_model.export(saved(finished[0]), str(finished[0]), str(tmp_path))
    assert content(tmp_path) == {"precious.txt": b"mine"}


def test_an_export_knows_itself(exported):
    """Its list holds what TensorFlow has written, too, by names that are known."""
    folder = Path(exported[0])
    assert [path.name for path in folder.parent.iterdir()] == ["e"]
    export_target.refuse(str(folder), {})
    listed = json.loads((folder / export_target.LIST).read_text())
    written = {name for name, what in tree(str(folder)).items() if what == "file"}
    assert written == {*listed, export_target.LIST}


@pytest.fixture
def quick(monkeypatch):
    """A model that is nothing but two weights, whose images nobody compares."""

    class Servable(tf.Module):
        def __init__(self, model, names):
            super().__init__()
            self.weights = tf.Variable(tf.ones([2]))
            self.signature_functions = {}

    monkeypatch.setattr(saved_model, "averaged_model", lambda *_: (None, "ckpt-12"))
    monkeypatch.setattr(saved_model, "Servable", Servable)
    monkeypatch.setattr(saved_model, "compare", lambda *_: ({}, "filename\n"))


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_full_leaves_the_older_export(finished, tmp_path):
    def export():
        arguments = saved(finished[0]), str(finished[0]), str(tmp_path / "e")
        saved_model.export(*arguments)

    export()
    before = content(tmp_path)
    with full_disk(), pytest.raises(UserError, match=r"^cannot write .*; free some sp"):
        export()
    assert content(tmp_path) == before
    export()
    assert os.listdir(tmp_path) == ["e"]


@pytest.mark.parametrize("what", ["run", "data", "pretrained"])
def test_the_sources_of_an_export_are_not_replaced(finished, tmp_path, what):
    experiment = saved(finished[0])
    folders = {"run": finished[0], "data": experiment.data_dir}
    folder = str(folders.get(what, tmp_path / "weights"))
    if what == "pretrained":
        experiment = dataclasses.replace(experiment, pretrained=f"{folder}/model.ckpt")
    with pytest.raises(UserError, match=rf"{folder} is or contains (the|its) {what}"):
        saved_model.export(experiment, str(finished[0]), folder)


@pytest.mark.usefixtures("quick")
def test_logits_that_differ_leave_what_has_them_aside(finished, tmp_path, monkeypatch):
    def differ(*arguments):
        raise export_folder.StaysAside(f"see {arguments[3]}, which stays")

    monkeypatch.setattr(saved_model, "compare", differ)
    with pytest.raises(UserError) as differs:
        saved_model.export(saved(finished[0]), str(finished[0]), f"{tmp_path}/e")
    (aside,) = tmp_path.iterdir()
    assert str(differs.value) == f"see {aside}, which stays"
    assert (aside / "saved_model.pb").exists()


def test_classify_names_the_file_that_does_not_decode(exported, tmp_path):
    good, broken = tmp_path / "good.jpg", tmp_path / "broken.jpg"
    jpeg = tf.io.encode_jpeg(tf.fill([28, 28, 3], tf.constant(90, tf.uint8))).numpy()
    good.write_bytes(jpeg)
    broken.write_bytes(jpeg[:200])
    (result,) = serving.classify(exported[0], serving.read_files([str(good)]))
    assert (result.name, result.truth) == (str(good), None)
    images = serving.read_files([str(good), str(broken)])
    with pytest.raises(UserError, match=rf"{broken} is no JPEG or PNG"):
        list(serving.classify(exported[0], images))
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.jpg"):
        list(serving.read_files([str(tmp_path / "nowhere.jpg")]))


def test_classify_says_no_when_the_trainer_said_otherwise(exported, digits, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(exported[0], folder)
    table = folder / "assets.extra" / "predictions.csv"
    name, label, class_id = table.read_text().splitlines()[1].split(",")
    other = (int(class_id) + 1) % 10
    table.write_text(f"filename,label,class_id\n{name},{label},{other}\n")
    flags = [f"--export_dir={folder}", f"--tfrecords={digits}/validation-*"]
    assert classify.main(flags) == 1
    flags[0] = f"--export_dir={tmp_path}/nowhere"
    assert classify.main(flags) == 2


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ("image/encoded", "image/class/label", "image/filename")),
        ({"image": "x", "label": "y", "filename": "z"}, ("x", "y", "z")),
    ],
)
def test_records_are_read_by_the_fields_of_the_models_data(tmp_path, fields, names):
    image, label, name = names
    features = {
        image: {"bytes_list": {"value": [b"jpeg"]}},
        label: {"int64_list": {"value": [3]}},
        name: {"bytes_list": {"value": [b"a.jpg"]}},
    }
    with tf.io.TFRecordWriter(str(tmp_path / "test.tfrecord")) as writer:
        record = tf.train.Example(features={"feature": features})
        writer.write(record.SerializeToString())
    (tmp_path / "assets.extra").mkdir()
    check = {"label_offset": 0} | ({"fields": fields} if fields else {})
    (tmp_path / "assets.extra" / "check.json").write_text(json.dumps(check))
    found = serving.read_tfrecords(str(tmp_path / "*.tfrecord"), str(tmp_path))
    assert list(found) == [("a.jpg", b"jpeg", 3)]


def test_records_without_a_name_are_not_compared(tmp_path, capsys):
    (tmp_path / "assets.extra").mkdir()
    table = "filename,label,class_id\n,0,1\n,1,0\n"
    (tmp_path / "assets.extra" / "predictions.csv").write_text(table)
    results = [serving.Result("", 1, "b", 0.9, 1), serving.Result("", 0, "a", 0.9, 0)]
    assert serving.summarize(results, str(tmp_path))
    assert "2 of 2 right" in capsys.readouterr().out
