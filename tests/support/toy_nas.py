"""Times of networks that cost nothing, by name for gin files."""

from models import complexity


def milliseconds(variant):
    """Return what grows with the multiply-accumulates."""
    return complexity.total(variant).macs / 1e6
