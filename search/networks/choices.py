"""What may vary between networks: fields, their values, and how these are written.

Imports no framework. A choice is data: a name, such as "2.kernel_size" (of stage 2) or
"resolution" (of the network), and values. What cannot be a value is refused here, once,
so that a network is built without checks of its own.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.checks import is_number, nearest_names
from common.errors import UserError
from models.errors import ModelError
from models.variants import StageSpec, Variant

# What models.efficientnet_x.check_activation accepts; Keras, which knows it, is slow to
# import. A test compares them.
ACTIVATIONS = (
    *("relu", "relu6", "swish", "silu", "hard_swish", "hard_silu", "gelu", "mish"),
    *("elu", "selu", "celu", "leaky_relu", "softplus", "softsign", "tanh", "sigmoid"),
    *("hard_sigmoid", "hard_tanh", "log_sigmoid", "tanh_shrink", "hard_shrink"),
    *("soft_shrink", "squareplus", "sparse_plus", "sparse_sigmoid", "sparsemax"),
    *("exponential", "linear", "softmax", "log_softmax"),
)
_SECTION = re.compile(r"(conv|reshuffle) ([1-9]\d?)-([1-9]\d?)")


def _plain(value: float) -> str:
    """Return a number without the ".0" of a whole one."""
    whole = isinstance(value, int) or float(value).is_integer()
    return str(int(value)) if whole else repr(value)


def _prefixed(prefix: str) -> Callable[[Any], str]:
    """Make the token of a field from a prefix and a value."""
    return lambda v: f"{prefix}{_plain(v) if is_number(v) else v.replace(' ', '-')}"


# How a value stands in an encoding, by its field; the order is that of the encoding.
_OF_NETWORK: dict[str, Callable[[Any], str]] = {
    "resolution": _prefixed("r"),
    "width_coefficient": _prefixed("w"),
    "depth_coefficient": _prefixed("d"),
    "space_to_depth": _prefixed("s2d-"),  # a section: where it opens, where it closes
    "se_coefficient": _prefixed("sec"),
    "stem_filters": _prefixed("stem"),
    "head_filters": _prefixed("head"),
    "activation": _prefixed("ends-"),
    "dropout_rate": _prefixed("drop"),
}
_OF_STAGE: dict[str, Callable[[Any], str]] = {
    "fused": lambda v: "fused" if v else "mbconv",
    "kernel_size": _prefixed("k"),
    "strides": _prefixed("s"),
    "expand_ratio": _prefixed("e"),
    "output_filters": _prefixed("c"),
    "output_filters_factor": _prefixed("cx"),
    "num_repeat": _prefixed("n"),
    "num_repeat_change": lambda v: f"n{v:+d}",
    "se_ratio": _prefixed("se"),
    "activation": str,
    "space_to_depth": _prefixed("s2d-"),
    "space_to_batch": _prefixed("b"),
    "skip": lambda v: "skip" if v else "noskip",
    "project": lambda v: "project" if v else "noproject",
}
# Above these a number is a slip, and what it builds could fill the memory.
_LARGEST = 2**16
_MOST_BLOCKS = 1_000  # for one block of the base
_DEEPENING = ("depth_coefficient", "num_repeat", "num_repeat_change")
# Fields of a stage's choices that are none of StageSpec's, and what they change there.
_RELATIVE = {
    "output_filters_factor": "output_filters",
    "num_repeat_change": "num_repeat",
}

_Conditions = tuple[tuple[str, tuple[Any, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One field of the networks of a space, and the values that it may have.

    Attributes:
      name: "3.kernel_size" is StageSpec's field in stage 3. Beside its fields there are
        "3.output_filters_factor" and "3.num_repeat_change": the base's channels times
        a number, its blocks plus one. Of the whole network: resolution,
        width_coefficient, depth_coefficient, se_coefficient, stem_filters,
        head_filters, activation (of both ends), dropout_rate; and "space_to_depth",
        whose values are "none" or sections such as "conv 1-2": opened in the first
        block of stage 1 by the learned convolution ("reshuffle 1-2": by moving pixels),
        closed by that of stage 2.
      values: two or more, usually; each once.
      when: the values of other choices, by their names, with which this one counts.
        With others it has no value in a network.
      otherwise: the field's value where the choice does not count; None is the base's.

    Raises:
      UserError: the name or the values make no sense.
    """

    name: str
    values: tuple[Any, ...]
    when: Mapping[str, Sequence[Any]] | _Conditions = ()
    otherwise: Any = None

    def __post_init__(self):
        if not isinstance(self.values, list | tuple):
            raise UserError(
                f"{self.name}: {self.values!r} is no list of values; write "
                f"[{self.values!r}]"
            )
        fields = _OF_STAGE if self.stage else _OF_NETWORK
        if self.field not in fields:
            _refuse_field(str(self.name), self.field, fields)
        if not self.values:
            raise UserError(f"{self.name}: the list of values is empty")
        for i, value in enumerate(self.values):
            if value in self.values[:i]:  # 1 and 1.0 are one, and 1 and True
                raise UserError(f"{self.name}: {value!r} is there twice")
        for name, values in dict(self.when).items():
            if not isinstance(values, list | tuple):
                raise UserError(
                    f"{self.name}, when {name}: {values!r} is no list; write "
                    f"[{values!r}]"
                )
        object.__setattr__(self, "when", self.conditions)
        object.__setattr__(self, "values", tuple(self.values))

    @property
    def conditions(self) -> _Conditions:
        """The pairs of `when`, by name."""
        pairs = dict(self.when).items()
        return tuple(sorted((name, tuple(values)) for name, values in pairs))

    @functools.cached_property
    def stage(self) -> int:
        """The number of the stage, from 1; 0 is the network."""
        number, dot, _ = str(self.name).partition(".")
        if not dot:
            return 0
        if not (number.isascii() and number.isdecimal() and int(number)):
            raise UserError(f"{self.name}: {number!r} is no number of a stage, from 1")
        return int(number)

    @functools.cached_property
    def field(self) -> str:
        """The name without the stage."""
        return str(self.name).rpartition(".")[2]

    @functools.cached_property
    def target(self) -> str:
        """The field that it changes: factors and changes are of another's."""
        return _RELATIVE.get(self.field, self.field)

    @functools.cached_property
    def order(self) -> tuple[int, int]:
        """Where it stands in an encoding."""
        fields = _OF_STAGE if self.stage else _OF_NETWORK
        return self.stage, list(fields).index(self.field)

    @functools.cached_property
    def tokens(self) -> tuple[str, ...]:
        """How each value is written, as "k5", "fused" or "n+1"."""
        write = (_OF_STAGE if self.stage else _OF_NETWORK)[self.field]
        return tuple(map(write, self.values))


def check(choice: Choice, base: Variant) -> None:
    """Refuse values that no network of this base can have.

    Raises:
      UserError: says which, and where.
    """
    if choice.stage > len(base.stages):
        raise UserError(
            f"{choice.name}: {base.name} has no stage {choice.stage}, only 1 to "
            f"{len(base.stages)}"
        )
    given = [] if choice.otherwise is None else [choice.otherwise]
    for value in (*choice.values, *given):
        try:
            _check_value(choice, value, base)
        except ModelError as error:
            raise UserError(f"{choice.name}: {value!r}: {error}") from error


def _check_value(choice: Choice, value: Any, base: Variant) -> None:
    """Refuse one value; what StageSpec and Variant know, they say."""
    largest = _MOST_BLOCKS if choice.field in _DEEPENING else _LARGEST
    if is_number(value) and abs(value) > largest:
        raise ModelError(f"more than {largest:,} is a slip")
    if choice.target == "activation" and value not in ACTIVATIONS:
        near = nearest_names(str(value), ACTIVATIONS) or ACTIVATIONS
        raise ModelError(f"unknown activation; known: {', '.join(near)}")
    if choice.stage == 0 and choice.field == "space_to_depth":
        _section(value, len(base.stages))
    elif choice.field == "output_filters_factor":
        if not (is_number(value) and 0 < value < math.inf):
            raise ModelError("a factor has to be a number above 0")
    elif choice.field == "num_repeat_change" and type(value) is not int:
        raise ModelError("a change has to be a whole number")
    apply(base, [(choice, value)])


def apply(base: Variant, chosen: Sequence[tuple[Choice, Any]]) -> Variant:
    """Return the base with the values of choices; the name stays the base's.

    Raises:
      ModelError: a value is out of range.
    """
    fields: dict[str, Any] = {}
    by_stage: dict[int, dict[str, Any]] = {}
    for choice, value in chosen:
        if choice.stage:
            declared = base.stages[choice.stage - 1]
            changed = by_stage.setdefault(choice.stage, {})
            changed[choice.target] = _of_stage(declared, choice.field, value)
        elif choice.field == "space_to_depth":
            for stage, form in enumerate(_section(value, len(base.stages)), start=1):
                by_stage.setdefault(stage, {})["space_to_depth"] = form
        else:
            fields[choice.field] = value
    if by_stage:
        fields["stages"] = tuple(
            _with(stage, by_stage.get(number, {}), number)
            for number, stage in enumerate(base.stages, start=1)
        )
    return dataclasses.replace(base, **fields)


def _of_stage(declared: StageSpec, field: str, value: Any) -> Any:
    """Return the value of StageSpec's field, a factor's or a change's applied."""
    if field == "output_filters_factor":
        return max(1, round(declared.output_filters * value))
    if field == "num_repeat_change":
        return declared.num_repeat + value
    return value


def _with(stage: StageSpec, fields: Mapping[str, Any], number: int) -> StageSpec:
    try:
        return dataclasses.replace(stage, **fields) if fields else stage
    except ModelError as error:
        raise ModelError(f"stage {number}: {error}") from error


def _section(value: Any, stages: int) -> tuple[str, ...]:
    """Return every stage's space_to_depth for "none" or, say, "conv 1-2"."""
    forms = ["none"] * stages
    if value == "none":
        return tuple(forms)
    match = _SECTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ModelError('it has to be "none", "conv 1-2" or "reshuffle 1-2"')
    opens, closes = int(match[2]), int(match[3])
    if not opens < closes <= stages:
        raise ModelError(
            "a section closes in a later stage than the one that opens it, of 1 to "
            f"{stages}"
        )
    forms[opens - 1], forms[closes - 1] = match[1], "leave"
    return tuple(forms)


def _refuse_field(name: str, field: str, fields: Mapping[str, Any]) -> None:
    near = nearest_names(field, fields)
    hint = f"did you mean {' or '.join(near)}?" if near else ", ".join(fields)
    whose = "a stage" if fields is _OF_STAGE else "a network"
    raise UserError(f"{name}: {whose} has no choice of {field!r}; {hint}")
