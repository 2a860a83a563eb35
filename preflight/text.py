"""What `preflight.report` says to a person, finding by finding."""

from common.console import count, table, wrap
from preflight import tuning_text
from preflight.all_reduces import GroupEstimate
from preflight.outlook import HostInput, Outlook
from preflight.rows import (
    COVERS,
    LEAVES_OUT,
    Finding,
    LargestBatch,
    Problem,
    RunOnSlice,
    StepReport,
)
from tpu_compiler.report import Memory


def describe(finding: Finding) -> str:
    """Return what was found as lines of text, a paragraph of the whole."""
    match finding:
        case RunOnSlice():
            lines = _run(finding)
        case StepReport():
            lines = ["", *_step(finding)]
        case Outlook():
            lines = _outlook(finding)
        case LargestBatch():
            lines = ["", *_largest_batch(finding)]
        case _:
            lines = tuning_text.lines_of(finding)
    return "\n".join(lines)


def limits(*, tuned: bool = False) -> str:
    """Return what all of it covers, and what not, of other forms, too, where asked."""
    return "\n".join(
        [
            "",
            *([tuning_text.note(), ""] if tuned else []),
            *(wrap(f"It covers {line}.") for line in COVERS),
            "It leaves out:",
            *(wrap(f"- {line}") for line in LEAVES_OUT),
        ]
    )


def _run(run: RunOnSlice) -> list[str]:
    size, replicas, topology = run.global_batch_size, run.replicas, run.topology
    versions = ", ".join(f"{k} {v}" for k, v in run.compiler_versions.items())
    return [
        f"{run.variant}, {run.resolution} px, {run.precision}: "
        f"{size:,} images a step on {replicas:,} replicas ({size // replicas:,} each)",
        f"{topology}: {count(topology.hosts, 'host')}, "
        f"{count(topology.num_chips, 'chip')}, {_gib(run.hbm_limit_bytes)} of HBM a "
        f"replica; compiled by {versions}",
    ]


def _step(step: StepReport) -> list[str]:
    """Return the verdict on a step, and what it is made of."""
    lines = [f"{step.name}: {_verdict(step)}"]
    if step.problem is not None:
        lines += _problem(step.problem)
    found = step.compilation
    if found is not None and found.memory is not None:
        lines.append(_memory(found.memory, step.resident_bytes, found.hbm_bytes))
        lines += _all_reduces(step)
    return [*lines, *_warnings(step)]


def _verdict(step: StepReport) -> str:
    problem, ms = step.problem, step.milliseconds
    if problem is not None:
        verdict = "compiles, does NOT fit" if step.compiles else "does NOT compile"
        return f"{verdict}: {problem.message}"
    if ms is None:
        return "compiles and fits"
    least = " and ".join(f"{least:.1f} by {n}" for n, least in step.floors_ms.items())
    floors = f", at least {least}" if least else ""
    return f"compiles and fits, {ms:.1f} ms by the compiler's estimate{floors}"


def _problem(problem: Problem) -> list[str]:
    lines = []
    if problem.location is not None:
        said = {"op": problem.op, **vars(problem.location)}
        lines = [f"  {name}: {value}" for name, value in said.items() if value]
    buffers = [
        f"  {_gib(one.bytes)}  {one.shape}  {one.layer}"
        for one in problem.largest_buffers or ()
    ]
    return [*lines, *dict.fromkeys(buffers)]


def _memory(memory: Memory, resident: int, limit: int) -> str:
    """Return what a step needs of a device, and the parts that add up to it."""
    parts = {
        "variables and batch": memory.arguments,
        "results": memory.outputs - memory.aliased,
        "temporaries": memory.temporaries,
        "program": memory.generated_code,
        "the training beside it": resident,
    }
    shown = {name: _gib(size) for name, size in parts.items()}
    terms = " + ".join(f"{v} {name}" for name, v in shown.items() if v != _gib(0))
    needed = memory.total + resident
    left = f", {_gib(limit - needed)} left" if needed <= limit else ""
    made_of = f": {terms}" if terms else ""
    return wrap(f"  {_gib(needed)} of HBM{left}{made_of}", indent="    ")


def _all_reduces(step: StepReport) -> list[str]:
    """Return how many there are, and their time by our own estimate."""
    if not step.all_reduces:
        return []
    said = f"  {count(step.all_reduces, 'all-reduce')}"
    if step.fused_all_reduces:
        return [
            f"{said}: the compiler has taken some apart, into "
            f"{step.fused_all_reduces}, of which there is no estimate of ours"
        ]
    return [
        f"{said} by our own estimate, as the compiler makes none: "
        f"{step.all_reduce_ms:.1f} ms",
        *table([_GROUP_HEAD, *map(_group, step.all_reduce_estimates)]),
    ]


def _warnings(step: StepReport) -> list[str]:
    return [
        *(
            f"  a size that depends on values, {one.shape} of {one.op}, "
            f"{one.location.layer} {one.location.source}".rstrip()
            for one in step.dynamic_shapes
        ),
        *(
            f"  how often loop {name} runs is not known; it counts once"
            for name in step.unknown_loops
        ),
    ]


def _largest_batch(found: LargestBatch) -> list[str]:
    """Return both ends of what is known, by images and by images of a replica."""

    def images(number: int) -> str:
        return f"{number:,}, {number // found.replicas:,} a replica"

    line = "No batch is known to fit"
    if found.images:
        line = f"Largest batch known to fit: {images(found.images)}"
    if found.too_many is not None:
        line += f"; known not to: {images(found.too_many)}"
    return [line, *(f"Not known to fit: {why}" for why in found.failed_compilations)]


def _outlook(found: Outlook) -> list[str]:
    schedule = found.schedule
    rate, peak = schedule.images_per_second, schedule.peak_images_per_second
    if schedule.hours is None or rate is None or peak is None:
        return []
    lines = [
        f"Estimate: {rate:,.0f} images/s, {schedule.step_ms:.1f} ms a step; "
        f"{schedule.epochs:g} epochs are {schedule.train_steps:,} steps, "
        f"{_duration(schedule.hours)}"
    ]
    step_ms, hours = schedule.step_ms_with_all_reduces, schedule.hours_with_all_reduces
    if schedule.all_reduce_ms and step_ms is not None and hours is not None:
        lines.append(f"With all-reduces: {step_ms:.1f} ms a step, {_duration(hours)}")
    differ = peak > 1.001 * rate
    return [*lines, _host_input(found.host_input, stages_differ=differ)]


_GROUP_HEAD = ("    over", "number", "bytes", "time")


def _group(found: GroupEstimate) -> tuple[str, ...]:
    return (
        f"    {found.group_size:,} replicas",
        f"{found.runs:,}",
        f"{found.bytes / 2**20:,.1f} MiB",
        f"{found.milliseconds:.1f} ms",
    )


def _duration(hours: float) -> str:
    for unit, length in (("hours", 1.0), ("minutes", 60.0)):
        if hours * length >= 1:
            return f"{hours * length:,.1f} {unit}"
    return f"{3600 * hours:.1f} seconds"


def _host_input(found: HostInput, *, stages_differ: bool) -> str:
    """Return what the hosts have to make, and what their cores can."""
    line = f"Each host has to be given {found.demand:,.0f} images/s"
    line += " in the stage that asks most of it" * stages_differ
    if found.cpu_ms_per_image is None:
        return f"{line}; what an image costs was not measured (--input_cpu_ms)"
    each = f"{found.cpu_ms_per_image:.2f} ms of a core each"
    if found.by_data_service:
        return f"{line}; at {each} that is {found.cores_needed:,.0f} cores"
    can = "enough" if found.keeps_up else "TOO FEW"
    return f"{line}; its {found.cores} cores make {found.supply:,.0f} at {each}: {can}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
