"""What `search.latency` says to people."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

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
    "make the sum differ: over B0 to B4 of EfficientNet, X, X-TPU and X-GPU (v3, batch "
    "64, bfloat16) it is 0 to 4.0 % below the whole, 1.8 % on average."
)
_WIDTH = 100
_NETWORK = "{:<24}  {:>6}  {:>9}  {:>9}  {:>6}  {:>9}  {:>9}"
_PART = "  {:<10}  {:<9}  {:>10}  {:>12}  {:>6}  {:>6}  {:>8}  {:>6}"


def text(found: Mapping[str, Any]) -> str:
    """Return what `search.latency.estimate` found, for people."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    networks = found["networks"]
    versions = ", ".join(f"{name} {of}" for name, of in found["compiler"].items())
    yield (
        f"Inference on one device of {found['topology']}, batch {found['batch']}, "
        f"{found['dtype']}; {versions}"
    )
    yield from _options(found)
    yield _NETWORK.format(
        *("network", "pixels", "ms", "images/s", "ratio", "Mcycles", "HBM MiB")
    )
    for network in networks:
        yield _row(network, networks[0]["milliseconds"])
    for network in networks:
        if "parts" in network:
            yield from _parts(network)
    yield ""
    yield _wrapped(f"ms: {WORTH}")
    yield _wrapped(f"ratio: how many times as fast as {networks[0]['name']}.")
    limit = found["hbm_limit_bytes"] / 2**20
    yield _wrapped(f"HBM: all that the program needs, of {limit:,.0f} MiB.")
    if any("parts" in network for network in networks):
        yield _wrapped(f"sum: {_SUM}")


def _options(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line on the form of the networks where it is not the usual one."""
    usual = {
        "num_classes": 1000,
        "fold_batch_norm": False,
        "stem_block_size": 1,
        "stem_reshuffle": "device",
        "input_layout": "NHWC",
    }
    others = [f"{k}={found[k]}" for k, value in usual.items() if found[k] != value]
    if others:
        yield f"Built with {', '.join(others)}"


def _row(network: Mapping[str, Any], first: float | None) -> str:
    milliseconds = network["milliseconds"]
    if milliseconds is None:
        return (
            f"{network['name']:<24}  {network['resolution']:>6}  {network['message']}"
        )
    return _NETWORK.format(
        network["name"],
        network["resolution"],
        f"{milliseconds:.3f}",
        f"{network['images_per_second']:,.0f}",
        f"{first / milliseconds:.2f}" if first else "",
        f"{network['cycles'] / 1e6:.3f}",
        f"{network['hbm_bytes'] / 2**20:,.1f}",
    )


def _parts(network: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield network["name"]
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
    yield _PART.format("whole", *blank, f"{network['milliseconds']:.3f}", "")
    yield f"  error of the sum: {network['error_of_sum']:+.1%}"


def _wrapped(note: str) -> str:
    return textwrap.fill(
        note, _WIDTH, subsequent_indent=" " * 4, break_on_hyphens=False
    )
