"""What `preflight.report` says to a person."""

from common.console import table, wrap
from preflight.all_reduces import GroupEstimate
from preflight.outlook import HostInput
from preflight.rows import COVERS, LEAVES_OUT, PreflightReport, StepReport
from tpu_compiler.report import Memory


def describe(report: PreflightReport) -> str:
    """Return the whole report as lines of text."""
    return "\n".join(
        [
            *_run(report),
            "",
            *_table(report),
            *_problems(report),
            *_warnings(report),
            *_outlook(report),
            "",
            *(wrap(f"It covers {line}.") for line in COVERS),
            "It leaves out:",
            *(wrap(f"- {line}") for line in LEAVES_OUT),
        ]
    )


def _run(report: PreflightReport) -> list[str]:
    size, replicas, topology = (
        report.global_batch_size,
        report.replicas,
        report.topology,
    )
    versions = ", ".join(f"{k} {v}" for k, v in report.compiler_versions.items())
    return [
        f"{report.variant}, {report.resolution} px, {report.precision}: "
        f"{size:,} images a step on {replicas:,} replicas ({size // replicas:,} each)",
        f"{topology}: {report.host_input.hosts:,} hosts, {topology.num_chips:,} chips, "
        f"{_gib(report.hbm_limit_bytes)} of HBM a replica; compiled by {versions}",
    ]


def _table(report: PreflightReport) -> list[str]:
    """Return a row for each step, and what the memory of those that fit is."""
    head = ("", "compiles", "fits", "HBM", "left", "a step", "all-reduces", "bound")
    rows = [_row(step, report.hbm_limit_bytes) for step in report.steps]
    memory = [
        wrap(f"HBM of the {step.name}: {_by_kind(step, step.memory)}")
        for step in report.steps
        if step.memory is not None
    ]
    return [*table([head, *rows]), *memory]


def _row(step: StepReport, limit: int) -> tuple[str, ...]:
    needed, ms = step.needed_bytes, step.milliseconds
    return (
        step.name,
        "yes" if step.compiles else "NO",
        "yes" if step.fits else "NO",
        "" if needed is None else _gib(needed),
        "" if needed is None else _gib(limit - needed),
        "" if ms is None else f"{ms:.1f} ms",
        "" if step.memory is None else str(step.all_reduces),
        ", ".join(f"{name} >= {ms:.1f} ms" for name, ms in step.floors_ms.items()),
    )


def _by_kind(step: StepReport, memory: Memory) -> str:
    """Return the parts that add up to what a step needs."""
    parts = {
        "variables and batch": memory.arguments,
        "results": memory.outputs - memory.aliased,
        "temporaries": memory.temporaries,
        "program": memory.generated_code,
        "the training beside it": step.resident_bytes,
    }
    shown = {name: _gib(size) for name, size in parts.items()}
    nothing = _gib(0)
    return " + ".join(f"{v} {name}" for name, v in shown.items() if v != nothing)


def _problems(report: PreflightReport) -> list[str]:
    lines = []
    for step in report.steps:
        problem = step.problem
        if problem is None:
            continue
        lines.append(f"{step.name}: {problem.message}")
        if problem.location is not None:
            said = {"op": problem.op, **vars(problem.location)}
            lines += [f"  {name}: {value}" for name, value in said.items() if value]
        lines += dict.fromkeys(
            f"  {_gib(one.bytes)}  {one.shape}  {one.layer}"
            for one in problem.largest_buffers or ()
        )
    return ["", *lines] if lines else []


def _warnings(report: PreflightReport) -> list[str]:
    lines = []
    for step in report.steps:
        lines += [
            f"{step.name}: a size that depends on values, {one.shape} of {one.op}, "
            f"{one.location.layer} {one.location.source}".rstrip()
            for one in step.dynamic_shapes
        ]
        lines += [
            f"{step.name}: how often loop {name} runs is not known; it counts once"
            for name in step.unknown_loops
        ]
    return ["", *lines] if lines else []


def _outlook(report: PreflightReport) -> list[str]:
    lines = [*_largest_batch(report), *_estimates(report)]
    return ["", *lines] if lines else []


def _largest_batch(report: PreflightReport) -> list[str]:
    found = report.largest_batch
    if found is None:
        return []
    line = "No batch fits, not even one image a replica"
    if found.images:
        each = found.images // report.replicas
        line = f"Largest batch known to fit: {found.images:,}, {each:,} a replica"
    return [line, *(f"Not known to fit: {why}" for why in found.failed_compilations)]


def _estimates(report: PreflightReport) -> list[str]:
    schedule = report.schedule
    rate, peak = schedule.images_per_second, schedule.peak_images_per_second
    if schedule.hours is None or rate is None or peak is None:
        return []
    return [
        f"Estimate: {rate:,.0f} images/s, {schedule.step_ms:.1f} ms a step; "
        f"{schedule.epochs:g} epochs are {schedule.train_steps:,} steps, "
        f"{_duration(schedule.hours)}",
        *_all_reduces(report),
        _host_input(report.host_input, has_fastest_stage=peak > 1.001 * rate),
    ]


def _all_reduces(report: PreflightReport) -> list[str]:
    """Return what they add, by our own estimate; nothing where there is none."""
    lines = []
    for step in report.steps:
        if step.stage is not None and step.fused_all_reduces:
            lines.append(
                f"All-reduces of the {step.name}: the compiler has taken some apart, "
                f"into {step.fused_all_reduces}, of which there is no estimate of ours"
            )
        elif step.stage is not None and step.all_reduce_estimates:
            lines += [
                f"All-reduces of the {step.name} by our own estimate, as the compiler "
                f"makes none: {step.all_reduce_ms:.1f} ms",
                *table([_GROUP_HEAD, *map(_group, step.all_reduce_estimates)]),
            ]
    step_ms = report.schedule.step_ms_with_all_reduces
    hours = report.schedule.hours_with_all_reduces
    if not lines or step_ms is None or hours is None:
        return lines
    return [*lines, f"With them: {step_ms:.1f} ms a step, {_duration(hours)}"]


_GROUP_HEAD = ("  over", "number", "bytes", "time")


def _group(found: GroupEstimate) -> tuple[str, ...]:
    return (
        f"  {found.group_size:,} replicas",
        f"{found.runs:,}",
        f"{found.bytes / 2**20:,.1f} MiB",
        f"{found.milliseconds:.1f} ms",
    )


def _duration(hours: float) -> str:
    for unit, length in (("hours", 1.0), ("minutes", 60.0)):
        if hours * length >= 1:
            return f"{hours * length:,.1f} {unit}"
    return f"{3600 * hours:.1f} seconds"


def _host_input(found: HostInput, *, has_fastest_stage: bool) -> str:
    """Return what the hosts have to make, and what their cores can."""
    line = f"Each host has to be given {found.demand:,.0f} images/s"
    line += " in the fastest stage" * has_fastest_stage
    if found.cpu_ms_per_image is None:
        return f"{line}; what an image costs was not measured (--input_cpu_ms)"
    each = f"{found.cpu_ms_per_image:.2f} ms of a core each"
    if found.by_data_service:
        return f"{line}; at {each} that is {found.cores_needed:,.0f} cores"
    can = "enough" if found.keeps_up else "TOO FEW"
    return f"{line}; its {found.cores} cores make {found.supply:,.0f} at {each}: {can}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
