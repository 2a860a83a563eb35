"""What `input_pipeline.validate` says: as text for people, or as JSON."""

import dataclasses
from collections.abc import Iterator

from common import console
from input_pipeline.validation.findings import FaultKind, Findings
from input_pipeline.validation.inspect_dataset import (
    SMALL,
    DatasetReport,
    Spread,
)


def as_json(report: DatasetReport) -> dict[str, object]:
    """Return the facts of a report, as `python -m input_pipeline.validate --help`."""
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


def _finding_as_json(findings: Findings, kind: FaultKind) -> dict[str, object]:
    return {
        "kind": kind.name.lower(),
        "title": kind.title,
        "remedy": findings.remedy(kind),
        "error": findings.is_error(kind),
        "count": findings.counts[kind],
        "places": [one._asdict() for one in findings.locations[kind]],
    }


def as_text(report: DatasetReport) -> str:
    """Return the report for people; the last line says whether all is sound."""
    lines = [*_table(report), *_listing(report.findings), _last_line(report)]
    return "\n".join(lines)


def _table(report: DatasetReport) -> list[str]:
    """Return the facts of the splits, a column each, and an empty line."""
    rows = [
        ("", *report.splits),
        *(
            (title, *(tell(split) for split in report.splits.values()))
            for title, tell in _ROWS.items()
        ),
    ]
    return [*console.table(rows, right=True), ""]


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
        count, locations = findings.counts[kind], findings.locations[kind]
        yield f"{sort}: {kind.title}: {count:,}"
        yield from (f"  {location}" for location in locations)
        if count > len(locations):
            yield f"  and {count - len(locations):,} more"
        yield f"  To mend it: {findings.remedy(kind)}."
        yield ""


def _last_line(report: DatasetReport) -> str:
    findings = report.findings
    warned = (
        f", {console.count(findings.warnings, 'warning')}" if findings.warnings else ""
    )
    if findings.errors:
        return f"{report.data_dir}: {console.count(findings.errors, 'problem')}{warned}"
    images = sum(split.images for split in report.splits.values())
    files = sum(split.files for split in report.splits.values())
    undecoded = "" if report.decoded else ", not decoded"
    what = (
        f"{console.count(images, 'image')} in {console.count(files, 'file')}{undecoded}"
    )
    return f"{report.data_dir}: sound: {what}{warned}"
