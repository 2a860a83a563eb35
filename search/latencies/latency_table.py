r"""Tables of latencies: the file, and its rows. Imports no framework.

A table is one JSON object:

    {"format": "efficientnet-x latency table 1",
     "conditions": {"hardware": "v3", "batch": 64, "dtype": "bfloat16",
                    "versions": {"jax": "0.10.2", "jaxlib": "0.10.2", ...}},
     "networks": [
      {"digest": "0123456789abcdef", "name": "efficientnet-x-b0",
       "network": {"base": "efficientnet-x-b0"}, "ms": 10.491,
       "source": "compiled whole", "reason": "", "sum_ms": 10.486}, ...],
     "blocks": [
      {"digest": "fedcba9876543210", "kind": "depthwise", "segment": {...},
       "ms": 1.157, "reason": ""}, ...]}

`hardware` is a generation of TPUs, of which one device is meant, or the name of a
device. `digest` is `spaces.digest` of the network as it is built, `network` is as in
`networks.variant_json`, `ms` null where `reason` says why there are none. `sum_ms`
is the sum of the network's segments, each compiled by itself, where that was asked for;
`error` is as in `search.results.Estimate`, where it is the row's own. `is_final`, as
there, is a row's in memory: a file keeps no reason that is not.
Of a block, `segment` has all that its program depends on, see
`performance.segments.BlockSegment`. A table that was made by other means needs the
format, the conditions (versions may be empty), and of each network digest, name and ms.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common import files
from common.checks import is_number
from common.errors import UserError
from models.variants import Variant
from performance.segments import BlockSegment, Segment
from search.networks.variant_json import describe, restore

FORMAT = "efficientnet-x latency table 1"
WHOLE = "compiled whole"
SUM = "sum of segments"
MEASURED = "measured"
# Sources that have looked at a network as one.
OF_WHOLES = (WHOLE, MEASURED)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What latencies have in common that may be compared.

    Attributes:
      hardware: "v3" for one device of a TPU v3, or the name of a device.
      batch: images at once.
      dtype: of the arithmetic.
      versions: of the packages that made or timed the programs.
    """

    hardware: str
    batch: int
    dtype: str
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all fields, for a file."""
        return {**dataclasses.asdict(self), "versions": dict(self.versions)}

    def __str__(self) -> str:
        return f"{self.hardware}, batch {self.batch}, {self.dtype}"

    def require_equal(self, other: "Conditions", path: str | Path) -> None:
        """Refuse a file of other conditions; versions that are not noted are equal.

        Raises:
          UserError: says what differs.
        """
        for name in ("hardware", "batch", "dtype"):
            own, theirs = getattr(self, name), getattr(other, name)
            if own != theirs:
                raise UserError(
                    f"{path} has latencies of {name} {theirs}, not {own}; name another "
                    "file"
                )
        for name in self.versions.keys() & other.versions.keys():
            own, theirs = self.versions[name], other.versions[name]
            if own != theirs:
                raise UserError(
                    f"{path} was made with {name} {theirs}, and {own} is installed; "
                    "name another file, or install that"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A network's latency; see the module for the fields."""

    digest: str
    name: str
    network: Mapping[str, Any] | None = None
    ms: float | None = None
    source: str = ""
    reason: str = ""
    sum_ms: float | None = None
    error: float | None = None
    is_final: bool = True

    def kept(self) -> "NetworkRow | None":
        """Return what of the row a file keeps: no reason that is not final."""
        if self.is_final:
            return self
        has_time = self.ms is not None or self.sum_ms is not None
        return dataclasses.replace(self, reason="", is_final=True) if has_time else None

    def as_json(self) -> dict[str, Any]:
        """Return the row's object; what it does not say is left out."""
        found = dataclasses.asdict(self)
        del found["is_final"]  # of what is kept
        optional = ("network", "sum_ms", "error")
        return {k: v for k, v in found.items() if not (k in optional and v is None)}

    def variant(self) -> Variant:
        """Return the network.

        Raises:
          UserError: the row does not describe it.
        """
        if self.network is None:
            raise UserError(f"the row of {self.name} does not say what network it is")
        return restore(self.name, self.network)

    @classmethod
    def of(cls, variant: Variant, **found: Any) -> "NetworkRow":
        """Return the row of a network, with its digest and description."""
        digest = digest_of(variant)
        return cls(digest=digest, name=variant.name, network=describe(variant), **found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockRow:
    """A segment's latency; see the module for the fields."""

    digest: str
    kind: str
    segment: Mapping[str, Any]
    ms: float | None = None
    reason: str = ""
    is_final: bool = True

    def kept(self) -> "BlockRow | None":
        """Return what of the row a file keeps: nothing that is not final."""
        return self if self.is_final else None

    def as_json(self) -> dict[str, Any]:
        """Return the row's object."""
        found = dataclasses.asdict(self)
        del found["is_final"]  # of what is kept
        return found


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """A table of latencies.

    Attributes:
      conditions: of all rows.
      networks: by digest.
      blocks: by digest.
    """

    conditions: Conditions
    networks: Mapping[str, NetworkRow] = dataclasses.field(default_factory=dict)
    blocks: Mapping[str, BlockRow] = dataclasses.field(default_factory=dict)

    def error_of_sum(self) -> float | None:
        """Return the root mean square of sum over whole less 1; None without both."""
        errors = [
            row.sum_ms / row.ms - 1
            for row in self.networks.values()
            if row.ms and row.sum_ms and row.source == WHOLE
        ]
        if not errors:
            return None
        return math.sqrt(sum(error**2 for error in errors) / len(errors))

    def as_json(self) -> str:
        """Return the file's text, a row in a line; what is not final is not in it."""
        head = json.dumps(self.conditions.as_json())
        lists = [
            f'"{name}": [{",".join(lines)}\n]'
            for name, rows in (("networks", self.networks), ("blocks", self.blocks))
            if (lines := [*_lines(rows.values())])
        ]
        if not lists:
            lists = ['"networks": []']
        return (
            f'{{"format": "{FORMAT}",\n"conditions": {head},\n'
            + ",\n".join(lists)
            + "}\n"
        )


def conditions_of(source: Any) -> Conditions | None:
    """Return what a source's latencies depend on; None where it does not say."""
    # A fit's are those of its table.
    return getattr(getattr(source, "table", source), "conditions", None)


def _lines(rows: Iterable[NetworkRow | BlockRow]) -> Iterator[str]:
    for row in rows:
        if kept := row.kept():
            yield f"\n {json.dumps(kept.as_json())}"


def digest_of(variant: Variant) -> str:
    """Return the digest of a network as it is built.

    Raises:
      ModelError: it cannot be built.
    """
    from search import spaces

    return spaces.digest(variant)


def segment_json(segment: Segment) -> dict[str, Any]:
    """Return all that a segment's program depends on, beside the conditions."""
    definition = segment.definition
    if isinstance(definition, BlockSegment):
        return dataclasses.asdict(definition)
    return describe(definition)


def segment_digest(segment: Segment) -> str:
    """Return 16 hexadecimal digits of what a segment's program depends on."""
    text = json.dumps([segment.kind, segment_json(segment)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: str | Path) -> LatencyTable:
    """Return the table of a file.

    Raises:
      UserError: there is none, it is none, or a row of it makes no sense.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; python -m search.table makes such a file"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_table(path, "it is no text") from error
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise _no_table(path, f"its format is {found['format']!r}")
        networks = [_network(row, path) for row in found.get("networks", ())]
        blocks = [BlockRow(**row) for row in found.get("blocks", ())]
        conditions = Conditions(**found["conditions"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_table(path, repr(error)) from error
    return LatencyTable(
        conditions,
        {row.digest: row for row in networks},
        {row.digest: row for row in blocks},
    )


def write(path: str | Path, table: LatencyTable) -> None:
    """Write a table, whole or not at all, where nothing else stands.

    Rows that a person has added are kept by whoever has read them before; so any table
    may be replaced, and nothing that is none.

    Raises:
      UserError: something else stands there.
      OSError: the file cannot be written.
    """
    files.write_bytes(path, table.as_json().encode(), is_ours=is_table)


def is_table(data: bytes) -> bool:
    """Whether a file's content is a table."""
    try:
        return json.loads(data)["format"] == FORMAT
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def network_row(row: Mapping[str, Any]) -> NetworkRow:
    """Return the row that an object of JSON says.

    Raises:
      ValueError, TypeError: a key is missing or unknown, or the milliseconds are none.
    """
    made = NetworkRow(**row)
    for ms in (made.ms, made.sum_ms):
        if ms is not None and not (is_number(ms) and 0 < ms < math.inf):
            raise ValueError(f"{made.name}: {ms!r} are no milliseconds")
    if made.ms is None and not (made.reason or made.sum_ms):
        raise ValueError(f"{made.name} has neither ms nor a reason")
    return made


def _network(row: Mapping[str, Any], path: str | Path) -> NetworkRow:
    try:
        return network_row(row)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _no_table(path: str | Path, why: str) -> UserError:
    return UserError(f"{path} is no table of latencies: {why}")
