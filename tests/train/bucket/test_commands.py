"""Other commands at gs://: data prepared there, validated, and a run scored again."""

import json
import sys

import pytest

from tests.support.bucket import serving
from tests.support.fake_gcs import load
from tests.support.folders import content
from train.evaluation import SCORES
from train.telemetry import summary as summaries

DATA, RUN = "gs://data/mnist", "gs://run/one"


@pytest.mark.slow
def test_what_is_prepared_and_scored_is_the_same_as_on_a_disk(
    digits, finished, tmp_path
):
    model_dir, summary = finished
    data = f"experiment.Experiment.data_dir = '{DATA}'"
    commands = [
        ["input_pipeline.prepare", "mnist", f"--output={DATA}"],
        ["input_pipeline.prepare", "mnist", f"--output={DATA}"],  # it is there
        ["input_pipeline.validate", f"--data_dir={DATA}", "--json"],
        *(
            [
                "train.main",
                "--mode=eval",
                which,
                f"--gin_param={data}",
                f"--model_dir={at}",
            ]
            for which, at in (("--best", RUN), ("--step=12", RUN))
        ),
    ]
    with serving(tmp_path, "data", "run") as bucket:
        load(bucket.store, f"run/one={model_dir}")
        status, printed, said = bucket.run(
            [sys.executable, "-m", "tests.support.in_turn", json.dumps(commands)]
        )
        assert status == 0, said
        assert bucket.store.content("data", "mnist/") == content(digits)
        answers = bucket.store.content("run", "one/evaluations/")
    found, *asked = [
        json.loads(line) for line in printed.splitlines() if line[0] == "{"
    ]
    assert found["findings"] == []
    for report in asked:
        assert [report[key] for key in SCORES] == [summary[key] for key in SCORES]
    answers = {name.rpartition(".")[2]: answer for name, answer in answers.items()}
    assert answers.keys() == {"json", "html"}  # and its page of mistakes
    assert summaries.line(json.loads(answers["json"])) == asked[-1]
