import json

import pytest

from benchmarks import latency

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


def test_no_ratio_where_one_is_missing():
    times = TIMES | {("efficientnet", "0"): None}
    none = {"efficientnet-x": None, "efficientnet-x-tpu": None}
    assert latency.ratios(times, FAMILIES, "0") == none
    assert latency.ratios(TIMES, FAMILIES, "0") == none | {
        "efficientnet-x": pytest.approx(1.5362, abs=1e-4)
    }


def test_errors_of_sums():
    sums = [{"error_of_sum": error} for error in (-0.04, 0.01, None, -0.01)]
    assert latency.errors(sums) == {
        "least": -0.04,
        "greatest": 0.01,
        "mean_absolute": pytest.approx(0.02),
    }
    assert latency.errors(sums[2:3]) is None


@pytest.fixture
def asked(monkeypatch):
    """List: of what is asked for. X-B1 does not fit, a part of B1 neither."""
    asked = []

    def network(name):
        whole = None if name == "efficientnet-x-b1" else 10.0 if "x" in name else 16.0
        total = None if name == "efficientnet-b1" else 9.9
        return {
            "name": name,
            "fits": whole is not None,
            "message": "needs 20 GiB",
            "milliseconds": whole,
            "parts_message": None if total else "stem by itself: needs 17 GiB",
            "sum_of_parts_ms": total,
            "error_of_sum": total and whole and total / whole - 1,
        }

    def estimate(variants, compiler, topology, form, *, blocks):
        names = [variant.name for variant in variants]
        asked.append((names, str(topology), form.batch, form.dtype, blocks))
        return {"networks": list(map(network, names)), "compiler": {"libtpu": "1"}}

    class Compiler:
        def __init__(self, workers):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(latency.latency, "estimate", estimate)
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
        ("--numbers=,", "no name given"),
        ("--batch=0", "0 is not 1 or more"),
        ("--dtype=int8", "dtype must be one of bfloat16, float32, not 'int8'"),
        ("--topology=v9", "unknown TPU topology 'v9'"),
    ],
)
def test_a_mistake_is_named(flag, said, asked, capsys):
    with pytest.raises(SystemExit) as raised:
        latency.main([flag])
    assert said in capsys.readouterr().err + str(raised.value.code)
    assert not asked


@pytest.mark.slow
def test_the_smallest_row_of_readme(capsys):
    latency.main(["--numbers=0", "--families=efficientnet,efficientnet-x"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["ratios"]["0"]["efficientnet-x"] == pytest.approx(1.54, rel=0.08)
    assert report["error_of_sum"]["mean_absolute"] < 0.04
