"""Published accuracies on ImageNet, a source a row, and whoever's own rows beside them.

`published_top1.csv`, beside this file, has one network a line:

    family      one architecture by one recipe: its rows differ in size alone
    name        of the network
    width       factor of the channels over the family's base
    depth       factor of the repeats; for a person, nothing reads it
    resolution  in pixels, of the evaluation
    blocks      counted, since repeats are rounded up
    macs_g, params_m   billions and millions; may be empty
    top1        in %
    status      "read" where the source was read, "recalled" where it was remembered
    source      where the figure stands

A row without blocks or width is kept and not fitted; `why_left_out` says it of a row.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.checks import nearest_names
from common.errors import UserError
from models.variants import Variant, get_variant

PATH = Path(__file__).with_name("published_top1.csv")
STATUSES = ("read", "recalled")
# Below it a number is a share of 1: one in a thousand classes by chance is 0.1 %, but
# no training that anybody adds ends so low.
LEAST_TOP1 = 1.5
_FEW = 5  # rows that a message names
_NEEDED = ("family", "name", "width", "resolution", "blocks", "top1", "source")
_TEXTS = ("family", "name", "source")
_BASE_BLOCKS = {
    "mobilenet-v1": 13,
    "mobilenet-v1-axes": 13,
    "mobilenet-v2": 17,
    "mobilenet-v2-axes": 17,
    "mobilenet-v3-large": 15,
    "mobilenet-v3-small": 11,
    "convnext": 18,
    "convnext-iso": 18,
    "convnext-v2": 18,
    "efficientnetv2-b": 21,
    "efficientnet-edgetpu": 18,
}
_BLOCKS = (
    16  # of the base of every other family, EfficientNet's and ResNet's among them
)
# The bases that are variants of this project: of these families networks are predicted.
_BASES = {
    "efficientnet-x": "efficientnet-x-b0",
    "efficientnet-aa": "efficientnet-b0",
    "efficientnet-std": "efficientnet-b0",
    "efficientnet-100ep": "efficientnet-b0",
    "efficientnet-lite": "efficientnet-lite0",
    "efficientnetv2-b": "efficientnetv2-b0",
}
# Families by the names of their architecture, by the recipe with the most rows.
_ALIASES = {
    "x": "efficientnet-x",
    "efficientnet": "efficientnet-aa",
    "lite": "efficientnet-lite",
    "v2": "efficientnetv2-b",
}
# What is left out with a family, since it is the same architecture by another recipe.
_ARCHITECTURES = {
    "efficientnet": ("aa", "std", "ra", "100ep", "axes"),
    "mobilenet-v1": ("axes",),
    "mobilenet-v2": ("axes",),
    "resnet": ("axes", "rs", "tv", "pycls"),
}
# Whose rows stand in for a family of which none is fitted: EfficientNet-X's accuracies
# are recalled, and what was read of the same recipe is EfficientNet's own.
STAND_INS = {"efficientnet-x": "efficientnet-aa"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One network's accuracy; see the module for the fields.

    Attributes:
      width: None where the source does not say it.
      blocks: None where the source does not say them.
      place: file and line, for messages.
    """

    family: str
    name: str
    width: float | None
    resolution: int
    blocks: int | None
    top1: float
    status: str
    source: str
    place: str

    @property
    def size(self) -> tuple[float, float, float] | None:
        """Blocks, width and resolution over the base's; None where they are unknown."""
        if self.blocks is None or self.width is None:
            return None
        return self.blocks / base_blocks(self.family), self.width, self.resolution / 224


def family_name(name: str) -> str:
    """Return a family's name in the table for this or a shorter one, as "v2"."""
    return _ALIASES.get(name, name)


def architecture(family: str) -> str:
    """Return what a family shares with others that were trained by another recipe."""
    for name, recipes in _ARCHITECTURES.items():
        if family in (name, *(f"{name}-{recipe}" for recipe in recipes)):
            return name
    return family


def base_blocks(family: str) -> int:
    """Return the blocks of the network that a family is scaled from.

    A family that is not known here counts as one of EfficientNet-X's form, of 16.
    """
    return _BASE_BLOCKS.get(family, _BLOCKS)


def base_variant(family: str) -> Variant:
    """Return the network that a family is scaled from, EfficientNet-X-B0 if unknown."""
    return get_variant(_BASES.get(family, _BASES["efficientnet-x"]))


def check_family(family: str, rows: Iterable[PublishedRow]) -> None:
    """Raise UserError for a family whose networks cannot be predicted."""
    known = {*_BASES, *(row.family for row in rows if row.family not in _BASE_BLOCKS)}
    if family not in known:
        near = nearest_names(family, known) or sorted(_BASES)
        raise UserError(
            f"there is no family {family!r} whose networks can be predicted; nearest: "
            f"{', '.join(near)}"
        )


def read(path: str | Path = PATH) -> tuple[PublishedRow, ...]:
    """Read the rows of a file.

    Raises:
      UserError: the file or a row of it cannot be read; says the line and what is
        wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Excel begins it with a BOM
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a CSV file of rows") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text, as a CSV file has to be") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(
                f"{path}, line 1: no column {', '.join(missing)}; its columns have to "
                f"be {', '.join(_NEEDED)}, and may be those of {PATH.name}"
            )
        rows = tuple(_row(line, f"{path}, line {reader.line_num}") for line in reader)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error
    _refuse_doubles(rows)
    return rows


def fitted(
    rows: Iterable[PublishedRow],
    *,
    recalled: bool = False,
    least_width: float = 0.5,
    least_resolution: int = 128,
) -> list[PublishedRow]:
    """Return the rows that a surrogate is fitted to.

    Args:
      rows: all there are.
      recalled: whether to take those that nobody has read in their source.
      least_width: below it a network is another thing than a small one.
      least_resolution: in pixels, likewise.
    """
    least = {"least_width": least_width, "least_resolution": least_resolution}
    return [row for row in rows if not why_left_out(row, recalled=recalled, **least)]


def why_left_out(
    row: PublishedRow,
    *,
    recalled: bool = False,
    least_width: float = 0.5,
    least_resolution: float = 128,
) -> str:
    """Return why a row is not fitted, "" where it is; arguments as of `fitted`."""
    empty = [name for name in ("blocks", "width") if getattr(row, name) is None]
    if empty:
        return f"{' and '.join(empty)} empty"
    if row.status != "read" and not recalled:
        return "recalled: fitted only with --recalled, in gin recalled = True"
    if row.width is not None and row.width < least_width:
        return f"width {row.width:g} is below {least_width:g}"
    if row.resolution < least_resolution:
        return f"{row.resolution} px are below {least_resolution:g}"
    return ""


def left_out(
    rows: Iterable[PublishedRow], *, recalled: bool = False
) -> tuple[tuple[PublishedRow, str], ...]:
    """Return the rows that a surrogate is not fitted to, each with its reason."""
    pairs = ((row, why_left_out(row, recalled=recalled)) for row in rows)
    return tuple((row, reason) for row, reason in pairs if reason)


def reasons(found: Sequence[tuple[PublishedRow, str]]) -> str:
    """Return the end of a message: why these rows are left out, of the first few."""
    texts = [f"{row.place}: {reason}" for row, reason in found[:_FEW]]
    more = [f"and {len(found) - _FEW} more"] * (len(found) > _FEW)
    return f" ({'; '.join([*texts, *more])})" * bool(found)


def _row(line: dict[str | None, str | list[str] | None], place: str) -> PublishedRow:
    """Return what a line says; `place` begins its errors."""
    if None in line or None in line.values():
        raise UserError(f"{place}: it has not as many cells as the head has columns")
    cells = {str(name): str(cell).strip() for name, cell in line.items()}
    for name in _TEXTS:
        if not cells[name]:
            raise UserError(f"{place}: {name} is empty; every row has to say it")
    status = cells.get("status") or STATUSES[0]
    if status not in STATUSES:
        raise UserError(f"{place}: status is {status!r}, not {' or '.join(STATUSES)}")
    top1 = _number(cells, "top1", place)
    if not 0 < top1 < 100:
        raise UserError(f"{place}: top1 is {top1:g}, and has to be in % above 0, < 100")
    if top1 < LEAST_TOP1:
        raise UserError(
            f"{place}: top1 is {top1:g} %, below {LEAST_TOP1:g} %; it has to be in %, "
            "as 76, not as 0.76"
        )
    return PublishedRow(
        family=cells["family"],
        name=cells["name"],
        width=_number(cells, "width", place) if cells["width"] else None,
        resolution=_count(cells, "resolution", place),
        blocks=_count(cells, "blocks", place) if cells["blocks"] else None,
        top1=top1,
        status=status,
        source=cells["source"],
        place=place,
    )


def _number(cells: dict[str, str], name: str, place: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:  # nor is NaN
        raise UserError(f"{place}: {name} is {cells[name]!r}, not a number above 0")
    return value


def _count(cells: dict[str, str], name: str, place: str) -> int:
    value = _number(cells, name, place)
    if value != int(value):
        raise UserError(f"{place}: {name} is {cells[name]!r}, not a whole number")
    return int(value)


def _refuse_doubles(rows: Sequence[PublishedRow]) -> None:
    """Refuse a row that is there twice: it would count twice."""
    seen: dict[tuple[str, str, float], str] = {}
    for row in rows:
        key = row.family, row.name, row.top1
        if key in seen:
            raise UserError(
                f"{row.place}: {row.family}, {row.name} with {row.top1:g} % stands "
                f"already in {seen[key].rpartition(', ')[2]}"
            )
        seen[key] = row.place
