"""What a run costs around its step, and what a person waits for around a short one."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docgen.input_tables import spread
from docgen.markdown import table

Report = Mapping[str, Any]


def runs(report: Report, note: str) -> str:
    """Return what is left of the bare step's speed in a run, and the waits.

    Args:
      report: of `benchmarks.trainer`.
      note: the line below.
    """
    small = report["small"]
    head = "network", "whole run, images/s", "bare step, images/s", "run / step"
    rows = [
        *_rows("x-b0 at 64 px", report),
        *_rows("that of `make train`", small),
    ]
    return "\n\n".join(
        [
            f"A whole run over its bare compiled step: {spread(report, 'ratio')}; with "
            f"the small network of `make train` {spread(small, 'ratio')}.",
            table(head, rows, right="lrrr"),
            "CPU of an image: " + "; ".join([_cpu(report), _cpu(small)]) + ".",
            "Seconds that a person waits for around a short run of a network of two "
            "blocks, medians, each of whole processes:",
            _waits(report["waits"], report["waits_before"]),
            note,
        ]
    )


def _rows(network: str, report: Report) -> Iterator[Sequence[str]]:
    pairs = zip(
        report["images_per_second"], report["bare_step_images_per_second"], strict=True
    )
    for run, step in pairs:
        yield network, f"{run:.1f}", f"{step:.1f}", f"{run / step:.2f}"


def _cpu(report: Report) -> str:
    return (
        f"{report['step_cpu_ms_per_image']:.2f} ms in the step, "
        f"{report['input_cpu_ms_per_image']:.2f} in the pipeline, so that run / step "
        f"may be {report['ceiling']:.2f} where both share these cores"
    )


def _waits(waits: Report, before: str | None) -> str:
    from benchmarks.support.run_waits import WAITS

    head = ["wait", "s", "CPU s"]
    if before is not None:
        head += ["before, s", "CPU s", "now / before", "of CPU"]
    rows = []
    for name, what in WAITS.items():
        found = waits[name]
        seconds = ("seconds", "cpu_seconds")
        if before is not None:
            seconds += ("before_seconds", "before_cpu_seconds")
        row = [f"{statistics.median(found[kind]):.2f}" for kind in seconds]
        if before is not None:
            row += [f"{found[kind]:.2f}" for kind in ("ratio", "cpu_ratio")]
        rows.append([what, *row])
    return table(head, rows, right="l" + "r" * (len(head) - 1))
