"""Print the table of variants: what each costs, and its published accuracy if any.

Parameters, multiply-accumulates (MACs) and activations are for 1000 classes, one image.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from common import cli, console
from models import complexity, scaling
from models.variants import VARIANTS, Variant, get_variant

_HEAD = (
    *("name", "pixels", "params M", "MACs G", "activations MB", "blocks"),
    "published top-1 %",
)
_NUMBERS = range(1, len(_HEAD) - 1)  # columns


@dataclasses.dataclass(frozen=True)
class Published:
    """An accuracy on ImageNet that somebody else measured.

    Attributes:
      top1: percent of the validation images.
      recipe: of the training.
      source: where the figure stands.
      remark: what to know before relying on it, or "".
    """

    top1: float
    recipe: str
    source: str
    remark: str = ""


def _series(
    names: str, top1s: Iterable[tuple[int | str, float]], **origin: str
) -> Iterator[tuple[str, Published]]:
    """Yield names and accuracies, by the number, or the letter, in the name."""
    for number, top1 in top1s:
        yield names.format(number), Published(top1, **origin)


_README = "README of tensorflow/tpu, models/official/efficientnet"
_LITE = "README of tensorflow/tpu, models/official/efficientnet/lite"
_V2 = "README of google/automl, efficientnetv2"
_PUBLISHED = (
    *_series(
        "efficientnet-x-b{}",
        enumerate((77.3, 79.4, 80.0, 81.4, 83.0, 83.7, 84.4, 84.7)),
        recipe="the paper's recipe",
        source="EfficientNet-X paper, arXiv 2102.05610",
        remark="as remembered, not checked against a copy of the paper",
    ),
    *_series(
        "efficientnet-b{}",
        enumerate((76.7, 78.7, 79.8, 81.1, 82.5, 83.1)),
        recipe="ResNet preprocessing",
        source=_README,
    ),
    *_series(
        "efficientnet-b{}",
        enumerate((77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3)),
        recipe="AutoAugment",
        source=_README,
    ),
    *_series(
        "efficientnet-b{}", [(5, 83.7), (7, 84.7)], recipe="RandAugment", source=_README
    ),
    *_series(
        "efficientnet-lite{}",
        enumerate((75.1, 76.7, 77.6, 79.8, 81.5)),
        recipe="in float32",
        source=_LITE,
        remark="in int8 0.6 to 1.3 less, by the same table",
    ),
    *_series(
        "efficientnetv2-b{}",
        enumerate((78.7, 79.8, 80.5, 82.1)),
        recipe="its authors' progressive learning",
        source=_V2,
    ),
    *_series(
        "efficientnetv2-{}",
        [("s", 83.9), ("m", 85.2), ("l", 85.7)],
        recipe="its authors' progressive learning",
        source=_V2,
    ),
    *_series(
        "efficientnetv2-{}",
        [("xl", 87.2)],
        recipe="trained on ImageNet-21k first",
        source=_V2,
    ),
    *_series(
        "efficientnet-x-b{}-timm",
        [(5, 84.93)],
        recipe="timm's recipe sw_r448_e450, not the paper's",
        source="timm 1.0.31's published weights",
        remark="at 576 px",
    ),
    *_series(
        "efficientnet-h-b{}-timm",
        [(5, 84.94)],
        recipe="timm's recipe sw_r448_e450, not the paper's",
        source="timm 1.0.31's published weights",
        remark="timm's test size is 576 px",
    ),
)
LEGEND = (
    "params: trainable. MACs: multiply-accumulates. activations: what all convolutions "
    "and the classifier write, in bfloat16. For 1000 classes and one image; M is 10^6, "
    "G 10^9.",
    "top-1: on ImageNet, as published by others. None of these accuracies was "
    "reproduced here.",
)


def same_network(variant: Variant) -> str | None:
    """Return the first row before this one that is the same but for its name."""
    for name, row in VARIANTS.items():
        if name == variant.name:
            return None
        if dataclasses.replace(row, name=variant.name) == variant:
            return name
    return None


def published(variant: Variant) -> tuple[Published, ...]:
    """Return the accuracies published for a row of the table or for its network."""
    own = tuple(entry for name, entry in _PUBLISHED if name == variant.name)
    twin = same_network(variant)
    if own or twin is None:
        return own
    return tuple(
        dataclasses.replace(
            entry, remark="; ".join(filter(None, (_twin_note(twin), entry.remark)))
        )
        for entry in published(VARIANTS[twin])
    )


def describe(variant: Variant) -> dict[str, Any]:
    """Return what the catalogue knows of a row of the table, ready for JSON."""
    cost = complexity.total(variant)
    return {
        "name": variant.name,
        "resolution": variant.resolution,
        "trainable_params": cost.trainable_params,
        "non_trainable_params": cost.non_trainable_params,
        "macs": cost.macs,
        "activation_elements": cost.activation_elements,
        "activation_bytes": cost.activation_bytes("bfloat16"),
        "blocks": len(scaling.block_specs(variant)),
        "width_coefficient": variant.width_coefficient,
        "depth_coefficient": variant.depth_coefficient,
        "published": [dataclasses.asdict(p) for p in published(variant)] or None,
    }


def table(variants: Iterable[Variant]) -> str:
    """Return the variants as a table for people, with footnotes."""
    lines = console.table(rows(variants, footnotes := {}), right=_NUMBERS)
    notes = [f"[{number}] {text}." for text, number in footnotes.items()]
    paragraphs = [console.wrap(text, indent=" " * 4) for text in [*notes, *LEGEND]]
    return "\n".join([*lines, "", *paragraphs])


def rows(
    variants: Iterable[Variant], footnotes: dict[str, int]
) -> list[tuple[str, ...]]:
    """Return the table's rows, the head first.

    Args:
      variants: a row each.
      footnotes: by text their numbers, in the order of first use; new ones are added.
    """
    return [_HEAD, *(_row(variant, footnotes) for variant in variants)]


def _row(variant: Variant, footnotes: dict[str, int]) -> tuple[str, ...]:
    facts = describe(variant)
    return (
        facts["name"],
        str(facts["resolution"]),
        f"{facts['trainable_params'] / 1e6:.3f}",
        f"{facts['macs'] / 1e9:.3f}",
        f"{facts['activation_bytes'] / 1e6:.1f}",
        str(facts["blocks"]),
        accuracies(variant, footnotes),
    )


def accuracies(variant: Variant, footnotes: dict[str, int]) -> str:
    """Return a row's last column, and add to the footnotes what it refers to."""

    def mark(text: str) -> str:
        return f"[{footnotes.setdefault(text, len(footnotes) + 1)}]"

    figures = [f"{p.top1} {mark(_origin(p))}" for p in published(variant)]
    twin = same_network(variant)
    if not figures and twin:
        return f"not published {mark(_twin_note(twin))}"
    return "  ".join(figures) or "not published"


def _origin(entry: Published) -> str:
    text = f"{entry.source}: {entry.recipe}"
    return f"{text}; {entry.remark}" if entry.remark else text


def _twin_note(twin: str) -> str:
    return f"the same network as {twin}"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("models.catalogue", __doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help="a variant, such as efficientnet-x-b0; default: all",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list, with exact numbers"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Print the rows that are asked for, in the table's order."""
    asked = {get_variant(name).name for name in arguments.names or VARIANTS}
    variants = [row for name, row in VARIANTS.items() if name in asked]
    if arguments.json:
        print(json.dumps([describe(variant) for variant in variants], indent=2))
    else:
        print(table(variants))


if __name__ == "__main__":
    sys.exit(main())
