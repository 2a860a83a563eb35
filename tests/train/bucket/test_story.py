"""Data, a run and its export at gs://, each as the same on a disk, bit for bit."""

import json
import sys

import pytest

from tests.support.bucket import serving
from tests.support.fake_gcs import load
from tests.support.runs import TINY, bindings
from train.evaluation import SCORES

RUN, FOLLOWED, EXPORT = "gs://run/one", "gs://run/two", "gs://run/one/export"


@pytest.fixture(scope="module")
def told(digits, finished, tmp_path_factory):
    """What lies in the bucket once all is done, and what the commands printed.

    The run that is followed was trained on a disk.
    """
    settings = [f"--gin_param={text}" for text in bindings("gs://data/mnist", {})]
    commands = [
        ["train.main", f"--gin_file={TINY}", *settings, f"--model_dir={RUN}"],
        ["train.main", "--mode=continuous_eval", *settings, f"--model_dir={FOLLOWED}"],
        ["train.export", f"--model_dir={RUN}", f"--export_dir={EXPORT}"],
        [
            "train.classify",
            f"--export_dir={EXPORT}",
            "--tfrecords=gs://data/mnist/validation-*",
            "--output=gs://run/table.jsonl",
        ],
    ]
    folder = tmp_path_factory.mktemp("bucket")
    with serving(folder, "data", "run", log=folder / "log") as bucket:
        load(bucket.store, f"data/mnist={digits}")
        load(bucket.store, f"run/two={finished[0]}")
        held = bucket.store.buckets["run"]
        for name in list(held):
            if name.startswith(("two/best/", "two/eval", "two/ckpt-0", "two/ckpt-4")):
                del held[name]
        # An object may be written once a second: who was too fast tries again, after up
        # to a second. With tries that follow at once all of them come too early.
        status, printed, said = bucket.run(
            [sys.executable, "-m", "tests.support.in_turn", json.dumps(commands)],
            GCS_RETRY_CONFIG_INIT_DELAY_TIME_US="1000",
        )
        assert status == 0, said
        content = bucket.store.content("run")
    print(said, json.dumps(bucket.store.stats), sep="\n")  # where a test below fails
    reports = [json.loads(line) for line in printed.splitlines() if line[0] == "{"]
    return content, reports


def below(content, prefix):
    """What lies in one folder of the bucket, by its name there."""
    return {
        name.removeprefix(prefix): data
        for name, data in content.items()
        if name.startswith(prefix)
    }


def scores(report):
    return {name: report[name] for name in SCORES}


@pytest.mark.long
def test_a_run_is_the_one_on_a_disk(told, finished, same_files):
    content, (trained, *_) = told
    model_dir, summary = finished
    found = same_files(below(content, "one/"), model_dir)
    assert found == {"ckpt-0", "ckpt-4", "ckpt-8", "ckpt-12", "best/ckpt-12"}
    kept = json.loads(content["one/summary.json"])
    mistakes = kept["mistakes"]  # which a program is told without its lists
    kept["mistakes"] = {key: mistakes[key] for key in trained["mistakes"]}
    assert kept == trained
    assert scores(trained) == scores(summary)
    assert scores(json.loads(content["one/best/scores-ckpt-12.json"])) == scores(
        summary
    )
    assert (trained["checkpoint"], trained["steps"]) == (f"{RUN}/ckpt-12", 12)


@pytest.mark.long
def test_what_a_run_writes_is_there_and_nothing_else(told, finished):
    """No staged file is left, and none is missing."""
    model_dir, _ = finished
    there = {
        str(path.relative_to(model_dir))
        for path in model_dir.rglob("*")
        if path.is_file() and not path.name.startswith(("events.", ".claim"))
    }
    found = {
        name
        for name in below(told[0], "one/")
        if not name.startswith("export/")
        and not name.rpartition("/")[2].startswith(("events.", ".claim"))
    }
    assert found == there


@pytest.mark.long
def test_a_run_is_followed(told, finished, same_files):
    content, (_, followed, _) = told
    model_dir, summary = finished
    lines = map(json.loads, content["two/eval.jsonl"].splitlines())
    scored = {line["step"]: line for line in lines}
    assert sorted(scored) == [8, 12]
    assert scores(followed) == scores(scored[12]) == scores(summary)
    best = same_files(below(content, "two/best/"), model_dir)
    assert best == {f"ckpt-{max(scored, key=lambda step: scored[step]['ema_top1'])}"}


@pytest.mark.long
def test_an_export_is_the_one_on_a_disk(told, exported):
    content, (*_, report) = told
    folder, on_a_disk = exported
    found = below(content, "one/export/")
    for name in (
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
        "assets.extra/labels.txt",
        "assets.extra/predictions.csv",
    ):
        with open(f"{folder}/{name}", "rb") as file:
            assert found[name] == file.read(), name
    assert report["largest_logit_difference"] == on_a_disk["largest_logit_difference"]
    assert report["images_compared"] == 1000


@pytest.mark.long
def test_an_export_classifies(told, finished):
    rows = [json.loads(line) for line in told[0]["table.jsonl"].splitlines()]
    right = [row for row in rows if row["label"] == row["class"]]
    assert len(rows) == 1000
    assert len(right) / 1000 == finished[1]["ema_top1"]
