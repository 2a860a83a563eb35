"""What is odd about TFRecords of others, and may be meant: a line each."""

from collections.abc import Iterator

from common.console import count
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.preparation.record_survey import Surveys
from input_pipeline.preparation.shuffling import batch_classes

_NOT_TRAINED = ("validation", "test")


def survey_notes(
    surveys: Surveys, info: DatasetInfo, *, is_shuffled: bool = False
) -> Iterator[str]:
    """Yield what is odd, and may be meant.

    Args:
      surveys: of all files.
      info: what is said of them.
      is_shuffled: whether the records are written anew, in an order of their own.
    """
    every = [one for of_split in surveys.values() for one in of_split]
    if odd := [one for one in every if one.no_jpegs]:
        number = sum(one.no_jpegs for one in odd)
        yield (
            f"{count(number, 'image')} of {sum(one.shard.records for one in every):,} "
            f"cannot be trained on, the first is {odd[0].no_jpeg}: training stops "
            "there, or masks them with dataset.train_dataset.on_bad_record = 'skip'; "
            "python -m input_pipeline.validate names all"
        )
    yield from _copies(surveys)
    yield from _empty_classes(surveys, info)
    if not is_shuffled:
        yield from _sorted(surveys)


def _copies(surveys: Surveys) -> Iterator[str]:
    """Yield what says which splits hold files with the same records."""
    first: dict[str, tuple[str, str]] = {}
    copies: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for split, one in ((s, one) for s, of_split in surveys.items() for one in of_split):
        name = one.shard.filename
        other, copied = first.setdefault(one.shard.digest, (split, name))
        if copied != name:
            copies.setdefault((split, other), []).append((name, copied))
    for (split, other), pairs in copies.items():
        name, copied = pairs[0]
        more = f" ({count(len(pairs), 'such file')})" if len(pairs) > 1 else ""
        why = f": {split} then says nothing of images that {other} does not hold"
        yield f"{name} holds the same records as {copied}{more}{why * (split != other)}"


def _sorted(surveys: Surveys) -> Iterator[str]:
    """Yield what says that training would see few classes at a time."""
    for split, of_split in surveys.items():
        if split in _NOT_TRAINED:
            continue
        found = batch_classes.of_split([one.labels for one in of_split])
        if found.is_sorted:
            yield (
                f"{split} is sorted by class, more or less: a batch of {found.batch} "
                f"would see about {found.seen:.0f} of {found.classes:,} classes (of a "
                f"shuffled order: {found.ideal:.0f}); --shuffle --output=OUT writes "
                "the records anew in a mixed order"
            )


def _empty_classes(surveys: Surveys, info: DatasetInfo) -> Iterator[str]:
    """Yield what says which classes have no image, at all or in a split."""
    classes = range(info.label_offset, info.label_offset + len(info.label_names))
    seen = {
        split: {label for one in of_split for label in one.counts}
        for split, of_split in surveys.items()
    }
    somewhere = set().union(*seen.values())
    for where, here, of in (
        ("", somewhere, classes),
        *((f" in {split}", here, sorted(somewhere)) for split, here in seen.items()),
    ):
        if empty := [label for label in of if label not in here]:
            name = info.label_names[empty[0] - info.label_offset]
            verb = "has" if len(empty) == 1 else "have"
            yield (
                f"{len(empty):,} of {count(len(of), 'class', 'classes')} {verb} no "
                f"image{where}, the first is label {empty[0]}, {name!r}"
            )
