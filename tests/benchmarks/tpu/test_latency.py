import json
import re

import pytest

from benchmarks.support import results
from benchmarks.tpu import latency
from performance import latency_text
from performance.latency_estimates import LatencyReport
from tests.performance.made_up import network
from tests.support.commands import status

TIMES = {
    ("efficientnet", "0"): 16.115,
    ("efficientnet-x", "0"): 10.49,
    ("efficientnet-x-tpu", "0"): None,
    ("efficientnet", "4"): 115.2,
    ("efficientnet-x", "4"): 85.3,
    ("efficientnet-x-tpu", "4"): 73.4,
}
FAMILIES = ["efficientnet", "efficientnet-x", "efficientnet-x-tpu"]


def test_table():
    assert latency.table(TIMES, FAMILIES, ["0", "4"]).splitlines() == [
        "| N | EfficientNet | X | X-TPU | EfficientNet : X, X-TPU |",
        "| --- | --- | --- | --- | --- |",
        "| 0 | 16.1 | 10.5 | - | 1.54, - |",
        "| 4 | 115 | 85.3 | 73.4 | 1.35, 1.57 |",
    ]
    assert latency.table(TIMES, ["efficientnet-x"], ["4"]).splitlines() == [
        "| N | X |",
        "| --- | --- |",
        "| 4 | 85.3 |",
    ]


def test_a_family_without_the_number(asked, capsys):
    families = ["efficientnetv2", "efficientnet-x"]
    latency.main(["--numbers=3,4", f"--families={','.join(families)}"])
    (names, *_), *_ = asked
    assert names == ["efficientnetv2-b3", "efficientnet-x-b3", "efficientnet-x-b4"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| N | V2 | X | V2 : X |"
    assert lines[-2] == "| 4 | - | 10.0 | - |"


def test_no_ratio_where_one_is_missing():
    times = TIMES | {("efficientnet", "0"): None}
    none = {"efficientnet-x": None, "efficientnet-x-tpu": None}
    assert latency.ratios(times, FAMILIES, "0") == none
    assert latency.ratios(TIMES, FAMILIES, "0") == none | {
        "efficientnet-x": pytest.approx(1.5362, abs=1e-4)
    }


def test_errors_of_sums():
    sums = [network("b0", 100.0, total) for total in (96.0, 101.0, None, 99.0)]
    assert latency.errors(sums) == {
        "least": pytest.approx(-0.04),
        "greatest": pytest.approx(0.01),
        "mean_absolute": pytest.approx(0.02),
    }
    assert latency.errors(sums[2:3]) is None


@pytest.fixture
def asked(monkeypatch):
    """List: of what is asked for. X-B1 does not fit, a part of B1 neither."""
    asked = []

    def found(name):
        whole = None if name == "efficientnet-x-b1" else 10.0 if "x" in name else 16.0
        return network(name, whole, None if name == "efficientnet-b1" else 9.9)

    def estimate(variants, compiler, topology, options, *, blocks):
        names = [variant.name for variant in variants]
        asked.append((names, str(topology), options.batch, options.dtype, blocks))
        networks = tuple(map(found, names))
        return LatencyReport(topology, options, networks, {"libtpu": "1"})

    class Compiler:
        def __init__(self, workers):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(latency, "estimate", estimate)
    monkeypatch.setattr(latency, "Compiler", Compiler)
    return asked


def test_command(asked, capsys):
    arguments = ["--numbers=0", "--families=efficientnet,efficientnet-x"]
    assert latency.main(arguments) == 0
    names = ["efficientnet-b0", "efficientnet-x-b0"]
    assert asked == [(names, "v3", 64, "bfloat16", "yes")]
    *lines, report = capsys.readouterr().out.splitlines()
    assert lines[-1] == "| 0 | 16.0 | 10.0 | 1.60 |"
    report = json.loads(report)
    assert report["ratios"] == {"0": {"efficientnet-x": 1.6}}
    assert [one["error_of_sum"] for one in report["networks"]] == [
        pytest.approx(9.9 / 16 - 1),
        pytest.approx(-0.01),
    ]
    assert report["error_of_sum"]["greatest"] == pytest.approx(-0.01)
    assert report["settings"]["device"] == "one core of a v3 chip"
    assert report["compiler"] == {"libtpu": "1"}


def test_what_has_no_estimate_is_named(asked, capsys):
    arguments = ["--numbers=0,1", "--families=efficientnet,efficientnet-x"]
    assert latency.main([*arguments, "--batch=512", "--topology=v4"]) == 1
    assert asked[0][1:3] == ("v4", 512)
    *lines, report = capsys.readouterr().out.splitlines()
    failures = [
        "efficientnet-b1: stem by itself: needs 17 GiB",
        "efficientnet-x-b1: needs 20 GiB",
    ]
    assert lines[-3:] == ["| 1 | 16.0 | - | - |", *failures]
    assert json.loads(report)["failures"] == failures


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--numbers=8", "unknown variant 'efficientnet-b8': did you mean"),
        ("--numbers=0,9", "unknown variant 'efficientnet-b9': did you mean"),
        ("--families=efficientnetv3", "unknown variant 'efficientnetv3-b0': did you"),
        ("--numbers=,", "no name given"),
        ("--batch=0", "0 is not 1 or more"),
        ("--dtype=int8", "dtype must be one of bfloat16, float32, not 'int8'"),
        ("--topology=v9", "unknown TPU topology 'v9'"),
    ],
)
def test_a_mistake_is_named(flag, said, asked, capsys):
    assert status(latency.main, flag) == 2
    assert said in capsys.readouterr().err
    assert not asked


def test_the_error_of_the_sum_is_told_as_stored():
    stored = results.load(results.FOLDER / "tpu.latency.json")
    for is_v2, said in (
        (False, "0 to 4.0 % below the whole, 1.8 % on average"),
        (True, "0.4 to 8.3 % below, 4.1 %"),
    ):
        below = [
            abs(100 * row["error_of_sum"])
            for row in stored["networks"]
            if row["name"].startswith("efficientnetv2") == is_v2
        ]
        least, most, mean = min(below), max(below), sum(below) / len(below)
        told = [least, most, mean]
        assert [float(one) for one in re.findall(r"[\d.]+", said)] == pytest.approx(
            told, abs=0.05
        )
        assert said in latency_text._LOOKED_AT


@pytest.mark.slow
def test_the_smallest_row_is_as_stored(capsys):
    latency.main(["--numbers=0", "--families=efficientnet,efficientnet-x"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    stored = results.load(results.FOLDER / "tpu.latency.json")
    networks = {row["name"]: row for row in stored["networks"]}
    for row in report["networks"]:
        # The locked versions and models/ decide on every cycle.
        assert row == pytest.approx(networks[row["name"]], rel=1e-3)
    assert len(report["networks"]) == 2
