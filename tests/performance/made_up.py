"""Small networks, and reports of a compiler that nobody has asked."""

import dataclasses
import gzip
import re
from pathlib import Path
from typing import Any

from models import variants
from models.variants import Variant, get_variant
from performance.latency_estimates import (
    NetworkLatency,
    SegmentLatency,
    SegmentSum,
)
from performance.layers import Layer, layers
from tpu_compiler import CompilerReport, Topology
from tpu_compiler.costs import Costs, Instruction
from tpu_compiler.report import Memory, read

_LINE = re.compile(r"  (.* = )(\w+\(.*?\).*?)(?: \[(\S+)\])?(?: (\d+))?")


def short(name="efficientnet-b0", stages=1, resolution=8) -> Variant:
    """Returns the first stages of a variant."""
    full = get_variant(name)
    return dataclasses.replace(full, stages=full.stages[:stages], resolution=resolution)


def changed() -> Variant:
    """Returns pixels moved, a block in the batch domain, and one with neither."""
    return variants.change(
        short("efficientnet-x-b0", stages=3, resolution=32),
        stages={
            1: {"space_to_depth": "reshuffle", "se_ratio": 0},
            2: {"num_repeat": 1, "expand_ratio": 1},
            3: {"num_repeat": 1, "fused": False},
        },
        blocks={2: {"space_to_batch": 2}},
    )


def failed(verdict: Any, *, message="", location="") -> CompilerReport:
    """Returns a report of what does not compile."""
    return CompilerReport(
        verdict=verdict,
        message=message,
        op="",
        location=location,
        topology=Topology.parse("v3"),
        num_replicas=1,
        versions={},
        seconds=0,
        from_cache=False,
    )


def compiled(milliseconds: float) -> CompilerReport:
    """Returns a report of one instruction that takes so long on a v3."""
    cycles = round(milliseconds * 940e3)
    instruction = Instruction("x", "fusion", "f32[]", cycles, 0, 1, "", "", 0)
    return dataclasses.replace(
        failed("compiled", message="compiles and fits"),
        needed_bytes=2**20,
        costs=Costs((instruction,), (), {}, ()),
    )


def network(
    name: str, whole: float | None, total: float | None, *, resolution: int = 224
) -> NetworkLatency:
    """Returns a network of one segment, from milliseconds; None does not fit."""
    segments = SegmentSum(message="stem by itself: needs 17 GiB")
    if total is not None:
        sizes = 224, 112, 3, 32
        part = compiled(total)
        stem = SegmentLatency("stem", "stem", *sizes, None, total, part)
        segments = SegmentSum((stem,))
    report = failed("out_of_memory", message="needs 20 GiB")
    if whole is not None:
        report = compiled(whole)
    return NetworkLatency(name, resolution, 64, report, segments)


def report(path: Path, program: str) -> CompilerReport:
    """Returns the report of a program on a v3, which has 940 cycles a microsecond.

    Args:
      path: to write to.
      program: HLO without shapes and with shorter ends of lines: the operation's
        name in square brackets, and its cycles.
    """
    text = "\n".join(map(_written_out, program.splitlines()))
    path.write_bytes(gzip.compress(text.encode()))
    memory = dict.fromkeys((field.name for field in dataclasses.fields(Memory)), 0)
    return read(
        {"seconds": 0, "memory": memory, "dynamic": []},
        path,
        topology=Topology.parse("v3"),
        num_replicas=1,
        versions={},
        from_cache=False,
    )


def _written_out(line: str) -> str:
    match = _LINE.fullmatch(line)
    if match is None:
        return line
    name, operation, op_name, cycles = match.groups()
    ends = [f'metadata={{op_name="{op_name}"}}'] if op_name else []
    if cycles:
        ends.append(f'backend_config={{"estimated_cycles":"{cycles}"}}')
    return ", ".join([f"  {name}f32[8]{{0}} {operation}", *ends])


def straight(variant: Variant) -> str:
    """Returns a program of 940 cycles for each layer of a variant, and 470 more."""
    lines = [
        f"  %layer.{i} = convolution(%x, %x) [network/{_scope(layer)}/convolution] 940"
        for i, layer in enumerate(layers(variant))
    ]
    return "\n".join(
        [
            "ENTRY %main (x: f32[8]) -> f32[8] {",
            "  %x = parameter(0)",
            *lines,
            "  ROOT %copy = copy(%x) [network/head_bn/Sub] 470",
            "}",
        ]
    )


def _scope(layer: Layer) -> str:
    """Returns the name that Keras gives a layer."""
    if layer.kind == "classifier":
        return layer.name
    return f"{layer.part}_1/{layer.name}" if "_" in layer.part else f"{layer.part}_conv"
