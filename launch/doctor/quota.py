"""Whether what is used already leaves enough of the quota."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launch.doctor import tpu_vms
from launch.doctor.case import Case
from launch.doctor.findings import Finding, fails, ok, unknown
from launch.job.job_file import Job
from launch.job.machines import GpuHosts, TpuSlice

# Quotas of the TPU API, by generation, without what says which capacity: v5e as it is
# written in cloud.google.com/tpu/docs/quota; v4, v5p and v6e as others' scripts have
# them; v2 and v3 by the names of their limits (TPUV2sPod...), so from memory.
_QUOTAS = {
    "v2": r"tpu-v2s?",
    "v3": r"tpu-v3s?",
    "v4": r"tpu-v4s?(-pod)?",
    "v5e": r"tpu-v5s-litepod",
    "v5p": r"tpu-v5p",
    "v6e": r"tpu-v6e",
}
# Of a region of Compute Engine; that of spot has PREEMPTIBLE_ before it. H200 and B200
# are not among its metrics, H100 on demand is from memory.
_GPU_QUOTAS = {
    "T4": "NVIDIA_T4_GPUS",
    "V100": "NVIDIA_V100_GPUS",
    "L4": "NVIDIA_L4_GPUS",
    "A100": "NVIDIA_A100_GPUS",
    "A100-80GB": "NVIDIA_A100_80GB_GPUS",
    "H100": "NVIDIA_H100_GPUS",
}


def quota(case: Case) -> Finding:
    """Check that what is used already leaves enough of the quota."""
    on = case.job.machines
    if isinstance(on, GpuHosts):
        return _gpu_quota(case, on)
    if case.engine == "jobset":
        return unknown("Compute Engine counts the chips of GKE by names not known here")
    needs, what = (
        _number(on.accelerator_type),
        "cores" if _counts_cores(on) else "chips",
    )
    short = []
    for zone in case.job.zones:
        limits = _limits(case, on, zone)
        if not limits:
            return unknown(
                f"no quota of {zone} is named as those of {on.topology.name}"
            )
        metric, limit = max(limits.items(), key=lambda item: item[1])
        used = _used(case, on, zone)
        if limit - used < needs:
            short.append(f"{zone}: {metric} is {limit:g} {what}, {used} used")
    if short:
        return fails(f"{needs} are needed; {'; '.join(short)}", _ask_for_more(case.job))
    return ok(f"{needs} {what} in each of {', '.join(case.job.zones)}")


def _number(accelerator_type: str) -> int:
    return int(accelerator_type.rpartition("-")[2])


def _counts_cores(on: TpuSlice) -> bool:
    return _number(on.accelerator_type) != on.chips


def _limits(case: Case, on: TpuSlice, zone: str) -> dict[str, float]:
    """Return the limits that hold for a slice in a zone, by the metric's name."""
    name = _QUOTAS[on.topology.name]
    if on.topology.name in ("v2", "v3") and on.hosts > 1:
        name += "-pod"
    if on.topology.name == "v5e" and on.hosts == 1:
        name += "(-serving)?"  # as Google counts small ones, in some zones at least
    spot = "-preemptible" if case.job.is_spot else ""
    pattern = re.compile(rf"tpu\.googleapis\.com/{name}{spot}")
    path = f"projects/{case.job.project}/services/tpu.googleapis.com"
    metrics = case.google.pages(
        "quota", f"{path}/consumerQuotaMetrics", "metrics", view="FULL"
    )
    return {
        metric["metric"]: min(found)
        for metric in metrics
        if pattern.fullmatch(metric["metric"])
        and (found := [*_effective(metric, zone)])
    }


def _effective(metric: Mapping[str, Any], zone: str) -> Iterator[float]:
    """Yield what each limit of a metric is in a zone: its most specific bucket."""
    here = {"zone": zone, "region": zone.rpartition("-")[0]}
    for limit in metric.get("consumerQuotaLimits", ()):
        for bucket in reversed(limit.get("quotaBuckets", ())):
            dimensions = bucket.get("dimensions", {})
            if all(here.get(key) == value for key, value in dimensions.items()):
                most = int(bucket.get("effectiveLimit", 0))
                yield float("inf") if most < 0 else most
                break


def _used(case: Case, on: TpuSlice, zone: str) -> int:
    """Return what the project's TPU VMs in a zone count for in the same quota."""
    prefix = on.accelerator_type.rpartition("-")[0]
    found = 0
    for node in tpu_vms.nodes(case, zone):
        how = node.get("schedulingConfig", {})
        is_spot = bool(how.get("spot") or how.get("preemptible"))
        kind = node.get("acceleratorType", "")
        if kind.rpartition("-")[0] == prefix and is_spot == case.job.is_spot:
            found += _number(kind)
    return found


def _gpu_quota(case: Case, on: GpuHosts) -> Finding:
    job, metric = case.job, _GPU_QUOTAS.get(on.type)
    path = f"projects/{job.project}/regions/{job.region}"
    region = case.google.get("compute", path) or {}
    name = f"{'PREEMPTIBLE_' * job.is_spot}{metric}"
    found = [one for one in region.get("quotas", ()) if one["metric"] == name]
    if not found:
        return unknown(f"{job.region} says no quota of {on.type}")
    limit, used = found[0]["limit"], found[0]["usage"]
    if limit - used < on.replicas:
        short = f"{job.region}: {name} is {limit:g}, {used:g} used"
        return fails(f"{on.replicas} are needed; {short}", _ask_for_more(job))
    return ok(f"{on.replicas} of {limit:g} in {job.region}, {used:g} used")


def _ask_for_more(job: Job) -> str:
    return (
        "ask for more: https://console.cloud.google.com/iam-admin/quotas"
        f"?project={job.project}"
    )
