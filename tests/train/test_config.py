"""gin: what our files mean, and what a misspelt name leads to."""

import gin
import pytest
import tensorflow as tf

from tests.train.runs import TINY
from train import config, errors
from train.errors import UserError

MNIST = "gin_configs/runs/mnist_cpu.gin"
IMAGENET = [
    "gin_configs/models/efficientnet_x_b0.gin",
    "gin_configs/runs/imagenet.gin",
]
DATA = "experiment.Experiment.data_dir = 'somewhere'"


@pytest.fixture(autouse=True)
def _clean_gin():
    yield
    gin.clear_config()


def test_mnist_run():
    experiment = config.parse([MNIST], [])
    assert experiment.global_batch_size == 100
    assert experiment.precision == "float32"
    model = experiment.build_model()
    assert model.name == "efficientnet-x-b0"
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 10))


def test_imagenet_run_is_the_reference_recipe():
    experiment = config.parse(IMAGENET, [DATA])
    assert experiment.global_batch_size == 2048
    assert experiment.epochs == 350
    assert (experiment.label_smoothing, experiment.weight_decay) == (0.1, 1e-5)
    assert experiment.ema_decay == 0.9999
    assert experiment.precision == "mixed_bfloat16"
    assert experiment.strategy == "mirrored"


def test_tpu_run_differs_by_its_strategy():
    files = [IMAGENET[0], "gin_configs/runs/imagenet_tpu.gin"]
    assert config.parse(files, [DATA]).strategy == "tpu"


@pytest.mark.parametrize("name", ["b0", "b1", "b7", "tpu_b1"])
def test_model_files_name_a_variant(name):
    config.parse([MNIST, f"gin_configs/models/efficientnet_x_{name}.gin"], [])
    variant = gin.query_parameter("models.efficientnet_x.build_model.variant")
    assert variant == f"efficientnet-x-{name.replace('_', '-')}"


def test_bindings_win_over_files():
    binding = "experiment.Experiment.epochs = 3"
    assert config.parse([MNIST], [binding]).epochs == 3


@pytest.mark.parametrize(
    ("bindings", "parts"),
    [
        (
            ["experiment.Experiment.epoch = 3"],
            ["Experiment has no parameter 'epoch'", "nearest: epochs"],
        ),
        (
            ["experiment.Experimnt.epochs = 3"],
            ["no 'Experimnt' in train.experiment", "nearest: Experiment"],
        ),
        (
            ["experment.Experiment.epochs = 3"],
            ["'experment' is not a module", "nearest: experiment"],
        ),
        (
            ["experiment.Experiment.optimizer = @optimizer.rmsprp"],
            ["no 'rmsprp' in train.optimizer", "nearest: rmsprop"],
        ),
        (["experiment.Experiment.epochs = ["], ["--gin_param=", "EOF in multi-line"]),
        (["experiment.Experiment.epochs = 0"], ["epochs = 0", "has to be > 0"]),
        (["experiment.Experiment.epochs = '24'"], ["epochs = '24'", "> 0"]),
        (
            ["experiment.Experiment.global_batch_size = 99.5"],
            ["global_batch_size = 99.5", "a whole number"],
        ),
        (
            ["experiment.Experiment.build_model = 'x'"],
            ["build_model = 'x'", "@module.function"],
        ),
        (["experiment.Experiment.ema_decay = 1.0"], ["ema_decay = 1.0", "[0, 1)"]),
        (["experiment.Experiment.precision = 'fp8'"], ["'fp8'", "'mixed_bfloat16'"]),
        (
            ["experiment.Experiment.data_dir = %gin.REQUIRED"],
            ["leaves to you: experiment.Experiment.data_dir", "--gin_param="],
        ),
    ],
)
def test_mistakes_are_named_in_one_line(bindings, parts):
    with pytest.raises(SystemExit) as caught, errors.reported():
        config.parse([MNIST], bindings)
    text = str(caught.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_required_value_of_a_file_is_asked_for():
    with pytest.raises(UserError, match=r"leaves to you: .*\.data_dir"):
        config.parse(IMAGENET, [])


def test_what_no_file_sets_is_asked_for():
    with pytest.raises(UserError, match=r"does not set .*\.build_model"):
        config.parse([], ["experiment.Experiment.data_dir = 'x'"])


def test_missing_file_names_those_there_are():
    with pytest.raises(UserError, match=r"no gin file nowhere\.gin.*mnist_cpu\.gin"):
        config.parse(["nowhere.gin"], [])


def test_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.gin"
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(UserError, match=r"broken\.gin.*nothing_of_this_name"):
        config.parse([str(path)], [])


def build(bindings):
    """An experiment whose model has been built: its settings are operative."""
    experiment = config.parse([TINY], bindings)
    experiment.build_model()
    return experiment


@pytest.fixture
def model_dir(tmp_path):
    """A run of the default settings with a checkpoint."""
    build([])
    config.save(str(tmp_path))
    tf.train.Checkpoint(v=tf.Variable(tf.zeros([]))).write(str(tmp_path / "ckpt-1"))
    return str(tmp_path)


def test_operative_config_makes_the_same_experiment(tmp_path):
    before = build(["experiment.Experiment.epochs = 3"])
    config.save(str(tmp_path))
    text = (tmp_path / config.SAVED).read_text()
    assert "experiment.Experiment.epochs = 3\n" in text
    assert "experiment.Experiment.label_smoothing = 0.1\n" in text  # a default
    after = config.parse([], [], model_dir=str(tmp_path))
    names = ("epochs", "data_dir", "steps_per_loop", "ema_decay")
    assert [getattr(after, n) for n in names] == [getattr(before, n) for n in names]
    assert after.build_model().output_shape == (None, 10)


def test_same_config_goes_on(model_dir):
    build([])
    config.compare(model_dir)


def test_other_config_in_the_folder_is_refused(model_dir):
    build(["experiment.Experiment.epochs = 3", "experiment.Experiment.seed = 7"])
    with pytest.raises(UserError) as caught:
        config.compare(model_dir)
    text = str(caught.value)
    assert "experiment.Experiment.epochs: 0.06 -> 3" in text
    assert "experiment.Experiment.seed: 0 -> 7" in text
    assert "label_smoothing" not in text


def test_other_config_is_taken_when_accepted(model_dir):
    build(["experiment.Experiment.epochs = 3"])
    config.compare(model_dir, accept_changes=True)


def test_batch_size_stays_even_then(model_dir):
    build(["experiment.Experiment.global_batch_size = 50"])
    with pytest.raises(UserError, match="global_batch_size: 20 -> 50"):
        config.compare(model_dir, accept_changes=True)


def test_config_of_a_run_without_checkpoint_binds_nobody(tmp_path):
    build([])
    config.save(str(tmp_path))
    build(["experiment.Experiment.epochs = 3"])
    config.compare(str(tmp_path))


def test_binding_without_effect_is_refused(tmp_path):
    unused = "schedule.exponential.peak_per_256 = 0.1"
    used = "experiment.Experiment.epochs=3"
    build([unused, used])
    config.compare(str(tmp_path), [used])
    with pytest.raises(UserError, match=r"'schedule\.exponential\.peak.* no effect"):
        config.compare(str(tmp_path), [used, unused])


def test_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match=r"holds no operative_config\.gin"):
        config.parse([], [], model_dir=str(tmp_path))
