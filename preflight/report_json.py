"""What `preflight.report` says to another program: one JSON object."""

import dataclasses
from typing import Any

from preflight import tuning_text
from preflight.outlook import HostInput
from preflight.rows import (
    COVERS,
    LEAVES_OUT,
    Location,
    PreflightReport,
    Problem,
    StepReport,
)

_COSTLIEST = 10


def to_json(report: PreflightReport) -> dict[str, Any]:
    """Return the whole report, ready for JSON."""
    run, search = report.run, report.largest_batch
    schedule = report.outlook.schedule
    return {
        "variant": run.variant,
        "resolution": run.resolution,
        "precision": run.precision,
        "topology": str(run.topology),
        "chips": run.topology.num_chips,
        "replicas": run.replicas,
        "global_batch_size": run.global_batch_size,
        "compiles": report.compiles,
        "fits": report.fits,
        "hbm_bytes": report.hbm_bytes,
        "hbm_limit_bytes": run.hbm_limit_bytes,
        "largest_global_batch_size": None if search is None else search.images,
        "too_large_global_batch_size": None if search is None else search.too_many,
        "steps": [_step(step) for step in report.steps],
        "train_steps": schedule.train_steps,
        "epochs": schedule.epochs,
        "all_reduces": report.all_reduces,
        "estimated_step_ms": schedule.step_ms,
        "images_per_second": schedule.images_per_second,
        "peak_images_per_second": schedule.peak_images_per_second,
        "hours": schedule.hours,
        "our_all_reduce_ms": schedule.all_reduce_ms,
        "step_ms_with_our_all_reduces": schedule.step_ms_with_all_reduces,
        "hours_with_our_all_reduces": schedule.hours_with_all_reduces,
        **_host_input(report.outlook.host_input),
        "unanswered": [] if search is None else list(search.failed_compilations),
        "covers": COVERS,
        "leaves_out": LEAVES_OUT,
        "compiler": dict(run.compiler_versions),
        **({"tuning": tuning_text.to_json(report.tuning)} if report.tuning else {}),
    }


def _host_input(found: HostInput) -> dict[str, Any]:
    return {
        "hosts": found.hosts,
        "images_per_second_per_host": found.demand,
        "input": {
            "by_fleet": found.by_data_service,
            "cpu_ms_per_image": found.cpu_ms_per_image,
            "cores_per_host": found.cores,
            "cores_needed_per_host": found.cores_needed,
            "images_per_second_per_host": found.supply,
            "keeps_up": found.keeps_up,
        },
    }


def _step(step: StepReport) -> dict[str, Any]:
    """Return what is known of a step; how far it got says which keys there are."""
    said: dict[str, Any] = {
        "name": step.name,
        "compiles": step.compiles,
        "fits": step.fits,
        "problem": None if step.problem is None else _problem(step.problem),
    }
    if step.lowered is not None:
        said["resolution"] = step.lowered.resolution
        said["images_per_replica"] = step.lowered.images
    if step.compilation is not None:
        said["hbm_bytes"] = step.needed_bytes
        said["hbm_bytes_beside"] = step.resident_bytes
        said["compile_seconds"] = round(step.compilation.seconds, 1)
    return said | _compiled(step)


def _compiled(step: StepReport) -> dict[str, Any]:
    found = step.compilation
    if found is None or found.memory is None or found.costs is None:
        return {}
    return {
        "hbm_bytes_by_kind": dataclasses.asdict(found.memory),
        "estimated_step_ms": step.milliseconds,
        "floors_ms": dict(step.floors_ms),
        "bound": max(step.floors_ms, key=lambda name: step.floors_ms[name]),
        "all_reduces": step.all_reduces,
        "our_all_reduce_ms": step.all_reduce_ms,
        "our_all_reduces": [
            dataclasses.asdict(one) for one in step.all_reduce_estimates
        ],
        "collectives": [dataclasses.asdict(one) for one in found.collectives],
        "without_estimate": found.costs.without_estimate,
        "dynamic_shapes": [
            {"op": one.op, "shape": one.shape, **_location(one.location)}
            for one in step.dynamic_shapes
        ],
        "loops_of_unknown_length": list(step.unknown_loops),
        "costliest": [
            {"op": one.opcode, "layer": one.op_name, "cycles": one.total_cycles}
            for one in found.costliest(_COSTLIEST)
        ],
        "hlo": str(found.hlo_path),
    }


def _problem(problem: Problem) -> dict[str, Any]:
    said: dict[str, Any] = {"message": problem.message}
    if problem.location is not None:
        said |= {"op": problem.op, **_location(problem.location)}
    if problem.largest_buffers is not None:
        said["largest_buffers"] = [vars(one) for one in problem.largest_buffers]
    return said


def _location(location: Location) -> dict[str, str]:
    return {"layer": location.layer, "source": location.source}
