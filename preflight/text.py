"""What `preflight.report` says to a person."""

import textwrap
from typing import Any

_WIDTH = 100
COVERS = (
    "the trainer's own step functions, for one replica of the slice, lowered by "
    "TensorFlow's bridge for the CPU and compiled by XLA's compiler for this TPU: "
    "whether they compile, the memory they take, and the compiler's estimate of their "
    "cycles",
)
LEAVES_OUT = (
    "TPUStrategy was not run, nor any TPU: its own bridge may lower an op otherwise",
    "the time of all-reduces and of asynchronous copies, of which the compiler makes "
    "no estimate",
    "waiting for images, evaluations, checkpoints, start and preemptions",
    "the milliseconds are rough, the ratio of two similar networks is better: see the "
    "README",
)


def describe(report: dict[str, Any]) -> str:
    """Returns the whole report as lines of text."""
    return "\n".join(
        [
            *_run(report),
            "",
            *_table(report),
            *_problems(report),
            *_warnings(report),
            *_outlook(report),
            "",
            *(_wrapped(f"It covers {line}.") for line in report["covers"]),
            "It leaves out:",
            *(_wrapped(f"- {line}") for line in report["leaves_out"]),
        ]
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ")


def _run(report: dict[str, Any]) -> list[str]:
    size, replicas = report["global_batch_size"], report["replicas"]
    versions = ", ".join(f"{k} {v}" for k, v in report["compiler"].items())
    return [
        f"{report['variant']}, {report['resolution']} px, {report['precision']}: "
        f"{size:,} images a step on {replicas:,} replicas ({size // replicas:,} each)",
        f"{report['topology']}: {report['hosts']:,} hosts, {report['chips']:,} chips, "
        f"{_gib(report['hbm_limit_bytes'])} of HBM a replica; compiled by {versions}",
    ]


def _table(report: dict[str, Any]) -> list[str]:
    """Returns a row for each program, its columns aligned."""
    head = ("", "compiles", "fits", "HBM", "left", "a step", "all-reduces", "bound")
    rows: list[tuple[str, ...]] = [head]
    for step in report["steps"]:
        needed, ms = step.get("hbm_bytes"), step.get("estimated_step_ms")
        left = "" if needed is None else _gib(report["hbm_limit_bytes"] - needed)
        floors = step.get("floors_ms", {})
        rows.append(
            (
                step["name"],
                "yes" if step["compiles"] else "NO",
                "yes" if step["fits"] else "NO",
                "" if needed is None else _gib(needed),
                left,
                "" if ms is None else f"{ms:.1f} ms",
                str(step.get("all_reduces", "")),
                ", ".join(f"{k} >= {v:.1f} ms" for k, v in floors.items()),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    for step in report["steps"]:
        if kinds := step.get("hbm_bytes_by_kind"):
            lines.append(
                _wrapped(f"HBM of the {step['name']}: {_by_kind(step, kinds)}")
            )
    return [line.rstrip() for line in lines]


def _by_kind(step: dict[str, Any], kinds: dict[str, int]) -> str:
    """Returns the parts that add up to what a step needs."""
    parts = {
        "variables and batch": kinds["arguments"],
        "results": kinds["outputs"] - kinds["aliased"],
        "temporaries": kinds["temporaries"],
        "program": kinds["generated_code"],
        "the training beside it": step["hbm_bytes_beside"],
    }
    shown = {name: _gib(size) for name, size in parts.items()}
    nothing = _gib(0)
    return " + ".join(f"{v} {name}" for name, v in shown.items() if v != nothing)


def _problems(report: dict[str, Any]) -> list[str]:
    lines = []
    for step in report["steps"]:
        problem = step["problem"]
        if problem is None:
            continue
        lines.append(f"{step['name']}: {problem['message']}")
        lines += [
            f"  {name}: {problem[name]}"
            for name in ("op", "layer", "source")
            if problem.get(name)
        ]
        largest = problem.get("largest_buffers", ())
        lines += dict.fromkeys(
            f"  {_gib(one['bytes'])}  {one['shape']}  {one['layer']}" for one in largest
        )
    return ["", *lines] if lines else []


def _warnings(report: dict[str, Any]) -> list[str]:
    lines = []
    for step in report["steps"]:
        lines += [
            f"{step['name']}: a size that depends on values, {one['shape']} of "
            f"{one['op']}, {one['layer']} {one['source']}".rstrip()
            for one in step.get("dynamic_shapes", ())
        ]
        lines += [
            f"{step['name']}: how often loop {name} runs is not known; it counts once"
            for name in step.get("loops_of_unknown_length", ())
        ]
    return ["", *lines] if lines else []


def _outlook(report: dict[str, Any]) -> list[str]:
    lines = _largest(report)
    if report["hours"] is not None:
        lines += _estimates(report)
    return ["", *lines] if lines else []


def _largest(report: dict[str, Any]) -> list[str]:
    lines = []
    if largest := report["largest_global_batch_size"]:
        each = largest // report["replicas"]
        lines.append(f"Largest batch known to fit: {largest:,}, {each:,} a replica")
    elif largest == 0:
        lines.append("No batch fits, not even one image a replica")
    return [*lines, *(f"Not known to fit: {why}" for why in report["unanswered"])]


def _estimates(report: dict[str, Any]) -> list[str]:
    return [
        f"Estimate: {report['images_per_second']:,.0f} images/s, "
        f"{report['estimated_step_ms']:.1f} ms a step; {report['epochs']:g} epochs are "
        f"{report['train_steps']:,} steps, {_duration(report['hours'])}",
        _feeding(report),
    ]


def _duration(hours: float) -> str:
    for unit, length in (("hours", 1.0), ("minutes", 60.0)):
        if hours * length >= 1:
            return f"{hours * length:,.1f} {unit}"
    return f"{3600 * hours:.1f} seconds"


def _feeding(report: dict[str, Any]) -> str:
    """Returns what the hosts have to make, and what their cores can."""
    fed, demand = report["input"], report["images_per_second_per_host"]
    line = f"Each host has to be given {demand:,.0f} images/s"
    if report["peak_images_per_second"] > 1.001 * report["images_per_second"]:
        line += " in the fastest stage"
    if fed["cpu_ms_per_image"] is None:
        return f"{line}; what an image costs was not measured (--input_cpu_ms)"
    each = f"{fed['cpu_ms_per_image']:.2f} ms of a core each"
    if fed["by_fleet"]:
        return f"{line}; at {each} that is {fed['cores_needed_per_host']:,.0f} cores"
    can = "enough" if fed["keeps_up"] else "TOO FEW"
    return (
        f"{line}; its {fed['cores_per_host']} cores make "
        f"{fed['images_per_second_per_host']:,.0f} at {each}: {can}"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
