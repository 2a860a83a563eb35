"""gin: what our files mean, and what a misspelt name leads to."""

import dataclasses
import importlib
import math
import pathlib
import re
from typing import Any

import gin
import numpy as np
import pytest

from common.checks import shown
from common.errors import UserError
from input_pipeline.dataset import train_dataset
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.randaugment import rand_augment
from input_pipeline.records import ShardInfo
from models import VARIANTS
from models.errors import ModelError
from tests.support import tiny
from tests.support.runs import TINY, bound
from train import config
from train.experiment import Experiment
from train.settings.resolver import parameters

MNIST = "gin_configs/runs/mnist_cpu.gin"
IMAGENET = [
    "gin_configs/models/efficientnet_x_b0.gin",
    "gin_configs/runs/imagenet.gin",
]
SCALED = ("width", "depth")
DATA = "experiment.Experiment.data_dir = 'somewhere'"
CLASSES = "efficientnet_x.build_model.num_classes = 7"
PREFIX = "experiment.Experiment"
_IMPORTED = "from __gin__ import dynamic_registration\nfrom train import experiment\n"
STAGES = f"{PREFIX}.progressive = [{{'until_epoch': 1.5, 'resolution': 16}}]"


def test_mnist_run():
    experiment = config.parse([MNIST], [])
    assert experiment.global_batch_size == 50
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
    config.parse([IMAGENET[0], str(path)], [DATA, CLASSES])


POD = [
    "gin_configs/models/efficientnet_b5.gin",
    "gin_configs/runs/imagenet_pod.gin",
]


def test_pod_run():
    experiment = config.parse(POD, [DATA])
    experiment.check_replicas(1024)
    info = DatasetInfo(
        "imagenet",
        1,
        ("a",),
        {"train": SplitInfo((ShardInfo("train-00000-of-00001", 1_281_167, ()),))},
    )
    assert list(experiment.stages(info)) == [6842]  # 350 epochs of 19.5 steps
    steps_per_epoch = 1_281_167 / 65_536
    rate = experiment.learning_rate(
        global_batch_size=65_536, steps_per_epoch=steps_per_epoch, train_steps=6842
    )
    warmup = int(43 * steps_per_epoch)
    assert float(rate(warmup)) == pytest.approx(0.081 * 256) == rate.peak
    optimizer = experiment.optimizer(rate)
    assert (optimizer.name, optimizer.weight_decay) == ("lars", 1e-5)
    assert experiment.weight_decay == 0
    # Statistics of 512 images, by eight replicas with 64 each.
    assert (experiment.batch_norm, experiment.global_batch_size) == (8, 64 * 1024)
    # All 50,000 in one step, as many on each replica; a batch less would be too few.
    assert 0 <= experiment.eval_batch_size - 50_000 < 1024
    assert experiment.ema_decay == pytest.approx(0.9999**32, abs=1e-4)
    assert experiment.checkpoint_every_steps % experiment.steps_per_loop == 0
    inherited = config.parse([POD[0], "gin_configs/runs/imagenet_tpu.gin"], [DATA])
    for name in ("epochs", "label_smoothing", "strategy", "precision"):
        assert getattr(experiment, name) == getattr(inherited, name)


@pytest.mark.parametrize(
    ("replicas", "batch", "per_256", "warmup", "peak"),
    [(512, 16_384, 0.236, 50, 15.104), (1024, 32_768, 0.118, 50, 15.104)],
)
def test_pod_run_at_smaller_batches(replicas, batch, per_256, warmup, peak):
    """As its table says."""
    text = pathlib.Path(POD[1]).read_text()
    assert f"{batch:,} {replicas:,} {per_256} {warmup}" in " ".join(text.split())
    experiment = config.parse(
        POD,
        [
            DATA,
            f"{PREFIX}.global_batch_size = {batch}",
            f"schedule.polynomial.peak_per_256 = {per_256}",
            f"schedule.polynomial.warmup_epochs = {warmup}",
        ],
    )
    experiment.check_replicas(replicas)
    rate = experiment.learning_rate(
        global_batch_size=batch, steps_per_epoch=1_281_167 / batch, train_steps=27_000
    )
    assert rate.peak == pytest.approx(peak)


@pytest.mark.parametrize("name", ["photos", "transfer"])
def test_runs_on_photos_have_an_output_for_each_class_of_the_data(name):
    experiment = config.parse([f"gin_configs/runs/{name}.gin"], [])
    assert experiment.data_dir == "data/photos"
    assert experiment.counts_classes
    assert experiment.make_model(7).output_shape == (None, 7)
    given = config.parse([f"gin_configs/runs/{name}.gin"], [CLASSES])
    assert not given.counts_classes
    assert given.make_model(5).output_shape == (None, 7)
    with pytest.raises(ModelError, match="num_classes = None is for the config of a"):
        experiment.build_model()


def test_transfer_run_thaws_from_above():
    experiment = config.parse(["gin_configs/runs/transfer.gin"], [])
    split = SplitInfo((ShardInfo("train-00000-of-00001", 320, (0,)),))
    info = DatasetInfo("photos", 1, ("a",), {"train": split})
    stages = experiment.stages(info)
    assert max(stages) == experiment.train_steps(info)
    frozen = [set(stage.frozen or ()) for stage in stages.values()]
    assert len(frozen) == 2
    assert frozen[0] > frozen[1] > set()
    thawed = frozen[0] - frozen[1]
    # Slower the further down.
    factors = experiment.learning_rate_factors
    order = sorted(thawed)
    assert [factors[part] for part in order] == sorted(factors[p] for p in order)
    assert max(factors[part] for part in order) < 1


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
    assert bound(experiment.train_data)["augment"].func is rand_augment
    assert bound(experiment.mixing)["mixup_alpha"] == 0.2


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_a_model_file(name):
    files = [MNIST, f"gin_configs/models/{name.replace('-', '_')}.gin"]
    assert bound(config.parse(files, []).build_model)["variant"] == name


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
    changed = "stages", *(f"{k}_coefficient" for k in SCALED)
    own = [f"efficientnet_x.build_model.{name} = None" for name in changed]
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
        ("resolution = 4", "resolution 4 is too small for efficientnet-x-b0"),
        (
            "frozen = 'stem'",
            "frozen = 'stem': it has to be a list of parts, as ('stem'",
        ),
        ("frozen = ('stage_8',)", "has no part 'stage_8', only stem, stage_1,"),
    ],
)
def test_mistakes_in_a_model_are_one_line(binding, message):
    with pytest.raises(UserError) as caught:
        config.parse([MNIST], [f"efficientnet_x.build_model.{binding}"]).build_model()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_in_a_bucket():
    found = config.resolve([MNIST], [])
    found.save("ram://configs/run")  # TensorFlow's own in memory
    saved = f"ram://configs/run/{config.SAVED}"
    assert config.resolve([saved], []).text == found.text
    with pytest.raises(UserError, match="no gin file ram://configs/other"):
        config.resolve(["ram://configs/other"], [])


def test_a_module_by_another_name_is_saved_by_its_own(tmp_path):
    own = tmp_path / "own.gin"
    own.write_text("""
from __gin__ import dynamic_registration
from input_pipeline import dataset as d
from tests.support import tiny as mine
from train import experiment as e
e.Experiment.epochs = 3
d.train_dataset.augment = @mine.brighten
mine.brighten.magnitude = 4
""")
    before = config.resolve([MNIST, str(own)], [])
    assert before.settings["tiny.brighten.magnitude"].value == 4
    before.save(str(tmp_path))
    after = config.resolve([str(tmp_path / config.SAVED)], [])
    assert after.text == before.text
    assert after.experiment.epochs == 3


def test_defaults_that_no_config_can_say_are_no_change(tmp_path):
    own = tmp_path / "own.gin"
    own.write_text("""
from __gin__ import dynamic_registration
from input_pipeline import dataset
from tests.support import tiny
dataset.train_dataset.augment = @tiny.tinted
""")
    found = config.resolve([MNIST, str(own)], [])
    assert math.isnan(found.settings["tiny.tinted.fill"].value)
    assert isinstance(found.settings["tiny.tinted.colour"].value, np.ndarray)
    found.save(str(tmp_path))
    config.resolve([MNIST, str(own)], []).refuse_changes(str(tmp_path))
    darker = config.resolve([MNIST, str(own)], ["tiny.tinted.colour = (0.5, 0.5, 0.5)"])
    with pytest.raises(UserError, match=r"tiny\.tinted\.colour: array.* -> \(0\.5,"):
        darker.refuse_changes(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "a = %a\nexperiment.Experiment.seed = %a",
        "a = [%b]\nb = (%a,)\nexperiment.Experiment.seed = %b",
        "efficientnet_x.build_model.variant = @variants.change()\n"
        "variants.change.variant = @variants.change()",
    ],
)
def test_a_config_without_an_end_is_one_line(text, tmp_path):
    imports = "from models import efficientnet_x\nfrom models import variants\n"
    imports += "from train import experiment\n"
    path = tmp_path / "endless.gin"
    path.write_text(f"from __gin__ import dynamic_registration\n{imports}{text}\n")
    with pytest.raises(UserError, match="the config has no end: "):
        config.resolve([MNIST, str(path)], [])


def test_a_variant_of_nothing_is_one_line(tmp_path):
    path = tmp_path / "changed.gin"
    path.write_text("""
from __gin__ import dynamic_registration
from models import efficientnet_x
from models import variants
efficientnet_x.build_model.variant = @variants.change()
variants.change.variant = 'efficientnet-x-b0'
""")
    with pytest.raises(UserError, match=r"change\.variant = 'eff.*': .* be a Variant"):
        config.resolve([MNIST, str(path)], [])


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
        (
            ["experiment.Experiment.epochs = ["],
            ["--gin_param=", "a bracket or a text is opened"],
        ),
        (
            ["experiment.Experiment.epochs = 0"],
            ["epochs = 0", "has to be a number above 0"],
        ),
        (["experiment.Experiment.epochs = '24'"], ["epochs = '24'", "above 0"]),
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
            ["mixing = 'mixup'", "as in @module.function"],
        ),
        (
            ["experiment.Experiment.ema_decay = 1.0"],
            ["ema_decay = 1.0", "from 0 to below 1"],
        ),
        (["experiment.Experiment.precision = 'fp8'"], ["'fp8'", "'mixed_bfloat16'"]),
        (
            ["experiment.Experiment.data_dir = %gin.REQUIRED"],
            ["leaves to you: experiment.Experiment.data_dir", "--gin_param="],
        ),
    ],
)
def test_mistakes_are_named_in_one_line(bindings, parts):
    with pytest.raises(UserError) as caught:
        config.parse([MNIST], bindings)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


_VALUES = (
    "a reference begins with @, as in @module.function; a text stands in quotes; a "
    "number is written out, as 0.5 or 1e9"
)
_FINITE = (
    "is no value: a number is finite and written out, as 1e6; a setting that may be "
    "without limit is None then"
)
_FORM = "a setting is written as module.function.parameter = value"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("inf", f"'inf' {_FINITE}"),
        ("-inf", f"'-inf' {_FINITE}"),
        ("nan", f"'nan' {_FINITE}"),
        ("true", "'true' is no value: write True"),
        ("none", "'none' is no value: write None"),
        ("x", f"'x' is no value: {_VALUES}"),
        ("/data/x", f"'/data/x' is no value: {_VALUES}"),
        ("2**3", f"'**3' stands behind a value: gin does not calculate; {_VALUES}"),
        ("", "there is no value behind ="),
        (" # to do", "there is no value behind ="),
        (
            "'/tmp/d'été'",
            'the text ends before "été\'": a quote within it ends it; a text with an '
            "apostrophe stands in double quotes, and the other way round",
        ),
        ("'abc", 'the quote of "\'abc" is not closed'),
        ("(1", "a bracket or a text is opened and not closed"),
        ("9" * 5000, "a number has too many digits"),
        (
            "[" * 900 + "]" * 900,
            "it has no end: it is nested too deep, or a file includ",
        ),
    ],
)
def test_values_that_gin_cannot_read(value, what):
    binding = f"{PREFIX}.epochs={value}"
    with pytest.raises(UserError) as caught:
        config.parse([MNIST], [binding])
    start, text = f"--gin_param={shown(binding)}: ", str(caught.value)
    assert text.startswith(start + what)
    assert "line" not in text.removeprefix(start)


@pytest.mark.parametrize(
    "text", ["5", "=5", f"{PREFIX}.epochs 5", f"{PREFIX}.epochs=="]
)
def test_what_is_no_setting(text):
    with pytest.raises(UserError, match=re.escape(f"--gin_param={text!r}: {_FORM}")):
        config.parse([MNIST], [text])


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (
            f"{PREFIX}.optimizer = @schedule.cosine()",
            f"{PREFIX}.optimizer = @schedule.cosine(): it has to be a function, as in "
            "@module.function: @optimizer.adamw, @optimizer.lamb, @optimizer.lars, "
            "@optimizer.lion, @optimizer.rmsprop, @optimizer.sgd",
        ),
        (
            f"{PREFIX}.learning_rate = 0.001",
            f"{PREFIX}.learning_rate = 0.001: it has to be a function, as in "
            "@module.function: @schedule.constant, @schedule.cosine, "
            "@schedule.exponential, @schedule.polynomial; for a batch of 256: "
            f"--gin_param={PREFIX}.learning_rate=@schedule.constant "
            "--gin_param=schedule.constant.peak_per_256=0.001 "
            "--gin_param=schedule.constant.warmup_epochs=0",
        ),
        *(  # no rate that a schedule could have
            (
                f"{PREFIX}.learning_rate = {number}",
                f"{PREFIX}.learning_rate = {said}: it has to be a function, as in "
                "@module.function: @schedule.constant, @schedule.cosine, "
                "@schedule.exponential, @schedule.polynomial",
            )
            for number, said in (
                (f"0x{'f' * 5000}", "(a value too long to be written)"),
                ("-1", "-1"),
            )
        ),
        *(
            (
                f"{PREFIX}.optimizer = {word!r}",
                f"{PREFIX}.optimizer = {word!r}: it has to be a function, as in "
                "@module.function: @optimizer.adamw, @optimizer.lamb, @optimizer.lars, "
                "@optimizer.lion, @optimizer.rmsprop, @optimizer.sgd; write "
                f"--gin_param={PREFIX}.optimizer=@optimizer.{meant}",
            )
            for word, meant in (("adam", "adamw"), ("@optimizer.sgd", "sgd"))
        ),
        (
            f"{PREFIX}.build_model = @tiny.brighten",
            f"{PREFIX}.build_model = @tiny.brighten: it has to take the arguments "
            "dtype, make_seed_generator, seed, as of @efficientnet_x.build_model",
        ),
        (
            "dataset.train_dataset.augment = @mixing.mixup_cutmix",
            "dataset.train_dataset.augment = @mixing.mixup_cutmix: it has to be None "
            "or a function, as in @module.function: @autoaugment.auto_augment, "
            "@erasing.random_erasing, @randaugment.rand_augment",
        ),
        (
            f"{PREFIX}.epochs = @schedule.cosine()",
            f"{PREFIX}.epochs = @schedule.cosine(): it has to be a number above 0 and "
            "up to 1,000,000",
        ),
        (
            "dataset.train_dataset.batch_size = 4",
            "'dataset.train_dataset.batch_size' has no effect: it is no setting, the "
            "trainer hands it over and has it from another one",
        ),
        (
            "epochs = 4",
            "--gin_param='epochs' has no effect: no setting refers to a macro %epochs; "
            f"a setting is written as {PREFIX}.epochs",
        ),
        (
            f"{PREFIX}.seed = 0x{'f' * 5000}",
            f"{PREFIX}.seed = (a value too long to be written): it has to be a whole "
            "number from -2,147,483,648 to 9,223,372,036,854,775,807",
        ),
    ],
)
def test_the_right_setting_is_blamed(binding, message, tmp_path):
    path = tmp_path / "tiny.gin"
    path.write_text(
        "from __gin__ import dynamic_registration\nfrom tests.support import tiny\n"
        "from train import experiment\n" + f"{binding}\n" * ("@tiny" in binding)
    )
    with pytest.raises(UserError) as caught:
        config.parse([MNIST, str(path)], [binding] * ("@tiny" not in binding))
    assert str(caught.value) == message


def test_a_rate_as_a_number_is_written_as_the_message_says():
    with pytest.raises(UserError) as caught:
        config.parse([MNIST], [f"{PREFIX}.learning_rate = 0.001"])
    bindings = re.findall(r"--gin_param=(\S+)", str(caught.value))
    rate = config.parse([MNIST], [*bindings, f"{PREFIX}.global_batch_size=256"])
    split = SplitInfo((ShardInfo("a", 512, (0,)),))
    info = DatasetInfo("x", 1, ("a",), {"train": split})
    schedule = rate.make_learning_rate(info)
    assert float(schedule(0)) == float(schedule(5)) == pytest.approx(0.001, rel=1e-7)


def test_started_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.gin"
    own.write_bytes(f"include {TINY!r}\r\ninclude 'more.gin'\r\n".encode("utf-8-sig"))
    (tmp_path / "more.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom train import experiment\n"
        "experiment.Experiment.epochs = 7\n"
    )
    assert config.parse(["own.gin"], []).epochs == 7
    assert config.parse([TINY], []).global_batch_size == 20
    (tmp_path / "more.gin").unlink()
    places = (
        f"is looked up in {tmp_path} and in {pathlib.Path(config.__file__).parents[1]}"
    )
    with pytest.raises(
        UserError, match=rf"own\.gin: .*no gin file more\.gin.*{places}"
    ):
        config.parse(["own.gin"], [])


@pytest.mark.parametrize("place", ["base.gin", "./base.gin", "../base.gin"])
def test_a_file_includes_what_lies_beside_it(tmp_path, monkeypatch, place):
    (tmp_path / "own").mkdir()
    base = tmp_path / "own" / place
    base.write_text(f"include {TINY!r}\n{_IMPORTED}{PREFIX}.epochs = 3\n")
    own = tmp_path / "own" / "run.gin"
    own.write_text(f"include {place!r}\n{_IMPORTED}{PREFIX}.seed = 4\n")
    monkeypatch.chdir(tmp_path)
    bindings = [f"{PREFIX}.data_dir = 'x'"]
    for path in ("own/run.gin", str(own)):
        found = config.parse([path], bindings)
        assert (found.epochs, found.seed) == (3, 4)
    base.unlink()
    message = f"{tmp_path} and in .* and in {own.parent}"
    with pytest.raises(UserError, match=message):
        config.parse(["own/run.gin"], bindings)


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (
            "Experiment.epochs = 3",
            "'Experiment' stands without its module: write experiment.Experiment",
        ),
        (
            f"{PREFIX}.optimizer = @adam",
            "there is no 'adam': write optimizer.adamw",
        ),
        (
            "dataset.train_dataset.augment = @mine.blur",
            "'mine' is not a module of this config: a file has to import what it "
            "names, as by the line 'import mine'",
        ),
        (
            "import no_such\nno_such.f.x = 1",
            "there is no module 'no_such' to import: it has to lie in the folder where "
            "the command runs, or in one of PYTHONPATH, or be installed",
        ),
    ],
)
def test_names_that_stand_without_what_they_need(binding, message):
    with pytest.raises(UserError) as caught:
        config.parse([MNIST], [binding])
    assert str(caught.value) == f"--gin_param={shown(binding)}: {message}"


def test_a_file_that_includes_itself(tmp_path):
    path = tmp_path / "own.gin"
    path.write_text(f"include {str(path)!r}\n")
    with pytest.raises(UserError, match="nested too deep, or a file includes itself"):
        config.parse([str(path)], [])


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


@pytest.fixture
def model_dir(tmp_path):
    """A run of the tiny settings."""
    config.resolve([TINY], []).save(str(tmp_path))
    return str(tmp_path)


def test_every_setting_has_a_value_before_anything_is_built():
    found = config.resolve([TINY], ["experiment.Experiment.epochs = 3"])
    settings = found.settings
    assert (settings[f"{PREFIX}.epochs"].value, found.experiment.epochs) == (3, 3)
    assert settings[f"{PREFIX}.label_smoothing"].value == 0.1  # a default
    assert settings["dataset.train_dataset.shuffle_buffer"].value == 1024
    assert settings["efficientnet_x.build_model.survival_prob"].value == 0.5
    assert bound(found.experiment.build_model)["variant"] == tiny.variant()
    # What the trainer hands over is no setting.
    assert "dataset.train_dataset.seed" not in settings
    assert "schedule.cosine.train_steps" not in settings


def test_functions_have_their_settings_bound():
    bindings = [
        "dataset.train_dataset.augment = @randaugment.rand_augment",
        "randaugment.rand_augment.magnitude = 7",
        "dataset.train_dataset.flip = True",
    ]
    experiment = config.parse([TINY], bindings)
    train_data: Any = experiment.train_data
    assert (train_data.func, train_data.keywords["flip"]) == (train_dataset, True)
    augment = train_data.keywords["augment"]
    assert (augment.func, augment.keywords["magnitude"]) == (rand_augment, 7)
    assert set(augment.keywords) == set(
        parameters(rand_augment).keys() - {"image", "seed"}
    )


def test_scopes_and_macros():
    bindings = [
        "factor = 0.5",
        "experiment.Experiment.ema_decay = %factor",
        "experiment.Experiment.train_data = @mine/dataset.train_dataset",
        "mine/dataset.train_dataset.shuffle_buffer = 7",
        "dataset.train_dataset.flip = True",  # a scope inherits it
    ]
    found = config.resolve([TINY], bindings)
    assert found.experiment.ema_decay == 0.5
    assert bound(found.experiment.train_data)["shuffle_buffer"] == 7
    assert bound(found.experiment.train_data)["flip"] is True
    assert found.settings["mine/dataset.train_dataset.shuffle_buffer"].value == 7
    assert f"{PREFIX}.ema_decay = 0.5\n" in found.text  # which has no macro
    with pytest.raises(UserError, match=r"dataset\.shuffle_buffer' has no effect"):
        config.resolve([TINY], [*bindings, "dataset.train_dataset.shuffle_buffer = 9"])


def test_what_is_saved_makes_the_same_experiment(tmp_path):
    bindings = ["experiment.Experiment.epochs = 3", STAGES]
    before = config.resolve([TINY], bindings)
    before.save(str(tmp_path))
    assert (tmp_path / config.SAVED).read_text() == before.text
    after = config.resolve([], [], model_dir=str(tmp_path))
    assert after.text == before.text
    assert bound(after.experiment.build_model) == bound(before.experiment.build_model)
    for name in ("epochs", "data_dir", "steps_per_loop", "ema_decay", "progressive"):
        assert getattr(after.experiment, name) == getattr(before.experiment, name)


def test_a_config_that_gin_itself_has_saved_goes_on(tmp_path):
    """That of a run of mnist_cpu.gin from before configs were resolved."""
    then = [  # what that recipe was like
        "efficientnet_x.build_model.stages = None",
        "dataset.train_dataset.augment = None",
        f"{PREFIX}.global_batch_size = 100",
        f"{PREFIX}.epochs = 24",
        f"{PREFIX}.steps_per_loop = 20",
        f"{PREFIX}.checkpoint_every_steps = 120",
        "schedule.cosine.peak_per_256 = 0.008",
    ]
    saved = pathlib.Path("tests/data/train/saved_by_gin.gin").read_text()
    (tmp_path / config.SAVED).write_text(saved)
    config.resolve([MNIST], then).refuse_changes(str(tmp_path))
    config.resolve([], [], model_dir=str(tmp_path)).refuse_changes(str(tmp_path))
    other = config.resolve([MNIST], [*then, "optimizer.rmsprop.momentum = 0.8"])
    with pytest.raises(UserError, match=r"rmsprop\.momentum: 0\.9 -> 0\.8\."):
        other.refuse_changes(str(tmp_path))


def test_a_setting_that_is_younger_than_the_run_counts_as_its_default(model_dir):
    path = pathlib.Path(model_dir) / config.SAVED
    lines = path.read_text().splitlines(keepends=True)
    left = [line for line in lines if ".clip_norm" not in line]
    assert len(left) == len(lines) - 1
    path.write_text("".join(left))
    config.resolve([TINY], []).refuse_changes(model_dir)
    clips = config.resolve([TINY], ["experiment.Experiment.clip_norm = 1.0"])
    with pytest.raises(UserError, match=r"clip_norm: None -> 1\.0"):
        clips.refuse_changes(model_dir)


def test_the_same_number_is_no_other_config(model_dir):
    same = ["experiment.Experiment.seed = 0", "experiment.Experiment.epochs = 6e-2"]
    config.resolve([TINY], same).refuse_changes(model_dir)


def test_other_config_in_the_folder_is_refused(model_dir):
    bindings = ["experiment.Experiment.epochs = 3", "experiment.Experiment.seed = 7"]
    with pytest.raises(UserError) as caught:
        config.resolve([TINY], bindings).refuse_changes(model_dir)
    text = str(caught.value)
    assert "experiment.Experiment.epochs: 0.06 -> 3" in text
    assert "experiment.Experiment.seed: 0 -> 7" in text
    assert "label_smoothing" not in text


def test_another_function_is_another_config(model_dir):
    other = ["experiment.Experiment.learning_rate = @schedule.constant"]
    with pytest.raises(
        UserError, match=r"learning_rate: @schedule\.cosine -> @schedule\.constant"
    ):
        config.resolve([TINY], other).refuse_changes(model_dir)


def test_other_config_is_taken_when_accepted(model_dir, capsys):
    other = config.resolve([TINY], ["experiment.Experiment.epochs = 3"])
    other.refuse_changes(model_dir, accept_changes=True)
    assert capsys.readouterr().err == (
        f"warning: {model_dir} goes on under another config: "
        "experiment.Experiment.epochs: 0.06 -> 3\n"
    )


def test_what_changes_no_number_may_change(model_dir):
    always = {
        field.name
        for field in dataclasses.fields(Experiment)
        if field.metadata["may_change"] == "always"
    }
    assert always == {
        "data_dir",  # what lies there is compared, wherever it lies
        "steps_per_loop",
        "checkpoint_every_steps",
        "eval_every_epochs",
        "non_finite",
        "keep_checkpoints",
        "keep_checkpoint_every_hours",
        "preemption_deadline_seconds",
        "hang_timeout_minutes",
        "peak_teraflops",
        "profile_steps",
        "example_images",
        "mistake_images",
        "max_roll_backs",
        "early_stopping_patience",
        "early_stopping_min_delta",
        "intended",
    }
    bindings = [f"{PREFIX}.keep_checkpoints = 9", f"{PREFIX}.profile_steps = (3, 4)"]
    bindings.append(f"{PREFIX}.data_dir = 'elsewhere'")
    config.resolve([TINY], bindings).refuse_changes(model_dir)


def test_batch_size_stays_even_then(model_dir):
    other = config.resolve([TINY], ["experiment.Experiment.global_batch_size = 50"])
    with pytest.raises(UserError, match="global_batch_size: 20 -> 50"):
        other.refuse_changes(model_dir, accept_changes=True)


def test_a_folder_without_a_config_binds_nobody(tmp_path):
    config.resolve([TINY], []).refuse_changes(str(tmp_path))


@pytest.mark.parametrize(
    "unused",
    [
        "schedule.exponential.peak_per_256 = 0.1",  # of another schedule
        "dataset.train_dataset.seed = 3",  # the trainer hands it over
        "randaugment.rand_augment.magnitude = 3",  # nothing refers to it
        "other/dataset.train_dataset.flip = True",  # nobody is in that scope
    ],
)
def test_binding_without_effect_is_refused(unused, model_dir):
    used = "experiment.Experiment.epochs=3"
    name = re.escape(unused.partition(" ")[0])
    for files in ([TINY], []):  # in training, and on what it has left
        with pytest.raises(UserError, match=rf"'{name}' has no effect"):
            config.resolve(files, [used, unused], model_dir=model_dir)


def test_a_function_is_not_called_for_its_settings():
    with pytest.raises(UserError, match=r"write @optimizer\.adamw, without the paren"):
        config.resolve([TINY], [f"{PREFIX}.optimizer = @optimizer.adamw()"])


def test_gin_takes_more_modules_when_a_config_was_read():
    """As other people's packages register theirs when they are imported."""
    config.resolve([TINY], [])

    @gin.configurable
    def registered_later(value=1):
        return value

    assert registered_later() == 1


def test_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match=r"holds no operative_config\.gin"):
        config.parse([], [], model_dir=str(tmp_path))


RIGHT = {
    "build_model": [print],
    "mixing": [None, print],
    "batch_norm": ["global", 2],
    "learning_rate_factors": [{}, {"stem": 0}],
    "profile_steps": [None, (0, 1), [3, 9]],
    "epochs": [1, 0.5, 10**6],
    "label_smoothing": [0, 0.1],
    "hang_timeout_minutes": [None, 1],
    "seed": [0, -1, 2**63 - 1],
    "new_head": [True],
    "pretrained": [None, "gs://bucket/x"],
    "max_roll_backs": [0, 1],
}
WRONG = {
    "build_model": [None, "x"],
    "mixing": [0, "mixup"],
    "batch_norm": ["all", 0, True, 1.5, {}, []],
    "learning_rate_factors": [None, {"stem": -1}, {"stem": "1"}, [1], {1: 1}],
    "profile_steps": [(1, 1), (2,), "12", (0, 1.5), 7],
    "epochs": [0, -1, math.inf, math.nan, "3", True, None, 1e7, 10**400],
    "label_smoothing": [1, -0.1, None],
    "hang_timeout_minutes": [0, "30"],
    "seed": [1.0, None, "1", 2**63],
    "new_head": [1, "False", None],
    "pretrained": ["", 3],
    "max_roll_backs": [-1, 1.0],
    "data_dir": [None, "", 3, " ", "a\0b", "\ud800"],
    "strategy": ["one", None],
    "progressive": [None, {}, "x"],
}


@pytest.mark.parametrize("name", WRONG)
def test_rules(name):
    (field,) = (f for f in dataclasses.fields(Experiment) if f.name == name)
    rule = field.metadata["rule"]
    assert rule.what
    assert all(rule.holds(value) for value in RIGHT.get(name, []))
    assert [value for value in WRONG[name] if rule.holds(value)] == []


def test_every_setting_says_what_it_is():
    for field in dataclasses.fields(Experiment):
        assert len(field.metadata["doc"]) > 10
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is not dataclasses.MISSING:
            assert field.metadata["rule"].holds(default), field.name


def test_what_has_settings_can_still_be_imported(tmp_path, monkeypatch):
    """As official.* is, by a user: to gin, a config that was read is no end."""
    config.parse([MNIST], [])
    lines = ["import gin", "@gin.configurable", "def imported_later(size=3):"]
    (tmp_path / "later.py").write_text("\n".join([*lines, "  return size", ""]))
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("later").imported_later() == 3


def test_home_in_paths_of_a_config(tmp_path, monkeypatch):
    """The saved config has the whole path: the run goes on under another HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.gin").write_text("include '~/more.gin'\n")
    (tmp_path / "more.gin").write_text(
        f"{_IMPORTED}{PREFIX}.pretrained = 'file://~/weights'\n"
    )
    found = config.resolve(["~/own.gin", TINY], [f"{PREFIX}.data_dir = '~/x'"])
    assert found.experiment.data_dir == f"{tmp_path}/x"
    assert found.experiment.pretrained == f"file://{tmp_path}/weights"
    assert f"{PREFIX}.data_dir = '{tmp_path}/x'\n" in found.text
    assert "~" not in found.text
    changed = dataclasses.replace(found.experiment, data_dir="~/y")  # without gin
    assert changed.data_dir == f"{tmp_path}/y"
    found.save(str(tmp_path))
    monkeypatch.setenv("HOME", "/nowhere")
    found.refuse_changes(str(tmp_path))
