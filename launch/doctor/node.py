"""A slice that runs: its state, the ports of its hosts, and the run's last sign."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common.console import count
from common.errors import first_line
from launch.doctor import data, tpu_client
from launch.doctor.case import Case, command
from launch.doctor.findings import Finding, NotAnswered, fails, ok, unknown
from launch.job.ports import WORKER

_SECONDS = 3.0
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def state(case: Case) -> Finding:
    """Check the state, health and symptoms of a TPU VM, and what its account may."""
    node, zone = _find(case)
    credentials = case.google.identity.credentials
    found = tpu_client.look(case.node, zone, case.job.project, credentials)
    where = (f"--zone={zone}", f"--project={case.job.project}")
    describe = command(
        "gcloud", "compute", "tpus", "tpu-vm", "describe", case.node, *where
    )
    said = f"{case.node} is {found.state}, {found.health}"
    if found.symptoms:
        return fails(f"{said}: {found.symptoms[-1]}", describe)
    if found.state != "READY" or found.health not in ("HEALTHY", None):
        return fails(said, describe)
    if _CLOUD_PLATFORM not in node.get("serviceAccount", {}).get("scope", ()):
        return fails(
            f"{said}; its account has not the scope cloud-platform",
            f"make it anew, with --scopes={_CLOUD_PLATFORM}",
        )
    return ok(said)


def ports(case: Case) -> Finding:
    """Check that the worker of each host answers at its port."""
    node, zone = _find(case)
    hosts = [one["ipAddress"] for one in node.get("networkEndpoints", ())]
    if not hosts:
        raise NotAnswered(f"no addresses of {case.node} are known")
    with ThreadPoolExecutor(len(hosts)) as pool:
        refused = dict(zip(hosts, pool.map(_why_closed, hosts), strict=True))
    silent = [host for host, why in refused.items() if why == "silent"]
    closed = [host for host, why in refused.items() if why == "closed"]
    if closed:
        where = (f"--zone={zone}", f"--project={case.job.project}", "--worker=all")
        ssh = ("gcloud", "compute", "tpus", "tpu-vm", "ssh", case.node, *where)
        return fails(
            f"no worker listens on {', '.join(closed)}:{WORKER}",
            command(*ssh, "--command=ps -ef"),
        )
    if silent:
        return unknown(
            f"{', '.join(silent)}:{WORKER} cannot be reached from here: ask on a host"
        )
    return ok(f"{count(len(hosts), 'host')} at port {WORKER}")


def _why_closed(host: str) -> str:
    """Return "" of a port that answers, else closed or silent."""
    try:
        socket.create_connection((host, WORKER), _SECONDS).close()
    except ConnectionRefusedError:
        return "closed"
    except OSError:
        return "silent"
    return ""


def heartbeat(case: Case) -> Finding:
    """Check that the run has given a sign of life lately, and has not failed."""
    from train.fault_tolerance.heartbeat import SILENT_SECONDS

    try:
        beat = data.heartbeat(case)
    except ValueError as error:
        raise NotAnswered(f"hosts/host-0.json: {first_line(error)}") from error
    if beat is None:
        return unknown(f"{case.job.model_dir} has no heartbeat yet")
    said = (
        f"{beat.get('phase')} at step {beat.get('step')}, {beat.get('state')}, "
        f"{beat['age']:,.0f} s ago"
    )
    silent = beat.get("state") == "running" and beat["age"] > SILENT_SECONDS
    if silent or beat.get("state") in ("failed", "hung"):
        if error := beat.get("error"):
            said += f": {error}"
        return fails(said, "the engine's log tells why: python -m launch.job logs")
    return ok(said)


def _find(case: Case) -> tuple[dict[str, Any], str]:
    """Return a TPU VM and its zone."""
    for zone in case.job.zones:
        path = f"projects/{case.job.project}/locations/{zone}/nodes/{case.node}"
        if found := case.google.get("tpu", path):
            return found, zone
    raise NotAnswered(f"there is no TPU VM {case.node} in {', '.join(case.job.zones)}")
