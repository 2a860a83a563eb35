"""What to scale, to which latencies: the settings of `search.lacs`, as gin has them."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from common import checks
from common.errors import UserError
from models.errors import ModelError
from models.variants import Variant, get_variant
from search.axes import TrustRegion
from search.latencies import latency_table
from search.results import Accuracy, Latency, is_factory
from search.strategies import STRATEGIES

FREE = "free"
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_MILLISECONDS = checks.positive(10**9)
_NETWORKS = checks.whole(1, 10**6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """What to scale, to which latencies, and who says how fast and how good it is.

    Attributes:
      name: of the family; its networks are NAME1, NAME2, ...
      base: name of the network to scale.
      targets: milliseconds of a batch, or names of variants: then their own.
      cheap: the source of latency that ranks all sizes, as
        `latency_sources.tile_model`.
      accuracy: the source of accuracy, as `accuracy_sources.surrogate`.
      parts: the source that looks at the shortlist, as
        `latency_sources.sum_of_parts`; None leaves this out.
      exact: the source that decides, as `latency_sources.whole`; None takes the cheap
        one.
      strategy: "free", or a key of `strategies.STRATEGIES` whose networks to take.
      trust: limits of the sizes, and the grid's steps.
      tolerance: how far off its target a network may be, as a share of it.
      shortlist: sizes that `parts` looks at, for each target.
      finalists: networks that `exact` looks at, for each target.
      se_coefficient: of the networks; the published ones have 1 from number 2 on.
      references: names of other variants to be shown beside them.
      seed: of the random search that everything is compared with.
    """

    name: str
    base: str
    targets: Sequence[float | str]
    cheap: Latency
    accuracy: Accuracy
    parts: Latency | None = None
    exact: Latency | None = None
    strategy: str = FREE
    trust: TrustRegion = dataclasses.field(default_factory=TrustRegion)
    tolerance: float = 0.03
    shortlist: int = 20
    finalists: int = 3
    se_coefficient: float = 1.0
    references: Sequence[str] = ()
    seed: int = 0

    rules: ClassVar[Mapping[str, checks.Rule]] = {
        "name": checks.Rule(
            lambda name: isinstance(name, str) and bool(_NAME.fullmatch(name)),
            "a name of files: letters, digits, '-', '_' and '.'",
        ),
        "base": checks.TEXT,
        "targets": checks.items(
            lambda one: checks.TEXT.holds(one) or _MILLISECONDS.holds(one),
            "a list of milliseconds or names, as [20.0, 'efficientnet-x-b3']",
            least=1,
        ),
        "strategy": checks.one_of(FREE, *STRATEGIES),
        "trust": checks.Rule(
            lambda trust: isinstance(trust, TrustRegion), "@axes.TrustRegion()"
        ),
        "tolerance": checks.BETWEEN,
        "shortlist": _NETWORKS,
        "finalists": _NETWORKS,
        "se_coefficient": checks.positive(64),
        "references": checks.items(
            checks.TEXT.holds, "a list of names, as ['efficientnetv2-s']"
        ),
        "seed": checks.whole(-(2**63), 2**63 - 1),
    }

    def __post_init__(self):
        checks.require_fields(self)
        for field in ("cheap", "accuracy", "parts", "exact"):
            value = getattr(self, field)
            optional = field in ("parts", "exact") and value is None
            makes = is_factory(value)
            if makes or (not callable(value) and not optional):
                hint = "; the () behind it is missing" if makes else ""
                raise UserError(
                    f"Scaling.{field} has to be a source, as in "
                    f"@latency_sources.tile_model(), not {value!r}{hint}"
                )
        for name in (self.base, *self.targets, *self.references):
            if isinstance(name, str):
                known_variant(name)
        self._check_conditions()

    def _check_conditions(self) -> None:
        """Refuse latencies that cannot be compared: one source's fit takes another's.

        What a callable of one's own answers for is not known.

        Raises:
          UserError: two sources are of another device, batch or dtype.
        """
        found = {}
        for name in ("cheap", "parts", "exact"):
            conditions = latency_table.conditions_of(getattr(self, name))
            if conditions is not None and conditions.dtype:
                found.setdefault(str(conditions), name)
        if len(found) > 1:
            (one, first), (other, second) = [*found.items()][:2]
            raise UserError(
                f"Scaling.{first} has latencies of {one}, and Scaling.{second} of "
                f"{other}: bind both to one device, batch and dtype"
            )

    @property
    def sources(self) -> dict[str, Any]:
        """The sources by name; only those that are set."""
        names = ("cheap", "accuracy", "parts", "exact")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


def known_variant(name: str) -> Variant:
    """Return a row of the table of variants.

    Raises:
      UserError: there is none of this name; the message proposes others.
    """
    try:
        return get_variant(name)
    except ModelError as error:
        raise UserError(str(error)) from error
