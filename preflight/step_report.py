"""What is known of one step of a run on a slice, in typed rows."""

import dataclasses
from collections.abc import Mapping

from preflight.lowered_steps import LoweredStep
from tpu_compiler import CompilerReport
from tpu_compiler.report import Memory
from train.stage_rows import Stage


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a node of a graph comes from.

    Attributes:
      layer: its path and class, as in "block_0/expand (Conv2D)"; the node's own name
        where no layer has made it.
      source: "file:line", or "" where that is not known.
    """

    layer: str
    source: str


@dataclasses.dataclass(frozen=True)
class LargeBuffer:
    """Memory that counts where there is too little, and the layer that asks for it."""

    bytes: int
    shape: str
    layer: str


@dataclasses.dataclass(frozen=True)
class DynamicShape:
    """The result of an operation whose size depends on values."""

    op: str
    shape: str
    location: Location


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a step does not compile, or does not fit.

    Attributes:
      message: says so in a line.
      op: what cannot be compiled; None where that is not known.
      location: of `op`; None of what compiles.
      largest_buffers: of what does not fit; None where the compiler was not asked.
    """

    message: str
    op: str | None = None
    location: Location | None = None
    largest_buffers: tuple[LargeBuffer, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepReport:
    """One of the run's steps, and what the compiler says of it.

    Attributes:
      name: such as "train step".
      stage: of the run that it belongs to; None is the evaluation's.
      lowered: None when XLA has no form of it.
      compilation: None when it was not lowered.
      problem: None when it compiles and fits.
      resident_bytes: of a device's HBM that the program does not know of: what lies
        there of the training while it evaluates.
      floors_ms: the least time that it could take, by arithmetic ("compute", of our own
        networks) and by memory; empty unless it was compiled.
      dynamic_shapes: in it.
    """

    name: str
    stage: Stage | None
    lowered: LoweredStep | None = None
    compilation: CompilerReport | None = None
    problem: Problem | None = None
    resident_bytes: int = 0
    floors_ms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    dynamic_shapes: tuple[DynamicShape, ...] = ()

    @property
    def compiles(self) -> bool:
        """Whether there is such a program for a TPU, however large."""
        return self.compilation is not None and self.compilation.verdict != "refused"

    @property
    def fits(self) -> bool:
        """Whether there is, and a core has the memory for it."""
        return self.problem is None

    @property
    def memory(self) -> Memory | None:
        """What the program takes by kind; None unless it fits when it is alone."""
        return None if self.compilation is None else self.compilation.memory

    @property
    def argument_bytes(self) -> int:
        """Of what the program is given; 0 where that is not known."""
        return 0 if self.memory is None else self.memory.arguments

    @property
    def needed_bytes(self) -> int | None:
        """Of a device's HBM; None where it does not compile."""
        if self.compilation is None or self.compilation.needed_bytes is None:
            return None
        return self.compilation.needed_bytes + self.resident_bytes

    @property
    def milliseconds(self) -> float | None:
        """By the compiler's estimates; None where it has none."""
        return None if self.compilation is None else self.compilation.milliseconds

    @property
    def unknown_loops(self) -> tuple[str, ...]:
        """Names of the loops that are counted once: how often they run is not known."""
        if self.compilation is None or self.compilation.costs is None:
            return ()
        return self.compilation.costs.unknown_loops

    @property
    def all_reduces(self) -> int:
        """How many the program has."""
        found = () if self.compilation is None else self.compilation.collectives
        return sum(one.count for one in found if one.kind == "all-reduce")
