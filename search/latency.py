"""Estimate the latency of inference on one TPU core, whole and by block."""

import dataclasses
from typing import Any

from models.scaling import BlockSpec
from models.variants import Variant
from search import lowering
from search.lowering import Block, Form, Kind, Piece
from tpu_compiler import Compiler, CompilerError, Report, Topology

TIMEOUT_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a network and its time.

    Attributes:
      name: "stem", "block_0", "block_1", ..., "head": the last with pooling and
        classifier.
      kind: "stem", "depthwise", "fused" or "head".
      input_size: height and width in pixels of what enters.
      output_size: of what leaves; 1 behind the head.
      spec: of a block; None of the others.
      milliseconds: by the compiler's estimate.
      report: of the part compiled by itself; equal parts have one in common.
    """

    name: str
    kind: Kind
    input_size: int
    output_size: int
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
    """Compiles the inference of a network for one device.

    Args:
      variant: its name, or a Variant of your own.
      compiler: of TPUs.
      topology: whose device.
      batch: images at once.
      dtype: "bfloat16" or "float32".
      **build_options: the other fields of `lowering.Form`.

    Raises:
      ModelError: no such variant, or a value out of range.
      CompilerError: the compiler does not answer.
    """
    module = lowering.network(variant, batch=batch, dtype=dtype, **build_options)
    name = variant if isinstance(variant, str) else variant.name
    return compiler.compile(
        module, topology, timeout_seconds=TIMEOUT_SECONDS, name=name
    ).result()


def parts(
    variant: str | Variant,
    compiler: Compiler,
    topology: Topology | str,
    *,
    batch: int,
    dtype: str,
    **build_options: Any,
) -> list[Part]:
    """Compiles each part of a network by itself; equal ones once. See `whole`.

    Raises:
      ModelError: no such variant, or a value out of range.
      CompilerError: the compiler does not answer, or a part does not compile.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    pieces = lowering.pieces(variant, form)
    futures: dict[Any, Any] = {}
    for piece in pieces:
        if piece.of not in futures:
            module = lowering.part(piece, batch=batch, dtype=dtype, **build_options)
            futures[piece.of] = compiler.compile(
                module, topology, timeout_seconds=TIMEOUT_SECONDS, name=piece.name
            )
    return [_part(piece, futures[piece.of].result()) for piece in pieces]


def _part(piece: Piece, report: Report) -> Part:
    if report.milliseconds is None:
        raise CompilerError(f"{piece.name}: {report.message}")
    return Part(
        name=piece.name,
        kind=piece.kind,
        input_size=piece.input_size,
        output_size=piece.output_size,
        spec=piece.of.spec if isinstance(piece.of, Block) else None,
        milliseconds=report.milliseconds,
        report=report,
    )
