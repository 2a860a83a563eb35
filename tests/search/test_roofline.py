import csv
import dataclasses
import re
import subprocess
import sys
import types

import pytest

import tpu_compiler
from models import complexity, variants
from models.variants import VARIANTS, ModelError, get_variant
from search import analysis, hardware, latency, plots, roofline
from search.analysis import analyse
from search.hardware import Hardware
from search.layers import layers
from tpu_compiler.topology import GENERATIONS

# 100 FLOP/s and 10 bytes a second: the ridge is at 10 FLOPs per byte.
TOY = Hardware("toy", "a toy", {"bfloat16": 100.0, "float32": 50.0}, 10.0, "made up")
V3 = hardware.find("tpu-v3")


def short(name="efficientnet-b0", stages=1, resolution=8):
    full = get_variant(name)
    return dataclasses.replace(full, stages=full.stages[:stages], resolution=resolution)


def changed():
    """Pixels moved, a block in the batch domain, and one with neither."""
    return variants.change(
        short("efficientnet-x-b0", stages=3, resolution=32),
        stages={
            1: {"space_to_depth": "reshuffle", "se_ratio": 0},
            2: {"num_repeat": 1, "expand_ratio": 1},
            3: {"num_repeat": 1, "fused": False},
        },
        blocks={2: {"space_to_batch": 2}},
    )


@pytest.mark.parametrize(
    "variant", [*VARIANTS.values(), changed()], ids=[*VARIANTS, "changed"]
)
def test_layers_add_up_to_what_complexity_counts(variant):
    parts = {}
    for name, cost in complexity.layer_costs(variant, num_classes=10):
        part = "head" if name == "classifier" else name
        parts[part] = parts.get(part, complexity.Cost()) + cost
    found = layers(variant, num_classes=10)
    assert list(dict.fromkeys(layer.part for layer in found)) == list(parts)
    for part, cost in parts.items():
        mine = [layer for layer in found if layer.part == part]
        assert sum(layer.macs for layer in mine) == cost.macs
        assert sum(layer.weights for layer in mine) == cost.trainable_params
        written = (x.output_elements for x in mine if x.kind != "reshuffle")
        assert sum(written) == cost.activation_elements
    (*_, network) = analyse(variant, V3, batch=3)
    assert network.flops == 3 * 2 * complexity.total(variant).macs


def test_layers_by_hand():
    """Pixels that move are read and written; SE of four parts works on four means."""
    found = {(layer.part, layer.name): layer for layer in layers(changed())}
    fold = found["block_0", "fold"]
    assert (fold.kind, fold.macs, fold.weights) == ("reshuffle", 0, 0)
    assert fold.input_elements == fold.output_elements == 16 * 16 * 32
    there = found["block_2", "space_to_batch"]
    back = found["head", "batch_to_space"]
    assert there.input_elements == there.output_elements == 8 * 8 * 24
    assert back.input_elements == back.output_elements == 4 * 4 * 40
    reduce = found["block_2", "squeeze_excite/reduce"]
    assert (reduce.input_elements, reduce.output_elements) == (4 * 144, 4 * 24)
    assert (reduce.macs, reduce.weights) == (4 * 144 * 24, 144 * 24 + 24)
    depthwise = found["block_2", "depthwise"]  # 5x5, stride 2, of four 4x4
    assert (depthwise.input_elements, depthwise.output_elements) == (
        4 * 16 * 144,
        4 * 4 * 144,
    )
    fused = found["block_1", "expand"]
    assert (fused.kind, fused.macs) == ("fused", 64 * 9 * 64 * 16)


def test_roofline_by_hand():
    rows = analyse(short(), TOY, batch=2, estimates={"block_0": 2076.8})
    by_name = {(row.part, row.name): row for row in rows if row.level == "layer"}
    stem = by_name["stem", "conv"]  # 3x3 with stride 2, 8x8x3 -> 4x4x32
    assert stem.flops == 2 * 2 * 16 * 27 * 32
    assert stem.bytes == 2 * (2 * (8 * 8 * 3 + 16 * 32) + 27 * 32 + 2 * 32) == 4672
    assert stem.intensity == 55296 / 4672  # 11.8
    assert (stem.bound, stem.ideal_flops) == ("compute", 100)
    assert stem.ideal_seconds == 552.96
    depthwise = by_name["block_0", "depthwise"]
    assert depthwise.flops == 2 * 2 * 16 * 32 * 9
    assert depthwise.bytes == 2 * (2 * (512 + 512) + 9 * 32 + 2 * 32) == 4800
    assert (depthwise.bound, depthwise.ideal_flops) == ("memory", 38.4)
    assert depthwise.ideal_seconds == 480
    (block,) = [row for row in rows if row.part == "block_0" and row.level == "block"]
    assert block.kind == "depthwise"
    assert block.flops == 18432 + 2 * 1024 + 32768  # SE 32 -> 8 -> 32; 32 -> 16
    assert block.bytes == 4800 + 688 + 736 + 4160
    assert block.memory_bound_flops == block.flops
    assert block.ideal_seconds == block.ideal_seconds_by_layer == 1038.4
    assert block.efficiency == pytest.approx(0.5)
    assert block.achieved_flops == pytest.approx(block.intensity * 10 / 2)


def test_latency_is_w_over_ideal_compute_times_efficiency():
    rows = analyse(short(), TOY, batch=2, estimates={"block_0": 2076.8, "network": 9e5})
    known = [row for row in rows if row.efficiency is not None]
    assert [row.level for row in known] == ["block", "network"]
    for row in known:
        seconds = row.flops / (row.ideal_flops * (row.efficiency or 0))
        assert seconds == pytest.approx(row.estimated_seconds)


def test_float32_moves_twice_the_bytes():
    half, full = (analyse(short(), TOY, batch=2, dtype=d)[-1] for d in TOY.peak_flops)
    assert (full.bytes, full.flops) == (2 * half.bytes, half.flops)
    assert full.ridge == half.ridge / 2


def of_kind(rows, kind):
    return {row.part: row for row in rows if row.kind == kind and row.level == "layer"}


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-x-b0"])
def test_depthwise_convolutions_need_the_most_bytes(name):
    rows = analyse(get_variant(name), V3, batch=64)
    depthwise = of_kind(rows, "depthwise")
    for row in rows:
        if row.kind == "conv_1x1" and row.part in depthwise:
            assert depthwise[row.part].intensity < row.intensity
    assert all(row.bound == "memory" for row in depthwise.values())


def test_what_efficientnet_x_changes():
    """More arithmetic in less time: the paper's point."""
    b0 = analyse(get_variant("efficientnet-b0"), V3, batch=64)
    x_b0 = analyse(get_variant("efficientnet-x-b0"), V3, batch=64)
    assert x_b0[-1].flops > 2 * b0[-1].flops
    assert x_b0[-1].ideal_seconds < b0[-1].ideal_seconds
    assert x_b0[-1].intensity > 3 * b0[-1].intensity
    fused = of_kind(x_b0, "fused")
    assert {row.bound for row in fused.values()} == {"compute"}
    (fold,) = of_kind(x_b0, "space_to_depth").values()
    first = of_kind(b0, "depthwise")[fold.part]
    assert fold.intensity > 10 * first.intensity


def test_moved_pixels_take_the_time_of_their_bytes():
    (fold,) = [row for row in analyse(changed(), TOY, batch=1) if row.name == "fold"]
    assert (fold.flops, fold.bound) == (0, "memory")
    assert fold.ideal_seconds == 2 * (2 * 16 * 16 * 32) / 10


@pytest.mark.parametrize("name", hardware.HARDWARE)
def test_sums_on_all_hardware(name):
    device = hardware.find(name)
    dtype = next(iter(device.peak_flops))
    small, large = (
        analyse(get_variant("efficientnet-x-b0"), device, batch=batch, dtype=dtype)
        for batch in (1, 64)
    )
    assert large[-1].intensity > small[-1].intensity  # weights are read once
    for rows in (small, large):
        *parts, network = rows
        for level in ("layer", "block"):
            some = [row for row in parts if row.level == level]
            assert sum(row.flops for row in some) == network.flops
            assert sum(row.bytes for row in some) == network.bytes
            ideal = sum(row.ideal_seconds_by_layer for row in some)
            assert ideal == pytest.approx(network.ideal_seconds_by_layer)
        assert network.ideal_seconds <= network.ideal_seconds_by_layer
        assert 0 < network.memory_bound_flops <= network.flops
        assert {row.efficiency for row in rows} == {None}


def test_hardware_is_that_of_the_compiler_and_of_the_trainer():
    from train.hardware import GPU_TERAFLOPS

    for name, generation in GENERATIONS.items():
        device = hardware.find(f"tpu-{name}")
        assert device.peak("bfloat16") == generation.peak_flops
        assert device.bytes_per_second == generation.hbm_bytes_per_second
        assert str(device.topology) == name
    boards = {"v100": "Tesla V100-SXM2", "a100": "NVIDIA A100", "h100": "NVIDIA H100"}
    for name, board in boards.items():
        peak = next(peak for known, peak in GPU_TERAFLOPS if re.search(known, board))
        assert hardware.find(f"gpu-{name}").peak("float16") == (peak or 0) * 1e12


def run(tmp_path, *arguments):
    return roofline.main([f"--output={tmp_path / 'out'}", "--batch=2", *arguments])


def read(tmp_path):
    with (tmp_path / "out" / "roofline.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--no_estimate"], "Not estimated: by --no_estimate."),
        (
            ["--hardware=gpu-a100"],
            "Not estimated: there is no model of a GPU's latency",
        ),
    ],
)
def test_command_without_estimates(tmp_path, capsys, arguments, reason):
    names = "efficientnet-b0,efficientnet-x-b0"
    assert run(tmp_path, f"--variants={names}", *arguments) == 0
    text = capsys.readouterr().out
    assert reason in text
    for name in names.split(","):
        (line,) = re.findall(f"^{name} .*", text, re.MULTILINE)
        assert line.split()[6:9] == ["-", "-", "memory"]
    rows = read(tmp_path)
    assert {row["efficiency"] for row in rows} == {""}
    assert {row["network"] for row in rows if row["level"] == "network"} == {
        *names.split(",")
    }
    (network, _) = [row for row in rows if row["level"] == "network"]
    macs = complexity.total(get_variant("efficientnet-b0")).macs
    assert (network["batch"], network["w_flops"]) == ("2", str(2 * 2 * macs))
    for picture in ("roofline.png", "latency.png"):
        content = (tmp_path / "out" / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 20_000


def test_command_without_a_compiler(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TPU_COMPILER_PYTHON", str(tmp_path / "python"))
    assert run(tmp_path, "--variants=efficientnet-b0") == 0
    assert "Not estimated: " in capsys.readouterr().out


@pytest.fixture
def estimates(monkeypatch):
    """Every part takes a millisecond, and a network ten."""

    def parts(variant, *_, **options):
        assert options == {"batch": 2, "dtype": "bfloat16"}
        names = dict.fromkeys(layer.part for layer in layers(variant))
        return [types.SimpleNamespace(name=n, milliseconds=1.0) for n in names]

    whole = types.SimpleNamespace(milliseconds=10.0, message="compiles")
    monkeypatch.setattr(latency, "parts", parts)
    monkeypatch.setattr(latency, "whole", lambda *_, **__: whole)
    return whole


def test_command_with_estimates(tmp_path, capsys, estimates):
    assert run(tmp_path, "--variants=efficientnet-x-b0") == 0
    text = capsys.readouterr().out
    assert "estimated: XLA's TPU compiler's cycles" in text
    rows = read(tmp_path)
    for row in rows:
        milliseconds = {"layer": "", "block": "1.0", "network": "10.0"}[row["level"]]
        assert row["estimated_ms"] == milliseconds
        if milliseconds:
            achieved = float(row["w_flops"]) / float(milliseconds) * 1e3
            assert float(row["achieved_flops_per_second"]) == pytest.approx(achieved)
            ideal = float(row["ideal_flops_per_second"])
            assert float(row["efficiency"]) == pytest.approx(achieved / ideal)


@pytest.mark.parametrize("factor", [0.5, 100])
def test_no_point_lies_outside_the_picture(tmp_path, monkeypatch, factor):
    """Whether blocks pass the roof, or stay far below it."""
    ideal = analyse(get_variant("efficientnet-x-b0"), V3, batch=2)
    seconds = {row.part: factor * row.ideal_seconds for row in ideal if not row.name}
    seconds["network"] = seconds.pop("")
    rows = analyse(get_variant("efficientnet-x-b0"), V3, batch=2, estimates=seconds)
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, _: drawn.append(figure))
    plots.roofline(tmp_path / "roofline.png", rows, "a title")
    (panel,) = drawn[0].axes
    low, high = panel.get_ylim()
    points = [row.achieved_flops or row.ideal_flops for row in rows if row.flops]
    assert low < min(points) / 1e12
    assert max(points) / 1e12 < high
    left, right = panel.get_xlim()
    assert all(left < row.intensity < right for row in rows if row.flops)


def test_a_network_that_does_not_fit(tmp_path, capsys, estimates):
    estimates.milliseconds, estimates.message = None, "needs 20.00 GiB"
    assert run(tmp_path, "--variants=efficientnet-x-b0") == 2
    assert capsys.readouterr().err == (
        "error: efficientnet-x-b0 on one device of v3: needs 20.00 GiB; change the "
        "batch, or ask for --no_estimate\n"
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--variants=efficientnet-b9"], "error: unknown variant 'efficientnet-b9'"),
        (
            ["--variants=efficientnet-b0", "--hardware=tpu-v9"],
            "error: unknown hardware 'tpu-v9'; choose one of tpu-v2, tpu-v3, ",
        ),
        (
            ["--variants=efficientnet-b0", "--hardware=gpu-v100"],
            "error: no peak of gpu-v100 is known for 'bfloat16'; choose "
            "--dtype=float16 or float32",
        ),
        (
            ["--variants=efficientnet-b0", f"--output={__file__}", "--no_estimate"],
            "error: cannot write ",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, error):
    assert run(tmp_path, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(error)


@pytest.mark.parametrize("mistake", ["--variants=,", "--batch=0", "--dtype=int8"])
def test_arguments_out_of_range(tmp_path, capsys, mistake):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--variants=efficientnet-b0", mistake)
    assert mistake.split("=")[0] in capsys.readouterr().err


def test_number_of_classes():
    with pytest.raises(ModelError, match="num_classes must be 1 or more, not 0"):
        layers(get_variant("efficientnet-b0"), num_classes=0)


def test_arithmetic_loads_no_framework():
    code = (
        "import sys; import search.roofline, search.plots; "
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_estimates_of_the_compiler():
    variant = short(resolution=32)
    with tpu_compiler.Compiler() as compiler:
        topology = tpu_compiler.Topology.parse("v3")
        options = {"batch": 2, "dtype": "bfloat16"}
        seconds = analysis.estimate(variant, topology, compiler, **options)
    assert list(seconds) == ["network", "stem", "block_0", "head"]
    rows = analyse(variant, V3, batch=2, estimates=seconds)
    assert all(0 < (row.efficiency or 0) < 1 for row in rows if row.level != "layer")
