import json
import os
import subprocess
import sys

import pytest

from benchmarks import device_latency
from benchmarks.device_latency import Found, Timing, peer, ratios
from models import complexity
from models.variants import VARIANTS, get_variant

B0, X_B0 = "efficientnet-b0", "efficientnet-x-b0"
TIMM = "timm efficientnet_b0, eager"


def timing(variant, seconds, *, library="ours, jax", batch=1):
    return Timing(variant=variant, library=library, batch=batch, seconds=seconds)


def test_ratios_compare_medians_of_equal_batches_and_networks():
    timings = [
        timing(B0, [3.0, 9.0, 6.0]),
        timing(B0, [20.0], batch=16),
        timing(X_B0, [4.0, 5.0, 3.0]),
        timing(X_B0, [10.0], batch=16),
        timing(B0, [12.0], library=TIMM),
    ]
    assert ratios(timings) == {
        f"{B0} / {X_B0}, batch 1": 1.5,
        f"{B0} / {X_B0}, batch 16": 2.0,
        f"{B0} / {TIMM}, batch 1": 0.5,
    }


def test_figures_of_a_model():
    figures = timing(B0, [0.004, 0.002, 0.003], batch=6).describe(224)
    assert figures == {
        "variant": B0,
        "library": "ours, jax",
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
    settings = device_latency._parse(["--repeats=4"])
    calls = []
    seconds = settings.seconds("a model", lambda: calls.append(1) or 1.0)
    assert len(seconds) == 4
    assert len(calls) == 4 + 5
    with pytest.raises(FloatingPointError, match="a model: the sum of the logits is"):
        settings.seconds("a model", lambda: float("nan"))


def run(capsys, monkeypatch, ours, timm, *arguments):
    """Returns the report where the processes' answers are given."""
    answers = {"_measure_ours": ours, "_measure_timm": timm}
    monkeypatch.setattr(
        device_latency, "_in_process", lambda f, *_: answers[f.__name__]
    )
    installed = timm is not None
    for name in ("timm", "torch"):
        monkeypatch.setitem(sys.modules, name, sys if installed else None)
    monkeypatch.setattr(device_latency.importlib.metadata, "version", lambda _: "1")
    device_latency.main([f"--variants={B0},{X_B0}", *arguments])
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_report_on_a_gpu_with_timm(capsys, monkeypatch):
    ours = Found("gpu", "NVIDIA A100", [timing(B0, [1.0]), timing(X_B0, [0.5])])
    timm = Found("gpu", "NVIDIA A100", [timing(B0, [4.0], library=TIMM)])
    report = run(capsys, monkeypatch, ours, timm, "--size=96")
    assert report["device"] == "NVIDIA A100"
    assert "note" not in report
    assert report["timm"] == "measured on NVIDIA A100"
    assert [one["library"] for one in report["latency"]] == [
        *("ours, jax", "ours, jax"),
        TIMM,
    ]
    assert {one["pixels"] for one in report["latency"]} == {96}
    assert report["ratios"][f"{B0} / {TIMM}, batch 1"] == 0.25
    assert set(report["versions"]) == {"jax", "keras", "torch", "timm"}


@pytest.mark.parametrize(
    ("platform", "timm", "reason"),
    [
        ("tpu", Found("tpu", "", []), "not measured: its torch has no TPU"),
        ("gpu", "not measured: this torch sees no GPU", None),
        ("gpu", None, "not installed: make peers"),
    ],
)
def test_report_without_timm(capsys, monkeypatch, platform, timm, reason):
    ours = Found(platform, "a device", [timing(B0, [1.0]), timing(X_B0, [0.5])])
    report = run(capsys, monkeypatch, ours, timm)
    assert report["timm"] == (reason or timm)
    assert [one["library"] for one in report["latency"]] == ["ours, jax"] * 2
    assert report["ratios"] == {f"{B0} / {X_B0}, batch 1": 2.0}
    assert set(report["versions"]) == {"jax", "keras"}


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        ("--variants=efficientnet-b9", "error: unknown variant 'efficientnet-b9'"),
        ("--batches=0", "0 is not 1 or more"),
        ("--torch=lazy", "lazy is not eager or compiled"),
    ],
)
def test_mistakes(mistake, error, capsys):
    with pytest.raises(SystemExit) as ended:
        device_latency.main([mistake])
    assert error in f"{ended.value.code} {capsys.readouterr().err}"


def test_without_jax(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setattr(device_latency.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="error: JAX is not installed: pip install"):
        device_latency.main([])


def test_our_model_on_this_cpu():
    command = [sys.executable, "-m", "benchmarks.device_latency"]
    small = ["--batches=2", "--size=32", "--repeats=2", f"--variants={X_B0}"]
    # Quick to compile, and no GPU, should there be one.
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [*command, *small],
        env={**os.environ, **quick},
        check=True,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    assert report["device"] == "cpu"
    assert report["note"] == "a CPU: these are no figures of an accelerator"
    (figures,) = report["latency"]
    assert (figures["variant"], figures["pixels"], figures["batch"]) == (X_B0, 32, 2)
    spread = figures["milliseconds"]
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    rate = 2 / spread["median"] * 1e3
    assert figures["images_per_second"] == pytest.approx(rate, rel=1e-2)
    assert f"{X_B0}, ours, jax, batch 2: " in done.stderr
