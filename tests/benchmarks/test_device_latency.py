import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks import device_latency
from benchmarks.device_latency import DeviceRow, ratios
from benchmarks.support.device.case import Case, Device, peer
from common import isolated
from common.isolated import Failed
from models import complexity
from models.variants import VARIANTS, get_variant
from tests.support.commands import status

B0, X_B0 = "efficientnet-b0", "efficientnet-x-b0"
TIMM = "timm efficientnet_b0, eager"
OURS = "ours, jax"


def case(variant, *, form="jax", batch=1, repeats=4):
    return Case(
        variant=get_variant(variant),
        form=form,
        batch=batch,
        dtype="bfloat16",
        repeats=repeats,
    )


def row(variant, outcome, **kwargs):
    return DeviceRow(case(variant, **kwargs), outcome)


def test_ratios_compare_medians_of_equal_batches_and_networks():
    rows = [
        row(B0, [3.0, 9.0, 6.0]),
        row(B0, [20.0], batch=16),
        row(X_B0, [4.0, 5.0, 3.0]),
        row(X_B0, [10.0], batch=16),
        row(B0, [12.0], form="eager"),
        row(B0, Failed("no memory"), form="eager", batch=16),
    ]
    assert ratios(rows) == {
        f"{B0} / {X_B0}, batch 1": 1.5,
        f"{B0} / {X_B0}, batch 16": 2.0,
        f"{B0} / {TIMM}, batch 1": 0.5,
    }


def test_figures_of_a_model():
    assert row(B0, [0.004, 0.002, 0.003], batch=6).describe() == {
        "variant": B0,
        "library": OURS,
        "pixels": 224,
        "batch": 6,
        "milliseconds": {"min": 2.0, "median": 3.0, "max": 4.0},
        "images_per_second": 2000.0,
        # W = 2 * MACs, 2000 times a second.
        "tflops_per_second": pytest.approx(
            2 * complexity.total(get_variant(B0)).macs * 2000 / 1e12, rel=1e-3
        ),
    }


def test_peers_are_the_same_networks():
    found = {name: peer(name) for name in VARIANTS if peer(name)}
    assert found == {
        **{f"efficientnet-b{i}": f"efficientnet_b{i}" for i in range(8)},
        "efficientnet-x-b3-timm": "efficientnet_x_b3",
        "efficientnet-x-b5-timm": "efficientnet_x_b5",
        "efficientnet-h-b5-timm": "efficientnet_h_b5",
    }


def test_calls_are_warmed_up_and_counted():
    calls = []
    seconds = case(B0).seconds(lambda: calls.append(1) or 1.0)
    assert len(seconds) == 4
    assert len(calls) == 4 + 5
    with pytest.raises(FloatingPointError, match="the sum of the logits is nan"):
        case(B0).seconds(lambda: float("nan"))


def test_a_process_that_fails_says_why():
    environment = {"SAID": "in the process"}
    assert isolated.call("os", "getenv", "SAID", environment=environment) == (
        "in the process"
    )
    assert "SAID" not in os.environ
    assert isolated.call("os", "listdir", "nowhere", environment={}) == Failed(
        "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere'"
    )
    too_large = isolated.call("numpy", "zeros", 2**57, environment={})
    assert too_large.reason.startswith("MemoryError: Unable to allocate 1.00 EiB")
    assert isolated.call("os", "abort", environment={}) == Failed(
        "its process was killed, perhaps for want of memory", killed=True
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Function: answers of processes -> the exit status and the report.

    The answers are by library: its device, then by (network, batch), timm's of both
    forms alike. timm is installed where it has answers.
    """

    def run(jax, torch, *flags):
        def call(module, function, *arguments, environment):
            answers = jax if module == "performance.device_jax" else torch
            if function == "device":
                return answers["device"]
            return answers[arguments[0].variant.name, arguments[0].batch]

        monkeypatch.setattr(
            device_latency, "_isolated", lambda *a: call(*a, environment={})
        )
        for name in ("timm", "torch"):
            monkeypatch.setitem(sys.modules, name, sys if torch else None)
        monkeypatch.setattr(device_latency.importlib.metadata, "version", lambda _: "1")
        ended = device_latency.main([f"--variants={B0}, {X_B0}", *flags])
        (line,) = capsys.readouterr().out.splitlines()
        return ended, json.loads(line)

    return run


GPU = Device("gpu", "NVIDIA A100")
JAX = {"device": GPU, (B0, 1): [1.0], (X_B0, 1): [0.5]}


def test_report_on_a_gpu_with_timm(run):
    torch = {"device": GPU, (B0, 1): [4.0]}
    ended, report = run(JAX, torch, "--batches=1", "--size=96", "--torch=eager")
    assert ended == 0
    assert report["device"] == "NVIDIA A100"
    assert "note" not in report
    assert report["timm"] == "measured on NVIDIA A100"
    assert [one["library"] for one in report["latency"]] == [OURS, OURS, TIMM]
    assert {one["pixels"] for one in report["latency"]} == {96}
    assert report["ratios"][f"{B0} / {TIMM}, batch 1"] == 0.25
    assert set(report["versions"]) == {"jax", "keras", "torch", "timm"}


@pytest.mark.parametrize(
    ("platform", "torch", "said", "expected"),
    [
        ("tpu", {"device": GPU}, "not measured: its torch has no TPU", 0),
        ("gpu", {"device": Failed("no GPU")}, "failed: no GPU", 1),
        ("gpu", None, "not installed: make with-peers", 0),
    ],
)
def test_report_without_timm(run, platform, torch, said, expected):
    jax = JAX | {"device": Device(platform, "a device")}
    ended, report = run(jax, torch, "--batches=1")
    assert ended == expected
    assert report["timm"] == said
    assert [one["library"] for one in report["latency"]] == [OURS] * 2
    assert report["ratios"] == {f"{B0} / {X_B0}, batch 1": 2.0}
    assert set(report["versions"]) == {"jax", "keras"}


def test_a_failure_costs_its_own_row(run):
    jax = JAX | {(B0, 8): Failed("out of memory"), (X_B0, 8): [3.0]}
    torch = {"device": GPU, (B0, 1): Failed("no C compiler"), (B0, 8): [2.0]}
    ended, report = run(jax, torch, "--batches=1, 8", "--torch=compiled")
    assert ended == 1
    outcomes = [
        one.get("failed", one.get("milliseconds", {}).get("median"))
        for one in report["latency"]
    ]
    assert outcomes == [1e3, "out of memory", 500.0, 3e3, "no C compiler", 2e3]
    assert report["ratios"] == {f"{B0} / {X_B0}, batch 1": 2.0}
    assert report["timm"] == "measured on NVIDIA A100"


def test_no_device_is_a_line(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    no_device = Failed("AssertionError")
    monkeypatch.setattr(device_latency, "_isolated", lambda *_: no_device)
    assert device_latency.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: JAX finds no device (AssertionError): pip install")
    assert line.endswith("or change JAX_PLATFORMS, which is 'cuda'")


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        ("--variants=efficientnet-b9", "error: unknown variant 'efficientnet-b9'"),
        (f"--variants={B0},efficientnet-b9", "error: unknown variant"),
        ("--variants= , ", "no name given"),
        ("--size=16", "error: resolution 16 is too small for efficientnet-b0"),
        ("--batches=1,0", "0 is not 1 or more"),
        ("--batches=a", "a is not a whole number"),
        ("--torch=eager,lazy", "lazy is not eager or compiled"),
    ],
)
def test_mistakes(mistake, error, capsys, monkeypatch):
    monkeypatch.setattr(device_latency, "_isolated", None)  # nothing is measured
    assert status(device_latency.main, mistake) == 2
    assert error in capsys.readouterr().err


def test_without_jax(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax", None)
    assert device_latency.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: JAX is not installed: pip install")


def on_this_cpu(*flags):
    """Returns the report and what was said beside it, of images of 32 pixels."""
    command = [sys.executable, "-m", "benchmarks.device_latency"]
    # Quick to compile, and no GPU, should there be one.
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [*command, "--size=32", "--repeats=2", *flags],
        env={**os.environ, **quick},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_our_model_on_this_cpu():
    report, said = on_this_cpu("--batches=2", f"--variants={X_B0}")
    assert report["device"] == "cpu"
    assert report["note"] == "a CPU: these are no figures of an accelerator"
    (figures,) = report["latency"]
    assert (figures["variant"], figures["pixels"], figures["batch"]) == (X_B0, 32, 2)
    spread = figures["milliseconds"]
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    rate = 2 / spread["median"] * 1e3
    assert figures["images_per_second"] == pytest.approx(rate, rel=1e-2)
    assert f"{X_B0}, {OURS}, batch 2: " in said


@pytest.mark.peers
@pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="needs timm")
def test_timms_model_beside_ours_on_this_cpu():
    report, _ = on_this_cpu("--batches=1", f"--variants={B0}", "--torch=eager")
    assert report["timm"] == "measured on cpu"
    assert report["note"].startswith("a CPU")
    ours, theirs = report["latency"]
    assert (ours["library"], theirs["library"]) == (OURS, TIMM)
    assert (theirs["variant"], theirs["pixels"], theirs["batch"]) == (B0, 32, 1)
    medians = [one["milliseconds"]["median"] for one in (ours, theirs)]
    assert report["ratios"] == {
        f"{B0} / {TIMM}, batch 1": pytest.approx(medians[0] / medians[1], rel=1e-3)
    }
    assert set(report["versions"]) == {"jax", "keras", "torch", "timm"}
