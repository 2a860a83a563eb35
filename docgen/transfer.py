"""Tables of trained weights: what there is, what they say, what is learnt from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from docgen.markdown import code, table
from train.weights import registry

Report = Mapping[str, Any]


def weights() -> str:
    """Return the table of the weights that packages bring along."""
    rows = [
        [
            code(row.name),
            f"{row.resolution}",
            f"{row.top1:.1f}",
            code(row.package),
            row.licence,
            row.source,
        ]
        for row in registry.WEIGHTS.values()
    ]
    head = ("name and variant", "px", "authors' top-1, %", "package", "licence", "from")
    return table(head, rows, right=" rr")


def photos(report: Report, note: str) -> str:
    """Return what trained weights say of photos, and how near they are to torch's.

    Args:
      report: of benchmarks.pretrained.
      note: the line below.
    """
    networks = report["networks"]
    first = networks[0]["name"]
    others = [network["name"] for network in networks[1:]]
    head = ["photo", f"{first}, five of 1,000", *(f"{name}, first" for name in others)]
    rows = [
        [
            row["photo"],
            _classes(row["classes"][first]),
            *(_classes(row["classes"][name][:1]) for name in others),
        ]
        for row in report["photos"]
    ]
    parity = [
        [
            network["name"],
            f"{network['largest_logit']:.1f}",
            _difference(network["largest_difference"]),
            _difference(network["torch_float32_difference"]),
            _of(network["same_first_class"], network["images"]),
        ]
        for network in networks
    ]
    return "\n\n".join(
        [
            table(head, rows),
            "The same pixels by the packages' own code on torch; differences are from "
            "its float64, the largest of all logits:",
            table(
                ("network", "largest logit", "ours", "torch's float32", "same class"),
                parity,
                right=" rrrr",
            ),
            note,
        ]
    )


def accuracies(report: Report, note: str) -> str:
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


def _classes(found: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.3f}" for name, share in found)


def _difference(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _of(part: int | None, whole: int) -> str:
    return "-" if part is None else f"{part} of {whole}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
