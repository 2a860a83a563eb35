"""The table of what each form of an export loses, from benchmarks.formats."""

from collections.abc import Mapping
from typing import Any

from docgen.markdown import code, table, three_digits

Report = Mapping[str, Any]


def formats(report: Report, note: str) -> str:
    """Return sizes, scores, differences and times, a table for each network.

    Args:
      report: of benchmarks.formats.
      note: the line below a benchmark's table.
    """
    parts = []
    for network in report["networks"]:
        name = network["network"]
        rows = [_row(row) for row in network["forms"]]
        learnt = [row.get("calibration_images", 0) for row in network["forms"]]
        images = network["forms"][0]["images"]
        labelled = network["forms"][0]["labelled"]
        scored = "images" if labelled else "pictures of no known class"
        parts += [
            f"{name[0].upper()}{name[1:]}, {images:,} {scored}, int8 calibrated on "
            f"{max(learnt):,} others; differences are the largest to the "
            "SavedModel's, which is sure of an image if one class has half or more; ms "
            "are the median of one image on one core:",
            table(
                (
                    "form",
                    "kB",
                    "top-1 %",
                    "same class",
                    "of the sure",
                    "logits",
                    "probabilities",
                    "ms",
                ),
                rows,
                right=" rrrrrrr",
            ),
        ]
    return "\n\n".join([*parts, note])


def _row(row: Report) -> tuple[str, ...]:
    top1 = row["top1"]
    return (
        code(row["form"]),
        f"{row['bytes'] / 1000:,.0f}",
        "-" if top1 is None else f"{100 * top1:.1f}",
        f"{row['same_class']:,} of {row['images']:,}",
        f"{row['same_class_of_sure']:,} of {row['sure']:,}",
        f"{row['largest_logit_difference']:.1g}",
        f"{row['largest_probability_difference']:.1g}",
        three_digits(row["milliseconds"]),
    )
