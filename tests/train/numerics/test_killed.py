"""The command line in float16, killed around a step that overflows."""

import json
import signal

import pytest

from tests.support import processes
from tests.train.test_run import assert_same_variables, variables

GIN_FILE = "tests/data/train/spoilt.gin"


def killed_behind(command, line_of):
    """Kill a run when it says that it has come so far."""
    with processes.started(command) as (process,):
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(line_of):
                process.kill()
    assert process.returncode == -signal.SIGKILL, said
    return "".join(said)


@pytest.mark.slow
def test_sigkill_before_and_behind_an_overflow(digits, tmp_path):
    """A checkpoint is written every four steps; the sixth one overflows."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    options = {"gin_file": GIN_FILE, "devices": 2}
    processes.run(processes.command(digits, whole, {}, **options))
    command = processes.command(digits, folder, {}, **options)
    said = killed_behind(command, "step 6/12")
    assert "1 step skipped (loss scale 16,384)" in said
    said = killed_behind(command, "step 10/12")
    assert "going on at step 4" in said
    processes.run(command)
    assert_same_variables(whole, folder)
    held = variables(folder)
    assert held["loss_scale/skipped_steps"] == 1
    assert held["loss_scale/scale"] == 2.0**14
    assert held["loss_scale/good_steps"] == 6
    assert json.loads((folder / "summary.json").read_text())["skipped_steps"] == 1
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    skipped = {x["step"]: x["skipped_steps"] for x in lines if x["kind"] == "train"}
    assert skipped == {2: 0, 4: 0, 6: 1, 8: 0, 10: 0, 12: 0}
