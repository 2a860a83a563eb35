import argparse
import io
import json
import sys
from typing import Any

import pytest

from common.errors import Status
from preflight import __main__, report, text
from preflight.__main__ import main
from preflight.outlook import HostInput, Outlook, Schedule
from preflight.rows import LargestBatch, Problem, RunOnSlice, StepReport
from tests.preflight.fakes import report_of
from tests.support.runs import TINY
from tpu_compiler import CompilerError, Topology
from train.stage_rows import Stage

SLICE = Topology.parse("v3:4x4")
RUN = RunOnSlice(
    variant="tiny",
    resolution=32,
    precision="float32",
    topology=SLICE,
    global_batch_size=256,
    compiler_versions={"libtpu": "1.0"},
)
TRAIN = StepReport(name="train step", stage=Stage(), compilation=report_of())
SCHEDULE = Schedule(train_steps=24, epochs=0.12)
OUTLOOK = Outlook(SCHEDULE, HostInput(SLICE, None, None))
EVALUATION = StepReport(name="evaluation step", stage=None, compilation=report_of())
LARGEST = LargestBatch(images=3200, too_many=3456, replicas=32)
PRINTED = """\
tiny, 32 px, float32: 256 images a step on 32 replicas (8 each)
v3:4x4: 4 hosts, 16 chips, 15.48 GiB of HBM a replica; compiled by libtpu 1.0

train step: compiles and fits

evaluation step: compiles and fits

Largest batch known to fit: 3,200, 100 a replica; known not to: 3,456, 108 a replica
"""


@pytest.fixture
def asked(monkeypatch):
    """What the command asks `report.findings` for, which yields what it is to."""
    asked: dict[str, Any] = {"yields": [RUN, TRAIN, OUTLOOK, EVALUATION, LARGEST]}

    def findings(experiment, info, topology, compiler, **options):
        total = info.split(experiment.train_split).total
        asked.update(options, topology=str(topology), images=total)
        for one in asked["yields"]:
            if isinstance(one, BaseException):
                raise one
            yield one

    monkeypatch.setattr(report, "findings", findings)
    return asked


COMMAND = (
    f"--gin_file={TINY}",
    "--gin_param=experiment.Experiment.data_dir = 'nowhere'",
    "--topology=v3:4x4",
    "--train_images=1000",
)


def test_all_that_is_found_is_printed(asked, capsys):
    assert main(COMMAND) == Status.OK
    assert capsys.readouterr().out == f"{PRINTED}{text.limits()}\n"


class Flushed(io.StringIO):
    """Standard output, and what of it had been seen whenever it was flushed."""

    def __init__(self):
        super().__init__()
        self.seen = ""

    def flush(self):
        self.seen = self.getvalue()


def test_a_finding_is_printed_before_the_next_is_waited_for(asked, monkeypatch):
    out = Flushed()
    seen = []

    def wait_for(findings):
        for one in findings:
            seen.append(out.seen)
            yield one
        seen.append(out.seen)

    asked["yields"] = wait_for(asked["yields"])
    monkeypatch.setattr(sys, "stdout", out)
    assert main(COMMAND) == Status.OK
    ends = (
        "",
        "libtpu 1.0\n",
        "fits\n",
        "fits\n",
        "evaluation step: compiles and fits\n",
    )
    for one, end in zip(seen[:5], ends, strict=True):
        assert one == PRINTED[: len(one)]
        assert one.endswith(end)
    assert seen[5] == PRINTED


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [
        (
            CompilerError("the evaluation step: not compiled within 7 seconds"),
            Status.MISTAKE,
            "error: the evaluation step: not compiled within 7 seconds\n",
        ),
        (KeyboardInterrupt(), Status.INTERRUPTED, "stopped\n"),
    ],
)
def test_an_end_takes_nothing_back_that_was_found(asked, ends, status, said, capsys):
    asked["yields"][3:] = [ends]
    assert main(COMMAND) == status
    printed = capsys.readouterr()
    assert printed.out == PRINTED.partition("\nevaluation")[0]
    assert printed.err == said


def test_json_is_one_object_at_the_end(asked, capsys):
    assert main([*COMMAND, "--json"]) == Status.OK
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["largest_global_batch_size"] == 3200
    assert found["too_large_global_batch_size"] == 3456
    assert [step["name"] for step in found["steps"]] == [
        "train step",
        "evaluation step",
    ]
    asked["yields"][3:] = [CompilerError("it has died")]
    assert main([*COMMAND, "--json"]) == Status.MISTAKE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            StepReport(
                name="evaluation step", stage=None, problem=Problem(message="no")
            ),
            "does NOT compile: no",
        ),
        (
            StepReport(
                name="evaluation step",
                stage=None,
                compilation=report_of(needed=2**40),
                problem=Problem(message="needs much"),
            ),
            "compiles, does NOT fit: needs much",
        ),
    ],
)
def test_a_step_that_does_not_is_the_status(asked, step, said, capsys):
    asked["yields"][3] = step
    assert main(COMMAND) == Status.NO
    assert f"\nevaluation step: {said}\n" in capsys.readouterr().out


def test_flags(asked):
    main(
        [*COMMAND, "--no_largest_batch", "--input_cpu_ms=2.5", "--timeout_minutes=0.5"]
    )
    expected = {"topology": "v3:4x4", "images": 1000, "largest_batch": False}
    expected |= {"cpu_ms": 2.5, "timeout_seconds": 30.0, "reads_data": False}
    assert asked.items() >= expected.items()
    main(COMMAND)
    expected |= {"largest_batch": True, "cpu_ms": None, "timeout_seconds": 3600.0}
    assert asked.items() >= expected.items()


def test_as_many_at_once_as_the_machine_takes(monkeypatch):
    monkeypatch.setattr(__main__, "compilations_at_once", lambda: 5)
    parser = __main__._parser()
    assert isinstance(parser, argparse.ArgumentParser)
    assert parser.parse_args(["--topology=v3"]).workers == 5
    assert parser.parse_args(["--topology=v3", "--workers=3"]).workers == 3


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--workers=0", "0 is not 1 or more"),
        ("--train_images=0", "'0' is not a whole number, 1 or more"),
        ("--input_cpu_ms=0", "'0' is not a number above 0"),
        ("--timeout_minutes=0", "'0' is not a number, 0.1 or more"),
        ("--serch", "unrecognized arguments: --serch"),
    ],
)
def test_a_wrong_flag(flag, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*COMMAND, flag])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_wrong_topology_is_told_before_a_missing_compiler(monkeypatch, capsys):
    monkeypatch.setenv("TPU_COMPILER_PYTHON", "/nowhere/python")
    assert main(["--topology=v9:4x4"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: unknown TPU topology 'v9:4x4'; known are")
    assert main(["--topology=v3:4x4", "--gin_param=a.b = 1"]) == 2
    assert "/nowhere/python" in capsys.readouterr().err
