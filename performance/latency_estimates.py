"""The latency of networks and of their segments, by the compiler's estimates."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from models.scaling import BlockSpec
from models.variants import Variant
from performance import compile_requests
from performance.segments import (
    BlockSegment,
    InferenceOptions,
    Segment,
    SegmentKind,
    resolved,
)
from tpu_compiler import (
    Compiler,
    CompilerError,
    CompilerReport,
    Topology,
    environment,
)

ACCURACY_NOTE = (
    "the sum of the cycles that XLA's TPU compiler estimates, by the clock: nothing "
    "ran. Good for ratios of networks like these, to 6-8 %; less than 5 % means "
    "nothing. At B4 the ratio of EfficientNet to EfficientNet-X comes out smaller than "
    "published (1.35 for 1.82). The milliseconds themselves are weak. Copies that run "
    "beside the arithmetic have no estimate and are not in them, nor is the host."
)

# Whether the segments are compiled, too, or they only.
Blocks = Literal["no", "yes", "only"]


@dataclasses.dataclass(frozen=True)
class SegmentLatency:
    """A segment of a network and its time.

    Attributes:
      name: "stem", "block_0", "block_1", ..., and "head" with pooling and classifier.
      kind: "stem", "depthwise", "fused" or "head".
      input_size: height and width in pixels of what enters.
      output_size: of what leaves; 1 behind the head.
      input_filters: channels of what enters.
      output_filters: of what leaves.
      spec: of a block; None of the others.
      milliseconds: by the compiler's estimate.
      report: of the segment compiled by itself; equal ones have one in common.
    """

    name: str
    kind: SegmentKind
    input_size: int
    output_size: int
    input_filters: int
    output_filters: int
    spec: BlockSpec | None
    milliseconds: float
    report: CompilerReport

    def as_json(self, sum_ms: float) -> dict[str, Any]:
        """Return all that is known; its share is that of the sum of all segments."""
        own = ("kind", "input_size", "output_size", "input_filters", "output_filters")
        return {
            "name": self.name,
            **{name: getattr(self, name) for name in own},
            "strides": self.spec and self.spec.strides,
            "expand_ratio": self.spec and self.spec.expand_ratio,
            "milliseconds": self.milliseconds,
            "share": self.milliseconds / sum_ms,
            "cycles": self.report.cycles,
            "bytes_moved": self.report.costs and self.report.costs.hbm_bytes,
        }


@dataclasses.dataclass(frozen=True)
class SegmentSum:
    """The segments of a network, each compiled by itself.

    Attributes:
      segments: first to last; none where one does not compile or fit.
      message: why there are none; None where there are.
    """

    segments: tuple[SegmentLatency, ...] = ()
    message: str | None = None

    @property
    def milliseconds(self) -> float | None:
        """The sum, None where there is none."""
        return sum(one.milliseconds for one in self.segments) or None

    @property
    def cycles(self) -> int:
        """The sum; 0 where there is none."""
        return sum(one.report.cycles or 0 for one in self.segments)


@dataclasses.dataclass(frozen=True)
class NetworkLatency:
    """What is known of a network's inference on one device.

    Attributes:
      name: of the variant.
      resolution: of its images, in pixels.
      batch: images at once.
      report: the compiler's of the whole network; None where it was not asked for.
      segments: None where they were not asked for.
    """

    name: str
    resolution: int
    batch: int
    report: CompilerReport | None = None
    segments: SegmentSum | None = None

    @property
    def milliseconds(self) -> float | None:
        """The time of the whole network; None where it is not known."""
        return self.report and self.report.milliseconds

    @property
    def sum_ms(self) -> float | None:
        """The time of all segments together; None where it is not known."""
        return self.segments and self.segments.milliseconds

    @property
    def error_of_sum(self) -> float | None:
        """How far the sum is off the whole, as a share of that."""
        if self.sum_ms is None or self.milliseconds is None:
            return None
        return self.sum_ms / self.milliseconds - 1

    @property
    def failures(self) -> list[str]:
        """Why what was asked for has no estimate: it does not compile or fit."""
        found = []
        if self.report and not self.report.compiled:
            found.append(self.report.message)
        if self.segments and self.segments.message:
            found.append(self.segments.message)
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all that is known; None of what was not asked for or has no answer."""
        report, milliseconds = self.report, self.milliseconds
        costs = report and report.costs
        found = {
            "name": self.name,
            "resolution": self.resolution,
            "compiles": report and report.verdict != "refused",
            "fits": report and report.compiled,
            "message": report and report.message,
            "milliseconds": milliseconds,
            "images_per_second": milliseconds and self.batch / milliseconds * 1e3,
            "cycles": report and report.cycles,
            "hbm_bytes": report and report.needed_bytes,
            "bytes_moved": costs and costs.hbm_bytes,
            "without_estimate": costs and costs.without_estimate,
        }
        if self.segments is None:
            return found
        return found | {
            "parts": [one.as_json(self.sum_ms or 0) for one in self.segments.segments],
            "parts_message": self.segments.message,
            "sum_of_parts_ms": self.sum_ms,
            "error_of_sum": self.error_of_sum,
        }


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """What is known of some networks' inference on one device.

    Attributes:
      topology: whose device.
      options: of all networks.
      networks: in the order asked for.
      versions: of the compiler's packages.
      changes: what differs from the rows of the table, alike in all networks: fields
        by stage ("stages") and by block ("block_changes").
    """

    topology: Topology
    options: InferenceOptions
    networks: tuple[NetworkLatency, ...]
    versions: Mapping[str, str]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all that is known."""
        generation = self.topology.generation
        return {
            "topology": str(self.topology),
            "device": self.topology.device,
            "devices": 1,
            "clock_hz": generation.clock_hz,
            "hbm_limit_bytes": generation.hbm_bytes,
            **dataclasses.asdict(self.options),
            "networks": [network.as_json() for network in self.networks],
            "worth": ACCURACY_NOTE,
            "compiler": self.versions,
            **self.changes,
        }


def network_latency(
    variant: str | Variant,
    compiler: Compiler,
    topology: Topology | str,
    *,
    batch: int,
    dtype: str,
    **build_options: Any,
) -> CompilerReport:
    """Compile the inference of a network for one device.

    Args:
      variant: its name, or a Variant of your own.
      compiler: of TPUs.
      topology: whose device.
      batch: images at once.
      dtype: "bfloat16" or "float32".
      **build_options: the other fields of `performance.segments.InferenceOptions`.

    Returns:
      The compiler's report; its `milliseconds` are None where the network does not
      compile or fit.

    Raises:
      ModelError: no such variant, or a value out of range.
      CompilerError: the compiler does not answer.
    """
    options = InferenceOptions.of(batch=batch, dtype=dtype, **build_options)
    request = compile_requests.network(resolved(variant), compiler, topology, options)
    return request.result()


def segment_latencies(
    variant: str | Variant,
    compiler: Compiler,
    topology: Topology | str,
    *,
    batch: int,
    dtype: str,
    **build_options: Any,
) -> list[SegmentLatency]:
    """Compile each segment of a network by itself, equal ones once.

    What flows between segments lies as the compiler likes it best, one by one. That
    neighbours differ in this, and what it fuses across their border, is not in the sum:
    `latency_text` says how far that is from the whole.

    Args:
      variant: its name, or a Variant of your own.
      compiler: of TPUs.
      topology: whose device.
      batch: images at once.
      dtype: "bfloat16" or "float32".
      **build_options: the other fields of `performance.segments.InferenceOptions`.

    Raises:
      ModelError: no such variant, or a value out of range.
      CompilerError: the compiler does not answer, or a segment does not compile or fit.
    """
    options = InferenceOptions.of(batch=batch, dtype=dtype, **build_options)
    requests = compile_requests.segments(resolved(variant), compiler, topology, options)
    found = _segment_sum(requests)
    if found.message is not None:
        device = requests[0][1].result().topology.device
        raise CompilerError(f"{found.message} ({device})")
    return list(found.segments)


def _segment_sum(
    requests: Sequence[tuple[Segment, compile_requests.Answer]],
) -> SegmentSum:
    reports = [(segment, answer.result()) for segment, answer in requests]
    for segment, report in reports:
        if not report.compiled:
            return SegmentSum(message=f"{segment.name} by itself: {report.message}")
    return SegmentSum(tuple(_segment_latency(*one) for one in reports))


def _segment_latency(segment: Segment, report: CompilerReport) -> SegmentLatency:
    assert report.milliseconds is not None
    block = segment.definition
    return SegmentLatency(
        name=segment.name,
        kind=segment.kind,
        input_size=segment.input_size,
        output_size=segment.output_size,
        input_filters=segment.input_filters,
        output_filters=segment.output_filters,
        spec=block.spec if isinstance(block, BlockSegment) else None,
        milliseconds=report.milliseconds,
        report=report,
    )


def estimate(
    variants: Sequence[Variant],
    compiler: Compiler,
    topology: Topology,
    options: InferenceOptions,
    *,
    blocks: Blocks,
    changes: Mapping[str, Any] | None = None,
) -> LatencyReport:
    """Estimate some networks' inference on one device.

    Args:
      variants: the networks; compiled at once by all workers.
      compiler: of TPUs.
      topology: whose device.
      options: of all networks.
      blocks: whether to compile the segments, too, or them only.
      changes: of the report.

    Raises:
      ModelError: a variant cannot be built with these options.
      CompilerError: the compiler does not answer.
    """
    requests = [
        (
            None
            if blocks == "only"
            else compile_requests.network(one, compiler, topology, options),
            None
            if blocks == "no"
            else compile_requests.segments(one, compiler, topology, options),
        )
        for one in variants
    ]
    networks = tuple(
        NetworkLatency(
            variant.name,
            variant.resolution,
            options.batch,
            report=whole and whole.result(),
            segments=None if segments is None else _segment_sum(segments),
        )
        for variant, (whole, segments) in zip(variants, requests, strict=True)
    )
    return LatencyReport(
        topology, options, networks, environment().versions, changes or {}
    )
