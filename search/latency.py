"""Estimate the latency of inference on one TPU core, without a TPU.

    python -m search.latency --variants=efficientnet-b0,efficientnet-x-b0
        --topology=v3:2x2x1 --batch=64 --dtype=bfloat16 --blocks

The networks are compiled by XLA's TPU compiler, which `make tpu-compiler` installs: a
minute each, and nothing the second time. With --blocks their parts are compiled, too,
each by itself, and equal ones once: a network made of known blocks costs milliseconds.
The exit status is 0 when everything compiles and fits, 1 when something does not, 2
when there is no answer.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import signal
import sys
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from models.scaling import BlockSpec
from models.variants import ModelError, Variant
from search import latency_text, lowering
from search.parts import Block, Form, Kind, Piece, pieces, resolved
from tpu_compiler import Compiler, CompilerError, Report, Topology

_TIMEOUT_SECONDS = 3600.0

_Future = concurrent.futures.Future[Report]
# What a compiler was asked for, so that a known part costs no look at the disk.
_ASKED: weakref.WeakKeyDictionary[Compiler, dict[Hashable, _Future]] = (
    weakref.WeakKeyDictionary()
)


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
        **build_options: the other fields of `search.parts.Form`.

    Returns:
        The compiler's report; its `milliseconds` are None where the network does not
        compile or fit.

    Raises:
        ModelError: no such variant, or a value out of range.
        CompilerError: the compiler does not answer.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    return _ask_whole(resolved(variant), compiler, topology, form).result()


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
    return _parts(_ask_parts(resolved(variant), compiler, topology, form))


def _ask_whole(
    variant: Variant, compiler: Compiler, topology: Topology | str, form: Form
) -> _Future:
    module = lowering.network(variant, **vars(form))
    return _ask(compiler, topology, module, lambda: module, variant.name)


def _ask_parts(
    variant: Variant, compiler: Compiler, topology: Topology | str, form: Form
) -> list[tuple[Piece, _Future]]:
    """Ask for all parts before the first one is waited for."""

    def ask(piece: Piece) -> _Future:
        key = piece.of, form.of_piece(piece.kind)
        name = f"{piece.name} of {variant.name}"
        return _ask(
            compiler, topology, key, lambda: lowering.part(piece, **vars(form)), name
        )

    return [(piece, ask(piece)) for piece in pieces(variant, form)]


def _ask(
    compiler: Compiler,
    topology: Topology | str,
    key: Hashable,
    lower: Callable[[], bytes],
    name: str,
) -> _Future:
    """Have a program compiled that this process has not asked for under this key."""
    asked = _ASKED.setdefault(compiler, {})
    known = asked.get((str(topology), key))
    if known is None or (known.done() and known.exception() is not None):
        known = compiler.compile(
            lower(), topology, timeout_seconds=_TIMEOUT_SECONDS, name=name
        )
        asked[str(topology), key] = known
    return known


def _parts(asked: Sequence[tuple[Piece, _Future]]) -> list[Part]:
    return [_part(piece, future.result()) for piece, future in asked]


def _part(piece: Piece, report: Report) -> Part:
    if report.milliseconds is None:
        raise CompilerError(
            f"{piece.name} by itself does not compile for one device of "
            f"{report.topology}: {report.message}"
        )
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
    blocks: bool,
) -> dict[str, Any]:
    """Return what is known of some networks' inference on one device, ready for JSON.

    Args:
        variants: the networks, one or more; compiled at once by all workers.
        compiler: of TPUs.
        topology: whose device.
        form: of all networks.
        blocks: whether to compile the parts, too.

    Raises:
        ModelError: a variant cannot be built in this form.
        CompilerError: the compiler does not answer.
    """
    asked = {
        variant.name: _ask_whole(variant, compiler, topology, form)
        for variant in variants
    }
    asked_parts = {
        variant.name: _ask_parts(variant, compiler, topology, form)
        for variant in variants
        if blocks
    }
    reports = {name: future.result() for name, future in asked.items()}
    networks = []
    for variant in variants:
        report = reports[variant.name]
        network = _of_network(variant, report, form)
        if blocks and report.compiled:
            network |= _of_parts(_parts(asked_parts[variant.name]), report)
        networks.append(network)
    return {
        "topology": str(topology),
        "devices": 1,
        "clock_hz": topology.generation.clock_hz,
        "hbm_limit_bytes": topology.generation.hbm_bytes,
        **dataclasses.asdict(form),
        "networks": networks,
        "worth": latency_text.WORTH,
        "compiler": next(iter(reports.values())).versions,
    }


def _of_network(variant: Variant, report: Report, form: Form) -> dict[str, Any]:
    milliseconds, costs = report.milliseconds, report.costs
    return {
        "name": variant.name,
        "resolution": variant.resolution,
        "compiles": report.verdict != "refused",
        "fits": report.compiled,
        "message": report.message,
        "milliseconds": milliseconds,
        "images_per_second": milliseconds and form.batch / milliseconds * 1e3,
        "cycles": report.cycles,
        "hbm_bytes": report.needed_bytes,
        "bytes_moved": costs and costs.hbm_bytes,
        "without_estimate": costs and costs.uncosted,
    }


def _of_parts(parts: Sequence[Part], report: Report) -> dict[str, Any]:
    """Return the parts of a network, their sum, and how far off it is."""
    total = sum(part.milliseconds for part in parts)
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
                "share": part.milliseconds / total,
                "cycles": part.report.cycles,
                "bytes_moved": part.report.costs and part.report.costs.hbm_bytes,
            }
            for part in parts
        ],
        "sum_of_parts_ms": total,
        "error_of_sum": report.milliseconds and total / report.milliseconds - 1,
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--variants", required=True, help="names, separated by commas")
    add("--topology", default="v3:2x2x1", help="whose device; default: %(default)s")
    add("--batch", type=int, default=64, help="images at once; default: %(default)s")
    add("--dtype", default="bfloat16", help="or float32; default: %(default)s")
    add("--blocks", action="store_true", help="the time of every part, and their sum")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--workers", type=int, default=2, help="compilations at once; default: 2")
    form = parser.add_argument_group("the form of the networks, see build_model")
    add = form.add_argument
    add("--num_classes", type=int, default=1000)
    add("--fold_batch_norm", action="store_true")
    add("--stem_block_size", type=int, default=1)
    add("--stem_reshuffle", default="device")
    add("--input_layout", default="NHWC")
    return parser.parse_args(argv)


def _estimate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the estimates that the command line asks for."""
    names = dict.fromkeys(filter(None, map(str.strip, arguments.variants.split(","))))
    variants = [resolved(name) for name in names]
    if not variants:
        raise ModelError("--variants names none; as in --variants=efficientnet-x-b0")
    if arguments.workers < 1:
        raise CompilerError(f"--workers must be 1 or more, not {arguments.workers}")
    fields = [field.name for field in dataclasses.fields(Form)]
    form = Form(**{name: getattr(arguments, name) for name in fields})
    topology = Topology.parse(arguments.topology)
    with Compiler(arguments.workers) as compiler:
        return estimate(variants, compiler, topology, form, blocks=arguments.blocks)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parse(argv)
    try:
        found = _estimate(arguments)
    except (ModelError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(json.dumps(found, indent=2) if arguments.json else latency_text.text(found))
    return 0 if all(network["fits"] for network in found["networks"]) else 1


if __name__ == "__main__":
    # Die of a closed pipe in silence, as other tools do: `... | head`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
