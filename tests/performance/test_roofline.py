import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import re
import subprocess
import sys
import types

import pytest

from common import files
from models import complexity
from models.errors import ModelError
from models.scaling import block_specs
from models.variants import VARIANTS, get_variant
from performance import compile_requests, devices, plots, roofline
from performance.analysis import analyse
from performance.attribution import Estimate
from performance.devices import Hardware
from performance.layers import layers
from performance.roofline_text import COMMAND
from performance.segments import InferenceOptions
from tests.performance.made_up import changed, failed, report, short, straight
from tests.support.folders import FOREIGN, NOT_OURS, content
from tpu_compiler import CompilerError

# 100 FLOP/s and 10 bytes a second: the ridge is at 10 FLOPs per byte.
TOY = Hardware("toy", "a toy", {"bfloat16": 100.0, "float32": 50.0}, 10.0, "made up")
V3 = devices.find("tpu-v3")


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
    back = found["block_2", "batch_to_space"]
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


def test_the_way_out_of_the_batch_ends_the_block_that_leaves():
    mine = [layer.name for layer in layers(changed()) if layer.part == "block_2"]
    assert (mine[0], mine[-1]) == ("space_to_batch", "batch_to_space")


def test_a_residual_is_read_with_the_projection():
    skips = [block.has_skip for block in block_specs(get_variant("efficientnet-b0"))]
    assert skips[:3] == [False, False, True]
    found = {layer.part: layer for layer in layers(get_variant("efficientnet-b0"))}
    del found["stem"], found["head"]  # the last layer of a block is its projection
    assert found["block_1"].input_elements == 56 * 56 * 96
    assert found["block_2"].input_elements == 56 * 56 * (144 + 24)


def test_a_block_without_projection_reads_its_input_once():
    variant = get_variant("efficientnetv2-b0")
    (block,) = [layer for layer in layers(variant) if layer.part == "block_0"]
    first = block_specs(variant)[0]
    assert (first.has_skip, first.input_filters) == (False, 32)
    same = dataclasses.replace(variant, stem_filters=16)
    assert block_specs(same)[0].has_skip
    (adding,) = [layer for layer in layers(same) if layer.part == "block_0"]
    assert (block.name, block.kind, adding.kind) == ("expand", "fused", "fused")
    assert block.input_elements == 112 * 112 * 32
    assert adding.input_elements == adding.output_elements == 112 * 112 * 16


def test_roofline_by_hand():
    cycles = {("block_0", "depthwise"): 2000, ("block_0", "project"): 656}
    rows = analyse(short(), TOY, batch=2, estimate=Estimate(cycles, {}, 1.0))
    by_name = {(row.part, row.name): row for row in rows if row.level == "layer"}
    stem = by_name["stem", "conv"]  # 3x3 with stride 2, 8x8x3 -> 4x4x32
    assert stem.flops == 2 * 2 * 16 * 27 * 32
    assert stem.bytes == 2 * (8 * 8 * 3 + 2 * 16 * 32) + 4 * (27 * 32 + 2 * 32) == 6144
    assert (stem.intensity, stem.bound, stem.ideal_flops) == (9, "memory", 90)
    assert stem.ideal_seconds == 614.4
    depthwise = by_name["block_0", "depthwise"]
    assert depthwise.flops == 2 * 2 * 16 * 32 * 9
    assert depthwise.bytes == 2 * 2 * (512 + 512) + 4 * (9 * 32 + 2 * 32) == 5504
    assert depthwise.ideal_seconds == 550.4
    assert depthwise.efficiency == 550.4 / 2000
    assert depthwise.achieved_flops == 18432 / 2000
    (block,) = [row for row in rows if row.part == "block_0" and row.level == "block"]
    assert block.kind == "depthwise"
    assert block.flops == 18432 + 2 * 1024 + 32768  # SE 32 -> 8 -> 32; 32 -> 16
    assert block.bytes == 5504 + 1216 + 1312 + 5248
    assert block.memory_bound_flops == block.flops
    assert block.ideal_seconds == block.ideal_seconds_by_layer == 1328
    assert block.efficiency == pytest.approx(0.5)
    assert block.achieved_flops == pytest.approx(block.intensity * 10 / 2)


def test_more_images_share_the_weights():
    stem, *_ = analyse(short(), TOY, batch=8)
    assert stem.bytes == 8 * (8 * 8 * 3 + 2 * 16 * 32) + 4 * (27 * 32 + 2 * 32) == 13440
    assert (stem.bound, stem.ideal_flops) == ("compute", 100)
    assert stem.ideal_seconds == 8 * 2 * 16 * 27 * 32 / 100


def test_latency_is_w_over_ideal_compute_times_efficiency():
    cycles = {("stem", "conv"): 900, ("block_0", "project"): 700, ("stem", ""): 50}
    rows = analyse(short(), TOY, batch=2, estimate=Estimate(cycles, {}, 1.0))
    known = [row for row in rows if row.efficiency is not None]
    levels = ["layer", "layer", "block", "block", "network"]
    assert [row.level for row in known] == levels
    for row in known:
        seconds = row.flops / (row.ideal_flops * (row.efficiency or 0))
        assert seconds == pytest.approx(row.estimated_seconds)
    (other,) = [row for row in rows if row.kind == "other"]
    assert (other.part, other.flops, other.bytes, other.intensity) == ("stem", 0, 0, 0)
    assert (other.estimated_seconds, other.efficiency) == (50, None)
    blocks = [row.estimated_seconds for row in rows if row.level == "block"]
    assert blocks == [950, 700, None]


def test_float32_doubles_the_activations_alone():
    half, full = (analyse(short(), TOY, batch=2, dtype=d) for d in TOY.peak_flops)
    for narrow, wide, layer in zip(half, full, layers(short()), strict=False):
        activations = layer.output_elements
        if layer.kind != "stem":  # which reads pixels
            activations += layer.input_elements
        assert wide.bytes - narrow.bytes == 2 * 2 * activations
        assert wide.flops == narrow.flops
    assert full[-1].ridge == half[-1].ridge / 2


def test_a_batch_out_of_range():
    with pytest.raises(ModelError, match="batch must be 1 or more, not 0"):
        analyse(short(), TOY, batch=0)


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


@pytest.mark.parametrize("name", devices.HARDWARE)
def test_sums_on_all_hardware(name):
    device = devices.find(name)
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


def run(tmp_path, *arguments):
    return roofline.main([f"--output={tmp_path / 'out'}", "--batch=2", *arguments])


def read(tmp_path):
    with (tmp_path / "out" / "roofline.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
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
        drawn = (tmp_path / "out" / picture).read_bytes()
        assert files.is_our_png(drawn, COMMAND)
        assert len(drawn) > 20_000


def our_png(title):
    return files.marked_png(b"\x89PNG\r\n\x1a\n" + title.encode(), COMMAND)


@pytest.fixture
def sketches(monkeypatch):
    """Pictures are made as ever, but not rendered, which takes a second each."""

    def save(figure, path, command):
        assert command == COMMAND
        path.write_bytes(our_png(f"{figure.get_suptitle():64}"))

    monkeypatch.setattr(plots, "save", save)


@pytest.mark.usefixtures("sketches")
def test_command_without_a_compiler(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TPU_COMPILER_PYTHON", str(tmp_path / "python"))
    assert run(tmp_path, "--variants=efficientnet-b0") == 0
    assert "Not estimated: " in capsys.readouterr().out


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Function: what the compiler says of a network; else a microsecond a layer."""
    answers, log = {}, []

    class Future(concurrent.futures.Future):
        def result(self, timeout=None):
            log.append("waited")
            return super().result(timeout)

    def ask(variant, compiler, topology, options):
        assert str(topology) == "v3"
        assert options == InferenceOptions(batch=2, dtype="bfloat16")
        log.append(variant.name)
        future, answer = Future(), answers.get(variant.name)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            path = tmp_path / f"{variant.name}.hlo.gz"
            future.set_result(answer or report(path, straight(variant)))
        return future

    monkeypatch.setattr(compile_requests, "network", ask)
    monkeypatch.setattr(roofline, "Compiler", contextlib.nullcontext)
    return types.SimpleNamespace(answers=answers, log=log)


BOTH = ["efficientnet-b0", "efficientnet-x-b0"]


@pytest.mark.long
def test_command_with_estimates(tmp_path, capsys, compiled):
    assert run(tmp_path, f"--variants={','.join(BOTH)}") == 0
    assert compiled.log == [*BOTH, "waited", "waited"]
    text = capsys.readouterr().out
    assert "estimated: XLA's TPU compiler's cycles" in text
    assert "a fusion counts for the layer of its root" in text
    for name in BOTH:
        rows = [row for row in read(tmp_path) if row["network"] == name]
        count = len(layers(get_variant(name)))
        times = {"layer": 0.0, "block": 0.0, "network": 0.0}
        for row in rows:
            times[row["level"]] += float(row["estimated_ms"])
        for total in times.values():
            assert total == pytest.approx(count * 1e-3 + 0.5e-3, rel=1e-12)
        (other,) = [row for row in rows if row["kind"] == "other"]
        assert (other["part"], other["estimated_ms"]) == ("head", "0.0005")
        assert (other["w_flops"], other["efficiency"]) == ("0", "")
        for row in rows:
            if row["kind"] != "other":
                achieved = float(row["w_flops"]) / float(row["estimated_ms"]) * 1e3
                found = float(row["achieved_flops_per_second"])
                assert found == pytest.approx(achieved)
                ideal = float(row["ideal_flops_per_second"])
                assert float(row["efficiency"]) == pytest.approx(achieved / ideal)


@pytest.mark.usefixtures("sketches")
def test_networks_without_an_estimate(tmp_path, capsys, compiled):
    """The analysis of the others goes on."""
    lacking = {
        "efficientnet-b0": (
            failed("out_of_memory", message="needs 20.00 GiB"),
            "it needs 20.00 GiB; a smaller batch may fit",
        ),
        "efficientnet-b1": (
            failed("refused", message="no such op", location="block_3"),
            "no such op (block_3)",
        ),
        "efficientnet-b2": (CompilerError("out of time"), "out of time"),
    }
    compiled.answers.update((name, answer) for name, (answer, _) in lacking.items())
    assert run(tmp_path, f"--variants={','.join(lacking)},efficientnet-x-b0") == 1
    text, error = capsys.readouterr()
    assert error == ""
    times = collections.defaultdict(set)
    for row in read(tmp_path):
        times[row["network"]].add(row["estimated_ms"])
    for name, (_, reason) in lacking.items():
        assert f"\n{name} is not estimated: {reason}.\n" in text
        assert times.pop(name) == {""}
    (known,) = times.values()
    assert "" not in known


@pytest.mark.usefixtures("sketches")
def test_stopped(tmp_path, capsys, compiled, monkeypatch):
    """Nothing half written is left, and what was there stays."""
    assert run(tmp_path, "--variants=efficientnet-b0") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert set(before) == {"roofline.csv", "roofline.png", "latency.png"}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "latency", stop)
    capsys.readouterr()
    assert run(tmp_path, "--variants=efficientnet-x-b0") == 130
    assert capsys.readouterr() == ("", "stopped\n")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("name", ["roofline.csv", "roofline.png", "latency.png"])
@pytest.mark.parametrize(("make", "said"), FOREIGN)
def test_what_is_not_ours_stays(tmp_path, capsys, compiled, name, make, said):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(our_png(""))
    make(tmp_path / "out" / name)
    before = content(tmp_path)
    assert run(tmp_path, "--variants=efficientnet-b0") == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path / 'out' / name} {said}\n")
    assert compiled.log == []
    assert content(tmp_path) == before


def a_column_more(path):
    path.write_bytes(path.read_bytes().replace(b"\r\n", b",remarks\r\n"))


def a_row_more(path):
    *_, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes() + last.replace(b"efficientnet-b0", b"mine"))


def a_number_mended(path):
    path.write_bytes(path.read_bytes().replace(b",2,bfloat16", b",3,bfloat16", 1))


def a_line_of_notes(path):
    path.write_bytes(path.read_bytes() + b"# mine\n")


def of_another_command(path):
    path.write_bytes(path.read_bytes().replace(b"performance.roofline", b"preview"))


def drawn_on(path):
    path.write_bytes(path.read_bytes() + b"mine")


@pytest.mark.usefixtures("sketches")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("roofline.csv", a_column_more),
        ("roofline.csv", a_row_more),
        ("roofline.csv", a_number_mended),
        ("roofline.csv", a_line_of_notes),
        ("roofline.png", drawn_on),
        ("latency.png", of_another_command),
    ],
)
def test_what_a_person_has_changed_stays(tmp_path, capsys, compiled, name, change):
    assert run(tmp_path, "--variants=efficientnet-b0", "--no_estimate") == 0
    change(tmp_path / "out" / name)
    before = content(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, "--variants=efficientnet-x-b0") == 2
    said = f"error: {tmp_path / 'out' / name} {NOT_OURS}\n"
    assert capsys.readouterr() == ("", said)
    assert content(tmp_path) == before
    assert compiled.log == []


@pytest.mark.usefixtures("sketches")
def test_a_table_and_its_digest(tmp_path):
    for network in ("efficientnet-x-b0", "efficientnet-b0"):  # one replaces the other
        assert run(tmp_path, f"--variants={network}", "--no_estimate") == 0
    data = (tmp_path / "out" / "roofline.csv").read_bytes()
    lines = [line.rpartition(b",") for line in data.splitlines()]
    assert lines[0][2] == b"table_sha256"
    table = b"".join(line + b"\r\n" for line, _, _ in lines)
    assert {value for _, _, value in lines[1:]} == {files.digest(table).encode()}


def test_a_folder_that_cannot_be_written(tmp_path, capsys, compiled):
    (tmp_path / "out").write_text("a file")
    assert run(tmp_path, "--variants=efficientnet-b0") == 2
    error = f"error: {tmp_path / 'out'}: File exists\n"
    assert capsys.readouterr() == ("", error)
    assert compiled.log == []


@pytest.mark.usefixtures("sketches")
def test_an_error_without_a_file(tmp_path, capsys, compiled, monkeypatch):
    def fail(*_):
        raise OSError("cannot encode")

    monkeypatch.setattr(plots, "latency", fail)
    assert run(tmp_path, "--variants=efficientnet-b0") == 2
    error = f"error: {tmp_path / 'out'}: cannot encode\n"
    assert capsys.readouterr() == ("", error)


@pytest.mark.parametrize("factor", [0.5, 100])
def test_no_point_lies_outside_the_picture(tmp_path, monkeypatch, factor):
    """Whether layers pass the roof, or stay far below it."""
    ideal = analyse(get_variant("efficientnet-x-b0"), V3, batch=2)
    cycles = {
        (row.part, row.name): int(factor * row.ideal_seconds * 1e12)
        for row in ideal
        if row.name != "expand" and row.level == "layer"
    }
    fused = {("block_5", "expand"): ("block_5", "depthwise")}
    times = Estimate(cycles, fused, 1e12)
    rows = analyse(get_variant("efficientnet-x-b0"), V3, batch=2, estimate=times)
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, *_: drawn.append(figure))
    plots.roofline(tmp_path / "roofline.png", rows, "a title")
    (panel,) = drawn[0].axes
    low, high = panel.get_ylim()
    points = {
        (row.intensity, (row.achieved_flops or row.ideal_flops) / 1e12)
        for row in rows
        if row.flops and row.level == "layer"
    }
    left, right = panel.get_xlim()
    assert all(left < x < right and low < y < high for x, y in points)
    circles = {tuple(each.get_offsets()[0]) for each in panel.collections}
    assert circles == points
    hollow = [each for each in panel.collections if not len(each.get_facecolors())]
    assert len(hollow) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--variants=efficientnet-b9"], "error: unknown variant 'efficientnet-b9'"),
        (
            ["--variants=efficientnet-b0", "--hardware=tpu-v9"],
            "error: unknown hardware 'tpu-v9'; choose one of tpu-v2, tpu-v3, ",
        ),
        (
            ["--variants=efficientnet-b0", "--hardware=gpu-v100", "--dtype=bfloat16"],
            "error: no peak of gpu-v100 is known for 'bfloat16'; choose "
            "float16 or float32",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, error):
    assert run(tmp_path, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(error)


def test_a_dtype_that_the_hardware_has(tmp_path, capsys):
    arguments = ["--variants=efficientnet-b0", "--hardware=gpu-v100", "--no_estimate"]
    assert run(tmp_path, *arguments) == 0
    assert "float16" in (tmp_path / "out" / "roofline.csv").read_text()
    assert "bfloat16" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "mistake", ["--variants=,", "--batch=0", f"--batch={10**20}", "--dtype=int8"]
)
def test_arguments_out_of_range(tmp_path, capsys, mistake):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--variants=efficientnet-b0", mistake)
    assert mistake.split("=")[0] in capsys.readouterr().err


def test_number_of_classes():
    with pytest.raises(ModelError, match="num_classes must be 1 or more, not 0"):
        layers(get_variant("efficientnet-b0"), num_classes=0)


def test_arithmetic_loads_no_framework():
    code = (
        "import sys; import performance.roofline, performance.plots; "
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
