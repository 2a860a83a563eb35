"""The description of a prepared dataset, dataset_info.json: made, written and read."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from common import gfiles, outages, storage_errors
from input_pipeline import info_schema
from input_pipeline.errors import DataError
from input_pipeline.records import (
    CHUNK_RECORDS,
    DIGEST_CHARACTERS,
    IMAGENET,
    Fields,
    ShardInfo,
    shard_path,
)

INFO_FILENAME = "dataset_info.json"
# Of a dataset_info.json: what ours has, and what others' have.
_OUR_KEYS = {"label_names", "label_offset", "chunk_records"}
_FOREIGN_KEYS = {
    *("moduleName", "fileFormat", "supervisedKeys", "releaseNotes", "schema"),
    *("citation", "features", "builder_name", "download_size"),
}


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """The shards of one split, in file order.

    Attributes:
      shards: its files.
      images: how many there are of each class, in the order of the names; None where
        nobody has counted, as in some of a split's shards.
    """

    shards: tuple[ShardInfo, ...]
    images: tuple[int, ...] | None = None

    @property
    def total(self) -> int:
        """The number of records in all shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def digest(self) -> str:
        """What tells its records, their order and their files from any others, in hex.

        "" where nobody has read them for it. The names of the files are no part of it.
        """
        if not all(shard.digest for shard in self.shards):
            return ""
        lines = (f"{shard.records} {shard.digest}\n" for shard in self.shards)
        digest = hashlib.sha256("".join(lines).encode())
        return digest.hexdigest()[:DIGEST_CHARACTERS]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a prepared folder holds.

    Attributes:
      name: of the dataset.
      label_offset: the label of the first class.
      label_names: of the classes, in order.
      splits: by name.
      fields: what the records call what is read of them.
      records_dir: where the TFRecords lie, relative to the folder of dataset_info.json;
        "" is that folder itself. Only where it is given may their names have folders.
    """

    name: str
    label_offset: int
    label_names: tuple[str, ...]
    splits: Mapping[str, SplitInfo]
    fields: Fields = IMAGENET
    records_dir: str = ""

    def records_folder(self, data_dir: str) -> str:
        """Return where the TFRecords lie, from the folder of dataset_info.json."""
        if not self.records_dir or "://" in self.records_dir:
            return self.records_dir or data_dir
        return tf.io.gfile.join(data_dir, self.records_dir)

    def split(self, name: str) -> SplitInfo:
        """Return a split, or some of its shards.

        Args:
          name: as in `splits`; or, in the notation of TensorFlow Datasets, a range of
            its shards, "train[:20shard]" or "train[20shard:]", to hold some out.

        Raises:
          DataError: names the splits that there are, or the shards.
        """
        whole, bracket, _ = name.partition("[")
        if whole not in self.splits:
            raise DataError(
                f"dataset {self.name} has no split {name!r}: "
                f"choose one of {', '.join(self.splits)}"
            )
        split = self.splits[whole]
        if not bracket:
            return split
        shards = split.shards[_shard_range(name, len(split.shards))]
        return split if shards == split.shards else SplitInfo(shards)


def _shard_range(split: str, count: int) -> slice:
    """Return the shards that "train[2shard:5shard]" names, of `count`."""
    found = re.fullmatch(r"[^\[]+\[(?:(\d+)shard)?:(?:(\d+)shard)?\]", split)
    first, last = (found[1], found[2]) if found else (None, None)
    begin, end = int(first or 0), int(last or count)
    if not found or not 0 <= begin < end <= count:
        raise DataError(
            f"cannot take {split!r} of {count} shards: write [:20shard], [20shard:] or "
            f"[2shard:5shard], with at least one shard and none beyond {count}"
        )
    return slice(begin, end)


def write_info(info: DatasetInfo, data_dir: str) -> None:
    """Write dataset_info.json, whole or not at all."""
    content = {
        "name": info.name,
        "label_offset": info.label_offset,
        "label_names": list(info.label_names),
        "chunk_records": CHUNK_RECORDS,
        "splits": {name: _split_to_json(one) for name, one in info.splits.items()},
    }
    if info.fields != IMAGENET:
        content["fields"] = dataclasses.asdict(info.fields)
    if info.records_dir:
        content["records_dir"] = info.records_dir
    path = tf.io.gfile.join(data_dir, INFO_FILENAME)
    gfiles.write_text(path, json.dumps(content) + "\n")


def _split_to_json(split: SplitInfo) -> dict[str, Any]:
    shards = [dataclasses.asdict(shard) for shard in split.shards]
    for shard in shards:
        if not shard["digest"]:
            del shard["digest"]
    images = {} if split.images is None else {"images": list(split.images)}
    return {"total": split.total, **images, "shards": shards}


def require_file(
    path: str, mend: str = "move it away, or choose another folder"
) -> None:
    """Raise DataError where something else than a file has a file's name.

    To read a pipe would wait for ever. A link counts as what it points to; one that
    points to nothing is not nothing: its disk may be away.
    """
    local = gfiles.local_path(path)
    if local is None:
        return
    if os.path.islink(local) and not os.path.exists(local):
        raise DataError(
            f"{path} is a link to {os.readlink(local)}, where nothing is: mount its "
            "disk, or remove the link"
        )
    if what := gfiles.what_no_file(path):
        raise DataError(f"{path} is a {what}, no file: {mend}")


def load_info(data_dir: str) -> DatasetInfo:
    """Read dataset_info.json and look that every shard it names is there, a file.

    Raises:
      DataError: no such folder, no or unreadable dataset_info.json, missing shards,
        or what is no file.
    """
    info = read_info(data_dir)
    folder = info.records_folder(data_dir)
    shards = [shard for split in info.splits.values() for shard in split.shards]
    present = _listed(folder, {os.path.dirname(shard.filename) for shard in shards})
    missing = [shard.filename for shard in shards if shard.filename not in present]
    if missing:
        elsewhere = f", where {data_dir}/{INFO_FILENAME} says they are" * (
            folder != data_dir
        )
        raise DataError(
            f"{folder} lacks {len(missing)} of its {len(shards)} TFRecord files, the "
            f"first is {missing[0]}: copy them there{elsewhere}, or prepare the "
            "dataset again"
        )
    for shard in shards:
        require_file(shard_path(folder, shard))
    return info


def _listed(folder: str, below: Iterable[str]) -> set[str]:
    """Return the names in some folders below one, nothing of those that are not."""
    found = set()
    for part in below:
        path = tf.io.gfile.join(folder, part) if part else folder
        with contextlib.suppress(tf.errors.NotFoundError):
            names = gfiles.names(path)
            found.update(f"{part}/{name}" if part else name for name in names)
    return found


def read_info(data_dir: str) -> DatasetInfo:
    """Read dataset_info.json alone; raise DataError as load_info does."""
    path = tf.io.gfile.join(data_dir, INFO_FILENAME)
    outages.watch(path)
    require_file(path)
    try:
        # Not isdir: it takes a bucket that it may not look at for an empty one.
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                content = info_schema.read_json(file.read(info_schema.MOST_BYTES + 1))
            require_ours(content, data_dir)
            info_schema.check(content, chunk_records=CHUNK_RECORDS)
            return _info_from_json(content)
    except info_schema.InfoError as error:
        raise DataError(
            f"{path} is not sound: {error}; mend it, which keeps the names that it "
            "gives the classes; or prepare the dataset again, or python -m "
            f"input_pipeline.prepare tfrecords --source {data_dir} if its TFRecords "
            "are sound, with --overwrite_info"
        ) from None
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(path, error, mistake=DataError) from None
    if not tf.io.gfile.isdir(data_dir):
        raise DataError(
            f"there is no data folder {data_dir}: name another one, or make it by "
            "python -m input_pipeline.prepare, of photos in folders, ImageNet, "
            "TFRecords or digits that are at hand"
        )
    raise DataError(
        f"{data_dir} holds no finished dataset: no {INFO_FILENAME} says what its "
        "TFRecords are; start input_pipeline.prepare again if it was cut short; for "
        "TFRecords from elsewhere python -m input_pipeline.prepare tfrecords --source "
        f"{data_dir}"
    )


def require_ours(content: Any, data_dir: str) -> None:
    """Refuse a dataset_info.json that another tool has written."""
    if is_foreign(content):
        raise DataError(
            f"{data_dir}/{INFO_FILENAME} is not this project's, TensorFlow Datasets or "
            "another tool wrote it: leave it as it is, and describe the records in a "
            "folder of their own: python -m input_pipeline.prepare tfrecords "
            f"--source={shlex.quote(data_dir)} --output=OUT"
        )


def is_foreign(content: Any) -> bool:
    """Whether a dataset_info.json is that of another tool, sound or not."""
    keys = set(content) if isinstance(content, dict) else set()
    return not keys & _OUR_KEYS and bool(keys & _FOREIGN_KEYS)


def _info_from_json(content: dict[str, Any]) -> DatasetInfo:
    """Make a description of what the schema has found sound."""
    splits = {n: _split_from_json(one) for n, one in content["splits"].items()}
    return DatasetInfo(
        name=content["name"],
        label_offset=content["label_offset"],
        label_names=tuple(content["label_names"]),
        splits=splits,
        fields=Fields(**content.get("fields", {})),
        records_dir=content.get("records_dir", ""),
    )


def _split_from_json(content: dict[str, Any]) -> SplitInfo:
    images = content.get("images")
    return SplitInfo(
        tuple(_shard_from_json(shard) for shard in content["shards"]),
        None if images is None else tuple(images),
    )


def _shard_from_json(content: dict[str, Any]) -> ShardInfo:
    return ShardInfo(
        content["filename"],
        content["records"],
        tuple(content["offsets"]),
        content.get("digest", ""),
    )
