"""The tables of what `benchmarks.nas` and `benchmarks.tpu.supernet` have measured."""

import statistics
from collections.abc import Mapping
from typing import Any

from docgen.markdown import table

_WHO = {
    "found": "the found network",
    "random": "random search's best",
    "baseline": "the recipe's own",
}
_STEP = {
    "supernet": "the supernet with its controller",
    "largest": "the largest network, no block fused",
    "largest_fused": "the largest network, fused",
}
Row = Mapping[str, Any]


def searches(report: Row, note: str) -> str:
    """Return networks by set of images, and what the searches took."""
    parts = []
    for name, row in report["sets"].items():
        images = " + ".join(f"{one:,}" for one in row["images"].values())
        parts += [
            f"**{name}**, {row['source']}, {images} images, by `{row['gin_file']}`:",
            _networks(row),
            _sentences(row),
        ]
    return "\n\n".join([*parts, note])


def _networks(row: Row) -> str:
    head = (
        "network",
        "top-1 of each seed, %",
        "mean, %",
        "parameters",
        "ms, sum of blocks",
        "ms, compiled whole",
    )
    rows = [
        (
            _WHO[name],
            ", ".join(f"{one:.2f}" for one in top1),
            f"{statistics.fmean(top1):.2f}",
            f"{row['parameters'][name]:,}",
            *(_ms(row, role, name) for role in ("searched by", "exact")),
        )
        for name, top1 in row["top1"].items()
    ]
    return table(head, rows, right="lrrrrr")


def _ms(row: Row, role: str, name: str) -> str:
    ms = row["milliseconds"].get(role, {}).get(name)
    return "-" if ms is None else f"{ms:.4f}"


def _sentences(row: Row) -> str:
    """Return what there is to say of a search beside its networks."""
    steps = row["minutes_of_steps"]
    verdicts = "; ".join(
        f"against {_WHO[name]}: {one['difference']:+.2f} points, {one['verdict']}"
        for name, one in row["against"].items()
        if one is not None
    )
    tau = row["tau"]
    trust = (
        "no tau"
        if tau is None
        else f"Kendall's tau {tau:.2f} over {row['ranked']} networks, as high by "
        f"chance in {100 * row['tau_by_chance']:.1f} % of the cases"
    )
    noise = row["deviation"]
    deviation = "not known" if noise is None else f"{noise:.2f} points"
    return (
        f"The stages up to the found network: {row['minutes_to_found']:.1f} "
        f"minutes, of which {steps['supernet']:.1f} are training steps of the "
        f"supernet. Random search: {row['random_networks']} networks in "
        f"{steps['random']:.1f} minutes of such steps. {trust}. One standard deviation "
        f"of a training: {deviation}; {verdicts}."
    )


def supernet(report: Row, note: str) -> str:
    """Return what the steps of supernets cost beside those of their networks."""
    head = ("step", "parameters", "cycles", "temporaries, MB", "s a step on the CPU")
    parts = []
    for row in report["searches"]:
        cpu = row["cpu"]
        rows = [
            (
                _STEP[name],
                f"{row['parameters'][name]:,}",
                *_compiled(one),
                f"{cpu['seconds_a_step'][name]:.3f}",
            )
            for name, one in row["forms"].items()
        ]
        parts += [
            f"`{row['gin_file']}`, {row['networks']:.2g} networks:",
            table(head, rows, right="lrrrr"),
            f"The supernet takes, of cycles, {_times(row['times_the_cycles_of'])}; of "
            f"seconds on the CPU, {_times(cpu['times_that_of'])}.",
        ]
    parts.append(
        f"Cycles for one device of {report['topology']}, batch {report['batch']}; the "
        f"CPU with batch {report['cpu_batch']}, in float32."
    )
    return "\n\n".join([*parts, note])


def _compiled(row: Row) -> tuple[str, str]:
    if "failed" in row:
        return row["failed"], "-"
    return f"{row['cycles']:,}", f"{row['temporaries_mb']:,}"


def _times(ratios: Mapping[str, float]) -> str:
    return ", ".join(
        f"{one:.2f} times those of {_STEP[name]}" for name, one in ratios.items()
    )
