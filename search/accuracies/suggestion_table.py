"""What `python -m search.surrogate --suggest` prints: the networks to train next."""

from collections.abc import Sequence
from typing import Any

from common import console
from models.variants import Variant
from search.accuracies import published
from search.accuracies.prediction import Surrogate, Trust
from search.accuracies.suggest import OFFSET_POINTS, equal_cost, suggest
from search.networks.scaled import scaled_network

# Of the grid for --suggest: depth and width coefficients, pixels.
_DEPTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
_WIDTHS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
_PIXELS = (192, 224, 256, 288, 320, 352, 384, 416, 448)


def make(
    surrogate: Surrogate, count: int, variants: Sequence[Variant]
) -> list[dict[str, Any]]:
    """Return the networks to train, of those named or of a grid."""
    variants = variants or _grid(surrogate)
    sizes = surrogate.sizes(variants)
    # Of one base, MACs go about by this product: it stands for latency.
    costs = sizes[:, 0] * sizes[:, 1] ** 2 * sizes[:, 2] ** 2
    chosen = suggest(surrogate.predict(sizes), equal_cost(costs), count)
    blocks = published.base_blocks(surrogate.family)
    return [
        {
            "name": variants[one.number].name,
            "blocks": round(sizes[one.number, 0] * blocks),
            "width": round(float(sizes[one.number, 1]), 2),
            "resolution": round(sizes[one.number, 2] * 224),
            "before": round(one.before, 3),
            "after": round(one.after, 3),
        }
        for one in chosen
    ]


def lines(found: list[dict[str, Any]] | None) -> list[str]:
    """Return suggestions as a person reads them; None are no lines."""
    if found is None:
        return []
    head = ["train", "blocks", "width", "pixels", "unsure before", "after"]
    rows = [
        [
            one["name"],
            *(str(one[name]) for name in ("blocks", "width", "resolution")),
            f"{one['before']:.3f}",
            f"{one['after']:.3f}",
        ]
        for one in found
    ]
    note = (
        "Points by which differences between networks of equal cost are unsure, by the "
        f"samples. All trainings share an offset of about {OFFSET_POINTS:g} point, so "
        "that the first alone teaches little. Cost is blocks x width^2 x pixels^2."
    )
    return [
        "",
        *console.table([head, *rows], right=True),
        "",
        *console.wrap(note, indent="").splitlines(),
    ]


def _grid(surrogate: Surrogate) -> list[Variant]:
    """Return the base scaled in all ways of the grid that are trusted, by their names.

    Sizes are then those of networks that can be built: 1.5 times the repeats are 26
    blocks of EfficientNet-X, not 24, since they are rounded up.
    """
    base = surrogate.base.name
    names = [f"{base}:{w}:{d}:{r}" for d in _DEPTHS for w in _WIDTHS for r in _PIXELS]
    variants = [scaled_network(name) for name in names]
    trusted = Trust().inside(surrogate.sizes(variants))
    return [variant for variant, here in zip(variants, trusted, strict=True) if here]
