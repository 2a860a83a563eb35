"""Estimate the latency of inference on one device of a TPU, without a TPU.

    python -m performance.latency --variants=efficientnet-b0,efficientnet-x-b0
        --topology=v3 --batch=64 --dtype=bfloat16 --blocks

A device runs one replica: a core of a v2 or v3 chip, a whole chip from v4 on. The
networks are compiled by XLA's TPU compiler, which `make tpu-compiler` installs: a
minute each, and nothing the second time. With --blocks their parts are compiled, too,
each by itself, and equal ones once. --blocks=only compiles no whole network, so that
one of known blocks costs milliseconds:

    python -m performance.latency --variants=efficientnet-x-b0 --blocks=only
        --stages="{4: {'num_repeat': 5}}" --block_changes="{3: {'fused': False}}"

The exit status is 0 when everything compiles and fits, 1 when something does not, 2
when there is no answer.
"""

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any, Literal

from common.cli import changes, names, positive
from models.errors import ModelError
from models.scaling import BlockSpec
from models.variants import Variant, change
from performance import compile_requests, latency_text
from performance.segments import Block, Form, Kind, Piece, resolved
from tpu_compiler import Compiler, CompilerError, Report, Topology
from tpu_compiler.cache import default_folder
from tpu_compiler.process import environment

Blocks = Literal["no", "yes", "only"]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a network and its time.

    Attributes:
        name: "stem", "block_0", "block_1", ..., and "head" with pooling and classifier.
        kind: "stem", "depthwise", "fused" or "head".
        input_size: height and width in pixels of what enters.
        output_size: of what leaves; 1 behind the head.
        input_filters: channels of what enters.
        output_filters: of what leaves.
        spec: of a block; None of the others.
        milliseconds: by the compiler's estimate.
        report: of the part compiled by itself; equal parts have one in common.
    """

    name: str
    kind: Kind
    input_size: int
    output_size: int
    input_filters: int
    output_filters: int
    spec: BlockSpec | None
    milliseconds: float
    report: Report


def whole(
    variant: str | Variant,
    compiler: Compiler,
    topology: Topology | str,
    *,
    batch: int,
    dtype: str,
    **build_options: Any,
) -> Report:
    """Compile the inference of a network for one device.

    Args:
        variant: its name, or a Variant of your own.
        compiler: of TPUs.
        topology: whose device.
        batch: images at once.
        dtype: "bfloat16" or "float32".
        **build_options: the other fields of `performance.segments.Form`.

    Returns:
        The compiler's report; its `milliseconds` are None where the network does not
        compile or fit.

    Raises:
        ModelError: no such variant, or a value out of range.
        CompilerError: the compiler does not answer.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    return compile_requests.whole(resolved(variant), compiler, topology, form).result()


def parts(
    variant: str | Variant,
    compiler: Compiler,
    topology: Topology | str,
    *,
    batch: int,
    dtype: str,
    **build_options: Any,
) -> list[Part]:
    """Compile each part of a network by itself, equal ones once; see `whole`.

    What flows between parts lies as the compiler likes it best, part by part. That
    neighbours differ in this, and what it fuses across their border, is not in the sum:
    `latency_text` says how far that is from the whole.

    Raises:
        ModelError: no such variant, or a value out of range.
        CompilerError: the compiler does not answer, or a part does not compile or fit.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    asked = compile_requests.parts(resolved(variant), compiler, topology, form)
    reports = [(piece, answer.result()) for piece, answer in asked]
    for piece, report in reports:
        if not report.compiled:
            raise CompilerError(f"{_misfit(piece, report)} ({report.topology.device})")
    return [_part(piece, report) for piece, report in reports]


def _misfit(piece: Piece, report: Report) -> str:
    return f"{piece.name} by itself: {report.message}"


def _part(piece: Piece, report: Report) -> Part:
    assert report.milliseconds is not None
    return Part(
        name=piece.name,
        kind=piece.kind,
        input_size=piece.input_size,
        output_size=piece.output_size,
        input_filters=piece.input_filters,
        output_filters=piece.output_filters,
        spec=piece.of.spec if isinstance(piece.of, Block) else None,
        milliseconds=report.milliseconds,
        report=report,
    )


def estimate(
    variants: Sequence[Variant],
    compiler: Compiler,
    topology: Topology,
    form: Form,
    *,
    blocks: Blocks,
) -> dict[str, Any]:
    """Return what is known of some networks' inference on one device, ready for JSON.

    Args:
        variants: the networks; compiled at once by all workers.
        compiler: of TPUs.
        topology: whose device.
        form: of all networks.
        blocks: whether to compile the parts, too, or them only.

    Returns:
        What was asked, and "networks" in their order. What was not asked for, or has no
        answer because something does not compile or fit, is None there.

    Raises:
        ModelError: a variant cannot be built in this form.
        CompilerError: the compiler does not answer.
    """
    asked = [
        (
            None
            if blocks == "only"
            else compile_requests.whole(one, compiler, topology, form),
            None
            if blocks == "no"
            else compile_requests.parts(one, compiler, topology, form),
        )
        for one in variants
    ]
    networks = []
    for variant, (whole, parts) in zip(variants, asked, strict=True):
        network = {"name": variant.name, "resolution": variant.resolution}
        network |= _of_whole(whole and whole.result(), form)
        if parts is not None:
            reports = [(piece, answer.result()) for piece, answer in parts]
            network |= _of_parts(reports, network["milliseconds"])
        networks.append(network)
    return {
        "topology": str(topology),
        "device": topology.device,
        "devices": 1,
        "clock_hz": topology.generation.clock_hz,
        "hbm_limit_bytes": topology.generation.hbm_bytes,
        **dataclasses.asdict(form),
        "networks": networks,
        "worth": latency_text.WORTH,
        "compiler": environment().versions,
    }


def _of_whole(report: Report | None, form: Form) -> dict[str, Any]:
    milliseconds, costs = report and report.milliseconds, report and report.costs
    return {
        "compiles": report and report.verdict != "refused",
        "fits": report and report.compiled,
        "message": report and report.message,
        "milliseconds": milliseconds,
        "images_per_second": milliseconds and form.batch / milliseconds * 1e3,
        "cycles": report and report.cycles,
        "hbm_bytes": report and report.needed_bytes,
        "bytes_moved": costs and costs.hbm_bytes,
        "without_estimate": costs and costs.uncosted,
    }


def _of_parts(
    reports: Sequence[tuple[Piece, Report]], whole_ms: float | None
) -> dict[str, Any]:
    """Return the parts of a network, their sum, and how far off it is."""
    misfits = [_misfit(*one) for one in reports if not one[1].compiled]
    parts = [] if misfits else [_part(*one) for one in reports]
    total = None if misfits else sum(part.milliseconds for part in parts)
    return {
        "parts": [
            {
                "name": part.name,
                "kind": part.kind,
                "input_size": part.input_size,
                "output_size": part.output_size,
                "input_filters": part.input_filters,
                "output_filters": part.output_filters,
                "strides": part.spec and part.spec.strides,
                "expand_ratio": part.spec and part.spec.expand_ratio,
                "milliseconds": part.milliseconds,
                "share": total and part.milliseconds / total,
                "cycles": part.report.cycles,
                "bytes_moved": part.report.costs and part.report.costs.hbm_bytes,
            }
            for part in parts
        ],
        "parts_message": misfits[0] if misfits else None,
        "sum_of_parts_ms": total,
        "error_of_sum": total and whole_ms and total / whole_ms - 1,
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m performance.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--variants", type=names, required=True, help="names, separated by commas")
    add("--topology", default="v3", help="whose device; default: %(default)s")
    add("--batch", type=positive, default=64, help="images at once; default: 64")
    add("--dtype", default="bfloat16", help="or float32; default: %(default)s")
    add(
        "--blocks",
        nargs="?",
        choices=Blocks.__args__,
        const="yes",
        default="no",
        help="the time of every part, and their sum; only: of no whole network",
    )
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--workers", type=positive, default=2, help="compilations at once; default: 2")
    form = parser.add_argument_group("the form of the networks, see build_model")
    add = form.add_argument
    add("--num_classes", type=positive, default=1000)
    add("--fold_batch_norm", action="store_true")
    add("--stem_block_size", type=int, default=1)
    add("--stem_reshuffle", default="device")
    add("--input_layout", default="NHWC")
    other = parser.add_argument_group("other networks, all changed alike")
    add = other.add_argument
    help = "fields by the stage's number from 1: \"{3: {'kernel_size': 3}}\""
    add("--stages", type=changes, default={}, help=help)
    help = "fields by the block's index from 0: \"{5: {'fused': True}}\""
    add("--block_changes", type=changes, default={}, help=help)
    return parser.parse_args(argv)


def _estimate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the estimates that the command line asks for."""
    changed = {"stages": arguments.stages, "block_changes": arguments.block_changes}
    variants = [
        change(resolved(name), arguments.stages, arguments.block_changes)
        for name in arguments.variants
    ]
    fields = [field.name for field in dataclasses.fields(Form)]
    form = Form(**{name: getattr(arguments, name) for name in fields})
    topology = Topology.parse(arguments.topology)
    with Compiler(arguments.workers) as compiler:
        found = estimate(variants, compiler, topology, form, blocks=arguments.blocks)
    return found | changed


def _succeeded(network: dict[str, Any]) -> bool:
    """Whether all that was asked of a network compiles and fits."""
    return network["fits"] is not False and network.get("parts_message") is None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parse(argv)
    try:
        found = _estimate(arguments)
    except (ModelError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or default_folder().parent
        print(
            f"error: {where}: {error.strerror}; mend that, or name another folder for "
            "caches by XDG_CACHE_HOME",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(json.dumps(found, indent=2) if arguments.json else latency_text.text(found))
    return 0 if all(map(_succeeded, found["networks"])) else 1


if __name__ == "__main__":
    # Die of a closed pipe in silence, as other tools do: `... | head`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
