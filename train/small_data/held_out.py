"""What to do where the data have no split to score: hold shards of another out."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from common import storage_errors
from common.console import named
from common.errors import Restart, first_line
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.errors import DataError
from input_pipeline.records import Fields, ShardInfo, parse, shard_path
from train.experiment import Experiment

_SHARE = 0.1  # of the shards
# Beyond it a message would keep people waiting: which classes is not looked up.
_MOST_RECORDS = 50_000
_PARSED_AT_ONCE = 256


def require_split(experiment: Experiment, info: DatasetInfo) -> None:
    """Raise DataError where there is no split to score, with settings that make one.

    Args:
      experiment: whose `eval_split` is looked for.
      info: of its data.
    """
    wanted, _, _ = experiment.eval_split.partition("[")
    if wanted in info.splits:
        return
    train, _, _ = experiment.train_split.partition("[")
    missing = (
        f"{experiment.data_dir} has no split {wanted!r} to score "
        f"(Experiment.eval_split), it has {', '.join(info.splits)}"
    )
    others = [name for name in info.splits if name != train]
    if others:
        raise DataError(f"{missing}; set Experiment.eval_split = {others[0]!r}")
    shards = info.split(train).shards
    if len(shards) < 2:
        raise DataError(
            f"{missing}, whose one file cannot be divided; prepare the data again, "
            "photos with --validation_fraction=0.1, or in more files; or train without "
            "scores by --mode=train"
        )
    raise DataError(f"{missing}. {_advice(experiment.data_dir, info, train, shards)}")


def _advice(
    data_dir: str, info: DatasetInfo, split: str, shards: Sequence[ShardInfo]
) -> str:
    """Return which shards to hold out, what they hold, and what would be missing."""
    count = max(1, round(_SHARE * len(shards)))
    held, rest = shards[:count], shards[count:]
    images = [sum(shard.records for shard in part) for part in (held, rest)]
    bindings = " ".join(
        f'--gin_param="experiment.Experiment.{field} = {value!r}"'
        for field, value in (
            ("train_split", f"{split}[{count}shard:]"),
            ("eval_split", f"{split}[:{count}shard]"),
        )
    )
    return (
        f"To score {images[0]:,} of its images and to learn from the other "
        f"{images[1]:,}, hold {count} of its {len(shards)} files out: {bindings} "
        f"({_classes(data_dir, info, split, held)}); or train without scores by "
        "--mode=train"
    )


def _classes(
    data_dir: str, info: DatasetInfo, split: str, held: Sequence[ShardInfo]
) -> str:
    """Return in words which classes would be missing of either part."""
    mixed = "right where the images of all classes are mixed over the files"
    records = sum(shard.records for shard in held)
    if records > _MOST_RECORDS:
        return mixed
    folder = info.records_folder(data_dir)
    try:
        labels = read_labels([shard_path(folder, s) for s in held], info.fields)
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        if isinstance(ending := storage_errors.from_storage(error), Restart):
            raise ending from error
        return f"{mixed}; which classes these hold cannot be read: {first_line(error)}"
    if len(labels) != records:
        return f"{mixed}; of these one is cut off: see input_pipeline.validate"
    return _missing(info, split, labels)


def _missing(info: DatasetInfo, split: str, labels: np.ndarray) -> str:
    """Return in words which classes records of these raw labels divide badly."""
    classes = labels - info.label_offset
    size = len(info.label_names)
    known = classes[(classes >= 0) & (classes < size)]
    scored = np.bincount(known, minlength=size)
    of_all = info.split(split).images
    parts = []
    if absent := _named(info, scored == 0):
        parts.append(f"no image of {absent} would be scored")
    if of_all is not None:
        left = np.array(of_all) - scored
        if absent := _named(info, (left <= 0) & (scored > 0)):
            parts.append(f"none of {absent} would be learnt")
    if not parts:
        return f"all {size} classes are in them"
    return f"but {' and '.join(parts)}: the classes have to be mixed over the files"


def _named(info: DatasetInfo, chosen: np.ndarray) -> str:
    """Return the names of some classes, the first ones where there are many."""
    return named(repr(info.label_names[i]) for i in np.flatnonzero(chosen))


def read_labels(paths: Sequence[str], fields: Fields) -> np.ndarray:
    """Return int64[N]: the raw labels of all records of some TFRecord files.

    Raises:
      tf.errors.OpError: a file cannot be read, or a record is no Example.
    """
    records = tf.data.TFRecordDataset(list(paths), buffer_size=8 << 20)
    labels = records.map(lambda record: parse(record, fields)["label"])
    parts = list(labels.batch(_PARSED_AT_ONCE).as_numpy_iterator())
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
