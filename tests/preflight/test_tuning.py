import concurrent.futures
import dataclasses
import functools
import json

import pytest

from common.errors import UserError
from input_pipeline.dataset_info import load_info
from models import get_variant
from performance import lowering
from preflight import forms, report, tuning_text
from preflight.form_steps import FormSteps, RunInForm
from preflight.forms import Form
from preflight.lowered_steps import CannotLower
from preflight.rows import LoweredStep, PreflightReport, Problem, StepReport
from preflight.tuning import Tuner
from preflight.tuning_rows import FastestForm, FormEstimate, OtherBatch, SkippedForms
from tests.preflight.fakes import FakeCompiler, report_of
from tests.support.runs import experiment_of
from tpu_compiler import Compiler, CompilerError, Topology, UnusableCompilerError
from train.stage_rows import BASE_STAGE, Stage

WRITTEN = Form()
DEVICE, HOST = Form(2, "device", "NHWC"), Form(2, "host", "NHWC")
HOST_HWCN, HWCN = Form(2, "host", "HWCN"), Form(1, "device", "HWCN")


class TimedCompiler(FakeCompiler):
    """Answers milliseconds, or what goes wrong, by the name of what is asked for.

    Attributes:
      named: what was asked for, in the order in which it was.
    """

    def __init__(self, times, default=10.0):
        super().__init__()
        self.named, self._times, self._default = [], times, default

    def compile(self, module, topology, num_replicas=1, *, name="", **options):
        self.named.append(name)
        whole = name.startswith("the train step") and "images" not in name
        ms = self._times.get(name, 1000.0 if whole else self._default)
        future = concurrent.futures.Future()
        if isinstance(ms, BaseException):
            future.set_exception(ms)
            return future
        needed = 2**40 if ms is None else 0
        future.set_result(report_of(needed=needed, milliseconds=ms))
        return future


@pytest.fixture
def not_lowered(monkeypatch):
    """Programs are the names of what they are; nobody waits for TensorFlow."""
    monkeypatch.setattr(FormSteps, "lower", lambda self, form, *a: b"1")
    monkeypatch.setattr(lowering, "network", lambda *a: b"1")


def step(milliseconds: float | None = 100.0, stage=BASE_STAGE, needed=0, images=20):
    problem = Problem(message="needs much") if milliseconds is None else None
    return StepReport(
        name="train step",
        stage=stage,
        lowered=LoweredStep(b"1", images, 32),
        compilation=report_of(needed=needed, milliseconds=milliseconds),
        problem=problem,
    )


def tuner_of(digits, compiler, topology="v3", build_model=None, **changes):
    changes = {f"experiment.Experiment.{name}": v for name, v in changes.items()}
    experiment = experiment_of(digits, **changes)
    if build_model is not None:
        experiment = dataclasses.replace(experiment, build_model=build_model)
    info = load_info(str(digits))
    stages = experiment.stages(info)
    return Tuner(experiment, info, Topology.parse(topology), compiler, stages)


def first(form):
    return f"the first layers, {form}"


def whole(form):
    return f"the train step, {form}"


def split(form):
    return dataclasses.replace(form, split_gradients=True)


def fastest_of(found):
    return next(one for one in found if isinstance(one, FastestForm))


def test_what_the_whole_is_compiled_of_is_the_fastest_first_layers(digits, not_lowered):
    times = {first(HOST): 7.0, first(HOST_HWCN): 7.0, first(HWCN): 9.0}
    compiler = TimedCompiler(times | {whole(HOST): 97.0})
    found = list(tuner_of(digits, compiler).train_forms([step()]))
    compared = [one for one in found if isinstance(one, FormEstimate)]
    # The tiny network has no learned space-to-depth: no patches of 4x4.
    assert [one.form.patch_size for one in compared[:6]] == [1, 1, 2, 2, 2, 2]
    assert compared[0].as_written
    assert compared[0].milliseconds == 10.0
    # Of equally fast ones that which changes less, and no other as a whole.
    assert compiler.named[6:] == [whole(HOST), whole(split(HOST))]
    best = fastest_of(found)
    assert best.best is not None
    assert (best.best.form, best.best.milliseconds) == (HOST, 97.0)
    assert best.gain == pytest.approx(0.03)
    assert found[-1] is best
    assert str(HOST) == "patches of 2x2 by the host, NHWC"
    text = "\n".join(tuning_text.lines_of(best))
    assert "97.0 ms, 3.0% less than the 100.0 as written" in text
    assert "  efficientnet_x.build_model.stem_block_size = 2\n" in text
    assert "  efficientnet_x.build_model.stem_reshuffle = 'host'\n" in text
    assert "Less than 5%" in text


def test_where_the_first_layers_mislead_the_next_is_tried(digits, not_lowered):
    times = {first(HOST): 7.0, first(DEVICE): 8.0}
    times |= {whole(HOST): 100.0, whole(DEVICE): 98.0}
    compiler = TimedCompiler(times)
    found = list(tuner_of(digits, compiler).train_forms([step()]))
    tried = [whole(HOST), whole(DEVICE), whole(split(DEVICE))]
    assert compiler.named[6:] == tried
    best = fastest_of(found).best
    assert best is not None
    assert best.form == DEVICE


def test_as_written_is_fastest(digits, not_lowered):
    compiler = TimedCompiler({first(HWCN): 10.5})
    found = list(tuner_of(digits, compiler).train_forms([step()]))
    assert compiler.named[6:] == [whole(split(WRITTEN))]
    best = fastest_of(found)
    assert best.best == best.written
    assert best.gain == 0.0
    assert tuning_text.lines_of(best)[1].endswith("20 images a device: as written")


def test_a_form_that_fits_where_the_config_does_not(digits, not_lowered):
    compiler = TimedCompiler({first(HOST): 7.0, whole(HOST): 97.0})
    found = list(tuner_of(digits, compiler).train_forms([step(None)]))
    best = fastest_of(found)
    assert best.gain is None
    assert best.written.problem == "needs much"
    assert "97.0 ms; as written it does not fit" in tuning_text.lines_of(best)[1]


def test_a_step_that_fits_only_while_it_is_alone_is_none(digits, not_lowered):
    beside = Problem(message="needs 17 GiB with what lies beside it")
    written = dataclasses.replace(step(), problem=beside)
    compiler = TimedCompiler({first(HOST): 7.0, whole(HOST): 200.0})
    best = fastest_of(tuner_of(digits, compiler).train_forms([written]))
    assert best.written.milliseconds is None
    assert best.written.problem == beside.message
    assert best.best is not None
    assert best.best.form == HOST
    assert "as written it does not fit" in "\n".join(tuning_text.lines_of(best))


def test_no_form_fits(digits, not_lowered):
    times = {first(HOST): 7.0, whole(HOST): None, whole(split(WRITTEN)): None}
    compiler = TimedCompiler(times)
    found = list(tuner_of(digits, compiler).train_forms([step(None)]))
    best = fastest_of(found)
    assert best.best is None
    assert "No form" in tuning_text.lines_of(best)[1]


def test_gradients_are_split_where_that_is_faster(digits, not_lowered):
    times = {first(HOST): 7.0, whole(HOST): 97.0, whole(split(HOST)): 90.0}
    found = list(tuner_of(digits, TimedCompiler(times)).train_forms([step()]))
    best = fastest_of(found)
    assert best.best is not None
    assert best.best.form == split(HOST)
    lines = tuning_text.lines_of(best)
    assert "  efficientnet_x.build_model.split_gradients = True" in lines


def test_gradients_that_the_config_splits_may_be_whole(digits, not_lowered):
    compiler = TimedCompiler({whole(WRITTEN): 90.0, first(split(HWCN)): 11.0})
    changes = {"efficientnet_x.build_model.split_gradients": True}
    experiment = experiment_of(digits, **changes)
    tuner = tuner_of(digits, compiler, build_model=experiment.build_model)
    best = fastest_of(tuner.train_forms([step()]))
    assert best.best is not None
    assert best.best.form == WRITTEN
    assert forms.changes(WRITTEN, tuner.written) == {"split_gradients": False}
    assert compiler.named[:2] == [first(split(WRITTEN)), first(split(HWCN))]


def test_networks_without_gradients_to_split():
    assert forms.splits_gradients(get_variant("efficientnet-x-b0"))
    assert not forms.splits_gradients(get_variant("efficientnet-b0"))


def test_stages_count_by_their_steps(digits, not_lowered):
    """Of 24 steps, 12 are at 16 px: they take 20 ms, the others 100."""
    rows = [{"until_epoch": 0.06, "resolution": 16}]
    compiler = TimedCompiler({first(HOST): 7.0, whole(HOST): 40.0})
    tuner = tuner_of(digits, compiler, progressive=rows, epochs=0.12)
    small = Stage(resolution=16)
    found = list(tuner.train_forms([step(20.0, small), step(100.0)]))
    best = fastest_of(found)
    assert best.written.milliseconds == 60.0
    assert best.best is not None
    assert best.best.milliseconds == 40.0
    assert compiler.named.count(whole(HOST)) == 2
    assert compiler.named.count(whole(split(HOST))) == 2


def test_a_form_that_cannot_be_lowered_says_why(digits, not_lowered, monkeypatch):
    def lower(self, form, *_):
        if form.form == HOST:
            raise CannotLower("No registered 'Sort'")
        return b"1"

    monkeypatch.setattr(FormSteps, "lower", lower)
    found = list(tuner_of(digits, TimedCompiler({})).train_forms([step()]))
    (one,) = [one for one in found if getattr(one, "problem", None)]
    assert tuning_text.lines_of(one) == [
        "  first layers: patches of 2x2 by the host, NHWC: XLA has no Sort"
    ]


def test_a_form_without_an_answer_is_one_of_many(digits, not_lowered):
    """The compiler may take too long for one, or its process die."""
    larger = f"the train step with 40 images a replica, {HOST}"
    folded = f"inference, batch norm folded, {WRITTEN}"
    late = CompilerError("not compiled within 60 seconds")
    times = {first(HOST): 7.0, whole(HOST): 80.0, whole(split(HOST)): late}
    times |= {first(HWCN): late, larger: late, folded: late}
    found = list(tuner_of(digits, TimedCompiler(times)).findings([step()]))
    without = [one for one in found if getattr(one, "problem", None) == str(late)]
    assert [getattr(one, "milliseconds", 0.0) for one in without] == [None] * 4
    assert [getattr(one, "extent", "another batch") for one in without] == [
        "first layers",
        "train step",
        "inference",
        "another batch",
    ]
    best = fastest_of(found).best
    assert best is not None
    assert (best.form, best.milliseconds) == (HOST, 80.0)


def test_where_nothing_can_be_kept_the_next_form_is_not_tried(digits, not_lowered):
    full = UnusableCompilerError("cannot use /full: No space left on device")
    with pytest.raises(UnusableCompilerError, match="No space left"):
        list(tuner_of(digits, TimedCompiler({first(HWCN): full})).findings([step()]))


def test_a_batch_that_does_not_suit_the_other_settings_says_why(
    digits, not_lowered, monkeypatch
):
    """Such as a stage in which, with fewer steps, there is none."""

    def lower(self, run, *_):
        if run.replica_images:
            raise UserError("Experiment.progressive, stage 1: no step falls into it")
        return b"1"

    monkeypatch.setattr(FormSteps, "lower", lower)
    found = list(tuner_of(digits, TimedCompiler({})).findings([step()]))
    (one,) = [one for one in found if isinstance(one, OtherBatch)]
    assert one.milliseconds is None
    assert one.problem == "Experiment.progressive, stage 1: no step falls into it"


def test_a_folder_of_programs_that_cannot_be_used_ends_it(digits, monkeypatch):
    def lower(*_):
        raise UnusableCompilerError("cannot use /full for lowered programs")

    monkeypatch.setattr(FormSteps, "lower", lower)
    with pytest.raises(UnusableCompilerError, match="lowered programs"):
        list(tuner_of(digits, TimedCompiler({})).findings([step()]))


def test_inference_folds_batch_norm_where_that_is_worth_it(digits, not_lowered):
    folded = f"inference, batch norm folded, {WRITTEN}"
    for ms, folds in ((9.9, True), (9.99, False)):
        found = list(tuner_of(digits, TimedCompiler({folded: ms})).inference_forms())
        best = fastest_of(found)
        assert best.best is not None
        assert best.best.folded == folds
        text = "\n".join(tuning_text.lines_of(best))
        assert ("train.export --fold_batch_norm" in text) == folds


def test_networks_of_others_are_left_as_they_are(digits, not_lowered):
    def build_mine(**_):
        raise AssertionError

    compiler = TimedCompiler({})
    tuner = tuner_of(digits, compiler, build_model=build_mine)
    (found,) = tuner.findings([step()])
    assert isinstance(found, SkippedForms)
    assert "not of tests.preflight.test_tuning.build_mine's" in found.reasons["all"]
    assert not compiler.named


def test_why_a_form_is_not_compiled(digits):
    (found,) = tuner_of(digits, TimedCompiler({})).skipped()
    assert list(found.reasons) == ["stem_block_size = 4"]
    assert "needs the learned space-to-depth" in found.reasons["stem_block_size = 4"]
    variant = dataclasses.replace(get_variant("efficientnet-x-b0"), resolution=222)
    assert forms.why_not(DEVICE, variant, []) is None
    why = forms.why_not(Form(4, "device", "NHWC"), variant, [])
    assert why is not None
    assert "does not divide the resolution 222" in why
    why = forms.why_not(DEVICE, variant, [127])
    assert why is not None
    assert "does not divide the resolution 127" in why
    timm = dataclasses.replace(variant, dialect="timm")
    assert "pads its stem symmetrically" in (forms.why_not(DEVICE, timm, []) or "")
    assert forms.why_not(HWCN, timm, []) is None


@pytest.mark.parametrize(
    ("micro_batches", "needed", "sizes"),
    [
        (1, 0, [(40, 1)]),
        (1, int(15e9), [(20, 2), (40, 1)]),
        (2, 0, [(20, 1), (40, 2)]),
    ],
)
def test_other_batches_are_another_recipe(
    micro_batches, needed, sizes, digits, not_lowered
):
    names = {(20, 1): 90.0, (20, 2): 110.0, (40, 1): 180.0, (40, 2): None}
    times = {}
    for (images, parts), ms in names.items():
        cut = f" in {parts} micro-batches" if parts > 1 else ""
        name = f"the train step with {images} images a replica{cut}, {WRITTEN}"
        times[name] = ms
    tuner = tuner_of(digits, TimedCompiler(times), accumulation_steps=micro_batches)
    train = step(needed=needed)
    best = fastest_of(tuner.train_forms([train]))
    found = list(tuner.other_batches([train], best))
    assert [(one.images, one.micro_batches) for one in found] == sizes
    for one in found:
        assert one.milliseconds == names[one.images, one.micro_batches]
    text = "".join(tuning_text.lines_of(found[-1]))
    assert text.startswith("Another recipe, 40 images a replica")
    if micro_batches == 1:
        assert found[-1].gain == pytest.approx(0.1)
        assert "10.0% less an image" in text


def test_another_batch_that_fits_only_while_it_is_alone(digits, not_lowered):
    full = Topology.parse("v3").generation.hbm_bytes
    train = dataclasses.replace(step(), resident_bytes=full + 1)
    tuner = tuner_of(digits, TimedCompiler({}))
    written = fastest_of(tuner.train_forms([step()]))
    *_, found = tuner.other_batches([train], written)
    assert found.milliseconds is None
    assert found.problem == "needs 15.48 GiB with what lies beside it"


def test_what_an_image_of_the_fastest_form_costs(digits, not_lowered):
    """That of the form, not that of the config."""
    times = {first(HOST): 7.0, whole(HOST): 80.0}
    times[f"the train step with 40 images a replica, {HOST}"] = 120.0
    tuner = tuner_of(digits, TimedCompiler(times))
    best = fastest_of(tuner.train_forms([step()]))
    (found,) = tuner.other_batches([step()], best)
    assert found.known == 4.0
    assert found.gain == 0.25


def test_json_has_all_that_was_found(digits, not_lowered):
    times = {first(HOST): 7.0, whole(HOST): 80.0}
    found = list(tuner_of(digits, TimedCompiler(times)).findings([step()]))
    said = json.loads(json.dumps(tuning_text.to_json(found)))
    assert said["train_step"] == {
        "images_per_replica": 20,
        "as_written_ms": 100.0,
        "milliseconds": 80.0,
        "gain": pytest.approx(0.2),
        "settings": {"stem_block_size": 2, "stem_reshuffle": "host"},
        "gin": [
            "efficientnet_x.build_model.stem_block_size = 2",
            "efficientnet_x.build_model.stem_reshuffle = 'host'",
        ],
    }
    assert said["inference"]["settings"] == {}
    assert [one["images_per_replica"] for one in said["other_batches"]] == [40]
    assert list(said["skipped"]) == ["stem_block_size = 4"]
    extents = [one["extent"] for one in said["compiled"]]
    assert (
        extents.count("first layers") == extents.count("first layers, inference") == 6
    )
    assert isinstance(found[-1], OtherBatch)


def test_the_least_network_of_a_run(digits):
    """What names parts or blocks that are not there goes; what trains stays."""
    frozen = {"efficientnet_x.build_model.frozen": ("stem", "stage_2", "classifier")}
    experiment = experiment_of(
        digits,
        **{
            "experiment.Experiment.learning_rate_factors": {"stage_2": 0.1},
            **frozen,
        },
    )
    least = forms.first_layers(forms.in_form(experiment, HOST))
    settings = forms.settings_of(least)
    assert settings["frozen"] == ("stem",)
    assert settings["stem_reshuffle"] == "host"
    assert len(settings["variant"].stages) == 1
    assert not least.learning_rate_factors
    assert least.weight_decay == experiment.weight_decay
    stage = Stage(resolution=16, frozen=("stem", "stage_2"))
    assert forms.first_layers_of(stage) == Stage(resolution=16, frozen=("stem",))


@pytest.mark.long
def test_a_form_is_lowered_once(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    experiment, info = experiment_of(digits), load_info(str(digits))
    steps = FormSteps(experiment, info, 1)
    form = RunInForm(HOST_HWCN, first_layers=True)
    found = steps.lower(form, BASE_STAGE, b"as written")
    assert b"tensor<16x16x12x20xui8>" in found
    least = form.of(experiment, 1).make_model(10, dtype="float32", seed=0)
    assert "block_0" in {layer.name for layer in least.layers}
    assert "block_1" not in {layer.name for layer in least.layers}
    monkeypatch.setattr(steps, "_steps", None)
    assert steps.lower(form, BASE_STAGE, b"as written") == found
    with pytest.raises(TypeError):
        steps.lower(form, BASE_STAGE, b"another recipe")


@pytest.mark.slow
def test_the_compiler_s_own_choice(digits, tmp_path):
    """The first layers tell by how many cycles the whole differs.

    The config has patches by the device, which do not pay in so small a network. Split
    gradients, which are not of the stem, are compiled in the whole alone.
    """
    changes = {
        "experiment.Experiment.global_batch_size": 256,
        "experiment.Experiment.eval_batch_size": 256,
        "efficientnet_x.build_model.stem_block_size": 2,
    }
    experiment = experiment_of(digits, **changes)
    look = functools.partial(
        report.findings,
        experiment,
        load_info(str(digits)),
        Topology.parse("v3"),
        largest_batch=False,
        tune=True,
        reads_data=False,
    )
    with Compiler(1, cache_dir=tmp_path) as compiler:
        found = PreflightReport.of(look(compiler=compiler))
    compared = [one for one in found.tuning if isinstance(one, FormEstimate)]
    first_layers = {
        one.form: one.milliseconds or 0.0
        for one in compared
        if one.extent == "first layers"
    }
    assert len(first_layers) == 6
    assert all(first_layers.values())
    best = fastest_of(found.tuning)
    assert best.best is not None
    assert best.written.milliseconds is not None
    wholes = [one for one in compared if one.extent == "train step"]
    plain = [one for one in wholes if not one.form.split_gradients]
    assert 0 < len(plain) < len(wholes)
    for one in plain:
        assert one.milliseconds is not None
        saves = best.written.milliseconds - one.milliseconds
        expected = first_layers[DEVICE] - first_layers[one.form]
        assert saves == pytest.approx(expected, rel=0.25)
    assert found.compiles
