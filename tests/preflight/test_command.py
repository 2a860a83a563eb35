import types
from typing import Any

import pytest

from preflight import report, text
from preflight.__main__ import main
from tests.support.runs import TINY


@pytest.fixture
def asked(monkeypatch):
    """What the command asks `report.preflight` for, which says that all is well."""
    asked: dict[str, Any] = {"compiles": True, "fits": True}

    def preflight(experiment, info, topology, compiler, **options):
        total = info.split(experiment.train_split).total
        asked.update(options, topology=str(topology), images=total)
        return types.SimpleNamespace(compiles=asked["compiles"], fits=asked["fits"])

    monkeypatch.setattr(report, "preflight", preflight)
    monkeypatch.setattr(text, "describe", lambda found: "as it is")
    return asked


COMMAND = (
    f"--gin_file={TINY}",
    "--gin_param=experiment.Experiment.data_dir = 'nowhere'",
    "--topology=v3:4x4",
    "--train_images=1000",
)


@pytest.mark.parametrize(
    ("compiles", "fits", "status"),
    [(True, True, 0), (False, False, 1), (True, False, 1)],
)
def test_status(asked, compiles, fits, status, capsys):
    asked.update(compiles=compiles, fits=fits)
    assert main(COMMAND) == status
    assert capsys.readouterr().out == "as it is\n"


def test_flags(asked):
    main([*COMMAND, "--nosearch", "--input_cpu_ms=2.5", "--timeout_minutes=0.5"])
    expected = {"topology": "v3:4x4", "images": 1000, "search": False}
    expected |= {"cpu_ms": 2.5, "timeout_seconds": 30.0, "reads_data": False}
    assert asked.items() >= expected.items()
    main(COMMAND)
    expected |= {"search": True, "cpu_ms": None, "timeout_seconds": 3600.0}
    assert asked.items() >= expected.items()


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
