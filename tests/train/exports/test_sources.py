"""Where an export gets the names of the classes from, and what it is compared on."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common.errors import UserError
from input_pipeline import dataset_info, records
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.preprocess import THE_REFERENCE
from tests.support.runs import experiment_of
from train import config, evaluation, run_data
from train.exports import comparison, predictions, sources
from train.exports.sources import Source

DIGITS = tuple("0123456789")
NO_CHECK = (
    "name photos to compare the SavedModel on (--check_images PATH ...), or leave the "
    "comparison out (--no_check)"
)


@pytest.fixture
def data(tmp_path):
    """Function: a folder with records of these classes, and its description."""

    def make(names=DIGITS, number=3, split="validation", grey=9):
        folder = tmp_path / f"of_{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        pixels = tf.io.encode_jpeg(np.full([8, 8, 3], grey, np.uint8)).numpy()
        text = {"synset": "", "text": "", "filename": "a.jpg"}
        example = records.make_example(pixels, label=1, height=8, width=8, **text)
        shard = records.write_shard(f"{folder}/{split}-0", [example] * number)
        info = DatasetInfo("some", 1, tuple(names), {split: SplitInfo((shard,))})
        dataset_info.write_info(info, str(folder))
        return str(folder), info

    return make


@pytest.fixture
def run(data, tmp_path):
    """Function: the folder of a run on such data, or of one of an earlier version."""

    def make(known=None):
        folder = tmp_path / "run"
        folder.mkdir()
        if known is not None:
            split = run_data.split_data("validation", known)
            of_run = run_data.RunData(
                *(known.name, known.label_offset, known.label_names, known.fields),
                *(split, split, "/mnt/digits"),
            )
            run_data.write(of_run, str(folder))
        return str(folder)

    return make


def test_the_run_knows_its_classes_without_its_data(run, data):
    _, info = data()
    experiment, model_dir = experiment_of("/mnt/gone"), run(info)
    classes = dataclasses.replace(info, splits={})
    wanted = Source(classes, None, "there is no folder /mnt/gone")
    assert sources.find(experiment, model_dir, compares=True) == wanted
    best = sources.find(experiment, f"{model_dir}/best", compares=True)
    assert best == wanted
    assert sources.find(experiment, model_dir, compares=False) == Source(classes, None)


def test_other_names_are_not_taken(run, data):
    _, info = data()
    folder, _ = data(["no", "yes"])
    with pytest.raises(UserError) as refused:
        sources.find(experiment_of(folder), run(info), compares=True)
    assert "some has other classes than" in str(refused.value)
    assert "10 classes -> 2 classes" in str(refused.value)
    assert str(refused.value).endswith(f"in the same order; or {NO_CHECK}")


def test_the_runs_own_data_are_compared_without_a_word(run, data, capsys):
    folder, info = data()
    found = sources.find(experiment_of(folder), run(info), compares=True)
    assert found == Source(dataclasses.replace(info, splits={}), info)
    assert capsys.readouterr().err == ""


def test_other_images_are_said(run, data, capsys):
    _, info = data()
    folder, other = data(grey=8)
    found = sources.find(experiment_of(folder), run(info), compares=True)
    assert found.data == other
    assert capsys.readouterr().err == (
        f"warning: split validation of {folder} is not the one that the run scores: 3 "
        "images, and there were others; the SavedModel is compared on them all the "
        "same\n"
    )


def test_data_without_the_split_are_none(run, data):
    _, info = data()
    folder, _ = data(split="test")
    found = sources.find(experiment_of(folder), run(info), compares=True)
    assert (found.data, found.why_no_data) == (
        None,
        "dataset some has no split 'validation': choose one of test",
    )


def test_a_bucket_that_cannot_be_reached_is_no_data(run, data, monkeypatch):
    def fail(_):
        raise tf.errors.PermissionDeniedError(None, None, "no credentials\nmore")

    monkeypatch.setattr(sources, "load_info", fail)
    _, info = data()
    found = sources.find(experiment_of("gs://b/digits"), run(info), compares=True)
    assert (found.data, found.why_no_data) == (None, "no credentials")


def test_an_earlier_run_takes_the_names_of_the_data(run, data, capsys):
    folder, info = data()
    model_dir = run()
    found = sources.find(experiment_of(folder), model_dir, compares=True)
    assert found == Source(info, info)
    assert capsys.readouterr().err == (
        f"{model_dir} has no data.json: its classes are called as those of {folder}\n"
    )


def test_names_that_nobody_knows(run):
    model_dir = run()
    with pytest.raises(UserError) as refused:
        sources.find(experiment_of("/mnt/gone"), model_dir, compares=False)
    assert str(refused.value) == (
        f"{model_dir} has no data.json, as runs of earlier versions, and there is no "
        "folder /mnt/gone: nobody knows the names of its classes. Name the folder of "
        "its data: --gin_param=\"experiment.Experiment.data_dir = 'DIR'\""
    )


class Outputs:
    """As many as digits."""

    output_shape = (None, 10)


def test_more_outputs_than_names(capsys):
    info = DatasetInfo("pairs", 1, ("no", "yes"), {})
    with pytest.raises(UserError) as refused:
        sources.check_outputs(experiment_of("x"), info, Outputs())  # pyright: ignore
    assert str(refused.value) == (
        "the model has 10 outputs, and pairs has 2 classes ('no', 'yes'): name the "
        "data that it has learnt (experiment.Experiment.data_dir). If the other "
        "outputs stand for nothing: "
        "--gin_param=\"experiment.Experiment.intended = ['spare_outputs']\""
    )
    meant = experiment_of("x", **{"experiment.Experiment.intended": ["spare_outputs"]})
    sources.check_outputs(meant, info, Outputs())  # pyright: ignore
    sources.check_outputs(meant, DatasetInfo("d", 1, DIGITS, {}), Outputs())  # pyright: ignore
    assert capsys.readouterr().err == (
        "warning: 8 outputs of 10 stand for no class, and are called by their numbers, "
        "from 2\n"
    )


@pytest.fixture(scope="module")
def restored(finished, exported):
    """The evaluation's model of the run that was exported."""
    experiment = config.parse([], [], model_dir=str(finished[0]))
    classes = run_data.read(str(finished[0]))
    assert classes is not None
    models = evaluation.build_models(experiment, classes.info(), ["ema_"])
    evaluation.restore_into(models, exported[1]["checkpoint"])
    return models["ema_"]


def photos(folder):
    """Two sound pictures, one of which is cut off, and something else."""
    generator, files = np.random.default_rng(3), {}
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG"), ("cut.jpg", "JPEG")):
        file = io.BytesIO()
        pixels = generator.integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(file, kind)
        files[name] = file.getvalue()
    files["cut.jpg"] = files["cut.jpg"][:60]
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


def test_a_comparison_on_photos(exported, restored, tmp_path, capsys):
    """By pixels that the evaluation would have of them; the damaged one is said."""
    files = photos(tmp_path)
    report, predicted = comparison.compare_files(
        restored, exported[0], [str(tmp_path)], THE_REFERENCE
    )
    assert report["images_compared"] == 2
    assert (
        0
        <= report["largest_logit_difference"]
        <= (comparison.TOLERANCE * max(10.0, report["largest_logit"]))
    )
    assert [(one.filename, one.label, one.sha256) for one in predicted] == [
        (f"{tmp_path}/{name}", None, predictions.digest(files[name]))
        for name in ("a.jpg", "b.png")
    ]
    assert predictions.from_csv(predictions.to_csv(predicted), "p") == predicted
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{tmp_path}: 3 images",
        f"{tmp_path}/cut.jpg is left out: its JPEG header is damaged or cut off",
    ]
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"^none of the images that --check_images na"):
        comparison.compare_files(restored, exported[0], [str(tmp_path)], THE_REFERENCE)


@pytest.mark.long
def test_other_weights_differ_on_photos(exported, restored, tmp_path):
    photos(tmp_path)
    weights = restored.get_weights()
    restored.set_weights([weight + 0.5 for weight in weights])
    try:
        with pytest.raises(UserError, match="logits differ from the evaluation's by"):
            comparison.compare_files(
                restored, exported[0], [f"{tmp_path}/a.jpg"], THE_REFERENCE
            )
    finally:
        restored.set_weights(weights)
