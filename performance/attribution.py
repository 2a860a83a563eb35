"""How long each layer of a network takes, by the compiler of TPUs."""

import collections
import dataclasses
import gzip
import re
from collections.abc import Iterator, Mapping

from models.variants import Variant
from performance.layers import layers
from performance.lowering import layer_name
from tpu_compiler import CompilerReport, hlo

# A part and a layer of it, as in `layers`. The layer is "" for what belongs to
# none, and the part, too, where the compiler's instruction has no name.
LayerKey = tuple[str, str]

# Keras' layers around the blocks that do not have their part's name in front.
_PARTS = {
    "normalize": "stem",
    "pooled_features": "head",
    "classifier": "head",
    "logits": "head",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The time of a network, layer by layer.

    Attributes:
      cycles: by layer. They add up to the network's.
      fused: from a layer that is computed inside another's fusion to that other
        one, which has the time of both.
      clock_hz: of the device.
    """

    cycles: Mapping[LayerKey, int]
    fused: Mapping[LayerKey, LayerKey]
    clock_hz: float

    def seconds(self, layer: LayerKey) -> float | None:
        """Return the time of a layer, None where it has none of its own."""
        return self.cycles[layer] / self.clock_hz if self.cycles.get(layer) else None


def estimate(variant: Variant, report: CompilerReport) -> Estimate:
    """Share out the cycles of a compiled network among its layers.

    A fusion counts for the layer of its root: with a convolution goes the batch norm
    behind it, and often the whole convolution in front. What belongs to no layer is
    kept by parts: pixels that are normalised, copies into other layouts, pooling.

    Args:
      variant: the network.
      report: the compiler's of the network, see `performance.compile_requests`.

    Raises:
      ValueError: the network does not compile or fit.
    """
    if report.hlo_path is None:
        raise ValueError(f"{variant.name} has no estimate: {report.message}")
    known = {(layer.part, layer.name) for layer in layers(variant)}
    program = hlo.parse(gzip.decompress(report.hlo_path.read_bytes()).decode())
    computations = reversed(program.computations.values())  # of equal names the first
    lines = {name: line for one in computations for name, line in one.items()}
    cycles: collections.Counter[LayerKey] = collections.Counter()
    computed: dict[LayerKey, set[LayerKey]] = collections.defaultdict(
        set
    )  # by the root
    for instruction in report.instructions:
        names = _convolutions(program, lines[instruction.name])
        inside = [key for name in names if (key := _layer_key(name, known)) in known]
        root = _layer_key(instruction.op_name, known)
        if inside and root not in known:  # such as a convolution's batch norm
            root = inside[-1]
        cycles[root] += instruction.total_cycles
        computed[root].update(inside)
    fused = {
        layer: root
        for root, members in computed.items()
        for layer in members
        if layer not in computed.get(layer, ())  # has no time of its own
    }
    for layer, root in fused.items():
        cycles[root] += cycles.pop(layer, 0)  # as of the cast of its weights
    return Estimate(+cycles, fused, report.topology.generation.clock_hz)


def _convolutions(program: hlo.HloProgram, line: hlo.HloLine) -> Iterator[str]:
    """Yield the names of all convolutions that an instruction computes."""
    if line.opcode in ("convolution", "dot"):
        yield line.op_name
    for computation in line.called("calls"):
        for inner in program.computations[computation].values():
            yield from _convolutions(program, inner)


def _layer_key(op_name: str, known: set[LayerKey]) -> LayerKey:
    """Return the layer that an operation belongs to.

    Args:
      op_name: by the scopes that Keras' layers open, with a number behind when they
        do it again: network_1/block_9_1/squeeze_excite_1/reduce_1/convolution.
      known: the layers that there are.
    """
    _, _, path = op_name.partition("/")
    first, *rest = path.split("/")
    part, name = _of_model(first)
    names = [name] if name else [layer_name(scope) for scope in rest]
    candidates = ("/".join(names[:length]) for length in (1, 2))
    return part, next((name for name in candidates if (part, name) in known), "")


def _of_model(scope: str) -> LayerKey:
    """Return the part of a layer of the model and, unless a block, its name there."""
    if match := re.match(r"block_\d+", scope):
        return match[0], ""
    if match := re.match(r"space_to_batch_(\d+)", scope):
        return f"block_{match[1]}", "space_to_batch"
    if match := re.match(r"batch_to_space_(\d+)", scope):  # in front of that block
        return f"block_{int(match[1]) - 1}", "batch_to_space"
    layer = layer_name(scope)
    part, _, name = layer.partition("_")
    return (part, name) if part in ("stem", "head") else (_PARTS.get(layer, ""), layer)
