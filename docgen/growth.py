"""Tables and a picture of what grows how, and of what prepare costs beside others."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docgen.drawn import Picture
from docgen.markdown import table, three_digits

Report = Mapping[str, Any]

PICTURE = Picture("growth", "cases")

_SIDES = {
    "ours": "`prepare imagenet`",
    "tpu_script": "the steps of the TPU repository's imagenet_to_gcs.py",
    "tfds": "TFDS' imagenet2012 builder, which looks at no image",
    "validate": "`validate`",
    "decoded": "a loop that parses and decodes each record",
}


def growth(report: Report, note: str) -> str:
    """Return the exponents of each case, and what the largest size costs.

    Args:
      report: of benchmarks.growth.
      note: the line below.
    """
    head = ("more", "what is done", "to", "time", "memory", "work", "s", "MB")
    rows = [_row(case, report["linear"]) for case in report["cases"]]
    steep = [one for one in report["cases"] if _steepest(one) > report["linear"]]
    return "\n\n".join(
        [
            "p of a cost that grows as size^p: CPU seconds, memory, counted work; a "
            f"star stands where it is above {report['linear']:g}. What is done for "
            "each of them counts with all of them. Seconds and MB are those of the "
            "largest size:",
            table(head, rows, right="  rrrrrr"),
            _said(steep),
            note,
        ]
    )


def _row(case: Report, linear: float) -> tuple[str, ...]:
    last = case["rows"][-1]
    work = case.get("exponent_of_work")
    times = ", for each" if case["times"] == "each" else ""
    return (
        case["axis"],
        f"{case['name']}{times}",
        f"{last['size']:,}",
        f"{case['exponent']:.2f}" + "*" * (case["exponent"] > linear),
        f"{case['exponent_of_memory']:.2f}",
        "-" if work is None else f"{work:.2f} ({case['work']})",
        _two_digits(last["seconds"]),
        _two_digits(last["megabytes"]),
    )


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"


def _steepest(case: Report) -> float:
    names = ("exponent", "exponent_of_memory", "exponent_of_work")
    return max(case.get(name, 0.0) for name in names)


def _said(steep: Sequence[Report]) -> str:
    if not steep:
        return "Nothing grows faster than that."
    names = "; ".join(f"{case['name']} ({case['axis']})" for case in steep)
    return f"What grows faster than that: {names}."


def prepare(report: Report, note: str) -> str:
    """Return what each side costs an image, and how many images a core does.

    Args:
      report: of benchmarks.prepare.
      note: the line below.
    """
    rows = []
    for side, name in _SIDES.items():
        ms = statistics.median(report["ms_an_image"][side])
        rows.append((name, three_digits(ms), f"{1e3 / ms:,.0f}"))
    ratio = {
        name: f"{three_digits(statistics.median(of))} ({three_digits(min(of))} to "
        f"{three_digits(max(of))})"
        for name, of in report["ratios"].items()
    }
    parts = [
        f"CPU of an image, one process each, of {report['images']:,} JPEGs of "
        f"{report['image_bytes'] / 1e3:.0f} kB in tars of ImageNet's form:",
        table(("", "ms", "images/s a core"), rows, right=" rr"),
        f"Times that of `prepare`: the TPU repository's {ratio['tpu_script']}, TFDS' "
        f"{ratio['tfds']}; the loop's that of `validate`: {ratio['validate']}.",
    ]
    if report["processes"]:
        head = ("processes", "MB, together", "s to the first file", "s")
        measured = [
            (
                str(row["workers"]),
                f"{row['pss_megabytes']:,}",
                f"{row['first_file_seconds']}",
                f"{row['seconds']}",
            )
            for row in report["processes"]
        ]
        parts.append(table(head, measured, right="rrrr"))
    return "\n\n".join([*parts, note])


def draw(report: Report, folder: Path) -> None:
    """Draw the pictures of benchmarks.growth.

    Args:
      report: of the benchmark.
      folder: to write them to.
    """
    from performance import growth_plots  # loads matplotlib

    paint = functools.partial(growth_plots.growth, cases=report["cases"])
    PICTURE.write(report, folder, paint)
