"""What dataset_info.json has to hold: read, and checked before anything is made of it.

A person may mend the file by hand, and another tool may have written it. Each fault is
said with its place, as in `splits.train.shards[3].offsets[2] = 1.5: ...`.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from common.checks import Rule, one_of

# ImageNet's has a megabyte.
MOST_BYTES = 1 << 28
_LABELS = range(-(2**63) + 1, 2**63)  # one less stands for a missing label
_BYTES = range(2**63)
_FIELDS = ("image", "label", "filename")
_SHOWN = 60  # characters of a wrong value


class InfoError(ValueError):
    """Says what is wrong with dataset_info.json, and where in it."""


def read_json(data: bytes) -> Any:
    """Return what the bytes of a file say.

    Raises:
      InfoError: it is no JSON in UTF-8, or says something twice.
    """
    if len(data) > MOST_BYTES:
        raise InfoError(f"it has {len(data):,} bytes, more than any description")
    if not data.strip(b"\0 \t\r\n"):
        raise InfoError("it is empty" if not data else "there is nothing in it")
    encoding = json.detect_encoding(data)
    if not encoding.startswith("utf-8"):
        name = "-".join(encoding.upper().split("-")[:2])
        raise InfoError(f"it is written in {name}: save it as UTF-8")
    try:
        return json.loads(
            data.decode(encoding),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError as error:
        raise InfoError(f"byte {error.start} is no UTF-8: save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise InfoError(
            f"line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise InfoError("its brackets are nested too deeply") from None
    except ValueError as error:
        if isinstance(error, InfoError):
            raise
        raise InfoError("a number in it has thousands of digits") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = {}
    for key, value in pairs:
        if key in result:
            raise InfoError(f"an object has the key {json.dumps(key)} twice")
        result[key] = value
    return result


def _no_number(text: str) -> Any:
    raise InfoError(f"{text} is no number that JSON knows")


class Value:
    """A value in the file that knows its place there."""

    def __init__(self, place: str, content: Any):
        self.place = place
        self.content = content

    def __getitem__(self, key: str) -> "Value":
        """Return what an object has under a key."""
        place = f"{self.place}.{key}" if self.place else key
        if key not in self.content:
            raise InfoError(f"{place} is missing")
        return Value(place, self.content[key])

    def items(self) -> "list[Value]":
        """Return the elements of a list."""
        return [
            Value(f"{self.place}[{number}]", one)
            for number, one in enumerate(self.content)
        ]

    def require(self, rule: Rule) -> "Value":
        """Return the value itself if a rule allows it."""
        if not rule.holds(self.content):
            raise self.wrong(f"it has to be {rule.what}")
        return self

    def wrong(self, why: str) -> InfoError:
        """Make the error that shows the value."""
        if isinstance(self.content, dict | list):
            shown = "{...}" if isinstance(self.content, dict) else "[...]"
            shown = shown if self.content else shown.replace("...", "")
        else:
            shown = json.dumps(self.content)
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}..."
        return InfoError(f"{self.place or 'the whole file'} = {shown}: {why}")


def _kind(holds: Callable[[Any], bool], kind: type, what: str) -> Rule:
    """Make a rule of one type's values; True and False are no numbers."""
    return Rule(lambda value: type(value) is kind and holds(value), what)


def _is_text(text: str) -> bool:
    # JSON can write halves of characters, which no file or terminal takes.
    return text != "" and not any("\ud800" <= one <= "\udfff" for one in text)


def _is_split(name: str) -> bool:
    """Whether a split can be chosen by its name: train, or train[2shard:5shard]."""
    return _is_text(name) and name.isprintable() and not set(name) & set(" []")


def _is_path(path: str) -> bool:
    """Whether a path leads to a file below a folder, and to none elsewhere."""
    parts = path.split("/")
    return _is_text(path) and "\0" not in path and not {"", ".", ".."} & set(parts)


OBJECT = _kind(lambda _: True, dict, "an object, {...}")
_SPLITS = _kind(bool, dict, "an object, {...}, of at least one split")
LIST = _kind(bool, list, "a list of at least one, [...]")
_OFFSETS = _kind(lambda _: True, list, "a list of numbers, [...]")
TEXT = _kind(_is_text, str, "a text in quotes, not empty")
_FILE = _kind(
    lambda path: _is_path(path) and "/" not in path,
    str,
    "the name of a file beside dataset_info.json, without a folder",
)
_PATH = _kind(_is_path, str, "a path below records_dir, without . and ..")
_FOLDER = _kind(
    lambda path: _is_text(path) and "\0" not in path, str, "the path of a folder"
)
LABEL = _kind(lambda n: n in _LABELS, int, "a whole number of 64 bits")
DIGEST = _kind(
    lambda text: bool(re.fullmatch(r"[0-9a-f]{32}", text)),
    str,
    "the 32 hexadecimal digits that prepare writes",
)
COUNT = _kind(lambda n: n in _BYTES, int, "a whole number, 0 or more")


def check(content: Any, *, chunk_records: int) -> None:
    """Raise InfoError where it is not as `dataset_info.write_info` writes it.

    Keys that are not known here are left alone; `total` may be missing.

    Args:
      content: what `read_json` returned.
      chunk_records: how many records a chunk has, whose offsets are listed.
    """
    info = Value("", content).require(OBJECT)
    info["name"].require(TEXT)
    _check_labels(info["label_offset"], info["label_names"])
    info["chunk_records"].require(one_of(chunk_records))
    _check_place(info)
    splits = info["splits"].require(_SPLITS)
    filename = _PATH if "records_dir" in content else _FILE
    shards, classes = [], len(info["label_names"].content)
    for name in splits.content:
        if not _is_split(name):
            raise InfoError(
                f"splits: the name {json.dumps(name)} cannot be chosen: take one of "
                "letters, digits, - and _"
            )
        shards += _check_split(splits[name], chunk_records, filename)
        _check_images(splits[name], classes)
    _require_distinct(shard["filename"] for shard in shards)


def _check_labels(offset: Value, names: Value) -> None:
    offset.require(LABEL)
    # Two may be equal: ImageNet has two classes named crane.
    for name in names.require(LIST).items():
        name.require(TEXT)
    last = offset.content + len(names.content) - 1
    if last not in _LABELS:
        raise offset.wrong(f"the last label, {last}, has more than 64 bits")


def _check_place(info: Value) -> None:
    """Check where the records lie, and what they call their fields."""
    if "records_dir" in info.content:
        info["records_dir"].require(_FOLDER)
    if "fields" not in info.content:
        return
    names = info["fields"].require(OBJECT)
    for key in names.content:
        if key not in _FIELDS:
            raise InfoError(f"fields.{key} is not known: {', '.join(_FIELDS)} are")
        names[key].require(TEXT)
    _require_distinct(names[key] for key in names.content)


def _check_split(split: Value, chunk_records: int, filename: Rule) -> list[Value]:
    """Return the shards of a split that has some."""
    shards = split.require(OBJECT)["shards"].require(LIST).items()
    for shard in shards:
        shard.require(OBJECT)["filename"].require(filename)
        _check_offsets(shard, chunk_records)
        if "digest" in shard.content:
            shard["digest"].require(DIGEST)
    total = sum(shard["records"].content for shard in shards)
    if not total:
        raise InfoError(f"{split.place}.shards have no records")
    if "total" in split.content:
        holds = one_of(total).holds
        split["total"].require(Rule(holds, f"{total}, the records of its shards"))
    return shards


def _check_images(split: Value, classes: int) -> None:
    """Check how many images there are of each class, where that is said."""
    if "images" not in split.content:
        return
    images = split["images"].require(LIST)
    if len(images.content) != classes:
        raise InfoError(
            f"{images.place} are {len(images.content)} numbers: there are {classes} "
            "classes, one for each"
        )
    counted = sum(one.require(COUNT).content for one in images.items())
    total = sum(shard["records"].content for shard in split["shards"].items())
    if counted != total:
        raise InfoError(f"{images.place} add up to {counted} of {total} records")


def _check_offsets(shard: Value, chunk_records: int) -> None:
    """Check where the chunks of a shard begin."""
    records = shard["records"].require(COUNT).content
    offsets = shard["offsets"].require(_OFFSETS)
    chunks = -(-records // chunk_records)
    if len(offsets.content) != chunks:
        raise InfoError(
            f"{offsets.place} are {len(offsets.content)} numbers: {records} records "
            f"have {chunks}, one for every {chunk_records}"
        )
    before = -1
    for number, offset in enumerate(offsets.items()):
        offset.require(COUNT)
        if number == 0 and offset.content != 0:
            raise offset.wrong("the first record begins at byte 0")
        if offset.content <= before:
            raise offset.wrong(f"it has to be more than the one before it, {before}")
        before = offset.content


def _require_distinct(values: Iterable[Value]) -> None:
    places: dict[str, str] = {}
    for value in values:
        if value.content in places:
            raise value.wrong(f"{places[value.content]} is the same")
        places[value.content] = value.place
