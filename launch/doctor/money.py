"""What the job takes: hours and money, and the time that it has to save at its end."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from launch.doctor.case import Case
from launch.doctor.findings import Finding, fails, ok, unknown
from launch.job.job_file import Job
from launch.job.machines import TpuSlice

# GKE takes spot nodes so soon, whatever grace a pod asks for (from memory).
_SPOT_SECONDS = 25

Row = dict[str, str]


def budget(case: Case) -> Finding:
    """Check that hours, money and the grace at the end are enough."""
    job, deadline = case.job, _deadline(case)
    if job.grace_seconds <= deadline:
        return fails(
            f"the engine kills after {job.grace_seconds:g} s, and to save may take "
            f"preemption_deadline_seconds = {deadline:g}",
            f"restarts.grace_seconds: {deadline + 30:g}",
        )
    if case.engine == "jobset" and job.is_spot and deadline >= _SPOT_SECONDS:
        return fails(
            f"GKE gives a spot node {_SPOT_SECONDS} s, and to save may take "
            f"preemption_deadline_seconds = {deadline:g}",
            "run.gin_params: experiment.Experiment.preemption_deadline_seconds = 15",
        )
    hours = (case.preflight or {}).get("hours")
    if hours is not None and hours > job.budget_hours:
        return fails(
            f"preflight says {hours:.1f} h of training alone, the budget is "
            f"{job.budget_hours:g} h",
            "budget.hours, or a larger slice",
        )
    return _money(job, hours)


def _deadline(case: Case) -> float:
    return case.sound_config().experiment.preemption_deadline_seconds


def _money(job: Job, hours: float | None) -> Finding:
    price = _price(job)
    if price is None:
        within = job.budget_dollars / job.budget_hours
        return unknown(
            "no price: SkyPilot's catalog is not here, or lacks these machines (its "
            f"first launch fetches it); the budget is for {_dollars(within)} an hour"
        )
    whole = job.budget_hours if hours is None else hours
    what = "the budget's" if hours is None else "preflight's"
    total = price * whole
    found = f"{_dollars(price)} an hour for {what} {whole:.1f} h are {_dollars(total)}"
    if total > job.budget_dollars:
        return fails(
            f"{found}, the budget is {_dollars(job.budget_dollars)}",
            "budget.dollars, budget.hours, a smaller slice or machines.capacity: spot",
        )
    return ok(f"{found} of {_dollars(job.budget_dollars)}, by SkyPilot's catalog")


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}"


def _price(job: Job) -> float | None:
    """Return what all machines cost an hour in the dearest of the zones, in dollars."""
    prices = [_zone_price(rows, job) for rows in _catalog(job.zones)]
    known = [price for price in prices if price is not None]
    return max(known) if len(known) == len(job.zones) else None


def _zone_price(rows: Sequence[Row], job: Job) -> float | None:
    on, column = job.machines, "SpotPrice" if job.is_spot else "Price"
    if isinstance(on, TpuSlice):
        of_slice = ("AcceleratorName", f"tpu-{on.accelerator_type}")
        return _cost(rows, column, of_slice)
    gpus = _cost(
        rows,
        column,
        ("AcceleratorName", on.type),
        ("AcceleratorCount", f"{on.per_host}.0"),
    )
    # The machine around them has a price of its own.
    host = _cost(rows, column, ("InstanceType", on.machine_type))
    return None if gpus is None or host is None else on.hosts * (gpus + host)


def _cost(rows: Sequence[Row], column: str, *wanted: tuple[str, str]) -> float | None:
    """Return the price of what has these values, None where there is none."""
    for row in rows:
        if all(row[name] == value for name, value in wanted) and row[column]:
            return float(row[column])
    return None


def _catalog(zones: Sequence[str]) -> list[list[Row]]:
    """Return the rows of each zone of SkyPilot's catalog; nothing where it is not.

    The file is SkyPilot's own cache, as release 0.14 keeps it: no interface of it.
    """
    root = Path(os.environ.get("SKY_RUNTIME_DIR") or Path.home())
    paths = sorted(root.glob(".sky/catalogs/v*/gcp/vms.csv"), key=os.path.getmtime)
    if not paths:
        return []
    with paths[-1].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["AvailabilityZone"] in zones]
    return [[row for row in rows if row["AvailabilityZone"] == zone] for zone in zones]
