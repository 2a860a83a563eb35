"""The pods of a JobSet: a host each."""

from typing import Any

from launch.engines import on_hosts
from launch.job import ports
from launch.job.host_job import HOSTS, VARIABLE
from launch.job.job_file import Job
from launch.job.machines import GpuHosts, TpuSlice

NAME = "host"  # of the replicated job, and of its container
_SPOT = "cloud.google.com/gke-spot"


def spec(job: Job, submission: str) -> dict[str, Any]:
    """Return what a pod is: where it may be, and its one container."""
    # NCCL's rings outgrow the 64 MB that a container has there.
    memory = {"name": "memory", "emptyDir": {"medium": "Memory"}}
    is_gpu = isinstance(job.machines, GpuHosts)
    return {
        "restartPolicy": "Never",
        # Of spot nodes about 25 s are left whatever stands here (from memory).
        "terminationGracePeriodSeconds": job.grace_seconds,
        "serviceAccountName": job.kubernetes["service_account"],
        # Google's metadata server says who a pod is; Kubernetes' token is of no use.
        "automountServiceAccountToken": False,
        "nodeSelector": _node_labels(job),
        "affinity": _affinity(job),
        "tolerations": _tolerations(job),
        **({"volumes": [memory]} if is_gpu else {}),
        "containers": [_container(job, submission)],
    }


def _node_labels(job: Job) -> dict[str, str]:
    on = job.machines
    if isinstance(on, TpuSlice):
        labels = {
            "cloud.google.com/gke-tpu-accelerator": on.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": on.gke_topology,
        }
    else:
        labels = {"cloud.google.com/gke-accelerator": on.accelerator}
    if job.is_spot:
        labels[_SPOT] = "true"
    if job.reservation:
        labels["cloud.google.com/reservation-name"] = job.reservation
    return labels


def _affinity(job: Job) -> dict[str, Any]:
    """Return where pods may be: in the job's zones; GPU hosts all in the same."""
    zone = "topology.kubernetes.io/zone"
    inside = {"key": zone, "operator": "In", "values": list(job.zones)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [inside]}]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    found: dict[str, Any] = {"nodeAffinity": {required: terms}}
    if job.has_several_gpu_hosts:
        ours = {"labelSelector": {"matchLabels": {"job": job.name}}}
        found["podAffinity"] = {required: [{**ours, "topologyKey": zone}]}
    return found


def _tolerations(job: Job) -> list[dict[str, str]]:
    resource = _resource(job)
    found = [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}]
    if job.is_spot:
        found.append({**found[0], "key": _SPOT})
    return found


def _resource(job: Job) -> str:
    return "google.com/tpu" if isinstance(job.machines, TpuSlice) else "nvidia.com/gpu"


def _container(job: Job, submission: str) -> dict[str, Any]:
    on = job.machines
    if isinstance(on, TpuSlice):
        count, mounts = on.chips_per_host, {}
        context = {"privileged": True, "runAsUser": 0}  # device files are root's
    else:
        count = on.per_host
        mounts = {"volumeMounts": [{"name": "memory", "mountPath": "/dev/shm"}]}
        context = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    asked = {_resource(job): str(count)}
    return {
        "name": NAME,
        "image": job.image,
        "command": ["python", "-m", "launch.host"],
        "env": [
            {"name": name, "value": _literal(value)}
            for name, value in _environment(job, submission).items()
        ],
        "ports": [{"containerPort": port} for port in ports.of(on)],
        "resources": {"requests": asked, "limits": asked},
        "securityContext": context,
        **mounts,
    }


def _environment(job: Job, submission: str) -> dict[str, str]:
    told = on_hosts.environment(job, submission)
    variables = {VARIABLE: told[VARIABLE]}
    if job.has_several_gpu_hosts:
        # JobSet's names: of the job, the replicated one, its number, the pod's; and the
        # headless service, which has the job's name.
        names = (
            f"{job.name}-{NAME}-0-{index}.{job.name}"
            for index in range(job.machines.hosts)
        )
        variables[HOSTS] = ",".join(names)
    return variables


def _literal(value: str) -> str:
    """Return a text of which Kubernetes makes the value: it expands $(NAME) in env."""
    return value.replace("$", "$$")
