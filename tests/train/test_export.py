"""The SavedModel: what it computes, for whom, and what it is checked against."""

import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

from common.errors import UserError
from common.files import tree
from input_pipeline import dataset_info, preprocess, records
from input_pipeline.dataset_info import load_info
from input_pipeline.errors import DataError
from input_pipeline.images import exif
from input_pipeline.preprocess import THE_REFERENCE, EvalCrop
from tests.input_pipeline.builders import DATA
from tests.support import plain_crop
from tests.support.disk import full_disk
from tests.support.folders import content
from tests.support.rounding import rounding
from tests.support.tiny import TERMS
from train import classify, config, evaluation, export, serving
from train.exports import (
    comparison,
    export_folder,
    export_target,
    image_files,
    predictions,
    saved_model,
)
from train.exports.formats import writing
from train.exports.formats.forms import FORMS, Wanted
from train.fault_tolerance.graph_errors import translate_errors


def saved(model_dir):
    return config.parse([], [], model_dir=str(model_dir))


@pytest.mark.slow
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
ours = {{"models", "orbit", "official", "gin"}} & set(sys.modules)
assert not ours, ours
"""
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    right = round(summary["ema_top1"] * 1000)
    assert f"SavedModel in a new process: {right:,} of 1,000 right" in done.stdout
    assert "equal to the trainer's: 1,000 of 1,000" in done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("key", ["images", "images_uint8"])
def test_converted_to_tflite(exported, key):
    """By the signatures of pixels, whose numbers it computes; names come with them."""
    folder, report = exported
    size = tf.saved_model.load(folder).signatures[key].inputs[0].shape[1]
    dtype = np.uint8 if key == "images_uint8" else np.float32
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(dtype)
    expected = tf.saved_model.load(folder).signatures[key](images=tf.constant(pixels))
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[key])
    runner = tf.lite.Interpreter(
        model_content=converter.convert()
    ).get_signature_runner(key)
    found = runner(images=pixels)
    largest = max(report["largest_logit"], np.abs(expected["logits"]).max())
    np.testing.assert_allclose(
        found["logits"], expected["logits"], rtol=0, atol=rounding(TERMS, largest)
    )
    assert found["class_names"].tolist() == expected["class_names"].numpy().tolist()


def test_as_a_layer_of_keras(exported, loaded):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    layer = keras.layers.TFSMLayer(exported[0], call_endpoint="images")
    expected = loaded.signatures["images"](images=tf.constant(pixels))
    found = layer(pixels)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported[0])


def test_signatures(loaded):
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


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP"])
def test_other_images_are_refused(loaded, kind):
    """As in the evaluation; TensorFlow's decoder would take a GIF for a PNG."""
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, kind)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is no JPEG and no PNG"):
        loaded.signatures["serving_default"](tf.constant([file.getvalue()]))


@pytest.mark.parametrize("shape", [[32, 32, 3], [1, 33, 32, 3], [1, 3, 32, 32]])
@pytest.mark.parametrize("name", ["images", "images_uint8"])
def test_other_shapes_are_refused(loaded, name, shape):
    """Without its batch an image would end the process that serves."""
    dtype = tf.uint8 if name == "images_uint8" else tf.float32
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="compatible with expected"
    ):
        loaded.signatures[name](images=tf.zeros(shape, dtype))


FAR = 511.0  # farther from 0..255 than a resize overshoots


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30, -1e30, FAR, -256.0])
def test_what_is_no_pixel_has_no_class(loaded, wrong):
    """And does not touch the others of its batch."""
    pixels = np.random.default_rng(1).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    pixels[2, 0] = 510.0  # some resizes overshoot by as much
    expected = loaded.signatures["images"](images=tf.constant(pixels))
    assert expected["class_ids"].numpy().min() >= 0
    pixels[1, 5, 7, 2] = wrong
    outputs = loaded.signatures["images"](images=tf.constant(pixels))
    others = [0, 2, 3]
    for key in ("logits", "probabilities", "class_ids", "class_names"):
        found, whole = outputs[key].numpy(), expected[key].numpy()
        np.testing.assert_array_equal(found[others], whole[others])
    assert outputs["class_ids"].numpy()[1] == -1
    assert outputs["class_names"].numpy()[1] == b""
    assert np.isnan(outputs["probabilities"].numpy()[1]).all()


@pytest.mark.slow
def test_what_is_no_pixel_has_no_class_compiled(loaded):
    """An assertion would be dropped there."""

    @tf.function(jit_compile=True)
    def compiled(images):
        return loaded.signatures["images"](images=images)["class_ids"]

    pixels = np.full((3, 32, 32, 3), 90.0, np.float32)
    pixels[1, 0, 0, 0] = np.nan
    expected = int(compiled(tf.constant(pixels[:1]))[0])
    assert expected >= 0
    assert compiled(tf.constant(pixels)).numpy().tolist() == [expected, -1, expected]


@pytest.mark.long
def test_logits_that_are_not_finite_have_no_class():
    """As those of weights that went wrong; of uint8, too."""

    class Model:
        name, weights, input_shape, output_shape = "m", (), (None, 2, 2, 3), (None, 3)

        def __call__(self, images, training):
            first = tf.cast(images[:, 0, 0, :], tf.float32)
            return tf.where(first == 7.0, np.inf, first)

    servable = saved_model.Servable(Model(), ("a", "b"))  # pyright: ignore
    pixels = np.zeros((2, 2, 2, 3), np.uint8)
    pixels[0, 0, 0, 2], pixels[1, 0, 0, 1] = 9, 7
    outputs = servable.images(tf.constant(pixels))
    assert outputs["class_ids"].numpy().tolist() == [2, -1]
    assert outputs["class_names"].numpy().tolist() == [b"2", b""]


class Pixels:
    """A model of one class, behind whose logit are the pixels that it is given."""

    name, weights, output_shape = "pixels", (), (None, 1)

    def __init__(self, side: int):
        self.input_shape = None, side, side, 3

    def __call__(self, images, training):
        size = math.prod(self.input_shape[1:])
        pixels = tf.reshape(tf.cast(images, tf.float32), [-1, size])
        return tf.concat([tf.fill([tf.shape(pixels)[0], 1], 1000.0), pixels], axis=1)


# As authors make them: of X, of Lite, of a large EfficientNetV2, and of a byte a pixel.
CROPS = [
    EvalCrop(),
    EvalCrop("bilinear", 0.9),
    EvalCrop("bilinear_half_pixels", "squash"),
    EvalCrop(pixels="uint8"),
]


@pytest.mark.long
@pytest.mark.parametrize("side", [224, 240, 380])
def test_pixels_of_bytes_are_those_of_the_authors(tmp_path, side):
    """Through a SavedModel that was written and read, at two sizes kept aside."""
    model: Any = Pixels(side)
    servable = saved_model.Servable(model, ())
    tf.saved_model.save(
        servable, str(tmp_path), signatures=servable.signature_functions
    )
    serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    for photo in ("coffee", "camera"):
        encoded = (DATA / f"{photo}.jpg").read_bytes()
        height, width, _ = tf.io.extract_jpeg_shape(encoded).numpy()
        padding = plain_crop.reference_padding(side)
        window = plain_crop.central_window(height, width, side, padding)
        part = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        expected = plain_crop.bicubic(part.numpy(), side)
        found = serve(image_bytes=tf.constant([encoded]))["logits"]
        np.testing.assert_array_equal(found[0, 1:], expected.ravel())


@pytest.mark.parametrize("crop", CROPS)
def test_bytes_become_what_the_evaluation_makes_of_them(crop):
    model: Any = Pixels(32)
    servable = saved_model.Servable(model, (), crop)
    encoded = (DATA / "coffee.jpg").read_bytes()
    found = servable.image_bytes(tf.constant([encoded]))["logits"]
    expected = preprocess.eval_image(tf.constant(encoded), 32, crop)
    assert expected.dtype == crop.pixels
    np.testing.assert_array_equal(found[0, 1:], tf.reshape(expected, [-1]))


@pytest.mark.long
@pytest.mark.parametrize("pixels", ["float32", "uint8"])
def test_all_three_signatures_are_compared(tmp_path, pixels):
    """Each on what it takes exactly; what rounding costs is said."""
    crop = EvalCrop(pixels=pixels)
    photo = str(DATA / "coffee.jpg")
    exact = preprocess.eval_pixels(tf.constant(Path(photo).read_bytes()), 24)
    nearest = preprocess.nearest_uint8(exact).numpy().astype(np.float32)
    rounding = np.abs(nearest - exact.numpy()).max()  # and the clipping

    def report_of(wrong: str | None) -> dict:
        servable = saved_model.Servable(model, (), crop)
        signatures = dict(servable.signature_functions)
        if wrong is not None:
            of_bytes = wrong == "serving_default"
            taken = signatures[wrong].inputs[0]
            signatures[wrong] = changed(
                servable.image_bytes if of_bytes else servable.images,
                tf.TensorSpec(taken.shape, taken.dtype, taken.op.name),
            )
        folder = str(tmp_path / f"{wrong}")
        tf.saved_model.save(servable, folder, signatures=signatures)
        return comparison.compare_files(model, folder, [photo], crop)[0]

    def changed(function, spec):
        def call(inputs):
            outputs = function(inputs)
            return {**outputs, "logits": outputs["logits"] + 1.0}

        return tf.function(call).get_concrete_function(spec)

    model: Any = Pixels(24)
    report = report_of(None)
    assert report["largest_logit_difference"] == 0
    lost = {"float32": rounding, "uint8": 0.0}[pixels]
    assert report["logit_difference_by_rounding"] == pytest.approx(lost, rel=1e-6)
    for name in ("serving_default", "images", "images_uint8"):
        with pytest.raises(export_folder.StaysAside, match=r"differ .* by 1 "):
            report_of(name)


@pytest.mark.long
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
        comparison.compare_split(experiment, info, models[""], folder, check_images=300)


@pytest.mark.long
def test_export_of_a_run_alone(digits, finished, tmp_path, capsys):
    """As on another machine: the names are the run's, and nothing is compared."""
    model_dir, folder = finished[0], tmp_path / "e"
    gone = "--gin_param=experiment.Experiment.data_dir = '/mnt/imagenet'"
    flags = [f"--model_dir={model_dir}", f"--export_dir={folder}", gone]
    assert export.main(flags) == 0
    captured = capsys.readouterr()
    why = "there is no folder /mnt/imagenet"
    assert captured.err == (
        f"warning: the SavedModel is not compared with the evaluation: {why}; "
        "--check_images PATH ... compares it on photos\n"
    )
    report = json.loads((folder / "assets.extra/check.json").read_text())
    assert report == json.loads(captured.out)
    assert report == {
        "images_compared": 0,
        "largest_logit_difference": None,
        "largest_logit": None,
        "logit_difference_by_rounding": None,
        "classes_changed_by_rounding": None,
        "why_not_compared": why,
        "applies_orientation": True,
        "checkpoint": f"{model_dir}/ckpt-12",
        "export_dir": str(folder),
        "label_offset": 1,
        "fields": vars(records.IMAGENET),
    }
    names = (folder / "assets.extra/labels.txt").read_text().splitlines()
    assert names == list("0123456789")
    assert serving.read_predictions(str(folder)) == []
    shard = load_info(str(digits)).split("validation").shards[0].filename
    asked = [f"--export_dir={folder}", f"--tfrecords={digits}/{shard}", "--show=0"]
    assert classify.main(asked) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("SavedModel in a new process: ")
    assert said[1:] == [
        "The export has no predictions of the trainer's to compare these with"
    ]


@pytest.mark.usefixtures("quick")
def test_a_comparison_that_is_not_wanted(finished, tmp_path, capsys):
    flags = [f"--model_dir={finished[0]}", f"--export_dir={tmp_path}/e", "--no_check"]
    assert export.main(flags) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["why_not_compared"] == "--no_check"
    assert captured.err == ""
    with pytest.raises(SystemExit, match=r"^2$"):  # one or the other
        export.main([*flags, "--check_images", "a.jpg"])


NOT_TEXT = b"\x0a\xe9\xff\x80"  # that TensorFlow puts into its message


@pytest.fixture
def with_bad_records(digits, tmp_path):
    """Function: a folder of twenty images, of which some records are replaced."""

    def make(**replaced):
        info = load_info(str(digits))
        shard = records.shard_path(str(digits), info.split("validation").shards[0])
        contents = [bytes(x.numpy()) for x in tf.data.TFRecordDataset(shard).take(20)]
        for number, record in replaced.items():
            contents[int(number.lstrip("r"))] = record
        folder = str(tmp_path)
        written = records.write_shard(f"{folder}/validation-00000-of-00001", contents)
        splits = {"validation": dataset_info.SplitInfo((written,))}
        info = dataclasses.replace(info, splits=splits)
        dataset_info.write_info(info, folder)
        return folder, info, contents

    return make


def compared(finished, exported, folder, info, **settings):
    experiment = saved(finished[0])
    experiment = dataclasses.replace(
        experiment,
        data_dir=folder,
        eval_data=functools.partial(experiment.eval_data, **settings),
    )
    models = evaluation.build_models(experiment, info, ["ema_"])
    evaluation.restore_into(models, exported[1]["checkpoint"])
    model = models["ema_"]
    return comparison.compare_split(experiment, info, model, exported[0], 1000)


def test_bad_records_are_skipped_as_in_evaluation(finished, exported, with_bad_records):
    folder, info, contents = with_bad_records(r3=NOT_TEXT, r5=b"", r19=NOT_TEXT)
    report, predicted = compared(finished, exported, folder, info, on_bad_record="skip")
    assert report["images_compared"] == 17
    names = [f"mnist_validation_{i:05d}.JPEG" for i in range(20)]
    kept = [i for i in range(20) if i not in (3, 5, 19)]
    assert [one.filename for one in predicted] == [names[i] for i in kept]
    jpegs = [records.parse(tf.constant(contents[i]))["encoded"] for i in kept]
    assert [one.sha256 for one in predicted] == [
        predictions.digest(bytes(x.numpy())) for x in jpegs
    ]


def on_their_side(pixels):
    file, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(pixels).save(file, "JPEG", exif=tags, subsampling=0)
    return file.getvalue()


@pytest.mark.long
def test_records_are_compared_as_stored_and_files_upright(
    finished, exported, with_bad_records, tmp_path, monkeypatch
):
    """A note of a camera's in either: the evaluation sees what the SavedModel does."""
    photo = on_their_side(np.random.RandomState(0).randint(0, 256, (40, 60, 3), "u1"))
    record = records.make_example(
        photo, label=3, height=40, width=60, filename="a", synset="", text=""
    )
    folder, info, _ = with_bad_records(r3=record)
    report, predicted = compared(finished, exported, folder, info)
    assert report["images_compared"] == 20
    assert predicted[3].sha256 == predictions.digest(photo)
    (tmp_path / "a.jpg").write_bytes(photo)
    model, _ = saved_model.averaged_model(saved(finished[0]), info, str(finished[0]))
    report, _ = comparison.compare_files(
        model, exported[0], [f"{tmp_path}/a.jpg"], THE_REFERENCE
    )
    assert report["images_compared"] == 1
    # Handed over with its note, the record would be turned.
    monkeypatch.setattr(exif, "without_orientation", bytes)
    with pytest.raises(UserError, match="logits differ from the evaluation's"):
        compared(finished, exported, folder, info)


@pytest.mark.long
def test_a_bad_record_is_named(finished, exported, with_bad_records):
    folder, info, _ = with_bad_records(r3=NOT_TEXT)
    with pytest.raises(DataError) as error, translate_errors():
        compared(finished, exported, folder, info)
    assert str(error.value).startswith(
        f"bad record: {folder}/validation-00000-of-00001, record 3: "
    )


@pytest.mark.slow
def test_nothing_to_compare_is_no_agreement(finished, exported, with_bad_records):
    folder, info, _ = with_bad_records(**{f"r{i}": NOT_TEXT for i in range(20)})
    with pytest.raises(UserError, match="can use none of its records, so there is"):
        compared(finished, exported, folder, info, on_bad_record="skip")


@pytest.mark.slow
def test_names_that_are_no_text(finished, exported, with_bad_records):
    """Commas, quotes, ends of lines, other bytes than UTF-8, and none at all."""
    names = [b'a,"b"\n\r\x00c', b"caf\xe9", b""]
    feature = tf.train.Feature
    replaced = {}
    folder, info, contents = with_bad_records()
    for number, name in enumerate(names):
        changed = tf.train.Example.FromString(contents[number])
        values = changed.features.feature["image/filename"].bytes_list
        values.value[0] = name
        replaced[f"r{number}"] = changed.SerializeToString()
    changed = tf.train.Example.FromString(contents[3])
    number = feature(int64_list=tf.train.Int64List(value=[5]))
    changed.features.feature["image/filename"].CopyFrom(number)
    replaced["r3"] = changed.SerializeToString()
    folder, info, _ = with_bad_records(**replaced)
    _, predicted = compared(finished, exported, folder, info)
    found = predictions.from_csv(predictions.to_csv(predicted), "p")
    assert found == predicted
    assert [one.filename for one in found[:4]] == ['a,"b"\n\r\x00c', r"caf\xe9", "", ""]


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
        def __init__(self, model, names, crop):
            super().__init__()
            self.weights = tf.Variable(tf.ones([2]))
            self.signature_functions = {}

    sizes = {"input_shape": (None, 2, 2, 3), "output_shape": (None, 10)}
    model = types.SimpleNamespace(name="m", layers=(), count_params=int, **sizes)
    monkeypatch.setattr(saved_model, "averaged_model", lambda *_: (model, "ckpt-12"))
    monkeypatch.setattr(saved_model, "Servable", Servable)
    nothing = comparison.nothing("a test"), []
    monkeypatch.setattr(comparison, "compare_split", lambda *_: nothing)


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


@pytest.mark.usefixtures("quick")
def test_a_form_that_loses_too_much_leaves_the_older_export(
    finished, tmp_path, monkeypatch
):
    def loses(folder, *_):
        Path(folder, "model_int8.tflite").write_bytes(b"half")
        raise UserError("it loses 3 points")

    arguments = saved(finished[0]), str(finished[0]), str(tmp_path / "e")
    saved_model.export(*arguments)
    before = content(tmp_path)
    monkeypatch.setattr(writing, "write", loses)
    with pytest.raises(UserError, match="it loses 3 points"):
        saved_model.export(*arguments, wanted=Wanted(("litert-int8",)))
    assert content(tmp_path) == before


KILLED = """
import os, signal, sys
from train import export
from train.exports.formats import convert

def killed(form, *_):
    if form == "onnx":
        os.kill(os.getpid(), signal.SIGKILL)
    return b"half"

convert.convert = killed
export.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_conversion_that_is_killed_leaves_the_older_export(exported, tmp_path):
    """What it has written goes with the next one, a day later."""
    folder = tmp_path / "e"
    shutil.copytree(exported[0], folder)
    before = content(folder)
    model_dir = os.path.dirname(exported[1]["checkpoint"])
    flags = [f"--model_dir={model_dir}", f"--export_dir={folder}", "--no_check"]
    command = [sys.executable, "-c", KILLED, *flags, "--format=litert-float32,onnx"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert content(folder) == before
    (left,) = {path.name for path in tmp_path.iterdir()} - {"e"}
    assert (tmp_path / left / "model_float32.tflite").read_bytes() == b"half"
    long_ago = time.time() - 2 * 24 * 3600
    for path in [tmp_path / left, *(tmp_path / left).rglob("*")]:
        os.utime(path, (long_ago, long_ago))
    assert export.main(flags) == 0
    assert os.listdir(tmp_path) == ["e"]


@pytest.mark.slow
def test_every_form_of_a_run(digits, finished, tmp_path, capsys):
    """The command, what it prints, its card, and that all of it is known as ours."""
    folder, model_dir = tmp_path / "e", str(finished[0])
    flags = [f"--model_dir={model_dir}", f"--export_dir={folder}"]
    forms = ["--format=savedmodel,litert,onnx", "--calibration_images=50"]
    # Twelve steps: logits lie so close together that int8 changes classes by chance.
    assert export.main([*flags, *forms, "--max_loss=100"]) == 0
    printed = capsys.readouterr()
    report = {row["form"]: row for row in json.loads(printed.out)["forms"]}
    assert list(report) == ["savedmodel", *FORMS]
    for row in report.values():
        assert (row["images"], row["labelled"]) == (1000, 1000)
        assert row["top1"] == row["right"] / 1000
        assert row["milliseconds"] > 0
    # Logits are far below ten: float32's bound is that of ten.
    differences = {f: row["largest_logit_difference"] for f, row in report.items()}
    exact = max(differences[form] for form in ("savedmodel", "litert-float32", "onnx"))
    assert exact <= comparison.TOLERANCE * 10
    assert exact < differences["litert-float16"] < differences["litert-int8"]
    assert report["savedmodel"]["top1"] == pytest.approx(finished[1]["ema_top1"])
    said = printed.err.splitlines()
    assert said[0] == "litert-int8: calibrated on 50 images of the training split"
    assert [line.split()[0] for line in said[1:7]] == ["form", *report]

    card = json.loads((folder / "assets.extra/card.json").read_text())
    assert (card["network"], card["resolution"]) == ("tiny", 32)
    assert card["labels"] == list("0123456789")
    assert card["pixels"]["mean_rgb"] == [123.675, 116.28, 103.53]
    assert card["checkpoint"] == f"{model_dir}/ckpt-12"
    assert [one["form"] for one in card["forms"]] == list(report)
    for one in card["forms"]:
        assert one["top1"] == report[one["form"]]["top1"]
        for path, sha256 in one["sha256"].items():
            whole = (folder / path).read_bytes()
            assert hashlib.sha256(whole).hexdigest() == sha256
    held = onnxruntime.InferenceSession(folder / "model.onnx").get_modelmeta()
    assert json.loads(held.custom_metadata_map["labels"]) == card["labels"]

    listed = json.loads((folder / export_target.LIST).read_text())
    assert {FORMS[form].file for form in FORMS} <= set(listed)
    shard = load_info(str(digits)).split("validation").shards[0].filename
    asked = [f"--export_dir={folder}", f"--tfrecords={digits}/{shard}", "--show=0"]
    assert classify.main(asked) == 0
    # An export of the SavedModel alone takes its place: it is all ours.
    assert export.main([*flags, "--no_check"]) == 0
    assert not (folder / "model.onnx").exists()
    assert os.listdir(tmp_path) == ["e"]


@pytest.mark.slow
def test_int8_of_a_run_whose_data_are_elsewhere(finished, tmp_path, capsys):
    """Photos calibrate, and are what is scored; without them it is refused."""
    gone = "--gin_param=experiment.Experiment.data_dir = '/mnt/imagenet'"
    folder = tmp_path / "e"
    flags = [f"--model_dir={finished[0]}", f"--export_dir={folder}", gone]
    assert export.main([*flags, "--format=litert-int8"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: litert-int8 is calibrated on training images, and there is no folder "
        "/mnt/imagenet: name photos (--check_images PATH ...), or leave it out "
        "(--format=savedmodel)"
    )
    assert not folder.exists()
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        photo = Image.new("RGB", (40, 50), (80 * number, 90, 100))
        photo.save(photos / f"{number}.png")
    asked = ["--format=litert-int8", "--check_images", str(photos)]
    assert export.main([*flags, *asked]) == 0
    printed = capsys.readouterr()
    said = printed.err.splitlines()
    assert said[:2] == [
        f"{photos}: 3 images",
        "litert-int8: calibrated on 3 images of the photos",
    ]
    row = json.loads(printed.out)["forms"][1]
    assert (row["images"], row["labelled"], row["top1"]) == (3, 0, None)


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

    monkeypatch.setattr(comparison, "compare_split", differ)
    with pytest.raises(UserError) as differs:
        saved_model.export(saved(finished[0]), str(finished[0]), f"{tmp_path}/e")
    (aside,) = tmp_path.iterdir()
    assert str(differs.value) == f"see {aside}, which stays"
    assert (aside / "saved_model.pb").exists()


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
        image: {"bytes_list": {"value": [b"\xff\xd8\xffjpeg"]}},
        label: {"int64_list": {"value": [3]}},
        name: {"bytes_list": {"value": [b"a.jpg"]}},
    }
    with tf.io.TFRecordWriter(str(tmp_path / "test.tfrecord")) as writer:
        record = tf.train.Example(features={"feature": features})
        writer.write(record.SerializeToString())
    (tmp_path / "assets.extra").mkdir()
    check = {"label_offset": 0} | ({"fields": fields} if fields else {})
    (tmp_path / "assets.extra" / "check.json").write_text(json.dumps(check))
    known = serving.read_labels(str(tmp_path)).fields
    (found,) = image_files.read_tfrecords(str(tmp_path / "*.tfrecord"), known)
    assert found[:3] == ("a.jpg", b"\xff\xd8\xffjpeg", 3)
