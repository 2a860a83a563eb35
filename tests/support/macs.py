"""A latency that is arithmetic: `latency_sources.function` takes it by name."""

from models import complexity


def ms(variant) -> float:
    """A millisecond for each million multiply-accumulates."""
    return complexity.total(variant).macs / 1e6
