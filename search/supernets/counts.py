"""How large every part of every network of a space is: tables over the choices.

What a block of a network has is known to `models.scaling.block_specs` alone. It is
asked here for every combination of the choices that a size can depend on; the supernet
looks it up by the selection.

Imports no framework.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.errors import UserError
from models import scaling
from models.errors import ModelError
from models.scaling import BlockSpec
from models.variants import Variant
from search.supernets.fields import Axis, Fields, with_stages


@dataclasses.dataclass(frozen=True)
class Table:
    """A number, or an array, of each combination of values.

    Attributes:
      axes: that vary.
      entries: [values of the first axis, of the second, ..., ...].
    """

    axes: tuple[Axis, ...]
    entries: np.ndarray

    @property
    def largest(self) -> int:
        """The largest entry."""
        return int(self.entries.max())


@dataclasses.dataclass(frozen=True)
class Slot:
    """A block's place in the supernet: the largest of everything, and the tables.

    Attributes:
      stage: number of the stage, from 1.
      number: of the block in its stage, from 0.
      size: height and width in pixels of what enters.
      strides: of its convolution.
      space_to_depth: see BlockSpec.
      padding: see BlockSpec.
      project: see BlockSpec.
      input_filters: channels that enter, of which a network has the first.
      kinds: whether fused, each that there is.
      fused: axis of that.
      activation: axis of it.
      kernel_size: of each value of its axis.
      space_to_batch: of each value of its axis; 1 where its parts would not be equal.
      folded: channels behind the space-to-depth, of which a network has the first.
      expanded: by kind the channels that a convolution expands to; 0 where none does.
      passing: by kind the channels that enter the depthwise convolution as they are,
        of a single copy where a reshuffle makes four; 0 where they are expanded.
      se_filters: of squeeze-and-excite, 0 for none.
      output_filters: of the block.
      has_skip: whether the inputs are added.
      present: whether a network has the block at all.
      repeats: of every stage of the network, how many blocks it has.
    """

    stage: int
    number: int
    size: int
    strides: int
    space_to_depth: str
    padding: str
    project: bool
    input_filters: int
    kinds: tuple[bool, ...]
    fused: Axis
    activation: Axis
    kernel_size: Table
    space_to_batch: Table
    folded: Table
    expanded: dict[bool, Table]
    passing: dict[bool, Table]
    se_filters: Table
    output_filters: Table
    has_skip: Table
    present: Table
    repeats: tuple[Table, ...]

    def name(self, chain: str) -> str:
        """Return the name of the block's layer in a chain of a name."""
        own = f"stage_{self.stage}_block_{self.number}"
        return f"{chain}_{own}" if chain else own

    @property
    def copies(self) -> int:
        """How many copies of its input a reshuffle lays into the channels."""
        return 4 if self.space_to_depth == "reshuffle" else 1

    @property
    def entering(self) -> int:
        """Channels in front of the expansion, those of the largest network."""
        moves = self.space_to_depth != "none"
        return (4 if moves else 1) * self.input_filters

    def widest(self, fused: bool) -> int:
        """Channels behind the expansion, those of the largest network."""
        passes = self.passing[fused].entries.any()
        return max(self.expanded[fused].largest, self.entering if passes else 0)

    @property
    def folded_size(self) -> int:
        """Height and width behind the space-to-depth."""
        return self.size if self.space_to_depth == "none" else -(-self.size // 2)

    @property
    def reduction(self) -> int:
        """Factor by which height and width shrink."""
        return self.strides * (1 if self.space_to_depth == "none" else 2)


@dataclasses.dataclass(frozen=True)
class Chain:
    """The stages that one form of the sections computes in its own way.

    Attributes:
      name: of the form, for the names of layers; "" where there is only one.
      slots: the blocks in the order of the computation.
    """

    name: str
    slots: tuple[Slot, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All blocks of a supernet.

    Attributes:
      fields: what varies.
      before: in front of the sections.
      sections: a chain for each form of the sections, beside each other; () where
        there is one form, and all blocks stand before.
      behind: the blocks behind them.
    """

    fields: Fields
    before: Chain
    sections: tuple[Chain, ...]
    behind: Chain

    def chains(self, form: Sequence[str]) -> list[tuple[str, Slot]]:
        """Return the slots of one form of the sections with their chains' names."""
        chains = [self.before, self.behind]
        if (axis := self.fields.sections) is not None:
            chains.insert(1, self.sections[axis.values.index(tuple(form))])
        return [(chain.name, slot) for chain in chains for slot in chain.slots]


def plan(fields: Fields, name: str) -> Plan:
    """Return all blocks of a supernet.

    Args:
      fields: of the space.
      name: of the space, for messages.

    Raises:
      UserError: no network of a form of the sections could be built; says why.
    """
    stages = range(1, len(fields.base.stages) + 1)
    forms = tuple(stage.space_to_depth for stage in fields.base.stages)
    axis = fields.sections
    if axis is None:
        everything = _slots(fields, name, forms, stages)
        return Plan(fields, Chain("", everything), (), Chain("", ()))
    moving = [i for form in axis.values for i in stages if form[i - 1] != "none"]
    first, last = min(moving), max(moving)
    plain = ("none",) * len(forms)
    return Plan(
        fields,
        Chain("", _slots(fields, name, plain, range(1, first))),
        tuple(
            Chain(_named(form), _slots(fields, name, form, range(first, last + 1)))
            for form in axis.values
        ),
        Chain("", _slots(fields, name, plain, range(last + 1, len(forms) + 1))),
    )


def _named(form: Sequence[str]) -> str:
    """Return how a form of the sections is called in the names of layers."""
    moving = [f"{one}{i}" for i, one in enumerate(form, start=1) if one != "none"]
    return "_".join(moving) or "plain"


def _slots(
    fields: Fields, name: str, form: Sequence[str], stages: Sequence[int]
) -> tuple[Slot, ...]:
    """Return the blocks of some stages."""
    specs = Specs(fields, tuple(form))
    try:
        return tuple(slot for stage in stages for slot in specs.slots(stage))
    except ModelError as error:
        raise UserError(
            f"{name}: with space_to_depth {', '.join(form)}: {error}"
        ) from error


class Specs:
    """Asks `block_specs` for blocks of networks with one form of the sections.

    Attributes:
      most: by the number of the stage, the most blocks that it has.
    """

    def __init__(self, fields: Fields, form: tuple[str, ...]):
        self._fields = fields
        numbers = range(1, len(form) + 1)
        self._repeats = {i: self._table_of_repeats(i) for i in numbers}
        self.most = {i: table.largest for i, table in self._repeats.items()}
        # No size depends on the number of blocks, and all but a stage's first are
        # alike; space-to-batch changes none, but might not fit.
        self._blocks = {i: min(most, 2) for i, most in self.most.items()}
        settings = [(i, "num_repeat", n) for i, n in self._blocks.items()]
        settings += [(i, "space_to_batch", 1) for i in numbers]
        base = dataclasses.replace(fields.base, depth_coefficient=1.0)
        self._variant = with_stages(base, settings, form)
        self._form = form
        self._asked = functools.cache(self._ask)

    def slots(self, stage: int) -> list[Slot]:
        """Return the blocks of a stage."""
        known = [self._slot(stage, number) for number in range(self._blocks[stage])]
        return [
            dataclasses.replace(
                known[min(number, 1)],
                number=number,
                present=self._present(stage, number),
            )
            for number in range(self.most[stage])
        ]

    def _slot(self, stage: int, number: int) -> Slot:
        """Return the first block of a stage, or one of the others."""
        of_input = stage if number else stage - 1
        entering = [self._axis(of_input, "output_filters")] if of_input else []
        own = self._axis(stage, "output_filters")
        fused = self._axis(stage, "fused")
        spec = self._spec(stage, number, {})
        of_outputs = [] if spec.project else [own]
        expansion = [self._axis(stage, "expand_ratio"), *entering, *of_outputs]

        def table(of: Callable[[BlockSpec], Any], *axes: Axis, **fixed: Any) -> Table:
            return self._table(stage, number, of, axes, fixed)

        kinds = tuple(dict.fromkeys(map(bool, fused.values)))
        return Slot(
            stage=stage,
            number=number,
            size=self._sizes[self._offset(stage) + number],
            strides=spec.strides,
            space_to_depth=spec.space_to_depth,
            padding=spec.padding,
            project=spec.project,
            input_filters=table(lambda s: s.input_filters, *entering).largest,
            kinds=kinds,
            fused=fused,
            activation=self._axis(stage, "activation"),
            kernel_size=table(
                lambda s: s.kernel_size, self._axis(stage, "kernel_size")
            ),
            space_to_batch=self._table_of_parts(stage),
            folded=table(lambda s: s.space_to_depth_filters, *entering),
            expanded={f: table(_expanded, *expansion, fused=f) for f in kinds},
            passing={f: table(_passing, *expansion, fused=f) for f in kinds},
            se_filters=table(
                lambda s: s.se_filters, self._axis(stage, "se_ratio"), *entering
            ),
            output_filters=table(lambda s: s.output_filters, own),
            has_skip=table(
                lambda s: s.has_skip, self._axis(stage, "skip"), *entering, own
            ),
            present=self._present(stage, number),
            repeats=tuple(self._repeats.values()),
        )

    def _axis(self, stage: int, field: str) -> Axis:
        return self._fields.axis(stage, field)

    def _table(
        self,
        stage: int,
        number: int,
        of: Callable[[BlockSpec], Any],
        axes: Sequence[Axis],
        fixed: dict[str, Any],
    ) -> Table:
        """Ask for every combination; axes on which nothing depends are left out."""
        varying = [axis for axis in dict.fromkeys(axes) if axis.varies]
        given = {(stage, field): value for field, value in fixed.items()}
        entries = np.array(
            [
                of(self._spec(stage, number, given | _pairs(varying, combination)))
                for combination in itertools.product(*(a.values for a in varying))
            ]
        )
        shape = [len(axis.values) for axis in varying]
        return _least(Table(tuple(varying), entries.reshape(shape)))

    def _spec(self, stage: int, number: int, given: dict[Any, Any]) -> BlockSpec:
        """Return the block of a network with some fields, the others being any."""
        specs = self._asked(tuple(sorted(given.items(), key=str)))
        return specs[self._offset(stage) + number]

    def _ask(self, given: tuple[tuple[tuple[int, str], Any], ...]):
        fields = [(stage, field, value) for (stage, field), value in given]
        return scaling.block_specs(with_stages(self._variant, fields, self._form))

    def _offset(self, stage: int) -> int:
        return sum(self._blocks[i] for i in range(1, stage))

    @functools.cached_property
    def _sizes(self) -> tuple[int, ...]:
        return scaling.feature_sizes(self._variant)

    def _table_of_repeats(self, stage: int) -> Table:
        """Return how many blocks the stage really has."""
        axis = self._axis(stage, "num_repeat")
        form = tuple(one.space_to_depth for one in self._fields.base.stages)
        counts = [
            _blocks_of(
                with_stages(self._fields.base, [(stage, "num_repeat", n)], form), stage
            )
            for n in axis.values
        ]
        entries = np.array(counts)
        return Table((axis,), entries) if axis.varies else Table((), entries[0])

    def _present(self, stage: int, number: int) -> Table:
        repeats = self._repeats[stage]
        return _least(Table(repeats.axes, repeats.entries > number))

    def _table_of_parts(self, stage: int) -> Table:
        """Return space_to_batch of each value; 1 where it does not fit the sizes."""
        axis = self._axis(stage, "space_to_batch")
        entries = np.array([n if self._fits(stage, n) else 1 for n in axis.values])
        return Table((axis,), entries) if axis.varies else Table((), entries[0])

    def _fits(self, stage: int, parts: int) -> bool:
        """Whether a stage's blocks can be in so many parts a side."""
        try:
            self._spec(stage, 0, {(stage, "space_to_batch"): parts})
        except ModelError:
            return False
        return True


def _blocks_of(variant: Variant, stage: int) -> int:
    return scaling.stage_of_block(variant).count(stage)


def _expanded(spec: BlockSpec) -> int:
    return spec.expanded_filters if spec.has_expansion else 0


def _passing(spec: BlockSpec) -> int:
    if spec.has_expansion:
        return 0
    reshuffled = spec.space_to_depth == "reshuffle"
    return spec.input_filters if reshuffled else spec.expanded_filters


def _pairs(axes: Sequence[Axis], values: Sequence[Any]) -> dict[tuple[int, str], Any]:
    return {(a.stage, a.field): v for a, v in zip(axes, values, strict=True)}


def _least(table: Table) -> Table:
    """Leave out the axes on which no entry depends."""
    axes, entries = list(table.axes), table.entries
    for i in reversed(range(len(axes))):
        if (entries == entries.take([0], axis=i)).all():
            entries = entries.take(0, axis=i)
            del axes[i]
    return Table(tuple(axes), entries)
