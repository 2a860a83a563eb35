"""TFRecords of others, written anew in a mixed order, each record as it is.

All are read twice: once to be checked, and for where each lies and what tells it from
any other; then, file by file of the new ones, by the bytes at which they lie. In memory
is an index of them, and a record at a time.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import tensorflow as tf

from common import storage_errors
from common.console import named
from input_pipeline import records
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.errors import DataError
from input_pipeline.preparation import dataset_writer, description, tfrecords
from input_pipeline.preparation.dataset_writer import Outcome
from input_pipeline.preparation.plan import Class, Item, Plan, Split, shuffled
from input_pipeline.preparation.record_notes import survey_notes
from input_pipeline.preparation.record_survey import (
    NAME_BYTES,
    Survey,
    record_name,
)


def shuffle(
    source: tfrecords.Source,
    output: str,
    *,
    workers: int,
    overwrite_info: bool = False,
    allow_one_class: bool = False,
) -> tuple[Outcome, Sequence[str]]:
    """Write the TFRecords of a folder into another one, in a mixed order.

    The order depends on the records alone, not on that in which they lie. Each split
    has as many files as it had.

    Args:
      source: the TFRecords.
      output: another folder; made if need be.
      workers: processes.
      overwrite_info: see `dataset_writer.write`.
      allow_one_class: see `tfrecords.describe`.

    Returns:
      What was done, and what a person should know of the records, a line each.

    Raises:
      UserError: as `tfrecords.describe` and `dataset_writer.write` have it; or the two
        folders are one.
    """
    tfrecords.require_apart(source.folder, output)
    opened = tfrecords.open_source(source)
    found = tfrecords.examine(
        opened, workers=workers, names_records=True, allow_one_class=allow_one_class
    )
    info = found.info("")
    splits = {
        split: _split(source.folder, surveys, info)
        for split, surveys in found.surveys.items()
    }
    classes = tuple(Class(name, name) for name in info.label_names)
    plan = Plan(
        info.name,
        classes,
        splits,
        label_offset=info.label_offset,
        fields=info.fields,
    )
    outcome = dataset_writer.write(
        plan,
        output,
        workers=workers,
        skip_bad_images=False,
        overwrite_info=overwrite_info,
    )
    odd = survey_notes(found.surveys, info, is_shuffled=True)
    return outcome, [*opened.notes, *odd, *_other_names(source.folder, info)]


def _other_names(folder: str, info: DatasetInfo) -> Iterator[str]:
    """Yield what says that a description of the source knows other names."""
    there = description.find(folder, overwrite=True)
    if there and there.label_names != info.label_names:
        yield (
            f"{folder} calls its classes {named(there.label_names)}, where the records "
            f"are of {named(info.label_names)}: --labels=NAMES.txt gives them names"
        )


def _split(folder: str, surveys: Sequence[Survey], info: DatasetInfo) -> Split:
    """Plan a split: in as many files as it has, whose sizes differ by one at most."""
    places = [records.bounds(one.sizes.tolist()) for one in surveys]
    begins = tuple(itertools.accumulate((one[-1] for one in places), initial=0))[:-1]
    items = [
        Item(name.hex(), label - info.label_offset, begin + place, size)
        for begin, starts, one in zip(begins, places, surveys, strict=True)
        for name, label, place, size in zip(
            _names(one),
            one.labels.tolist(),
            starts[:-1],
            one.sizes.tolist(),
            strict=True,
        )
    ]
    names = tuple(one.shard.filename for one in surveys)
    source = RecordsByOffset(folder, names, begins)
    return Split(source, shuffled(items), len(surveys))


def _names(survey: Survey) -> Iterator[bytes]:
    for begin in range(0, len(survey.names), NAME_BYTES):
        yield survey.names[begin : begin + NAME_BYTES]


@dataclasses.dataclass(frozen=True)
class RecordsByOffset:
    """The files of a split laid end to end, in which an item's offset counts.

    Attributes:
      folder: of the files.
      names: of the files in it, in order.
      begins: the byte at which each begins.
    """

    folder: str
    names: tuple[str, ...]
    begins: tuple[int, ...]

    def record(self, item: Item) -> bytes:
        """Return the bytes of a record; a DataError where it has changed meanwhile."""
        path, offset = self._locate(item)
        try:
            content = records.read_record(path, offset, item.size)
        except (OSError, tf.errors.OpError) as error:
            raise storage_errors.cannot_read(path, error, mistake=DataError) from None
        if self.name_of(content) != item.filename:
            raise DataError(
                f"{self.describe(item)} has changed since it was looked at: let nobody "
                "write there, and start again"
            )
        return content

    def name_of(self, content: bytes) -> str:
        """Return the name of the item that a written record is of."""
        return record_name(content).hex()

    def describe(self, item: Item) -> str:
        """Return where the record lies."""
        path, offset = self._locate(item)
        return f"{path}, the record at byte {offset}"

    def _locate(self, item: Item) -> tuple[str, int]:
        number = bisect.bisect_right(self.begins, item.offset) - 1
        path = tf.io.gfile.join(self.folder, self.names[number])
        return path, item.offset - self.begins[number]
