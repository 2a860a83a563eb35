"""Networks drawn stage by stage, as SVG."""

import html
import math
from collections.abc import Sequence
from typing import Any

_WIDTH = 1120
_MOST_BOX = 118
_GAP = 6
_LINE = 14
_LEAST_HEIGHT, _MOST_HEIGHT = 98, 156
_FILLS = {
    "fused": "#cfe5f5",
    "depthwise": "#fbe0cc",
    "stem": "#ececec",
    "head": "#ececec",
}
LEGEND = (
    "From left to right: what an image goes through, with the channels and the size "
    "behind each stage. Blue: fused blocks, whose first convolution is a dense one. "
    "Orange: depthwise blocks, whose spatial convolution works on each channel by "
    "itself. A taller box has larger images. x 3: so many blocks. k3: a kernel of 3x3. "
    "e6: six times the channels inside a block. SE: squeeze-and-excite, which weighs "
    "channels. relu, swish: the activation. A dashed frame: here 2x2 pixels move into "
    "four times the channels (space-to-depth)."
)


def drawing(stages: Sequence[dict[str, Any]], title: str) -> str:
    """Return a network as an element of SVG, its text escaped.

    Args:
      stages: see `search.families.family.stages`; one or more.
      title: that is read out where nothing is drawn.
    """
    width = min(_MOST_BOX, (_WIDTH - _GAP * len(stages)) / len(stages))
    sizes = [math.log2(max(stage["resolution"], 1)) for stage in stages]
    low, span = min(sizes), max(max(sizes) - min(sizes), 1e-9)
    parts = []
    for number, (stage, size) in enumerate(zip(stages, sizes, strict=True)):
        share = (size - low) / span
        height = _LEAST_HEIGHT + share * (_MOST_HEIGHT - _LEAST_HEIGHT)
        opens = stage.get("space_to_depth", "none") != "none"
        parts.append(
            _box(stage, number * (width + _GAP) + 1, width, height, dashed=opens)
        )
    total = len(stages) * (width + _GAP)
    return (
        f'<svg class="network" role="img" width="{total:.0f}" '
        f'height="{_MOST_HEIGHT + 2}" viewBox="0 0 {total:.0f} {_MOST_HEIGHT + 2}">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}</svg>"
    )


def _box(
    stage: dict[str, Any], left: float, width: float, height: float, *, dashed: bool
) -> str:
    """Return a stage, standing on the common ground."""
    top = _MOST_HEIGHT - height + 1
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    fill = _FILLS.get(stage["kind"], "#ffffff")
    lines = _lines(stage)
    first = top + (height - _LINE * len(lines)) / 2 + _LINE - 3
    size = 12 if width > 100 else max(8, 12 * width / 100)
    text = "".join(
        f'<text x="{left + width / 2:.1f}" y="{first + _LINE * number:.1f}" '
        f'text-anchor="middle" font-size="{size:.1f}"{_weight(number)}>'
        f"{html.escape(line)}</text>"
        for number, line in enumerate(lines)
    )
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="4" fill="{fill}" stroke="#555"{dash}/>{text}'
    )


def _weight(number: int) -> str:
    return ' font-weight="600"' if number == 0 else ""


def _lines(stage: dict[str, Any]) -> list[str]:
    """Return what stands in a box, from its top."""
    where = f"{stage['resolution']} px"
    channels = f"{stage['channels']:,} channels"
    if stage["kind"] in ("stem", "head"):
        return [stage["kind"], channels, where]
    what = f"k{stage.get('kernel', '?')} e{stage.get('expansion', '?')}"
    if stage.get("squeeze_excite"):
        what += " SE"
    lines = [
        f"stage {stage['stage']}: x {stage['blocks']}",
        stage["kind"],
        what,
        str(stage.get("activation", "")),
        channels,
        where,
    ]
    if stage.get("space_to_batch", 1) != 1:
        lines.insert(4, f"space-to-batch {stage['space_to_batch']}")
    return lines
