"""A run of three stages: the same state, other images; exact through every stop."""

import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.errors import UserError
from models.errors import ModelError
from models.input_form import InputForm
from tests.support.runs import bound
from tests.train.test_run import assert_same_variables
from train import config, controller, datasets, run, stages, state
from train.checkpoints import directory
from train.stage_rows import Stage

AUGMENT = "dataset.train_dataset.augment = @randaugment.rand_augment"
GIN = "tests/data/train/progressive.gin"


def experiment_of(data_dir, *bindings):
    folder = f"experiment.Experiment.data_dir = '{data_dir}'"
    return config.parse([GIN], [folder, *bindings])


def run_stages(digits, model_dir, *, with_evaluation=False):
    experiment = experiment_of(digits)
    return run.train_and_evaluate(
        experiment, str(model_dir), with_evaluation=with_evaluation
    )


def staged_training(experiment):
    strategy, info = run.prepare(experiment)
    with strategy.scope():
        train_state = state.create(experiment, info)
    return stages.Stages(experiment, info, train_state, strategy)


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    """The folder of a whole run, its summary, its trainers and their batches."""
    model_dir = tmp_path_factory.mktemp("progressive")
    trainers, shapes = [], []
    Trainer = stages.Trainer  # noqa: N806

    class Recording(Trainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            trainers.append(self)

        def set_dataset(self, dataset, position):
            super().set_dataset(dataset, position)
            if dataset is not None:
                shapes.append(dataset.element_spec["image"].shape.as_list())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "Trainer", Recording)
        summary = run_stages(digits, model_dir, with_evaluation=True)
    return model_dir, summary, trainers, shapes


@pytest.mark.long
def test_sizes_of_images(undisturbed):
    _, summary, _, shapes = undisturbed
    assert shapes == [[20, size, size, 3] for size in (16, 24, 32)]
    assert (summary["resolution"], summary["eval_images"]) == (32, 1000)


def test_a_broken_record_has_no_class():
    assert controller._captions([1, -1, 0], ["cat", "dog"]) == [
        *("dog", "(broken record)", "cat"),
    ]


@pytest.mark.long
def test_example_images_of_every_stage(undisturbed):
    folder, sizes = str(undisturbed[0] / "train"), {"images": 0}
    board = EventAccumulator(folder, sizes).Reload()
    assert board.Tags()["images"] == [f"examples/{number}" for number in range(3)]
    for number in range(3):
        shown = board.Images(f"examples/{number}")
        found = [(image.step, image.height, image.width) for image in shown]
        assert found == [(0, 16, 16), (5, 24, 24), (9, 32, 32)]


@pytest.mark.long
def test_all_stages_train_the_same_variables(undisturbed):
    states = [trainer.state for trainer in undisturbed[2]]
    assert len({id(state) for state in states}) == 1
    models = [trainer._model for trainer in undisturbed[2]]
    assert [m.input_shape[1] for m in models] == [16, 24, 32]
    for model in models:
        assert [id(v) for v in model.weights] == [id(v) for v in models[0].weights]
    rates = [model.get_layer("dropout").rate for model in models]
    assert rates == [0.2, 0.1, 0.2]


@pytest.mark.long
def test_only_the_last_trainer_keeps_its_data(undisturbed):
    datasets = [trainer.dataset for trainer in undisturbed[2]]
    assert [dataset is None for dataset in datasets] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 5, 8, 9])
def test_goes_on_exactly_inside_and_between_stages(
    step, digits, undisturbed, tmp_path, capsys
):
    for file in undisturbed[0].glob(f"ckpt-{step}.*"):
        shutil.copy(file, tmp_path)
    summary = run_stages(digits, tmp_path)
    assert (summary["first_step"], summary["steps"]) == (step, 12)
    assert_same_variables(undisturbed[0], tmp_path)
    number = 1 + (step >= 5) + (step >= 9)
    lines = capsys.readouterr().err.splitlines()
    said = [line.split(":")[0] for line in lines if line.startswith("stage")]
    ends = {1: 5, 2: 9, 3: 12}
    assert said == [f"stage {n} of 3, to step {ends[n]}" for n in range(number, 4)]


def test_what_a_stage_says(digits):
    training = staged_training(experiment_of(digits))
    assert [training.describe(last - 1) for last in (5, 9, 12)] == [
        "stage 1 of 3, to step 5: 16 px, magnitude 5, mixup_alpha 0",
        "stage 2 of 3, to step 9: 24 px, dropout_rate 0.1",
        "stage 3 of 3, to step 12: 32 px",
    ]


@pytest.mark.long
def test_magnitude_of_a_stage(digits):
    """The same crops in another light, by no more than the magnitude."""
    experiment = experiment_of(digits)
    strategy, _ = run.prepare(experiment)
    form = InputForm(16, 1, "NHWC")

    def images(magnitude):
        stage = Stage(magnitude=magnitude)
        data = datasets.train_dataset(experiment, strategy, form, stage)
        return next(iter(data))["image"].numpy().astype(int)

    plain, brighter = images(0), images(5)
    assert (brighter - plain).max() == 5
    assert 5 < (images(None) - plain).max() <= 9
    assert (brighter >= plain).all()


@pytest.mark.parametrize(
    ("settings", "bindings", "error", "message"),
    [
        (
            {"resolution": 2},
            [],
            ModelError,
            "resolution 2 is too small for tiny: its strides divide it by 4",
        ),
        (
            {"resolution": 18},
            ["efficientnet_x.build_model.stem_block_size = 4"],
            ModelError,
            "stem_block_size 4",
        ),
        (
            {"magnitude": 5},
            ["dataset.train_dataset.augment = None"],
            UserError,
            "sets magnitude, but the augment of Experiment.train_data is None",
        ),
        (
            {"magnitude": 5},
            ["dataset.train_dataset.augment = @autoaugment.auto_augment"],
            UserError,
            "sets magnitude, but the augment of .* has no magnitude",
        ),
        (
            {"mixup_alpha": 0.1},
            ["experiment.Experiment.mixing = None"],
            UserError,
            "sets mixup_alpha, but Experiment.mixing is None",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    settings, bindings, error, message, digits, tmp_path
):
    rows = [{"until_epoch": 0.02}, {"until_epoch": 0.04} | settings]
    rows = f"experiment.Experiment.progressive = {rows}"
    experiment = experiment_of(digits, rows, *bindings)
    with pytest.raises(error, match=message):
        run.train_and_evaluate(experiment, str(tmp_path))
    assert directory.list_checkpoints(str(tmp_path)) == []  # not even that of step 0


def test_settings_that_only_stages_or_steps_use_have_an_effect(digits):
    """Else a binding of them would be refused, and a change not noticed."""
    bindings = ["mixing.mixup_cutmix.switch_prob = 0.3", AUGMENT]
    bindings.append("randaugment.rand_augment.magnitude = 9")
    experiment = experiment_of(digits, *bindings)
    assert bound(experiment.mixing)["switch_prob"] == 0.3
    assert bound(experiment.train_data)["augment"].keywords["magnitude"] == 9


def test_example_images_of_data_of_ones_own():
    experiment = config.parse(
        ["tests/data/train/made_up.gin"], ["experiment.Experiment.data_dir = 'unused'"]
    )
    form = InputForm(16, patch_size=1, layout="NHWC")
    images, labels = datasets.example_images(
        experiment, form, Stage(), batch=2, count=2, num_hosts=1
    )
    batches = datasets.training_images(experiment, form, batch_size=16)
    third = list(batches.take(3).as_numpy_iterator())[2]
    np.testing.assert_array_equal(images, third["image"][:2])
    np.testing.assert_array_equal(labels, third["label"][:2])
