"""What the TPU compiler is asked of networks and of their parts."""

import concurrent.futures
import sys
import weakref
from collections.abc import Callable, Hashable

from models.variants import Variant
from performance import lowering
from performance.segments import Form, Piece, pieces
from tpu_compiler import Compiler, Report, Topology

_TIMEOUT_SECONDS = 3600.0

Answer = concurrent.futures.Future[Report]
# What a compiler was asked for, so that a known part costs no look at the disk.
_ASKED: weakref.WeakKeyDictionary[Compiler, dict[Hashable, Answer]] = (
    weakref.WeakKeyDictionary()
)


def whole(
    variant: Variant, compiler: Compiler, topology: Topology | str, form: Form
) -> Answer:
    """Ask for a network's inference on one device of a topology.

    Raises:
        ModelError: the variant cannot be built in this form.
        CompilerError: no such topology, or the folders of caches cannot be used.
    """
    module = lowering.network(variant, **vars(form))
    return _ask(compiler, topology, module, lambda: module, variant.name)


def parts(
    variant: Variant, compiler: Compiler, topology: Topology | str, form: Form
) -> list[tuple[Piece, Answer]]:
    """Ask for all parts of a network before the first one is waited for; see `whole`.

    Returns:
        The parts, first to last, each with the future of its report; equal parts have
        one in common.
    """

    def ask(piece: Piece) -> Answer:
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
) -> Answer:
    """Have a program compiled that this process has not asked for under this key."""
    if isinstance(topology, str):
        topology = Topology.parse(topology)
    device = topology.one_device  # the same of every slice, and so compiled once
    asked = _ASKED.setdefault(compiler, {})
    known = asked.get((device, key))
    if known is None or (known.done() and known.exception() is not None):
        known = compiler.compile(
            lower(), device, timeout_seconds=_TIMEOUT_SECONDS, name=name
        )
        if not known.done():  # what is in the cache is
            print(f"compiling {name}", file=sys.stderr, flush=True)
        asked[device, key] = known
    return known
