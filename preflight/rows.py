"""What a preflight finds, in typed rows."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from preflight import all_reduces
from preflight.all_reduces import GroupEstimate
from preflight.outlook import Outlook
from preflight.tuning_rows import TuningFinding
from tpu_compiler import CompilerReport, Topology
from tpu_compiler.report import Memory
from train.stage_rows import Stage

COVERS = (
    "the trainer's own step functions, for one replica of the slice, lowered by "
    "TensorFlow's bridge for the CPU and compiled by XLA's compiler for this TPU: "
    "whether they compile, the memory they take, and the compiler's estimate of their "
    "cycles",
)
LEAVES_OUT = (
    "TPUStrategy was not run, nor any TPU: its own bridge may lower an op otherwise",
    "all-reduces and asynchronous copies, of which the compiler makes no estimate; our "
    "own of all-reduces is bytes over published links and 1 us a hop, without overlap "
    "and without waiting for the slowest replica",
    "waiting for images, evaluations, checkpoints, start and preemptions",
    "the milliseconds are rough, the ratio of two similar networks is better: see "
    "docs/preflight.md",
)


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


@dataclasses.dataclass(frozen=True)
class LoweredStep:
    """A step for one replica of many.

    Attributes:
      stablehlo: of TensorFlow's bridge for the CPU, as text.
      images: of a replica, a step.
      resolution: of these, in pixels.
      image_bytes: of a device's HBM that these take; 0 where nobody has counted.
      variable_bytes: of the other arguments, without padding; 0 likewise.
    """

    stablehlo: bytes
    images: int
    resolution: int
    image_bytes: int = 0
    variable_bytes: int = 0


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
        there of the training while it evaluates, or while parts of it are frozen.
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
    def variable_bytes(self) -> int:
        """Of what the program is given but for images; 0 where that is not known.

        Without a TPU's padding where it does not fit when it is alone.
        """
        if self.lowered is None:
            return 0
        if self.memory is None:
            return self.lowered.variable_bytes
        return self.memory.arguments - self.lowered.image_bytes

    @property
    def needed_bytes(self) -> int | None:
        """Of a device's HBM; None where it does not compile."""
        if self.compilation is None or self.compilation.needed_bytes is None:
            return None
        return self.compilation.needed_bytes + self.resident_bytes

    @property
    def fixed_bytes(self) -> int:
        """Of these, however many images there are; 0 where that is not known.

        Of temporaries nobody knows which part is.
        """
        if self.memory is None:
            return 0
        results = self.memory.outputs - self.memory.aliased
        program = self.variable_bytes + results + self.memory.generated_code
        return program + self.resident_bytes

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

    @property
    def fused_all_reduces(self) -> int:
        """How many of these are parts of others: no estimate of ours knows which."""
        found = () if self.compilation is None else self.compilation.collectives
        return sum(one.fused for one in found)

    @property
    def all_reduce_estimates(self) -> tuple[GroupEstimate, ...]:
        """What they take by our own estimate; empty where there is none."""
        if self.compilation is None or self.fused_all_reduces:
            return ()
        found = self.compilation
        return all_reduces.estimate(found.collectives, found.topology)

    @property
    def all_reduce_ms(self) -> float | None:
        """The sum of these; None where they or the rest have no estimate."""
        if self.milliseconds is None or self.fused_all_reduces:
            return None
        return sum(one.milliseconds for one in self.all_reduce_estimates)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargestBatch:
    """The largest global batch that is known to fit.

    Attributes:
      images: in it; 0 where none is known to fit.
      too_many: the smallest that is known not to fit; None where none is.
      replicas: of the slice.
      failed_compilations: why the compiler had no answer for others, a line each.
    """

    images: int
    too_many: int | None
    replicas: int
    failed_compilations: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOnSlice:
    """What is known of a run before its steps are compiled.

    Attributes:
      variant: the model's name.
      resolution: of its images in pixels.
      precision: see `Experiment`.
      topology: the slice.
      global_batch_size: see `Experiment`.
      compiler_versions: of the compiler's packages.
    """

    variant: str
    resolution: int
    precision: str
    topology: Topology
    global_batch_size: int
    compiler_versions: Mapping[str, str]

    @property
    def hbm_limit_bytes(self) -> int:
        """Of a device, as much as a program may use."""
        return self.topology.generation.hbm_bytes

    @property
    def replicas(self) -> int:
        """Of the slice: its devices."""
        return self.topology.num_devices


# What a preflight finds, in the order in which it does.
Finding = RunOnSlice | StepReport | Outlook | TuningFinding | LargestBatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreflightReport:
    """What is known of a run on a slice before its launch.

    Attributes:
      run: what was compiled for which slice.
      steps: the update of every stage, and the evaluation's step, which is the last.
      outlook: on the run, and on what its hosts are asked for.
      largest_batch: None where it was not looked for.
      tuning: what was found of the network's forms; empty where nobody asked.
    """

    run: RunOnSlice
    steps: Sequence[StepReport]
    outlook: Outlook
    largest_batch: LargestBatch | None = None
    tuning: Sequence[TuningFinding] = ()

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> "PreflightReport":
        """Gather all that was found."""
        found = list(findings)
        (run,) = [one for one in found if isinstance(one, RunOnSlice)]
        steps = [one for one in found if isinstance(one, StepReport)]
        (outlook,) = [one for one in found if isinstance(one, Outlook)]
        largest = [one for one in found if isinstance(one, LargestBatch)] or [None]
        return cls(
            run=run,
            steps=steps,
            outlook=outlook,
            largest_batch=largest[0],
            tuning=[one for one in found if isinstance(one, TuningFinding)],
        )

    @property
    def compiles(self) -> bool:
        """Whether all steps do."""
        return all(step.compiles for step in self.steps)

    @property
    def fits(self) -> bool:
        """Whether all steps do."""
        return all(step.fits for step in self.steps)

    @property
    def hbm_bytes(self) -> int | None:
        """Of a device, by the step that needs the most; None if none compiles."""
        return max(step.needed_bytes or 0 for step in self.steps) or None

    @property
    def all_reduces(self) -> int:
        """Of the train step that has the most."""
        return max(step.all_reduces for step in self.steps if step.stage is not None)
