"""A run whose data become others: refused, accepted by name, written down."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess

import pytest

from common.errors import UserError
from input_pipeline.dataset_info import load_info
from tests.support import processes
from tests.support.runs import config_of, experiment_of, run_tiny
from tests.train.test_run import contents
from train import run, run_data, run_folder
from train.distribution.cluster import Cluster


def changed(digits, folder, *, names=None, grown=False):
    """The digits with other names of classes, or with one file more to learn from."""
    shutil.copytree(digits, folder)
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    if names:
        info["label_names"] = names
    if grown:
        train = info["splits"]["train"]
        more = train["shards"][0] | {"filename": "train-more"}
        shutil.copy(folder / train["shards"][0]["filename"], folder / "train-more")
        train["shards"].append(more)
        train["total"] += more["records"]
        train.pop("images")
    path.write_text(json.dumps(info))
    return folder


@pytest.fixture
def model_dir(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_a_run_knows_its_data(digits, finished):
    info, known = load_info(str(digits)), run_data.read(str(finished[0]))
    assert known is not None
    assert known == run_data.find(experiment_of(digits), info)
    assert known.label_names == info.label_names
    assert (known.name, known.label_offset) == (info.name, info.label_offset)
    assert known.evaluation is not None
    for name, split in (("train", known.training), ("validation", known.evaluation)):
        there = info.split(name)
        assert (split.split, split.images) == (name, there.total)
        assert (split.of_classes, split.digest) == (there.images, there.digest)
    assert known.has_digests
    assert known.info().label_names == info.label_names


@pytest.mark.long
def test_data_that_became_others(digits, model_dir, tmp_path, capsys):
    """Refused until they are accepted by name; then they are the run's."""
    swapped = [*"1023456789"]
    other = changed(digits, tmp_path / "other", names=swapped, grown=True)
    before = contents(model_dir)
    with pytest.raises(UserError) as refused:
        run_tiny(other, model_dir)
    said = str(refused.value)
    assert said.startswith(
        f"{other} does not hold the data of {model_dir} any more: 2 classes swapped: 0 "
        "'0' -> '1', 1 '1' -> '0'; training images: 4,000 -> 4,500; 4,000 images, 12 "
        "steps -> 4,500 images, 13 steps. Take another --model_dir to begin anew with "
        f"them; put the old data back (they lay in {digits}); or --accept_data="
    )
    with pytest.raises(UserError, match=r"has other classes than .* 2 classes swapped"):
        run.evaluate(experiment_of(other), model_dir)
    (model_dir / "eval.jsonl").unlink()
    with pytest.raises(UserError, match=r"does not hold the data of .*2 classes swapp"):
        run.continuous_evaluate(experiment_of(other), model_dir)
    (model_dir / "eval.jsonl").write_bytes(before[f"{model_dir}/eval.jsonl"])
    after = contents(model_dir)
    assert {name: after[name] for name in before} == before

    accepted = re.findall("--accept_data=([0-9a-f]{12}) ", said)
    config = config_of(other)
    summary = run.train_and_evaluate(
        config.experiment,
        model_dir,
        config=config,
        accept_data=accepted[0],
        with_evaluation=False,
    )
    assert (summary["first_step"], summary["steps"]) == (12, 13)
    assert f"warning: {model_dir} goes on with other data: 2 classes swapped" in (
        capsys.readouterr().err
    )
    now = run_data.read(str(model_dir))
    assert now == run_data.find(config.experiment, load_info(str(other)))
    lines = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
    (event,) = [line for line in lines if line.get("event") == "data_changed"]
    assert (event["step"], event["accepted"]) == (12, accepted[0])
    assert event["changes"].startswith("2 classes swapped: ")
    with pytest.raises(
        UserError, match="2 classes swapped: 0 '1' -> '0', 1 '0' -> '1'"
    ):
        run_tiny(digits, model_dir)  # what it has learnt first is another's by now


DAMAGED = {
    '{"name"': "line 1, column 8: Expecting ':' delimiter",
    "[]": "the whole file = []: it has to be an object, {...}",
    '{"label_names": []}': (
        "label_names = []: it has to be a list of at least one, [...]"
    ),
    '{"label_names": ["a", 7]}': (
        "label_names[1] = 7: it has to be a text in quotes, not empty"
    ),
    '{"label_names": ["a"], "label_names": ["b"]}': (
        'an object has the key "label_names" twice'
    ),
    '{"label_names": ["a"]}': "fields is missing",
    '{"label_names": ["\xe9': "byte 18 is no UTF-8",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_data_json(digits, model_dir, text):
    (model_dir / "data.json").write_bytes(text.encode("latin-1"))
    before = contents(model_dir)
    for use in (
        lambda: run_tiny(digits, model_dir),
        lambda: run.evaluate(experiment_of(digits), model_dir),
    ):
        with pytest.raises(UserError) as refused:
            use()
        assert str(refused.value) == (
            f"{model_dir}/data.json is damaged: {DAMAGED[text]}; put back what was "
            "there, or move it elsewhere (the run then goes on without a look at "
            "whether its data are the same)"
        )
    assert contents(model_dir) == before


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (
            "label_offset",
            True,
            "label_offset = true: it has to be a whole number of 64 bits",
        ),
        ("training", 5, "training = 5: it has to be an object, {...}"),
        (
            "training.images",
            -1,
            "training.images = -1: it has to be a whole number, 0 or more",
        ),
        (
            "training.of_classes",
            [1] * 10,
            "training.of_classes = [...]: it has to be 10 numbers that add up to 4000",
        ),
        (
            "training.digest",
            "x",
            'training.digest = "x": it has to be the 32 hexadecimal digits',
        ),
        (
            "evaluation.layout",
            "",
            'evaluation.layout = "": it has to be the 32 hexadecimal digits',
        ),
        (
            "fields.image",
            5,
            "fields.image = 5: it has to be a text in quotes, not empty",
        ),
    ],
)
def test_what_is_wrong_in_data_json_is_told(finished, tmp_path, path, value, why):
    content = json.loads((finished[0] / "data.json").read_text())
    *folders, name = path.split(".")
    part = content
    for folder in folders:
        part = part[folder]
    part[name] = value
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as refused:
        run_data.read(str(tmp_path))
    assert f"data.json is damaged: {why}" in str(refused.value)


def test_an_empty_data_json_is_none(tmp_path):
    """As a power cut leaves it."""
    for content in (b"", b"\0" * 100):
        (tmp_path / "data.json").write_bytes(content)
        assert run_data.read(str(tmp_path)) is None


def test_as_long_as_only_the_start_is_saved_data_may_change(model_dir):
    """It was killed behind its data.json, and before its first checkpoint."""
    for path in (*model_dir.glob("ckpt-[148]*"), *model_dir.glob("*.jsonl")):
        path.unlink()
    shutil.rmtree(model_dir / "best")

    def not_asked():
        raise AssertionError("nothing was learnt yet")

    with contextlib.ExitStack() as stack:
        claim = run_folder.claim(
            str(model_dir),
            Cluster(("a:1",), 0),
            stack,
            config=None,
            accept_changes=False,
            compare_data=not_asked,
            with_evaluation=True,
        )
        assert claim.known is None


@pytest.mark.slow
def test_processes_on_disks_of_their_own(digits, tmp_path):
    """The second has other images: both end, and say which has what."""
    other = changed(digits, tmp_path / "other", grown=True)
    settings = {"experiment.Experiment.strategy": "multi_worker"}
    settings["experiment.Experiment.batch_norm"] = "global"
    ours, theirs = (
        shlex.join(processes.command(data, tmp_path / "run", settings))
        for data in (digits, other)
    )
    line = f"case $TF_CONFIG in *'\"index\": 1'*) exec {theirs};; *) exec {ours};; esac"
    with processes.started(["bash", "-c", line], workers=2) as both:
        ends = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    for number, (data, images, said) in enumerate(
        zip((digits, other), ("4,000", "4,500"), ends, strict=True)
    ):
        assert (
            "error: process 1 of the run found other data than the chief, process 0. "
            f"In {data} process {number} has 10 classes, {images} images of 'train'"
        ) in said


@pytest.mark.slow
def test_flags(digits, finished, tmp_path):
    """What a person types, and what is answered."""
    shutil.copytree(finished[0], tmp_path / "run")
    ask = [*processes.command(digits, tmp_path / "run", {})[:3], "--mode=eval"]

    def answer(*flags):
        return subprocess.run([*ask, *flags], capture_output=True, text=True)

    for flags in (
        [f"--model_dir={tmp_path}/run", "--best"],
        [f"--model_dir={tmp_path}/run/best"],
    ):
        done = answer(*flags)
        scores = json.loads(done.stdout)
        assert scores["checkpoint"] == f"{tmp_path}/run/best/ckpt-12"
    done = answer(f"--model_dir={tmp_path}/run", "--mode=train", "--step=4")
    assert done.returncode == 2
    assert "error: --best and --step go with --mode=eval" in done.stderr
