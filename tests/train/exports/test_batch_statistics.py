"""Batch norm's statistics of an export, counted anew on training images."""

import dataclasses
import functools
import json
import types
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from common.errors import UserError
from input_pipeline.dataset_info import load_info
from models.initializers import derive_seed
from models.input_form import input_form
from models.parts import part_of_variable
from tests.models.rounding import assert_near
from tests.support import tiny
from tests.support.rounding import rounding
from tests.support.runs import experiment_of
from tests.support.tiny import TERMS
from train import config, datasets, export
from train.exports import batch_statistics, saved_model, sources
from train.exports.batch_statistics import Counted, Score
from train.stage_rows import BASE_STAGE, Stage


def experiment_in(run):
    return config.parse([], [], model_dir=str(run))


@pytest.fixture
def model(digits, finished):
    """The run's averaged model."""
    found, _ = saved_model.averaged_model(
        experiment_in(finished[0]), load_info(str(digits)), str(finished[0])
    )
    return found


def statistics(model):
    return {v.path: v.numpy() for v in model.weights if "moving_" in v.name}


def images_of(experiment, model, size, number):
    batches = datasets.training_images(experiment, input_form(model), batch_size=size)
    return [batch["image"].numpy() for batch in batches.take(number)]


@pytest.mark.long
def test_they_are_of_the_training_s_own_batches(finished, model):
    """Of the stem by numpy; layers below are the business of `models.statistics`."""
    experiment = experiment_in(finished[0])
    before = statistics(model)
    counted = batch_statistics.count_anew(experiment, model, BASE_STAGE, 50)
    assert counted == Counted(60, 3, 7)  # whole batches of 20
    found = statistics(model)
    assert all((found[path] != before[path]).any() for path in found)
    convolve = keras.Model(model.input, model.get_layer("stem_conv").output)
    outputs = [
        convolve(images).numpy().astype(np.float64)
        for images in images_of(experiment, model, 20, 3)
    ]
    mean = np.mean([x.mean(axis=(0, 1, 2)) for x in outputs], axis=0)
    variance = np.mean([x.var(axis=(0, 1, 2)) for x in outputs], axis=0)
    terms, scale = 27 + 20 * 16 * 16, float(np.abs(outputs).max())
    assert_near(found["stem_bn/moving_mean"], mean, terms, least=scale)
    assert_near(found["stem_bn/moving_variance"], variance, terms, least=scale**2)


@pytest.mark.long
def test_the_same_again_is_the_same_to_the_last_bit(digits, finished, model):
    """And so is that of a run in bfloat16: an export computes in float32."""
    experiment = experiment_in(finished[0])
    batch_statistics.count_anew(experiment, model, BASE_STAGE, 40)
    again, _ = saved_model.averaged_model(
        dataclasses.replace(experiment, precision="mixed_bfloat16"),
        load_info(str(digits)),
        str(finished[0]),
    )
    batch_statistics.count_anew(experiment, again, BASE_STAGE, 40)
    for path, value in statistics(model).items():
        np.testing.assert_array_equal(value, statistics(again)[path])


@pytest.mark.parametrize(
    ("fields", "images", "expected"),
    [
        ({}, 41, (20, 3)),
        ({}, 7, (7, 1)),  # fewer than a batch are one
        ({"accumulation_steps": 2}, 40, (10, 4)),  # batch norm sees micro-batches
        ({"global_batch_size": 500}, 200, (128, 2)),
    ],
)
def test_the_size_of_a_batch(digits, monkeypatch, fields, images, expected):
    experiment = dataclasses.replace(experiment_of(digits), **fields)
    asked = []
    monkeypatch.setattr(batch_statistics, "_batches", lambda *a: asked.append(a[-2:]))
    monkeypatch.setattr(batch_statistics, "recompute_statistics", lambda *_, **__: 7)
    model: Any = "a model"
    counted = batch_statistics.count_anew(experiment, model, BASE_STAGE, images)
    assert asked == [expected]
    size, number = expected
    assert counted == Counted(size * number, number, 7)


@pytest.mark.long
def test_images_are_mixed_as_in_training(finished, model):
    """By the function of the recipe, and another seed for each batch."""
    given = []

    def negative(images, targets, seed, *, layout, patch_size):
        if tf.executing_eagerly():  # not when its settings are checked
            given.append((targets.shape.as_list(), seed.numpy().tolist()))
        return 255 - images, targets

    experiment = experiment_in(finished[0])
    mixed = dataclasses.replace(experiment, mixing=negative)
    found = batch_statistics._batches(mixed, model, BASE_STAGE, 20, 2)
    plain = images_of(experiment, model, 20, 2)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one, 255 - other)
    seed = derive_seed(experiment.seed, "mixing")
    assert given == [([20, 10], [seed, 0]), ([20, 10], [seed, 1])]


@pytest.mark.parametrize(
    ("checkpoint", "frozen"),
    [
        ("runs/a/ckpt-4", ("stem",)),  # the stage that has led to it
        ("runs/a/best/ckpt-5", None),
        ("runs/a/ckpt-12", None),
        ("runs/a/ckpt-99", None),
        ("pretrained efficientnet-lite0", ("stem",)),
    ],
)
def test_the_stage_is_the_checkpoint_s(digits, checkpoint, frozen):
    rows = [{"until_epoch": 0.02, "frozen": ("stem",)}]  # of 200 steps
    settings = {"experiment.Experiment.progressive": rows}
    experiment, info = experiment_of(digits, **settings), load_info(str(digits))
    found = batch_statistics.stage_of(experiment, info, checkpoint)
    assert found == Stage(frozen=frozen)


@pytest.mark.long
def test_what_stood_still_keeps_its_statistics(finished, model):
    experiment, before = experiment_in(finished[0]), statistics(model)
    stage = Stage(frozen=("stem",), frozen_batch_norm=("stage_2",), resolution=64)
    batch_statistics.count_anew(experiment, model, stage, 20)
    part_of = part_of_variable(model)
    after = statistics(model)
    kept = {part_of[path] for path in before if (before[path] == after[path]).all()}
    assert kept == {"stem", "stage_2"}


@pytest.mark.long
def test_a_score_is_the_evaluation_s(finished, model):
    experiment, summary = experiment_in(finished[0]), finished[1]
    found = batch_statistics.scorer(experiment, model, 5000)()
    assert found.images == summary["eval_images"] == 1000
    assert found.top1 == pytest.approx(summary["ema_top1"], abs=1e-9)
    some = batch_statistics.scorer(experiment, model, 450)()  # one and a half batches
    assert some.images == 450


@pytest.mark.parametrize(
    ("layers", "after", "said"),
    [
        (7, 90, "batch norm: top-1 goes from 90.00% to 90.00% on 100 images"),
        (7, 92, "batch norm: top-1 goes from 90.00% to 92.00% on 100 images"),
        (
            7,
            89,
            "warning: batch norm: top-1 falls from 90.00% to 89.00% on 100 images by "
            "the new statistics; leave --statistics_images out for those that the run "
            "has averaged, or count them of more images",
        ),
        (0, 90, "batch norm: top-1 goes from 90.00% to 90.00% on 100 images"),
    ],
)
def test_what_is_said(digits, monkeypatch, capsys, layers, after, said):
    """Of a network that would have these scores."""
    scores = iter([Score(90, 100), Score(after, 100)])
    patch = functools.partial(monkeypatch.setattr, batch_statistics)
    patch("scorer", lambda *_: lambda: next(scores))
    patch("count_anew", lambda *_: Counted(40, 2, layers))
    model: Any = types.SimpleNamespace(name="tiny")
    info = load_info(str(digits))
    report = batch_statistics.recompute(
        experiment_of(digits), model, "ckpt-12", info, 40, score_images=1000
    )
    assert report == {
        **{"images": 40, "batches": 2, "layers": layers, "scored_images": 100},
        **{"top1_before": 0.9, "top1_after": after / 100},
    }
    counted = "batch norm: statistics of 40 images of the training split, in 2 batches"
    in_vain = (
        "warning: batch norm: no layer of tiny has statistics that training moves: all "
        "stay as they are, and --statistics_images has done nothing"
    )
    assert capsys.readouterr().err.splitlines() == [
        counted if layers else in_vain,
        said,
    ]


def test_nothing_is_scored_without_a_split(digits):
    model = models.build_model(tiny.variant(), num_classes=10)
    gone = experiment_of("/mnt/gone")
    assert batch_statistics.scorer(gone, model, 0)() == Score(0, 0)
    assert Score(0, 0).top1 is None


@pytest.mark.parametrize(
    ("flags", "taken"),
    [
        (["--score_images=9"], False),  # of what?
        (["--score_images=9", "--statistics_images=9"], True),
        (["--max_loss=2", "--statistics_images=9"], False),
    ],
)
def test_flags_that_go_together(flags, taken):
    parser = export._parser()
    arguments = parser.parse_args(["--model_dir=run", "--export_dir=e", *flags])
    if taken:
        assert export._wanted(arguments).score_images == 9
    else:
        with pytest.raises(UserError, match="are of other forms than the SavedModel"):
            export._wanted(arguments)


def test_without_training_images(finished):
    gone = dataclasses.replace(experiment_in(finished[0]), data_dir="/mnt/imagenet")
    with pytest.raises(UserError) as refused:
        sources.find_training(gone, str(finished[0]), wanted_by=batch_statistics.FLAG)
    assert str(refused.value) == (
        "--statistics_images is of training images, and there is no folder "
        "/mnt/imagenet: name the folder of the run's data "
        "(--gin_param=\"experiment.Experiment.data_dir = 'DIR'\"), or leave "
        "--statistics_images out"
    )


def test_other_training_images_than_the_run_s_are_said(digits, finished, capsys):
    experiment = experiment_in(finished[0])
    run = f"{finished[0]}/best"
    info = sources.find_training(experiment, run, wanted_by="--x")
    assert info == load_info(str(digits))
    assert capsys.readouterr().err == ""
    fewer = dataclasses.replace(experiment, train_split="validation")
    with pytest.MonkeyPatch.context() as patch:
        known = sources.run_data.read(str(finished[0]))
        assert known is not None
        training = dataclasses.replace(known.training, split="validation")
        known = dataclasses.replace(known, training=training)
        patch.setattr(sources.run_data, "read", lambda _: known)
        sources.find_training(fewer, run, wanted_by="--x")
    said = capsys.readouterr().err
    assert f"validation of {digits} is not the one that the run learns" in said
    assert said.endswith(
        "1,000 images, and there were 4,000; --x takes them all the same\n"
    )


@pytest.mark.long
def test_an_export_with_them(finished, tmp_path, capsys):
    """Of the best checkpoint, batch norm folded, with a part that stood still.

    It is compared with the evaluation of a network that has the same statistics.
    """
    folder, still = tmp_path / "e", Stage(frozen_batch_norm=("stage_2",))
    rows = [{"until_epoch": 0.06, **still.given()}]
    flags = [
        *(f"--model_dir={finished[0]}", f"--export_dir={folder}", "--best"),
        f"--gin_param=experiment.Experiment.progressive = {rows!r}",
        *("--statistics_images=400", "--score_images=300", "--fold_batch_norm"),
    ]
    assert export.main(flags) == 0
    report = json.loads(capsys.readouterr().out)
    known = report["statistics"]
    assert (known["images"], known["batches"], known["layers"]) == (400, 20, 5)
    assert known["scored_images"] == 300
    assert report["images_compared"] == 1000  # or it would have no name
    experiment = experiment_in(finished[0])
    info = load_info(experiment.data_dir)
    model, _ = saved_model.averaged_model(experiment, info, f"{finished[0]}/best")
    score = batch_statistics.scorer(experiment, model, 300)
    before = score()
    batch_statistics.count_anew(experiment, model, still, 400)
    after = score()
    assert (known["top1_before"], known["top1_after"]) == (before.top1, after.top1)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    expected = model(pixels, training=False).numpy()
    served = tf.saved_model.load(str(folder)).signatures["images"]
    found = served(images=tf.constant(pixels))["logits"].numpy()
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding(TERMS, scale))
    averages, _ = saved_model.averaged_model(experiment, info, f"{finished[0]}/best")
    plain = averages(pixels, training=False).numpy()
    assert np.abs(plain - expected).max() > 0.01 * scale
