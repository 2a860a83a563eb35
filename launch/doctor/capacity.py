"""Whether the machines are to be had: offered, reserved, and none left behind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from common.console import count
from common.errors import UserError
from launch.doctor import tpu_vms
from launch.doctor.case import Case, command
from launch.doctor.findings import Finding, fails, mistake, ok, unknown
from launch.job.job_file import Job
from launch.job.machines import GpuHosts, TpuSlice

_GONE = ("FAILED", "SUSPENDED")


def offered(case: Case) -> Finding:
    """Check that the zones offer the type at all."""
    job = case.job
    if case.slice and case.engine == "jobset":
        try:
            _ = case.slice.gke_machine
        except UserError as error:
            return mistake(error, "--to=skypilot")
    lack = [zone for zone in job.zones if not _offers(case, zone)]
    name = case.slice.accelerator_type if case.slice else job.machines.name
    if not lack:
        return ok(f"{name} in {', '.join(job.zones)}")
    others = [z for z in _zones(case) if z not in job.zones and _offers(case, z)]
    has = [zone for zone in job.zones if zone not in lack] + others
    where = f"machines.zones: [{', '.join(has)}]" if has else "another region or type"
    return fails(f"{', '.join(lack)} has no {name}", where)


def _offers(case: Case, zone: str) -> bool:
    job, google = case.job, case.google
    if isinstance(on := job.machines, GpuHosts):
        kinds = f"projects/{job.project}/zones/{zone}/acceleratorTypes"
        path = f"{kinds}/{on.accelerator}"
        return google.get("compute", path) is not None
    if case.engine == "jobset":
        path = f"projects/{job.project}/zones/{zone}/machineTypes/{on.gke_machine}"
        return google.get("compute", path) is not None
    types = google.pages(
        "tpu", f"{tpu_vms.parent(job, zone)}/acceleratorTypes", "acceleratorTypes"
    )
    return on.accelerator_type in {one.get("type") for one in types}


def _zones(case: Case) -> list[str]:
    """Return the zones of the job's region, in which TPUs can be or all of them."""
    job = case.job
    if case.slice and case.engine != "jobset":
        path = f"projects/{job.project}/locations"
        found = case.google.pages("tpu", path, "locations")
        names = (one["locationId"] for one in found)
        return sorted(n for n in names if n.rpartition("-")[0] == job.region)
    path = f"projects/{job.project}/regions/{job.region}"
    region = case.google.get("compute", path) or {}
    return sorted(url.rpartition("/")[2] for url in region.get("zones", ()))


def runtime(case: Case) -> Finding:
    """Check that the image of TPU VMs is there."""
    if case.slice is None or case.engine == "jobset":
        return ok("none is needed: no TPU VMs of the TPU API")
    job, wanted = case.job, case.slice.runtime
    for zone in job.zones:
        path = f"{tpu_vms.parent(job, zone)}/runtimeVersions"
        found = case.google.pages("tpu", path, "runtimeVersions")
        if wanted not in {one.get("version") for one in found}:
            return fails(
                f"{zone} has no runtime {wanted}",
                command(
                    *("gcloud", "compute", "tpus", "tpu-vm", "versions", "list"),
                    *(f"--zone={zone}", f"--project={job.project}"),
                ),
            )
    return ok(wanted)


def capacity(case: Case) -> Finding:
    """Say that nobody can tell whether machines are free now."""
    job = case.job
    return unknown(
        "whether machines are free now cannot be known: only a request tells; it waits "
        f"up to {job.longest_wait_hours:g} h in {count(len(job.zones), 'zone')}"
    )


def reservation(case: Case) -> Finding:
    """Check that the reservation is there, and has enough left."""
    job, name = case.job, case.job.reservation
    if name is None:
        return ok("none is named")
    left = []
    for zone in job.zones:
        path = f"projects/{job.project}/zones/{zone}/reservations/{name}"
        found = case.google.get("compute", path)
        if found is None:
            left.append(f"{zone} has no reservation {name}")
        elif found.get("status") != "READY":
            left.append(f"{zone}: {name} is {found.get('status')}")
        elif why := _too_small(found, job):
            left.append(f"{zone}: {why}")
        else:
            return ok(f"{name} in {zone}")
    return fails("; ".join(left), "machines.capacity: on_demand or spot")


def _too_small(found: Mapping[str, Any], job: Job) -> str:
    """Return what a reservation lacks, "" for nothing."""
    on = job.machines
    if whole := found.get("aggregateReservation"):
        needs = on.chips if isinstance(on, TpuSlice) else on.replicas
        free = _accelerators(whole.get("reservedResources", ()))
        free -= _accelerators(whole.get("inUseResources", ()))
        what = "accelerators"
    else:
        machines = found.get("specificReservation", {})
        needs, what = on.hosts, "machines"
        free = int(machines.get("count", 0)) - int(machines.get("inUseCount", 0))
    return f"{free} {what} are free, {needs} are needed" if free < needs else ""


def _accelerators(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row.get("accelerator", {}).get("acceleratorCount", 0) for row in rows)


def orphans(case: Case) -> Finding:
    """Look for what an earlier job has left: it is billed, or counts in the quota."""
    job = case.job
    if case.slice is None or case.engine == "jobset":
        return ok("none of the TPU API: these machines are no TPU VMs of it")
    left, remedies, others = [], [], 0
    for zone in job.zones:
        where = f"--zone={zone}", f"--project={job.project}"
        for name, state, is_ours in _requests(case, zone):
            others += not is_ours
            if is_ours:
                left.append(f"request {name} ({state})")
                words = ("queued-resources", "delete", name, *where, "--force")
                remedies.append(command("gcloud", "compute", "tpus", *words))
        for name, state in _left_nodes(case, zone):
            left.append(f"TPU VM {name} ({state}; --node={name} if it is to run)")
            words = ("tpu-vm", "delete", name, *where)
            remedies.append(command("gcloud", "compute", "tpus", *words))
    if left:
        return fails(f"{', '.join(left)} of this job", " && ".join(remedies))
    note = f"; {count(others, 'request')} of others ended, and count" if others else ""
    return ok(f"none of this job{note}")


def _requests(case: Case, zone: str) -> Iterator[tuple[str, str, bool]]:
    """Yield name and state of requests that came to nothing, and if it was ours."""
    path = f"{tpu_vms.parent(case.job, zone)}/queuedResources"
    for one in case.google.pages("tpu", path, "queuedResources"):
        state = one.get("state", {}).get("state", "")
        nodes = [
            spec.get("node", {}) for spec in one.get("tpu", {}).get("nodeSpec", ())
        ]
        if state in _GONE:
            yield tpu_vms.name(one), state, _is_ours(case.job, nodes)


def _left_nodes(case: Case, zone: str) -> Iterator[tuple[str, str]]:
    for node in tpu_vms.nodes(case, zone):
        if _is_ours(case.job, [node]) and tpu_vms.name(node) != case.node:
            yield tpu_vms.name(node), node.get("state", "")


def _is_ours(job: Job, nodes: Sequence[Mapping[str, Any]]) -> bool:
    return any(node.get("labels", {}).get("job") == job.name for node in nodes)
