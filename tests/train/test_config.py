"""gin: what our files mean, and what a misspelt name leads to."""

import dataclasses
import pathlib

import gin
import pytest
import tensorflow as tf

from common import errors
from common.errors import UserError
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo
from models import VARIANTS
from tests.support.runs import TINY
from train import config
from train.experiment import Experiment

MNIST = "gin_configs/runs/mnist_cpu.gin"
IMAGENET = [
    "gin_configs/models/efficientnet_x_b0.gin",
    "gin_configs/runs/imagenet.gin",
]
SCALED = ("width", "depth")
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


@pytest.mark.parametrize("path", sorted(pathlib.Path("gin_configs/runs").iterdir()))
def test_every_run_parses(path):
    config.parse([IMAGENET[0], str(path)], [DATA])


def test_progressive_run_grows_to_the_recipe():
    files = [IMAGENET[0], "gin_configs/runs/imagenet_progressive.gin"]
    experiment = config.parse(files, [DATA])
    split = SplitInfo((ShardInfo("train-00000-of-00001", 1_281_167, (0,)),))
    stages = experiment.stages(DatasetInfo("imagenet", 1, ("a",), {"train": split}))
    assert list(stages) == [54737, 109475, 164212, 218949]
    *small, own = stages.values()
    for name in ("resolution", "magnitude", "dropout_rate", "mixup_alpha"):
        values = [getattr(stage, name) for stage in small]
        assert values == sorted(set(values))
    assert max(stage.resolution or 0 for stage in small) < 224
    assert own.given() == {}
    assert config.bound(experiment.train_data, "augment").__name__ == "rand_augment"
    assert experiment.mixing is not None
    assert config.bound(experiment.mixing, "mixup_alpha") == 0.2


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_a_model_file(name):
    config.parse([MNIST, f"gin_configs/models/{name.replace('-', '_')}.gin"], [])
    assert gin.query_parameter("models.efficientnet_x.build_model.variant") == name


def test_every_model_file_is_of_a_variant():
    files = {path.stem for path in pathlib.Path("gin_configs/models").iterdir()}
    assert files == {name.replace("-", "_") for name in VARIANTS}


def specs_of(model):
    return [layer.spec for layer in model.layers if hasattr(layer, "spec")]


def test_fields_of_stages_and_blocks_by_name():
    """The whole search space from gin, on top of a variant of the table."""
    build = "efficientnet_x.build_model"
    stages = {
        1: {"space_to_depth": "reshuffle", "activation": "gelu"},
        4: {"num_repeat": 1, "kernel_size": 7, "fused": True, "se_ratio": 0},
        5: {"expand_ratio": 3, "output_filters": 64, "skip": False},
    }
    bindings = [
        f"{build}.resolution = 64",
        f"{build}.depth_coefficient = 1.0",
        f"{build}.stages = {stages}",
        f"{build}.blocks = {{2: {{'activation': 'relu6', 'space_to_batch': 2}}}}",
    ]
    model = config.parse([MNIST], bindings).build_model()
    specs = specs_of(model)
    assert len(specs) == 14
    assert (specs[0].space_to_depth, specs[0].activation) == ("reshuffle", "gelu")
    assert (specs[2].activation, specs[2].space_to_batch) == ("relu6", 2)
    assert specs[1].space_to_batch == 1
    assert (specs[5].kernel_size, specs[5].fused, specs[5].se_filters) == (7, True, 0)
    fifth = specs[6:9]
    assert {spec.expanded_filters / spec.input_filters for spec in fifth} == {3}
    assert {(spec.output_filters, spec.has_skip) for spec in fifth} == {(24, False)}


def test_a_variant_of_ones_own_in_gin(tmp_path):
    gin_file = tmp_path / "own.gin"
    gin_file.write_text("""
from __gin__ import dynamic_registration
from models import efficientnet_x
from models import variants

efficientnet_x.build_model.variant = @variants.Variant()
variants.Variant:
  name = 'own'
  width_coefficient = 1.0
  depth_coefficient = 1.0
  resolution = 32
  dropout_rate = 0.0
  se_coefficient = 1.0
  stages = (@first/variants.StageSpec(), @second/variants.StageSpec())
  stem_filters = 8
  head_filters = 16
variants.StageSpec:
  num_repeat = 1
  kernel_size = 3
  strides = 2
  expand_ratio = 4
  activation = 'swish'
first/variants.StageSpec.output_filters = 16
second/variants.StageSpec.output_filters = 24
second/variants.StageSpec.fused = True
""")
    own = [f"efficientnet_x.build_model.{k}_coefficient = None" for k in SCALED]
    model = config.parse([MNIST, str(gin_file)], own).build_model()
    assert model.name == "own"
    assert [(spec.output_filters, spec.fused) for spec in specs_of(model)] == [
        (16, False),
        (24, True),
    ]


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("stages = {4: {'kernel': 5}}", "stage 4: a stage has no field 'kernel'; did"),
        ("stages = {8: {'kernel_size': 5}}", "has no stage 8, only 1 to 7"),
        ("blocks = {99: {'fused': True}}", "has no block 99, only 0 to 9"),
        ("stages = {4: {'activation': 'rleu'}}", "unknown activation 'rleu'; did you"),
        ("resolution = 16", "resolution 16 is too small for efficientnet-x-b0"),
        ("frozen = 'stem'", "frozen must be a list of parts, not 'stem'"),
        ("frozen = ('stage_8',)", "has no part 'stage_8', only stem, stage_1,"),
    ],
)
def test_mistakes_in_a_model_are_one_line(binding, message):
    experiment = config.parse([MNIST], [f"efficientnet_x.build_model.{binding}"])
    with pytest.raises(SystemExit) as caught, errors.reported():
        experiment.build_model()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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
        (
            ["experiment.Experiment.progressive = [{'until_epoch': 9, 'x': 1}]"],
            ["Experiment.progressive, stage 1 has no 'x'"],
        ),
        (
            ["experiment.Experiment.mixing = 'mixup'"],
            ["mixing = 'mixup'", "as in @mixing.mixup_cutmix"],
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


def test_what_changes_no_number_may_change(model_dir):
    names = [name.rpartition(".")[2] for name in config.FREE]
    assert {"keep_checkpoints", "hang_timeout_minutes", "profile_steps"} <= set(names)
    assert set(names) <= {field.name for field in dataclasses.fields(Experiment)}
    prefix = "experiment.Experiment"
    build([f"{prefix}.keep_checkpoints = 9", f"{prefix}.profile_steps = (3, 4)"])
    config.compare(model_dir)


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
