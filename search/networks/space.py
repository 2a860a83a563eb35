"""A space of networks as data. Imports no framework.

A network of a space is one immutable value: a tuple of the indices of its values, by
choice, 0 for a choice that does not count. So equal tuples are equal encodings; whether
two tuples build one network says `Space.digest`.
"""

import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

from common.checks import nearest_names
from common.errors import UserError
from models.errors import ModelError
from models.variants import Variant
from search.networks import choices
from search.networks.choices import Choice
from search.networks.digests import digest
from search.networks.layout import Layout, Network, ordered

# Says why a variant is not wanted; "" where it is.
Constraint = Callable[[Variant], str]

_TRIES = 2_000  # draws, before a space counts as one without valid networks
_MUTATIONS = 100  # before all neighbours are looked at
_REMEMBERED = 2**15  # networks
_OPENED = ("conv", "reshuffle")


class Exhausted(UserError):  # noqa: N818 - nothing is wrong
    """A space has no network left that was not evaluated; one line that says so."""


@dataclasses.dataclass(frozen=True)
class _Examined:
    """What is known of a network: its variant and digest, or why there are none."""

    variant: Variant | None = None
    digest: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Space:
    """Networks that differ from a base in some fields.

    A network is valid if `models.scaling.block_specs` accepts it (sizes are divisible,
    sections fit), no space-to-depth section is left open, and every constraint agrees.

    Attributes:
      base: what all networks have in common.
      choices: in any order; they are kept in the order of the encoding, but one that
        counts only `when` others have a value stands behind these.
      constraints: further ones: functions of a module, or values that print what they
        demand, as `search.spaces.Limits` does; both are in the fingerprint.
      name: of the space.

    Raises:
      UserError: a choice's name or value cannot be, choices contradict each other.
    """

    base: Variant
    choices: tuple[Choice, ...]
    constraints: tuple[Constraint, ...] = ()
    name: str = "space"
    _known: dict[Network, _Examined] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self):
        if not self.choices:
            raise UserError(f"{self.name}: a space needs a choice or more")
        for choice in self.choices:
            choices.check(choice, self.base)
        object.__setattr__(self, "choices", ordered(self.choices))
        object.__setattr__(self, "constraints", tuple(self.constraints))
        for constraint in self.constraints:
            _named(constraint)  # refuses one without a name

    def sample(self, rng: random.Random) -> Network:
        """Return a valid network: each choice that counts is drawn uniformly.

        Raises:
          UserError: 2,000 draws were all invalid.
        """
        reason = ""
        for _ in range(_TRIES):
            drawn = self._layout.complete([], rng)
            if not (reason := self.why_not(drawn)):
                return drawn
        raise UserError(
            f"{self.name}: {_TRIES:,} random networks are all invalid; the last: "
            f"{reason}"
        )

    def mutate(self, network: Network, rng: random.Random) -> Network:
        """Return a valid network with one choice drawn anew, which builds another one.

        Choices that count only with the new value are drawn, too.

        Raises:
          Exhausted: no neighbour is valid and different.
        """
        old, places = self.digest_or_none(network), self._layout.free(network)
        for _ in range(_MUTATIONS if places else 0):
            place = rng.choice(places)
            shift = rng.randrange(1, len(self.choices[place].values))
            new = self._layout.replaced(network, place, shift, rng)
            if self.digest_or_none(new) not in (None, old):
                return new
        if around := self.neighbours(network):
            return rng.choice(around)
        raise Exhausted(f"{self.name}: no valid network is next to {network}")

    def neighbours(self, network: Network) -> list[Network]:
        """Return all valid networks that differ in one choice, each built one once.

        Choices that count only with the new value have their first one.
        """
        found: dict[str, Network] = {}
        own = self.digest_or_none(network)
        for place in self._layout.free(network):
            for shift in range(1, len(self.choices[place].values)):
                new = self._layout.replaced(network, place, shift, None)
                digest_of_new = self.digest_or_none(new)
                if digest_of_new not in (None, own):
                    found.setdefault(digest_of_new, new)
        return list(found.values())

    def first(self) -> Network:
        """Return the first network in the order of `following`, valid or not."""
        return self._layout.complete([], None)

    def following(self, network: Network) -> Network | None:
        """Return the next network, valid or not, the last choice changing fastest.

        From `first` on this passes every network once; None is behind the last.
        """
        return self._layout.following(network)

    def count(self) -> int:
        """Return how many networks there are, exactly, valid or not.

        Not all of them are valid, and some build the same blocks: the number of
        different networks is smaller, and known only by going through them all.
        """
        return self._layout.count()

    def encode(self, network: Network) -> str:
        """Return the network as one short line, such as "r224 / 2 fused k5 e6".

        What concerns the network comes first, then each stage by its number. Choices
        that do not count are left out.
        """
        groups: dict[int, list[str]] = {}
        active = self._layout.active(network)
        for place in self._written:
            if active[place]:
                choice = self.choices[place]
                start = [str(choice.stage)] if choice.stage else []
                group = groups.setdefault(choice.stage, start)
                group.append(choice.tokens[network[place]])
        return " / ".join(" ".join(group) for group in groups.values())

    def decode(self, text: str) -> Network:
        """Return the network of a line; the order within a stage does not matter.

        Raises:
          UserError: it is none of this space's; says what was near.
        """
        chosen = self._read(text)
        network: list[int] = []
        active: list[bool] = []
        for place, choice in enumerate(self.choices):
            counts = self._layout.counts(place, network, active)
            if counts and place not in chosen:
                raise UserError(
                    f"{text!r} says nothing of {choice.name}: one of "
                    f"{', '.join(choice.tokens)}"
                )
            if not counts and place in chosen:
                token = choice.tokens[chosen[place]]
                raise UserError(
                    f"{text!r}: {choice.name} does not count here; leave out {token!r}"
                )
            network.append(chosen.get(place, 0))
            active.append(counts)
        return tuple(network)

    def values(self, network: Network) -> dict[str, Any]:
        """Return the values of the choices that count, by name."""
        active = self._layout.active(network)
        return {
            choice.name: choice.values[index]
            for choice, index, counts in zip(self.choices, network, active, strict=True)
            if counts
        }

    def build(self, network: Network) -> Variant:
        """Return the variant, named by the base and its digest.

        Raises:
          UserError: the network is not valid; says why.
        """
        known = self._examine(network)
        if known.variant is None:
            raise UserError(f"{self.encode(network)}: {known.reason}")
        return known.variant

    def digest(self, network: Network) -> str:
        """Return the digest of what the network builds, see `networks.digests.digest`.

        Raises:
          UserError: the network is not valid; says why.
        """
        self.build(network)
        return self._examine(network).digest

    def digest_or_none(self, network: Network) -> str | None:
        """Return the digest, or None of a network that is not valid."""
        return self._examine(network).digest or None

    def why_not(self, network: Network) -> str:
        """Return why a network is not valid; "" where it is."""
        return self._examine(network).reason

    def as_json(self) -> dict[str, Any]:
        """Return what two equal spaces have in common, for a file."""
        rows = [
            {
                "name": choice.name,
                "values": list(choice.values),
                "when": {name: list(values) for name, values in choice.conditions},
                "otherwise": choice.otherwise,
            }
            for choice in self.choices
        ]
        constraints = [_named(constraint) for constraint in self.constraints]
        base = dataclasses.asdict(self.base)
        return {"base": base, "choices": rows, "constraints": constraints}

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the space: equal spaces have equal ones."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @functools.cached_property
    def _layout(self) -> Layout:
        """The choices as numbers."""
        return Layout(self.choices)

    @functools.cached_property
    def _written(self) -> list[int]:
        """The places in the order of the encoding."""
        return sorted(
            range(len(self.choices)), key=lambda place: self.choices[place].order
        )

    @functools.cached_property
    def _tokens(self) -> dict[int, dict[str, tuple[int, int]]]:
        """By stage and token the place and the index."""
        found: dict[int, dict[str, tuple[int, int]]] = {}
        for place, choice in enumerate(self.choices):
            group = found.setdefault(choice.stage, {})
            group |= {token: (place, i) for i, token in enumerate(choice.tokens)}
        return found

    def _read(self, text: str) -> dict[int, int]:
        """Return the indices that a line says, by place."""
        chosen: dict[int, int] = {}
        for group in str(text).split("/"):
            tokens = group.split()
            stage = int(tokens.pop(0)) if tokens and tokens[0].isdecimal() else 0
            known = self._tokens.get(stage, {})
            where = f"stage {stage}" if stage else "the network"
            for token in tokens:
                if token not in known:
                    near = nearest_names(token, known) or list(known)
                    hint = f"nearest: {', '.join(near)}" if near else "no choice is"
                    raise UserError(f"{text!r}: {token!r} is none of {where}'s; {hint}")
                place, index = known[token]
                if place in chosen:
                    raise UserError(f"{text!r} says {self.choices[place].name} twice")
                chosen[place] = index
        return chosen

    def _examine(self, network: Network) -> _Examined:
        """Build a network and see whether it is valid; remembered."""
        if (known := self._known.get(network)) is not None:
            return known
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        try:
            variant = choices.apply(self.base, self._chosen(network))
            found = self._checked(variant)
        except ModelError as error:
            found = _Examined(reason=str(error))
        self._known[network] = found
        return found

    def _chosen(self, network: Network) -> list[tuple[Choice, Any]]:
        """Return the choices with their values in a network."""
        chosen = []
        for choice, index, counts in zip(
            self.choices, network, self._layout.active(network), strict=True
        ):
            if counts:
                chosen.append((choice, choice.values[index]))
            elif choice.otherwise is not None:
                chosen.append((choice, choice.otherwise))
        return chosen

    def _checked(self, variant: Variant) -> _Examined:
        """Return what is known of a variant."""
        name = digest(variant)
        if reason := _left_open(variant):
            return _Examined(reason=reason)
        for constraint in self.constraints:
            if reason := constraint(variant):
                return _Examined(reason=reason)
        named = dataclasses.replace(variant, name=f"{self.base.name}-{name[:8]}")
        return _Examined(named, name)


def _named(constraint: Constraint) -> str:
    """Return what a constraint is, the same in every process."""
    name = getattr(constraint, "__qualname__", None)
    text = f"{constraint.__module__}.{name}" if name else repr(constraint)
    if " at 0x" in text:
        raise UserError(
            f"a constraint is {text}, which says not what it demands; let it be a "
            "function of a module, or a dataclass that is called"
        )
    return text


def _left_open(variant: Variant) -> str:
    """Return which space-to-depth section is never left, or ""."""
    opened = 0
    for number, stage in enumerate(variant.stages, start=1):
        if stage.space_to_depth in _OPENED:
            opened = number
        elif stage.space_to_depth == "leave":
            opened = 0
    return f"stage {opened} opens a section that no stage leaves" if opened else ""
