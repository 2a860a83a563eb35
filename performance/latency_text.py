"""What `performance.latency` says to people."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from performance.segments import Form

WORTH = (
    "the sum of the cycles that XLA's TPU compiler estimates, by the clock: nothing "
    "ran. Good for ratios of networks like these, to 6-8 %; less than 5 % means "
    "nothing. At B4 the ratio of EfficientNet to EfficientNet-X comes out smaller than "
    "published (1.35 for 1.82). The milliseconds themselves are weak. Copies that run "
    "beside the arithmetic have no estimate and are not in them, nor is the host."
)
_SUM = (
    "each part was compiled by itself, with its tensors laid out as suits it. What is "
    "fused across a border, and copies between neighbours that want other layouts, "
    "make the sum differ"
)
# By `python -m benchmarks.latency`.
_LOOKED_AT = (
    "over B0 to B4 of EfficientNet, X, X-TPU and X-GPU it is 0 to 4.0 % below the "
    "whole, 1.8 % on average"
)
_NOT_LOOKED_AT = (
    "how far was looked at on v3 at batch 64 in bfloat16, networks of the table in "
    "their plain form, and not under these conditions. At batch 1 it was 13 % above "
    "the whole for X-B0"
)
_WIDTH = 100
_NETWORK = "{:<24}  {:>6}  {:>9}  {:>9}  {:>6}  {:>9}  {:>9}"
# What is said of the form only where it is another.
_USUAL = {
    field.name: field.default
    for field in dataclasses.fields(Form)
    if field.default is not dataclasses.MISSING
}
_UNCHANGED: dict[str, Any] = {"stages": {}, "block_changes": {}}
_PART = "  {:<10}  {:<9}  {:>10}  {:>12}  {:>6}  {:>6}  {:>8}  {:>6}"


def text(found: Mapping[str, Any]) -> str:
    """Return what `python -m performance.latency --json` prints, for people."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    networks = found["networks"]
    versions = ", ".join(f"{name} {of}" for name, of in found["compiler"].items())
    yield (
        f"Inference on {found['device']} ({found['topology']}), batch "
        f"{found['batch']}, {found['dtype']}; {versions}"
    )
    yield from _settings(found)
    yield _NETWORK.format(
        *("network", "pixels", "ms", "images/s", "ratio", "Mcycles", "HBM MiB")
    )
    for network in networks:
        yield _row(network, found["batch"], _milliseconds(networks[0]))
    for network in networks:
        if "parts" in network:
            yield from _parts(network)
    yield ""
    yield _wrapped(f"ms: {WORTH}")
    yield _wrapped(f"ratio: how many times as fast as {networks[0]['name']}.")
    if any(network["hbm_bytes"] for network in networks):
        limit = found["hbm_limit_bytes"] / 2**20
        yield _wrapped(f"HBM: all that the program needs, of {limit:,.0f} MiB.")
    if any(network.get("sum_of_parts_ms") for network in networks):
        known = _LOOKED_AT if _looked_at(found) else _NOT_LOOKED_AT
        yield _wrapped(f"sum: {_SUM}; {known}.")


def _settings(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines on the networks and their form where these are not the usual ones."""
    for head, usual in (("Changed by", _UNCHANGED), ("Built with", _USUAL)):
        others = [f"{k}={found[k]}" for k, value in usual.items() if found[k] != value]
        if others:
            yield f"{head} {', '.join(others)}"


def _looked_at(found: Mapping[str, Any]) -> bool:
    """Whether the conditions are those under which the sum was looked at."""
    generation = found["topology"].partition(":")[0]
    conditions = generation, found["batch"], found["dtype"]
    return conditions == ("v3", 64, "bfloat16") and not any(_settings(found))


def _is_sum(network: Mapping[str, Any]) -> bool:
    """Whether the network itself was not compiled."""
    return network["fits"] is None


def _milliseconds(network: Mapping[str, Any]) -> float | None:
    return network["sum_of_parts_ms" if _is_sum(network) else "milliseconds"]


def _row(network: Mapping[str, Any], batch: int, first: float | None) -> str:
    milliseconds, name = _milliseconds(network), network["name"]
    if milliseconds is None:
        why = network["parts_message" if _is_sum(network) else "message"]
        return f"{name:<24}  {network['resolution']:>6}  {why}"
    cycles = network["cycles"]
    if _is_sum(network):
        cycles = sum(part["cycles"] for part in network["parts"])
    return _NETWORK.format(
        name,
        network["resolution"],
        f"{milliseconds:.3f}",
        f"{batch / milliseconds * 1e3:,.0f}",
        f"{first / milliseconds:.2f}" if first else "",
        f"{cycles / 1e6:.3f}",
        "a sum" if _is_sum(network) else f"{network['hbm_bytes'] / 2**20:,.1f}",
    )


def _parts(network: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield network["name"]
    if network["parts_message"]:
        yield f"  no sum: {network['parts_message']}"
        return
    yield _PART.format(
        *("part", "kind", "pixels", "channels", "stride", "expand", "ms", "share")
    )
    for part in network["parts"]:
        yield _PART.format(
            part["name"],
            part["kind"],
            f"{part['input_size']}->{part['output_size']}",
            f"{part['input_filters']}->{part['output_filters']}",
            part["strides"] or "",
            part["expand_ratio"] or "",
            f"{part['milliseconds']:.3f}",
            f"{part['share']:.1%}",
        )
    blank = ("",) * 5
    yield _PART.format("sum", *blank, f"{network['sum_of_parts_ms']:.3f}", "100.0%")
    if network["milliseconds"] is not None:
        yield _PART.format("whole", *blank, f"{network['milliseconds']:.3f}", "")
        yield f"  error of the sum: {network['error_of_sum']:+.1%}"


def _wrapped(note: str) -> str:
    return textwrap.fill(
        note, _WIDTH, subsequent_indent=" " * 4, break_on_hyphens=False
    )
