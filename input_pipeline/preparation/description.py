"""dataset_info.json, which is written once: a person may have mended what it says."""

import dataclasses
import enum
import reprlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from common import gfiles
from input_pipeline import dataset_info
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.errors import DataError
from input_pipeline.records import ShardInfo

_NAMED = 3  # changed names of classes that are told


class Described(enum.Enum):
    """What became of dataset_info.json."""

    NEW = "written"
    ALREADY = "there already, the same"
    COMPLETED = "of an older version, which wrote no digest: written with it"
    INCOMPLETE = "of an older version, where nothing can be written"


def write_once(info: DatasetInfo, folder: str, *, overwrite: bool = False) -> Described:
    """Write dataset_info.json unless it is there, the same; return what became of it.

    Args:
      info: what to write.
      folder: where to.
      overwrite: a file that says something else, too, or cannot be read.

    Raises:
      DataError: there is such a file. A person may have mended the names in it.
    """
    there = find(folder, overwrite=overwrite)
    if there == info:
        return Described.ALREADY
    is_older = there is not None and _is_part(there, info)
    if there is not None and not is_older and not overwrite:
        require_same(there, info, folder)
    dataset_info.write_info(info, folder)
    return Described.COMPLETED if is_older else Described.NEW


def only_read(info: DatasetInfo, folder: str) -> Described | None:
    """Return what there is in a folder that cannot be written; None if it will not do.

    Args:
      info: what there should be.
      folder: with a dataset_info.json.

    Raises:
      DataError: that cannot be read.
    """
    there = dataset_info.read_info(folder)
    if there == info:
        return Described.ALREADY
    return Described.INCOMPLETE if _is_part(there, info) else None


def _is_part(there: DatasetInfo, info: DatasetInfo) -> bool:
    """Whether a description lacks digests and counts, and is the same otherwise."""
    return completed(there, by=info) == info


def find(folder: str, *, overwrite: bool = False) -> DatasetInfo | None:
    """Return what is said already; None if nothing is, or nothing that can be read.

    Args:
      folder: of the dataset.
      overwrite: whether what cannot be read may be overwritten.

    Raises:
      DataError: it cannot be read, and may not be overwritten.
    """
    path = tf.io.gfile.join(folder, dataset_info.INFO_FILENAME)
    dataset_info.require_file(path)
    if not gfiles.exists(path):
        return None
    try:
        return dataset_info.read_info(folder)
    except DataError:
        if not overwrite:
            raise
    return None


def require_same(there: DatasetInfo, now: DatasetInfo, folder: str) -> None:
    """Raise a DataError that tells how two descriptions of a folder differ.

    What only one of them knows is no difference.
    """
    there, now = completed(there, by=now), completed(now, by=there)
    if there != now:
        raise DataError(
            f"{tf.io.gfile.join(folder, dataset_info.INFO_FILENAME)} says something "
            f"else than the data do ({_differences(there, now)}): keep it as it is, or "
            "overwrite it with --overwrite_info"
        )


def without_counts(info: DatasetInfo) -> DatasetInfo:
    """Return a description that says nothing of the images of each class."""
    return _with_splits(info, lambda _, split: dataclasses.replace(split, images=None))


def completed(info: DatasetInfo, *, by: DatasetInfo) -> DatasetInfo:
    """Return a description with the digests and counts that only another one has."""
    digests = {
        shard.filename: shard.digest
        for split in by.splits.values()
        for shard in split.shards
    }

    def complete(name: str, split: SplitInfo) -> SplitInfo:
        shards = tuple(
            dataclasses.replace(
                shard, digest=shard.digest or digests.get(shard.filename, "")
            )
            for shard in split.shards
        )
        images = split.images
        if images is None and name in by.splits:
            images = by.splits[name].images
        return SplitInfo(shards, images)

    return _with_splits(info, complete)


def _with_splits(
    info: DatasetInfo, change: Callable[[str, SplitInfo], SplitInfo]
) -> DatasetInfo:
    splits = {name: change(name, split) for name, split in info.splits.items()}
    return dataclasses.replace(info, splits=splits)


def _differences(there: DatasetInfo, now: DatasetInfo) -> str:
    """Return what would change, each as "field: old -> new", in few words."""
    found = [
        f"{field}: {reprlib.repr(old)} -> {reprlib.repr(new)}"
        for field in ("name", "label_offset", "fields", "records_dir")
        if (old := getattr(there, field)) != (new := getattr(now, field))
    ]
    if there.label_names != now.label_names:
        found.append(f"label_names: {_renamed(there.label_names, now.label_names)}")
    if changed := _changed_shards(there, now):
        more = f" and {len(changed) - 1} more" * (len(changed) > 1)
        found.append(f"splits: other records in {changed[0]}{more}")
    elif _shards(there) != _shards(now):
        old, new = _totals(there), _totals(now)
        other = "other files, or other places in them"
        found.append(f"splits: {other if old == new else f'{old} -> {new}'}")
    elif there.label_names == now.label_names and there.splits != now.splits:
        found.append("splits: other numbers of images of a class")
    return "; ".join(found)


def _changed_shards(there: DatasetInfo, now: DatasetInfo) -> list[str]:
    """Return the files that hold other records, if that is all that differs in them."""
    pairs = list(zip(_every_shard(there), _every_shard(now), strict=False))
    if _totals(there) != _totals(now) or any(
        (old.filename, old.records) != (new.filename, new.records)
        or (old != new and old.digest == new.digest)
        for old, new in pairs
    ):
        return []
    return [old.filename for old, new in pairs if old != new]


def _every_shard(info: DatasetInfo) -> list[ShardInfo]:
    return [shard for of_split in _shards(info).values() for shard in of_split]


def _shards(info: DatasetInfo) -> dict[str, tuple[ShardInfo, ...]]:
    return {name: split.shards for name, split in info.splits.items()}


def _renamed(old: Sequence[str], new: Sequence[str]) -> str:
    if len(old) != len(new):
        return f"{reprlib.repr(old)} -> {reprlib.repr(new)}"
    pairs = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
    told = [" -> ".join(reprlib.repr(name) for name in pair) for pair in pairs[:_NAMED]]
    if len(pairs) > _NAMED:
        told.append(f"and {len(pairs) - _NAMED} more")
    return ", ".join(told)


def _totals(info: DatasetInfo) -> str:
    return " + ".join(f"{split.total} {name}" for name, split in info.splits.items())
