"""SkyPilot: makes TPU VMs and GPU VMs, and again when they are taken away.

What it gets wrong is lived with here, and told in docs/launch.md.
"""

from typing import Any

from common.errors import UserError
from common.project import ROOT
from launch.engines import checked, on_hosts
from launch.engines.plan import Command, Plan
from launch.engines.yaml_text import to_yaml
from launch.job.job_file import Job
from launch.job.machines import GpuHosts, TpuSlice

SKY = ROOT / ".venv-launch/bin/sky"
VERSION = "0.14.1"  # as requirements/launch.in pins it
# The default is to copy the user's own credentials to every machine.
_CONFIG = {"gcp": {"remote_identity": "SERVICE_ACCOUNT"}}
_DISK_GB = 200  # of GPU VMs: the image has 10; a TPU VM's boot disk is as it is


def render(job: Job, submission: str) -> str:
    """Return the task; UserError where SkyPilot cannot do what the job asks."""
    return to_yaml(_task(job, submission))


def check(text: str, job: Job) -> str | None:
    """Let SkyPilot read the task, and compare what it has understood."""
    return checked.by_skypilot(text, _understood(job))


def submit(job: Job, submission: str) -> Plan:
    """Make it a managed job."""
    files = {"task.yaml": render(job, submission), "config.yaml": to_yaml(_CONFIG)}
    commands = [
        _sky("launch", "--yes", "--detach-run", "--config=config.yaml", "task.yaml")
    ]
    if job.commit:
        archive = on_hosts.archive_words(job.commit, "code.tar")
        unpack = ["tar", "--extract", "--file=code.tar", "--one-top-level=code"]
        commands[:0] = [
            Command(words=archive, install="install git"),
            Command(words=unpack, install="install tar"),
        ]
    return Plan(files=files, commands=commands, afterwards=[_identity(job)])


def status(job: Job) -> Plan:
    """Show SkyPilot's word, that of its controller, and what Google has of the job."""
    return Plan(
        commands=[
            _sky("queue", "--verbose"),
            _sky("logs", "--controller", "--no-follow", "--tail=20", *_named(job)),
            *(_machines(job, zone) for zone in job.zones),
        ],
        looks=True,
        afterwards=_left_behind(job),
    )


def logs(job: Job) -> Plan:
    """Follow what the hosts print."""
    return Plan(commands=[_sky("logs", *_named(job))])


def down(job: Job) -> Plan:
    """End the job; SkyPilot deletes its machines then, and no queued resource."""
    return Plan(
        commands=[_sky("cancel", "--yes", *_named(job)), _sky("queue")],
        afterwards=[
            f"Of several jobs named {job.name} it has ended none, and says no error:",
            f"  {SKY} jobs cancel --yes ID",
            *_left_behind(job),
        ],
    )


def _sky(*words: str) -> Command:
    return Command(
        words=[str(SKY), "jobs", *words],
        environment=checked.QUIET,
        install="make launch installs it",
    )


def _named(job: Job) -> list[str]:
    return ["--name", job.name]


def _task(job: Job, submission: str) -> dict[str, Any]:
    if job.capacity == "reservation":
        raise UserError(
            f"machines.capacity: SkyPilot {VERSION} asks for no reserved TPUs, and "
            "takes reservations from its own config alone; take --to=gcloud or jobset"
        )
    code = {"workdir": "code", "setup": on_hosts.SETUP_COMMIT} if job.commit else {}
    return {
        "name": job.name,
        "num_nodes": _num_nodes(job),
        "resources": _resources(job),
        "envs": on_hosts.environment(job, submission),
        **code,
        "run": on_hosts.RUN_COMMIT if job.commit else on_hosts.RUN_IMAGE,
        "config": _network(job),
    }


def _network(job: Job) -> dict[str, Any]:
    return {"gcp": {"vpc_name": job.network, "subnet_names": [job.subnetwork]}}


def _num_nodes(job: Job) -> int:
    """Return how many machines are asked for: a slice is one."""
    return job.machines.hosts if isinstance(job.machines, GpuHosts) else 1


def _resources(job: Job) -> dict[str, Any]:
    infra = [f"gcp/{job.region}/{zone}" for zone in job.zones]
    where = {"ordered": [{"infra": one} for one in infra]}
    on = job.machines
    if isinstance(on, TpuSlice):
        # No cpus, no memory: they are checked against another machine's.
        kind = {
            "accelerators": f"tpu-{on.accelerator_type}",
            "accelerator_args": _accelerator_args(on),
        }
    else:
        kind = {"accelerators": f"{on.type}:{on.per_host}", "disk_size": _DISK_GB}
    return {
        **(where if len(infra) > 1 else {"infra": infra[0]}),
        **kind,
        "use_spot": job.is_spot,
        "job_recovery": _recovery(),
        "labels": job.all_labels,
    }


def _accelerator_args(on: TpuSlice) -> dict[str, Any]:
    # Without the first a v5e gets v5p's; without the second it is given up after 300 s.
    return {"runtime_version": on.runtime, "gcp_queued_resource": True}


def _recovery() -> dict[str, Any]:
    """Return what is done when a job ends or its machines are taken away.

    FAILOVER stays in the region, which is that of the buckets. A status of 75 makes new
    machines: the host script on them has started again as often as it was of use.
    """
    return {
        "strategy": "FAILOVER",
        "max_restarts_on_errors": 0,
        "recover_on_exit_codes": [75],
    }


def _understood(job: Job) -> dict[str, Any]:
    """Return what `checks.checker` is to find in SkyPilot's own object."""
    on = job.machines
    is_tpu = isinstance(on, TpuSlice)
    name, count = (
        (f"tpu-{on.accelerator_type}", 1) if is_tpu else (on.type, on.per_host)
    )
    each = {
        "cloud": "GCP",
        "region": job.region,
        "accelerators": {name: count},
        "accelerator_args": _accelerator_args(on) if is_tpu else None,
        "use_spot": job.is_spot,
        "labels": job.all_labels,
        "job_recovery": _recovery(),
        "network": _network(job),
    }
    return {
        "name": job.name,
        "num_nodes": _num_nodes(job),
        "resources": [{**each, "zone": zone} for zone in job.zones],
    }


def account(job: Job) -> str:
    """Return whose rights the machines have, which SkyPilot decides for itself."""
    return f"skypilot-v1@{job.project}.iam.gserviceaccount.com"


def _identity(job: Job) -> str:
    return (
        f"SkyPilot {VERSION} gives its machines its own service account, "
        f"{account(job)}, in place of {job.service_account}: it needs "
        "roles/storage.objectUser on the buckets"
    )


def _machines(job: Job, zone: str) -> Command:
    # By label: SkyPilot's memory has lost machines before.
    kind = "tpus tpu-vm" if isinstance(job.machines, TpuSlice) else "instances"
    of = "zone" if isinstance(job.machines, TpuSlice) else "zones"
    words = ["gcloud", "compute", *kind.split(), "list", f"--{of}={zone}"]
    return Command(
        words=[*words, f"--project={job.project}", f"--filter=labels.job={job.name}"],
        install="install Google Cloud's command line",
    )


def _left_behind(job: Job) -> list[str]:
    if isinstance(job.machines, GpuHosts):
        return []
    lines = ["SkyPilot deletes no queued resource, and each counts against the quota:"]
    for zone in job.zones:
        words = f"--project={job.project} --zone={zone}"
        lines += [
            f"  gcloud compute tpus queued-resources list {words}",
            f"  gcloud compute tpus queued-resources delete NODE-q --force {words}",
        ]
    return lines
