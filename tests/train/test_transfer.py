"""Transfer: other weights to start from, frozen parts, a rate for each part."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline.dataset_info import load_info
from models.input_form import InputForm, input_form
from models.parts import part_of_variable
from tests.support.rounding import rounding
from tests.support.runs import TINY, experiment_of
from tests.support.tiny import TERMS
from train import config, evaluation, run
from train.exports import saved_model
from train.optimizer import rmsprop, scale_learning_rates

TRANSFER = """
from __gin__ import dynamic_registration
from models import efficientnet_x
from train import experiment

experiment.Experiment:
  pretrained = '{path}'
  learning_rate_factors = {{'stage_1': 0.0, 'head': 0.5}}
efficientnet_x.build_model:
  frozen = ('stem',)
  stem_block_size = 2
  stem_reshuffle = 'host'
  input_layout = 'HWCN'
"""


@pytest.fixture(scope="module")
def experiment(digits, finished, tmp_path_factory):
    """Starts from a finished run, and is fed in another form."""
    gin_file = tmp_path_factory.mktemp("gin") / "transfer.gin"
    gin_file.write_text(TRANSFER.format(path=finished[0]))
    data = f"experiment.Experiment.data_dir = '{digits}'"
    return config.parse([TINY, str(gin_file)], [data])


def weights_by_path(model):
    return {v.path: v.numpy() for v in model.weights}


@pytest.mark.long
def test_pretrained_weights_are_scored_before_any_training(
    experiment, finished, tmp_path
):
    """Also: images that the host rearranged give the scores of those it did not."""
    assert input_form(experiment.build_model()) == InputForm(32, 2, "HWCN")
    scores = run.evaluate(experiment, str(tmp_path / "empty"))
    assert (scores["checkpoint"], scores["steps"]) == (
        f"pretrained {finished[0]}",
        0,
    )
    for score in ("top1", "top5"):
        assert scores["ema_" + score] == finished[1]["ema_" + score]
    # The mean over 1,000 images is the longest sum; the stem's has another order.
    same_loss = pytest.approx(finished[1]["ema_loss"], rel=rounding(1000))
    assert [scores["ema_loss"], scores["loss"]] == [same_loss, same_loss]


@pytest.mark.slow
def test_frozen_parts_and_factors_in_a_run(experiment, digits, finished, tmp_path):
    model_dir = str(tmp_path / "run")
    summary = run.train_and_evaluate(experiment, model_dir)
    assert summary["first_step"] == 0
    info = load_info(str(digits))
    first = evaluation.load_models(experiment, info, str(finished[0]), ["ema_"])
    before = first[0]["ema_"]
    after = evaluation.load_models(experiment, info, model_dir, [""])[0][""]
    old, new = weights_by_path(before), weights_by_path(after)
    moved = {
        part
        for path, part in part_of_variable(after).items()
        if (old[path] != new[path]).any() and "moving" not in path
    }
    assert moved == {"stage_2", "head", "classifier"}
    statistics = {path: (old[path] != new[path]).any() for path in old if "mov" in path}
    assert not statistics["stem_bn/moving_mean"]
    assert statistics["block_0/depthwise_bn/moving_mean"]

    # What is exported takes images as they are, and may do without batch norm.
    folder = str(tmp_path / "export")
    report = saved_model.export(
        experiment, model_dir, folder, fold_batch_norm=True, check_images=300
    )
    largest = report["largest_logit"]
    assert report["largest_logit_difference"] < rounding(TERMS, largest)
    loaded = tf.saved_model.load(folder)
    pixels = loaded.signatures["images_uint8"].structured_input_signature[1]
    assert pixels["images"].shape == (None, 32, 32, 3)
    held = {v.name.split("/")[-1].split(":")[0] for v in loaded._saved}
    assert held == {"kernel", "bias"}


def test_one_step_is_scaled_by_the_factor():
    variables = [keras.Variable(np.full(3, 5.0), name=f"v{i}") for i in range(3)]
    for optimizer in (keras.optimizers.SGD(0.1), rmsprop(0.1)):
        for variable in variables:
            variable.assign(np.full(3, 5.0))
        optimizer.build(variables)
        scale_learning_rates(optimizer, [1.0, 0.25, 0.0])
        gradients = [tf.constant([1.0, 2.0, -3.0])] * 3
        for _ in range(2):  # momentum, too
            optimizer.apply(gradients, variables)
        whole, quarter, none = (v.numpy() - 5.0 for v in variables)
        assert (np.abs(whole) > 0.1).all()
        # Each of the two steps rounds a number near 5.
        np.testing.assert_allclose(quarter, whole / 4, rtol=0, atol=rounding(2, 5.0))
        np.testing.assert_array_equal(none, 0)


def test_decay_by_the_optimizer_itself_is_refused():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    with pytest.raises(UserError, match=r"do not reach the weight_decay .* adam_w"):
        scale_learning_rates(optimizer, [1.0])


def test_factors_of_every_variable(digits):
    factors = {"stem": 0.1, "stage_2": 0.5}
    settings = {"experiment.Experiment.learning_rate_factors": factors}
    experiment = experiment_of(digits, **settings)
    model = experiment.build_model()
    part_of = part_of_variable(model)
    assert experiment.factors_of(model) == [
        factors.get(part_of[v.path], 1.0) for v in model.trainable_variables
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "learning_rate_factors",
            {"stage_7": 0.1},
            "tiny has no part 'stage_7' that learns, only stem, stage_1, stage_2, "
            "head, classifier",
        ),
        ("learning_rate_factors", {"stem": -1}, "a mapping from parts of the model"),
        ("learning_rate_factors", 0.5, "a mapping from parts of the model"),
        ("pretrained", 5, "None or a path"),
        ("pretrained", "", "None or a path"),
        ("batch_norm", 0, "'global' or a whole number from 1 to"),
    ],
)
def test_errors(digits, field, value, message):
    def build():
        experiment = experiment_of(digits, **{f"experiment.Experiment.{field}": value})
        experiment.factors_of(experiment.build_model())

    with pytest.raises(UserError, match=message):
        build()
