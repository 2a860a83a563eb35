"""The table of what `benchmarks.transfer` has measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from docgen.markdown import table


def accuracies(report: Mapping[str, Any], note: str) -> str:
    """Return top-1 by set and by what a training begins with; `note` stands below."""
    rows = []
    for name, row in report["sets"].items():
        images = " + ".join(map(str, row["images"].values()))
        for start, runs in row["starts"].items():
            rows.append(
                (
                    name,
                    f"{row['classes']}",
                    images,
                    start,
                    ", ".join(f"{100 * one:.1f}" for one in runs["top1"]),
                    f"{100 * runs['mean_top1']:.1f}",
                    f"{_mean(runs['minutes']):.1f}",
                    f"{_mean(runs['cpu_seconds']):.0f}",
                )
            )
    head = (
        "set",
        "classes",
        "images to learn from + to score",
        "begins with",
        "top-1 of each seed, %",
        "mean, %",
        "minutes",
        "CPU seconds",
    )
    packages = "; ".join(
        f"{name}: {row['package']}" for name, row in report["sets"].items()
    )
    return "\n\n".join(
        [
            table(head, rows, right="lrllrrrr"),
            f"{packages}. Top-1 is that of the averaged weights at the end; minutes "
            "and CPU seconds are those of a whole `train.main`, on average.",
            note,
        ]
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
