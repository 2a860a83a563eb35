"""Tables of trained weights: what there is, and what they say of photos."""

from collections.abc import Mapping
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


def _classes(found: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.3f}" for name, share in found)


def _difference(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _of(part: int | None, whole: int) -> str:
    return "-" if part is None else f"{part} of {whole}"
