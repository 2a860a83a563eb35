"""Checks a prepared dataset: `python -m input_pipeline.validate --data_dir DIR`.

Everything that would stop a training run, or quietly spoil it, is looked for before the
run: every TFRecord file against dataset_info.json and its CRCs, every field, every
image with the decoder of training, images that are there twice. `findings.Kind` lists
what can be found. The exit code is 1 when there is an error, 0 when there is none; a
warning does not change it. Repeated images are an error, but a warning while they are
fewer than one in a thousand of each split: ImageNet itself has a few hundred.

With --json, stdout is one object:
  data_dir, name: str, of the dataset.
  sound: bool, there is no error.
  errors, warnings: int, findings of each sort.
  decoded: bool, false with --skip_decode.
  splits: by name, an object each:
    files, listed_records: int, as dataset_info.json says.
    images: int, records found with image bytes.
    bytes: int, of the files.
    height, width, image_bytes, images_per_class: {"min": int, "median": float,
      "max": int}, or null where there is no image to tell from.
    small_images: int, with a side of fewer than 32 pixels.
  findings: an array of an object for each kind found, errors first:
    kind: str, its name in `findings.Kind`, in lower case.
    title, remedy: str, for people.
    error: bool, false for a warning.
    count: int.
    places: an array of the first 10, {"file": str, a split for "empty_class", "record":
      int from 0 or null, "image": its image/filename or "", "detail": str}.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator

# Only this command's own lines shall reach the terminal. TensorFlow reads it on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from input_pipeline.errors import DataError
from input_pipeline.validation.findings import Findings, Kind
from input_pipeline.validation.inspect_dataset import (
    SMALL,
    Report,
    Spread,
    inspect_dataset,
)


def as_json(report: Report) -> dict[str, object]:
    """The facts of a report, as the module's docstring describes them."""
    findings = report.findings
    return {
        "data_dir": report.data_dir,
        "name": report.name,
        "sound": not findings.errors,
        "errors": findings.errors,
        "warnings": findings.warnings,
        "decoded": report.decoded,
        "splits": {k: dataclasses.asdict(split) for k, split in report.splits.items()},
        "findings": [_finding_as_json(findings, kind) for kind in findings.found()],
    }


def _finding_as_json(findings: Findings, kind: Kind) -> dict[str, object]:
    return {
        "kind": kind.name.lower(),
        "title": kind.title,
        "remedy": findings.remedy(kind),
        "error": findings.is_error(kind),
        "count": findings.counts[kind],
        "places": [place._asdict() for place in findings.places[kind]],
    }


def as_text(report: Report) -> str:
    """The report for people: the splits, the findings, a verdict in the last line."""
    lines = [*_table(report), *_listing(report.findings), _verdict(report)]
    return "\n".join(lines)


def _table(report: Report) -> Iterator[str]:
    """The facts of the splits, a column each."""
    rows = [
        ("", *report.splits),
        *(
            (title, *(tell(split) for split in report.splits.values()))
            for title, tell in _ROWS.items()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for title, *cells in rows:
        padded = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        yield "  ".join([title.ljust(widths[0]), *padded])
    yield ""


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{spread.min:,} / {spread.median:,.0f} / {spread.max:,}"


_ROWS = {
    "files": lambda split: f"{split.files:,}",
    "images": lambda split: f"{split.images:,}",
    "megabytes": lambda split: f"{split.bytes / 1e6:,.1f}",
    "height, min / median / max": lambda split: _spread(split.height),
    "width": lambda split: _spread(split.width),
    "bytes of an image": lambda split: _spread(split.image_bytes),
    "images of a class": lambda split: _spread(split.images_per_class),
    f"images under {SMALL} pixels": lambda split: f"{split.small_images:,}",
}


def _listing(findings: Findings) -> Iterator[str]:
    for kind in findings.found():
        sort = "error" if findings.is_error(kind) else "warning"
        count, places = findings.counts[kind], findings.places[kind]
        yield f"{sort}: {kind.title}: {count:,}"
        yield from (f"  {place}" for place in places)
        if count > len(places):
            yield f"  and {count - len(places):,} more"
        yield f"  To mend it: {findings.remedy(kind)}."
        yield ""


def _verdict(report: Report) -> str:
    findings = report.findings
    warned = f", {_count(findings.warnings, 'warning')}" if findings.warnings else ""
    if findings.errors:
        return f"{report.data_dir}: {_count(findings.errors, 'problem')}{warned}"
    images = sum(split.images for split in report.splits.values())
    files = sum(split.files for split in report.splits.values())
    undecoded = "" if report.decoded else ", not decoded"
    what = f"{_count(images, 'image')} in {_count(files, 'file')}{undecoded}"
    return f"{report.data_dir}: sound: {what}{warned}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m input_pipeline.validate")
    parser.add_argument("--data_dir", required=True, help="a folder or a bucket")
    parser.add_argument("--split", help="look at this one alone, or train[:20shard]")
    parser.add_argument("--workers", type=int, default=cores, help="processes (cores)")
    parser.add_argument(
        "--skip_decode", action="store_true", help="read no more than JPEG headers"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    arguments = parser.parse_args(argv)
    try:
        report = inspect_dataset(
            arguments.data_dir,
            split=arguments.split,
            workers=arguments.workers,
            decode=not arguments.skip_decode,
        )
    except DataError as error:
        return _fail(str(error))
    except tf.errors.OpError as error:
        is_bucket = "://" in arguments.data_dir
        hint = ": check the network and your credentials" if is_bucket else ""
        return _fail(f"cannot read {arguments.data_dir}: {error.message}{hint}")
    print(json.dumps(as_json(report)) if arguments.json else as_text(report))
    return 1 if report.findings.errors else 0


def _fail(line: str) -> int:
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    # Decoding is the processor's work; a GPU may be busy with training.
    tf.config.set_visible_devices([], "GPU")
    sys.exit(main())
