"""GKE's JobSet: all hosts of a slice or none, and all again when one is lost."""

import math
from typing import Any

from common.errors import UserError
from launch.engines import checked, pod
from launch.engines.plan import Command, Plan
from launch.engines.yaml_text import to_yaml
from launch.job.job_file import Job
from launch.job.machines import TpuSlice

# What the host script ends with when a person has to mend something, or has said stop;
# 75, or a signal, when it is to start again.
_ENDS = (1, 2, 130)
_AGAIN = (75, 137, 143)
# Of hosts that end with none of these; to start again for ever would help nobody.
_UNKNOWN_FAILURES = 20
_KEPT_SECONDS = 86_400  # of a job that has ended, for who reads its log
_HOUR = 3_600
_NODE_POOL = "cloud.google.com/gke-nodepool"


def render(job: Job, submission: str) -> str:
    """Return the manifest; UserError where JobSet cannot do what the job asks."""
    return to_yaml(_manifest(job, submission))


def check(text: str, job: Job) -> str | None:
    """Hold it against the schemas of JobSet and of Kubernetes."""
    import yaml

    del job
    return checked.by_kubernetes(yaml.safe_load(text))


def submit(job: Job, submission: str) -> Plan:
    """Create it; the API server looks first, at what no schema says."""
    text = render(job, submission)
    create = ["create", "--validate=strict", "--filename=-"]
    return Plan(
        commands=[
            _kubectl(job, *create, "--dry-run=server", stdin=text),
            _kubectl(job, *create, stdin=text),
        ]
    )


def status(job: Job) -> Plan:
    """Show the job and its pods."""
    return Plan(
        commands=[
            _kubectl(job, "get", "jobset", job.name, "--output=wide"),
            _kubectl(job, "get", "pods", _selector(job), "--output=wide"),
        ],
        looks=True,
    )


def logs(job: Job) -> Plan:
    """Follow what host 0 prints."""
    first = f"{_selector(job)},batch.kubernetes.io/job-completion-index=0"
    return Plan(commands=[_kubectl(job, "logs", "--follow", "--tail=1000", first)])


def down(job: Job) -> Plan:
    """Delete it, with its pods, which have their grace to save."""
    return Plan(commands=[_kubectl(job, "delete", "jobset", job.name)])


def _kubectl(job: Job, *words: str, stdin: str = "") -> Command:
    context = job.kubernetes.get("context")
    where = [f"--namespace={_namespace(job)}"]
    where += [f"--context={context}"] if context else []
    return Command(
        words=["kubectl", *words, *where], stdin=stdin, install="install kubectl"
    )


def _namespace(job: Job) -> str:
    return job.kubernetes["namespace"]


def _selector(job: Job) -> str:
    return f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}"


def _manifest(job: Job, submission: str) -> dict[str, Any]:
    if job.commit:
        raise UserError(
            "code.commit: JobSet starts containers, which need code.image; see the "
            "Dockerfile"
        )
    queue = job.kubernetes.get("queue")
    kueue = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    # One job, one node pool: a slice is no other job's.
    pool = {"alpha.jobset.sigs.k8s.io/exclusive-topology": _NODE_POOL}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": _namespace(job),
            "labels": {**job.all_labels, **kueue},
            **({"annotations": pool} if isinstance(job.machines, TpuSlice) else {}),
        },
        "spec": {
            **({"suspend": True} if queue else {}),  # Kueue's to end
            # Hosts find each other while they start.
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "successPolicy": {"operator": "All", "targetReplicatedJobs": [pod.NAME]},
            "failurePolicy": _failure_policy(),
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "replicatedJobs": [
                {"name": pod.NAME, "template": {"spec": _job(job, submission)}},
            ],
        },
    }


def _failure_policy() -> dict[str, Any]:
    """Return what becomes of all hosts when one fails; the first rule that fits counts.

    A rule sees a Job and not its pods. Why it failed stands in a message of Kubernetes
    (pkg/controller/job/pod_failure_policy.go): "Container host for pod ... failed with
    exit code 75 matching FailJob rule at index 1".
    """
    ends = "|".join(map(str, _ENDS))
    return {
        "maxRestarts": _UNKNOWN_FAILURES,
        "rules": [
            {
                "name": "over",
                "action": "FailJobSet",
                "onJobFailureReasons": ["DeadlineExceeded"],
            },
            {
                "name": "mistake",
                "action": "FailJobSet",
                "onJobFailureReasons": ["PodFailurePolicy"],
                "onJobFailureMessagePatterns": [f"exit code ({ends}) matching"],
            },
            {
                "name": "again",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["PodFailurePolicy"],
            },
        ],
    }


def _job(job: Job, submission: str) -> dict[str, Any]:
    hosts = job.machines.hosts
    statuses = sorted(_ENDS + _AGAIN)
    return {
        "parallelism": hosts,
        "completions": hosts,
        # GKE gives such pods, with google.com/tpu, TPU_WORKER_ID and _HOSTNAMES.
        "completionMode": "Indexed",
        "backoffLimit": 0,
        # The host script keeps the budget. This is for one that hangs; each start of
        # all pods makes a new Job, which counts from its own beginning.
        "activeDeadlineSeconds": math.ceil(job.budget_hours * _HOUR) + _HOUR,
        "podFailurePolicy": {
            "rules": [
                # A pod that was driven out starts again, whatever it has ended with.
                {
                    "action": "FailJob",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": pod.NAME,
                        "operator": "In",
                        "values": statuses,
                    },
                },
            ]
        },
        "template": {
            "metadata": {"labels": job.all_labels},
            "spec": pod.spec(job, submission),
        },
    }
