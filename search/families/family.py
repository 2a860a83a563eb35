"""A family that a search has found: its networks, beside what others would be."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from models import complexity, scaling
from models.variants import Variant
from search.axes import Point
from search.results import Score


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one network is predicted to be than another.

    Attributes:
      top1: points of top-1, the median over all fits of the surrogate.
      spread: the tenth and the ninetieth percentile; None where nobody knows.
      above: the share of the fits that call the first one better; None likewise.
    """

    top1: float
    spread: tuple[float, float] | None = None
    above: float | None = None

    @property
    def equal(self) -> bool | None:
        """Whether the data cannot tell them apart; None where nobody knows."""
        return self.spread and self.spread[0] <= 0 <= self.spread[1]


def stages(variant: Variant) -> list[dict[str, Any]]:
    """Return a network from stem to head, a row for each run of like blocks of a stage.

    Channels and size in pixels are those behind the run; inside a space-to-depth
    section these are four times as many channels at half the size. A stage has several
    rows where its blocks differ in more than that.
    """
    blocks, sizes = scaling.block_specs(variant), scaling.feature_sizes(variant)
    rows: list[dict[str, Any]] = [
        {
            "stage": 0,
            "kind": "stem",
            "blocks": 1,
            "channels": scaling.stem_filters(variant),
            "resolution": sizes[0],
        }
    ]
    numbers = scaling.stage_of_block(variant)
    for stage, block, size in zip(numbers, blocks, sizes[1:], strict=True):
        row = {"stage": stage, **_kind(block)}
        last = rows[-1]
        like = all(last.get(name) == value for name, value in row.items())
        # What opens or leaves a section does so once, in front of its like.
        if like and block.space_to_depth == "none":
            last["blocks"] += 1
        else:
            moves = block.space_to_depth
            rows.append({**row, "space_to_depth": moves, "blocks": 1})
            last = rows[-1]
        last["channels"], last["resolution"] = block.output_filters, size
    head = {
        "stage": len(variant.stages) + 1,
        "kind": "head",
        "blocks": 1,
        "channels": scaling.head_filters(variant),
        "resolution": sizes[-1],
    }
    return [*rows, head]


def _kind(block: scaling.BlockSpec) -> dict[str, Any]:
    """Return what the blocks of a run have in common."""
    return {
        "kind": "fused" if block.fused else "depthwise",
        "kernel": block.kernel_size,
        "expansion": block.expand_ratio,
        "activation": block.activation,
        "squeeze_excite": block.se_filters > 0,
        "space_to_batch": block.space_to_batch,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A network at a target.

    Attributes:
      variant: the network.
      point: its size, by the base.
      score: its accuracy.
      cheap_ms: by the source that ranks all networks.
      parts_ms: the sum of its parts; None where it was not asked.
      exact_ms: by the source that decides; None where it was not asked.
    """

    variant: Variant
    point: Point
    score: Score
    cheap_ms: float | None
    parts_ms: float | None = None
    exact_ms: float | None = None

    @property
    def ms(self) -> float | None:
        """The best that is known of its time."""
        return self.exact_ms or self.parts_ms or self.cheap_ms

    def as_json(self) -> dict[str, Any]:
        """Return what a report shows of it."""
        blocks = scaling.block_specs(self.variant)
        cost = complexity.total(self.variant)
        return {
            "name": self.variant.name,
            "depth": self.variant.depth_coefficient,
            "width": self.variant.width_coefficient,
            "resolution": self.variant.resolution,
            "blocks": len(blocks),
            "gmacs": cost.macs / 1e9,
            "params_m": cost.trainable_params / 1e6,
            "cheap_ms": self.cheap_ms,
            "parts_ms": self.parts_ms,
            "exact_ms": self.exact_ms,
            "top1": self.score.top1,
            "top1_spread": self.score.spread,
            "top1_source": self.score.source,
            "top1_reason": self.score.reason,
            "stages": stages(self.variant),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rival:
    """What another strategy makes of the same milliseconds.

    Attributes:
      name: of the strategy.
      source: of it.
      member: its network; None where none takes as long as the target.
      gain: ours over it, in points of predicted top-1.
      time: ours at its predicted top-1, as a share of its milliseconds; None where that
        was not looked for.
    """

    name: str
    source: str
    member: Member | None
    gain: Difference | None = None
    time: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a report shows of it."""
        return {
            "name": self.name,
            "source": self.source,
            "network": self.member and self.member.as_json(),
            "gain": self.gain
            and {**dataclasses.asdict(self.gain), "equal": self.gain.equal},
            "time_at_equal_top1": self.time,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was found at a target.

    Attributes:
      target: its name, or its milliseconds as text.
      ms: milliseconds that the network should take.
      chosen: the network.
      reached: whether its time is within the tolerance of the target.
      finalists: networks that were looked at exactly, the chosen one among them.
      rivals: the other strategies, and random search of equal budget.
      by_form: what each form of the surrogate would choose, by its name.
      edges: axes along which it is at the end of the trust region: farther out there
        may be a better one that nothing is known of.
      asked: points that the walk along the border has looked at.
      failures: networks without a time or an accuracy, with the reasons.
    """

    target: str
    ms: float
    chosen: Member
    reached: bool
    finalists: Sequence[Member] = ()
    rivals: Sequence[Rival] = ()
    by_form: Mapping[str, Member] = dataclasses.field(default_factory=dict)
    edges: Sequence[str] = ()
    asked: int = 0
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what a report shows of it."""
        return {
            "target": self.target,
            "ms": self.ms,
            "reached": self.reached,
            "chosen": self.chosen.as_json(),
            "finalists": [one.as_json() for one in self.finalists],
            "rivals": [one.as_json() for one in self.rivals],
            "by_form": {form: one.as_json() for form, one in self.by_form.items()},
            "edges": list(self.edges),
            "asked": self.asked,
            "failures": dict(self.failures),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """All that a scaling search has found.

    Attributes:
      name: that its networks begin with.
      base: name of the network that was scaled.
      outcomes: by target, in the order asked for.
      references: other networks to look at beside them, with their published accuracy
        where they are not of the base's kind.
      about: what it was made under: sources, their errors, sizes of the grid.
    """

    name: str
    base: str
    outcomes: Sequence[Outcome]
    references: Sequence[Mapping[str, Any]] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what a report shows of it; the content of family.json."""
        return {
            "name": self.name,
            "base": self.base,
            "about": dict(self.about),
            "outcomes": [one.as_json() for one in self.outcomes],
            "references": list(self.references),
        }
