"""Networks between those of the table, and tables of made-up latencies."""

import dataclasses

from models.variants import Variant, get_variant
from search.latencies.latency_table import WHOLE, Conditions, LatencyTable, NetworkRow

CONDITIONS = Conditions("v3", 64, "bfloat16", {"libtpu": "1"})


def scaled(width, depth, resolution, base="efficientnet-x-b0") -> Variant:
    """Returns a base at other coefficients."""
    return dataclasses.replace(
        get_variant(base),
        name=f"{base}:{width}:{depth}:{resolution}",
        width_coefficient=width,
        depth_coefficient=depth,
        resolution=resolution,
        se_coefficient=1,
    )


def row(variant, ms, **fields) -> NetworkRow:
    return NetworkRow.of(variant, ms=ms, **{"source": WHOLE, **fields})


def table(rows, conditions=CONDITIONS) -> LatencyTable:
    return LatencyTable(conditions, {one.digest: one for one in rows})
