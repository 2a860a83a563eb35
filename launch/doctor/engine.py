"""The engine that is to run the job: its commands, and what it needs to be there."""

import os

from common import project
from launch.doctor.case import Case, command, output
from launch.doctor.findings import Finding, NotAnswered, fails, ok

SKYPILOT = "0.14.1"  # that the job files were rendered for and checked by
_SKY = project.ROOT / ".venv-launch/bin/sky"
_SECONDS, _CHECK_SECONDS = 30.0, 180.0
# It reports what is done with it to its makers else.
_SILENT = {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
_CRD = "jobsets.jobset.x-k8s.io"


def engine(case: Case) -> Finding:
    """Check the engine by its own commands, most of which ask others."""
    case.require_network()
    if case.engine == "gcloud":
        return _gcloud()
    return _skypilot(case) if case.engine == "skypilot" else _jobset(case)


def _gcloud() -> Finding:
    try:
        version = output(["gcloud", "version"], seconds=_SECONDS)
    except NotAnswered as why:
        return fails(str(why), "https://cloud.google.com/sdk/docs/install")
    return ok(version.splitlines()[0])


def _skypilot(case: Case) -> Finding:
    """Check its release, and by `sky check` whether it may use Google Cloud.

    The check starts SkyPilot's own server on this machine, as each of its commands
    does.
    """
    if not _SKY.exists():
        return fails("SkyPilot is not installed", "make launch")
    version = _sky("--version").rpartition(" ")[2]
    if version != SKYPILOT:
        return fails(f"SkyPilot is {version}, not {SKYPILOT}", "make launch")
    try:
        _sky("check", "gcp", seconds=_CHECK_SECONDS)
    except NotAnswered as why:
        return fails(f"SkyPilot {version}: {why}", f"{_SKY} check gcp --verbose")
    return ok(f"SkyPilot {version}; it may use Google Cloud")


def _sky(*words: str, seconds: float = _SECONDS) -> str:
    return output([str(_SKY), *words], seconds=seconds, env={**os.environ, **_SILENT})


def _jobset(case: Case) -> Finding:
    """Check the cluster that kubectl speaks to."""
    try:
        cluster = _kubectl("config", "current-context")
    except NotAnswered as why:
        words = ("gcloud", "container", "clusters", "get-credentials", "CLUSTER")
        return fails(str(why), command(*words, f"--location={case.job.region}"))
    about = case.job.kubernetes
    namespace = f"--namespace={about.get('namespace', 'default')}"
    wanted = [("JobSet", "get", "crd", _CRD)]
    if queue := about.get("queue"):
        wanted += [(f"queue {queue}", "get", "localqueue", queue, namespace)]
    wanted += [
        ("the right to create JobSets", "auth", "can-i", "create", _CRD, namespace)
    ]
    for what, *words in wanted:
        try:
            _kubectl(*words)
        except NotAnswered as why:
            return fails(f"{cluster} lacks {what}: {why}", _REMEDIES[words[1]])
    return ok(f"{cluster} has {', '.join(what for what, *_ in wanted)}")


_REMEDIES = {
    "crd": "kubectl apply --server-side -f https://github.com/kubernetes-sigs/jobset"
    "/releases/latest/download/manifests.yaml",
    "localqueue": "ask the cluster's owner for the queue, or change kubernetes.queue",
    "can-i": "ask the cluster's owner for the right",
}


def _kubectl(*words: str) -> str:
    return output(["kubectl", *words], seconds=_SECONDS)
