"""A whole dataset, looked at: the work of `input_pipeline.validate`."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from common import gfiles
from common.files import STAGING
from input_pipeline import dataset_info, records, worker_pool
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.preparation import record_files
from input_pipeline.records import MISSING_LABEL
from input_pipeline.validation.duplicates import check_repeats
from input_pipeline.validation.findings import FaultKind, Findings, Location
from input_pipeline.validation.inspect_shard import (
    ShardReport,
    ShardTask,
    inspect_shard,
)

SMALL = 32  # pixels

Shards = Mapping[str, Sequence[ShardReport]]  # by split


@dataclasses.dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some numbers."""

    min: int
    median: float
    max: int

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Spread | None":
        """Describe numbers; None where there are none."""
        if not len(numbers):
            return None
        return cls(int(numbers.min()), float(np.median(numbers)), int(numbers.max()))


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """The facts about a split.

    Attributes:
      files: listed in dataset_info.json.
      listed_records: in them, as dataset_info.json says.
      images: records found with image bytes.
      bytes: of the files.
      height: of the images, in pixels, as their headers say.
      width: likewise.
      image_bytes: of an encoded image.
      images_per_class: over all classes.
      small_images: with a side of fewer than 32 pixels.
    """

    files: int
    listed_records: int
    images: int
    bytes: int
    height: Spread | None
    width: Spread | None
    image_bytes: Spread | None
    images_per_class: Spread | None
    small_images: int


@dataclasses.dataclass(frozen=True)
class DatasetReport:
    """All that was found out about a dataset; `decoded` tells how closely."""

    data_dir: str
    name: str
    decoded: bool
    splits: Mapping[str, SplitReport]
    findings: Findings


def inspect_dataset(
    data_dir: str,
    *,
    split: str | None = None,
    workers: int = 1,
    decode: bool = True,
) -> DatasetReport:
    """Look at all files of a dataset.

    Args:
      data_dir: where its dataset_info.json is, on a disk or in a bucket.
      split: look only at this one, or at some of its shards, "train[:20shard]".
      workers: processes; each reads a file at a time.
      decode: whether to decode the images, most of the work.

    Raises:
      DataError: there is no dataset to look at, or no such split.
      OpError: the folder or bucket cannot be reached.
    """
    # The other functions take a bucket that cannot be reached for an empty one.
    tf.io.gfile.exists(tf.io.gfile.join(data_dir, dataset_info.INFO_FILENAME))
    info = dataset_info.read_info(data_dir)
    splits = info.splits if split is None else {split: info.split(split)}
    shards = _inspect_shards(data_dir, info, splits, workers, decode)
    findings = Findings()
    for report in (one for of_split in shards.values() for one in of_split):
        findings.merge(report.findings)
    _check_listing(data_dir, info, findings)
    _check_labels(shards, info, findings)
    _check_counts(splits, shards, info, findings)
    check_repeats(shards, findings)
    reports = {
        name: _summarize(of_split, shards[name], _class_counts(shards[name], info))
        for name, of_split in splits.items()
    }
    return DatasetReport(data_dir, info.name, decode, reports, findings)


def _inspect_shards(
    data_dir: str,
    info: DatasetInfo,
    splits: Mapping[str, SplitInfo],
    workers: int,
    decode: bool,
) -> Shards:
    labels = range(info.label_offset, info.label_offset + len(info.label_names))
    folder = info.records_folder(data_dir)
    tasks = [
        ShardTask(records.shard_path(folder, shard), shard, labels, decode, info.fields)
        for split in splits.values()
        for shard in split.shards
    ]
    total = sum(split.total for split in splits.values())
    reports = iter(
        worker_pool.run(
            inspect_shard, tasks, workers=workers, total=total, unit="records"
        )
    )
    return {
        name: [next(reports) for _ in split.shards] for name, split in splits.items()
    }


def _check_listing(data_dir: str, info: DatasetInfo, findings: Findings) -> None:
    """Note files that look like shards and are none of this dataset."""
    listed = {shard.filename for s in info.splits.values() for shard in s.shards}
    splits = "|".join(map(re.escape, info.splits))
    shard_name = re.compile(rf"({splits})-\d+|{record_files.LOOKS_LIKE_ONE.pattern}")
    for name in sorted(set(gfiles.names(data_dir)) - listed):
        if STAGING.fullmatch(name):
            findings.add(FaultKind.LEFTOVER_FILE, Location(name))
            continue
        if not shard_name.fullmatch(name) or not gfiles.is_utf8(name):
            continue
        if not tf.io.gfile.isdir(tf.io.gfile.join(data_dir, name)):
            split = record_files.split_of(name)
            other = split is not None and split not in info.splits
            kind = FaultKind.OTHER_SPLIT if other else FaultKind.UNLISTED_FILE
            findings.add(kind, Location(name))


def _labels(shards: Sequence[ShardReport]) -> np.ndarray:
    """Return the labels of all records that have one and an image."""
    labels = np.concatenate([shard.images["label"] for shard in shards])
    return labels[labels != MISSING_LABEL]


def _class_counts(shards: Sequence[ShardReport], info: DatasetInfo) -> np.ndarray:
    """Return the number of images of each class."""
    count = len(info.label_names)
    classes = _labels(shards) - info.label_offset
    known = classes[(classes >= 0) & (classes < count)]
    return np.bincount(known, minlength=count)


def _check_labels(shards: Shards, info: DatasetInfo, findings: Findings) -> None:
    """Note classes without images, and what all labels have in common if wrong."""
    for split, of_split in shards.items():
        if not sum(len(shard.images) for shard in of_split):
            continue  # of what is wrong with all files there is something else to say
        empty = np.flatnonzero(_class_counts(of_split, info) == 0)
        for number in empty.tolist():
            label = f"label {number + info.label_offset}, {info.label_names[number]!r}"
            findings.add(FaultKind.EMPTY_CLASS, Location(split, detail=label))
    labels = np.concatenate([_labels(of_split) for of_split in shards.values()])
    if findings.counts[FaultKind.LABEL_OUTSIDE] and len(labels):
        low, high, count = labels.min(), labels.max(), len(info.label_names)
        hint = f"labels run {low}..{high}: "
        if high - low + 1 == count:
            hint += f"set label_offset to {low} in {dataset_info.INFO_FILENAME}"
        else:
            hint += FaultKind.LABEL_OUTSIDE.remedy
        findings.remedies[FaultKind.LABEL_OUTSIDE] = hint


def _check_counts(
    splits: Mapping[str, SplitInfo],
    shards: Shards,
    info: DatasetInfo,
    findings: Findings,
) -> None:
    """Note classes of which there are more or fewer images than was counted."""
    for name, split in splits.items():
        counts = _class_counts(shards[name], info).tolist()
        if split.images is None or sum(counts) != split.total:
            continue  # of the records that have no class there is something else to say
        for number, (found, listed) in enumerate(
            zip(counts, split.images, strict=True)
        ):
            if found != listed:
                label = f"label {number + info.label_offset}"
                detail = (
                    f"{label}, {info.label_names[number]!r}: {found}, "
                    f"{dataset_info.INFO_FILENAME} says {listed}"
                )
                findings.add(FaultKind.OTHER_COUNTS, Location(name, detail=detail))


def _summarize(
    split: SplitInfo, shards: Sequence[ShardReport], class_counts: np.ndarray
) -> SplitReport:
    images = np.concatenate([shard.images for shard in shards])
    seen = images[images["height"] > 0]  # with a header
    return SplitReport(
        files=len(split.shards),
        listed_records=split.total,
        images=len(images),
        bytes=sum(shard.size for shard in shards),
        height=Spread.of(seen["height"]),
        width=Spread.of(seen["width"]),
        image_bytes=Spread.of(images["bytes"]),
        images_per_class=Spread.of(class_counts),
        small_images=int((np.minimum(seen["height"], seen["width"]) < SMALL).sum()),
    )
