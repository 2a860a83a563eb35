"""What `performance.latency` says to people."""

import dataclasses
from collections.abc import Iterator

from common.console import table, wrap
from performance.latency_estimates import (
    ACCURACY_NOTE,
    LatencyReport,
    NetworkLatency,
    SegmentSum,
)
from performance.segments import InferenceOptions

_SUM = (
    "each part was compiled by itself, with its tensors laid out as suits it. What is "
    "fused across a border, and copies between neighbours that want other layouts, "
    "make the sum differ"
)
# By `python -m benchmarks.tpu.latency`.
_LOOKED_AT = (
    "over B0 to B4 of EfficientNet, X, X-TPU and X-GPU it is 0 to 4.0 % below the "
    "whole, 1.8 % on average; of EfficientNetV2-B0 to B3 0.4 to 8.3 % below, 4.1 %"
)
_NOT_LOOKED_AT = (
    "how far was looked at on v3 at batch 64 in bfloat16, networks of the table in "
    "their plain form, and not under these conditions. At batch 1 it was 13 % above "
    "the whole for X-B0"
)
_HEAD = ("network", "pixels", "ms", "images/s", "ratio", "Mcycles", "HBM MiB")
_PART_HEAD = ("part", "kind", "pixels", "channels", "stride", "expand", "ms", "share")
# What is said of the options only where they are others.
_USUAL = {
    field.name: field.default
    for field in dataclasses.fields(InferenceOptions)
    if field.default is not dataclasses.MISSING
}


def text(report: LatencyReport) -> str:
    """Return the report for people."""
    return "\n".join(_lines(report))


def _lines(report: LatencyReport) -> Iterator[str]:
    networks, device = report.networks, report.topology.device
    versions = ", ".join(f"{name} {of}" for name, of in report.versions.items())
    yield (
        f"Inference on {device} ({report.topology}), batch {report.options.batch}, "
        f"{report.options.dtype}; {versions}"
    )
    yield from _differences(report)
    first = _milliseconds(networks[0])
    yield from table([_HEAD, *(_row(one, first) for one in networks)], right=True)
    for network in networks:
        if _milliseconds(network) is None:
            yield f"{network.name}: {network.failures[0]}"
    for network in networks:
        if network.segments is not None:
            yield from _parts(network, network.segments)
    yield ""
    yield from map(_wrap, _notes(report))


def _notes(report: LatencyReport) -> Iterator[str]:
    """Yield what the figures mean, and how far to trust them."""
    yield f"ms: {ACCURACY_NOTE}"
    yield f"ratio: how many times as fast as {report.networks[0].name}."
    if any(one.report and one.report.needed_bytes for one in report.networks):
        limit = report.topology.generation.hbm_bytes / 2**20
        yield f"HBM: all that the program needs, of {limit:,.0f} MiB."
    if any(one.sum_ms for one in report.networks):
        known = _LOOKED_AT if _looked_at(report) else _NOT_LOOKED_AT
        yield f"sum: {_SUM}; {known}."


def _wrap(note: str) -> str:
    return wrap(note, indent=" " * 4)


def _differences(report: LatencyReport) -> Iterator[str]:
    """Yield lines on the networks and the options where these are not the usual."""
    options = vars(report.options)
    changes = [f"{key}={value}" for key, value in report.changes.items() if value]
    others = [f"{k}={options[k]}" for k, usual in _USUAL.items() if options[k] != usual]
    if changes:
        yield f"Changed by {', '.join(changes)}"
    if others:
        yield f"Built with {', '.join(others)}"


def _looked_at(report: LatencyReport) -> bool:
    """Whether the conditions are those under which the sum was looked at."""
    options = report.options
    conditions = report.topology.name, options.batch, options.dtype
    return conditions == ("v3", 64, "bfloat16") and not any(_differences(report))


def _milliseconds(network: NetworkLatency) -> float | None:
    """Return the time of the whole, or of the parts where it was not asked for."""
    return network.sum_ms if network.report is None else network.milliseconds


def _row(network: NetworkLatency, first: float | None) -> list[str]:
    """Return the cells of a network; `first` are the first one's milliseconds."""
    milliseconds, name = _milliseconds(network), network.name
    if milliseconds is None:
        return [name, f"{network.resolution}", *["-"] * 5]
    compiled = network.report or network.segments
    assert compiled is not None
    assert compiled.cycles is not None
    needed = network.report and network.report.needed_bytes
    return [
        name,
        f"{network.resolution}",
        f"{milliseconds:.3f}",
        f"{network.batch / milliseconds * 1e3:,.0f}",
        f"{first / milliseconds:.2f}" if first else "",
        f"{compiled.cycles / 1e6:.3f}",
        f"{needed / 2**20:,.1f}" if needed else "a sum",
    ]


def _parts(network: NetworkLatency, parts: SegmentSum) -> Iterator[str]:
    """Yield the parts of a network as a table."""
    yield ""
    yield network.name
    if parts.milliseconds is None:
        yield f"  no sum: {parts.message}"
        return
    rows = [
        [
            part.name,
            part.kind,
            f"{part.input_size}->{part.output_size}",
            f"{part.input_filters}->{part.output_filters}",
            f"{part.spec.strides if part.spec else ''}",
            f"{part.spec.expand_ratio if part.spec else ''}",
            f"{part.milliseconds:.3f}",
            f"{part.milliseconds / parts.milliseconds:.1%}",
        ]
        for part in parts.segments
    ]
    blank = [""] * 5
    rows.append(["sum", *blank, f"{parts.milliseconds:.3f}", "100.0%"])
    if network.milliseconds is not None:
        rows.append(["whole", *blank, f"{network.milliseconds:.3f}", ""])
    yield from (f"  {line}" for line in table([_PART_HEAD, *rows], right=True))
    if network.error_of_sum is not None:
        yield f"  error of the sum: {network.error_of_sum:+.1%}"
