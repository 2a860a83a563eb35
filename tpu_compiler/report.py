"""What the compiler makes of a module, as its callers see it."""

import dataclasses
import gzip
from pathlib import Path
from typing import Any, Literal

from tpu_compiler import compiler_errors
from tpu_compiler.compiler_errors import Buffer, location_of
from tpu_compiler.costs import Collective, Costs, Instruction, costs
from tpu_compiler.topology import Topology


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device's HBM by kind.

    Attributes:
      arguments: of the program, its variables among them.
      outputs: those that replace an argument in its place included.
      aliased: counted as arguments and as outputs, and there once.
      temporaries: between the operations.
      generated_code: the program itself.
      peak: arguments, outputs and temporaries at their most, as the compiler tells it.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    generated_code: int
    peak: int

    @property
    def total(self) -> int:
        """All that the program has to find room for."""
        return (
            self.arguments
            + self.outputs
            - self.aliased
            + self.temporaries
            + self.generated_code
        )


@dataclasses.dataclass(frozen=True)
class Dynamic:
    """A result whose size depends on values: its operation, type and location."""

    op: str
    shape: str
    location: str


@dataclasses.dataclass(frozen=True)
class CompilerReport:
    """What the compiler makes of a module.

    Attributes:
      verdict: compiled; out_of_memory: a device has too little HBM; refused: it is
        rejected, whatever its size.
      message: one line that says so.
      op: the operation that is to blame, such as stablehlo.custom_call, or "".
      location: of that: the layer's name, file and line as far as the module
        tells them, or "".
      topology: the slice.
      num_replicas: that it was compiled for.
      versions: of the compiler's packages.
      seconds: that the compilation took, also where it comes from the cache.
      from_cache: whether it does.
      memory: of one device; None unless compiled.
      needed_bytes: of HBM on one device, which has `hbm_bytes`; None if rejected. If
        out of memory it is more than that: what the compiler says, rounded to 0.01 GiB,
        or a byte more than there is.
      largest_buffers: if out of memory; of the compiler's plan, or of the module itself
        where the compiler saw before planning that it cannot fit. The largest first.
      dynamic: the first results whose size depends on values up to a bound, which the
        program pads them to.
      costs: None unless compiled.
      hlo_path: of the optimised HLO, its text by gzip; None unless compiled.
    """

    verdict: Literal["compiled", "out_of_memory", "refused"]
    message: str
    op: str
    location: str
    topology: Topology
    num_replicas: int
    versions: dict[str, str]
    seconds: float
    from_cache: bool
    memory: Memory | None = None
    needed_bytes: int | None = None
    largest_buffers: tuple[Buffer, ...] = ()
    dynamic: tuple[Dynamic, ...] = ()
    costs: Costs | None = None
    hlo_path: Path | None = None

    @property
    def compiled(self) -> bool:
        """Whether it compiles and fits."""
        return self.verdict == "compiled"

    @property
    def hbm_bytes(self) -> int:
        """The HBM of one device that the compiler lets a program use."""
        return self.topology.generation.hbm_bytes

    @property
    def cycles(self) -> int | None:
        """The sum of the compiler's estimates; None unless compiled."""
        return None if self.costs is None else self.costs.cycles

    @property
    def milliseconds(self) -> float | None:
        """The cycles by the clock; None unless compiled."""
        if self.costs is None:
            return None
        return self.costs.cycles / self.topology.generation.clock_hz * 1e3

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """What runs; empty unless compiled."""
        return () if self.costs is None else self.costs.instructions

    @property
    def collectives(self) -> tuple[Collective, ...]:
        """By which replicas exchange what they have; empty unless compiled."""
        return () if self.costs is None else self.costs.collectives

    def costliest(self, count: int) -> list[Instruction]:
        """Return the instructions with the most cycles, all their runs together."""
        timed = [one for one in self.instructions if one.total_cycles]
        return sorted(timed, key=lambda one: -one.total_cycles)[:count]


def read(
    answer: dict[str, Any],
    hlo_path: Path | None,
    *,
    topology: Topology,
    num_replicas: int,
    versions: dict[str, str],
    from_cache: bool,
) -> CompilerReport:
    """Return what a worker's answer says, see `tpu_compiler.worker`."""

    def report(verdict: Any, message: str, **found: Any) -> CompilerReport:
        return CompilerReport(
            verdict=verdict,
            message=message,
            op=found.pop("op", ""),
            location=found.pop("location", ""),
            topology=topology,
            num_replicas=num_replicas,
            versions=versions,
            seconds=answer["seconds"],
            from_cache=from_cache,
            **found,
        )

    if hlo_path is not None:
        memory = Memory(**answer["memory"])
        text = gzip.decompress(hlo_path.read_bytes()).decode()
        return report(
            "compiled",
            "compiles and fits",
            memory=memory,
            dynamic=tuple(
                Dynamic(one["op"], one["shape"], location_of(one["location"]))
                for one in answer["dynamic"]
            ),
            needed_bytes=memory.total,
            costs=costs(text, num_replicas=num_replicas),
            hlo_path=hlo_path,
        )
    text = answer["rejection"]
    limit = topology.generation.hbm_bytes
    if needed := compiler_errors.out_of_memory(text, limit):
        largest = compiler_errors.buffers(text) or compiler_errors.module_tensors(
            answer["largest"]
        )
        return report(
            "out_of_memory",
            _too_much(needed, limit),
            needed_bytes=needed,
            largest_buffers=largest,
        )
    if answer.get("op"):  # found by a look at the module
        location = location_of(answer["location"])
        return report("refused", text, op=answer["op"], location=location)
    found = compiler_errors.rejection(text)
    return report("refused", found.message, op=found.op, location=found.location)


def _too_much(needed: int, limit: int) -> str:
    """Say that a device has too little HBM, in GiB."""
    need, has = f"{needed / 2**30:.2f}", f"{limit / 2**30:.2f}"
    if need == has:
        return f"needs a little more HBM on each device than the {has} GiB that it has"
    return f"needs {need} GiB of HBM on each device, which has {has}"
