"""What the TPU compiler is asked of networks and of their segments."""

import concurrent.futures
import weakref
from collections.abc import Callable, Hashable

from common.console import say
from models.variants import Variant
from performance import lowering
from performance.segments import InferenceOptions, Segment, segments_of
from tpu_compiler import Compiler, CompilerReport, Topology

_TIMEOUT_SECONDS = 3600.0

Answer = concurrent.futures.Future[CompilerReport]
# What a compiler was asked for, so that a known segment costs no look at the disk.
_REQUESTED: weakref.WeakKeyDictionary[Compiler, dict[Hashable, Answer]] = (
    weakref.WeakKeyDictionary()
)


def network(
    variant: Variant,
    compiler: Compiler,
    topology: Topology | str,
    options: InferenceOptions,
) -> Answer:
    """Ask for a network's inference on one device of a topology.

    Raises:
      ModelError: the variant cannot be built with these options.
      CompilerError: no such topology, or the folders of caches cannot be used.
    """
    module = lowering.network(variant, options)
    return _request(compiler, topology, module, lambda: module, variant.name)


def segments(
    variant: Variant,
    compiler: Compiler,
    topology: Topology | str,
    options: InferenceOptions,
) -> list[tuple[Segment, Answer]]:
    """Ask for all segments of a network before the first one is waited for.

    Returns:
      The segments, first to last, each with the future of its report; equal ones have
      one in common.

    Raises:
      ModelError, CompilerError: see `network`.
    """

    def request(segment: Segment) -> Answer:
        return _request(
            compiler,
            topology,
            (segment.definition, options.of_segment(segment.kind)),
            lambda: lowering.segment(segment, options),
            f"{segment.name} of {variant.name}",
        )

    return [(segment, request(segment)) for segment in segments_of(variant, options)]


def _request(
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
    requested = _REQUESTED.setdefault(compiler, {})
    known = requested.get((device, key))
    if known is None or (known.done() and known.exception() is not None):
        known = compiler.compile(
            lower(), device, timeout_seconds=_TIMEOUT_SECONDS, name=name
        )
        if not known.done():  # what is in the cache is
            say(f"compiling {name}")
        requested[device, key] = known
    return known
