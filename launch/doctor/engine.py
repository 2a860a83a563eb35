"""The engine that is to run the job: whether it takes it, and is there."""

import json
import os

from common import console
from common.errors import UserError
from launch.doctor.case import Case, command, output
from launch.doctor.findings import Finding, NotAnswered, fails, mistake, ok
from launch.engines import checked, skypilot
from launch.engines.engine import of
from launch.job.job_file import Job

_SECONDS, _CHECK_SECONDS = 60.0, 300.0
_CRD = "jobsets.jobset.x-k8s.io"


def engine(case: Case) -> Finding:
    """Check that the engine takes the job, and by its own commands that it works."""
    job = case.job
    try:
        of(case.engine).render(job, "doctor")
    except UserError as error:
        return mistake(error, "another --to, or what it names")
    case.require_network()
    if case.engine == "gcloud":
        return _gcloud()
    return _skypilot() if case.engine == "skypilot" else _jobset(job)


def _gcloud() -> Finding:
    try:
        version = output(["gcloud", "version"], seconds=_SECONDS)
    except NotAnswered as why:
        return fails(str(why), "https://cloud.google.com/sdk/docs/install")
    return ok(version.splitlines()[0])


def _skypilot() -> Finding:
    """Check its release, and by `sky check` whether it may use Google Cloud.

    The check starts SkyPilot's own server on this machine, as each of its commands
    does.
    """
    if not skypilot.SKY.exists():
        return fails("SkyPilot is not installed", "make launch")
    version = _sky("--version").rpartition(" ")[2]
    if version != skypilot.VERSION:
        what = f"SkyPilot is {version}, not {skypilot.VERSION}"
        return fails(what, "make launch")
    console.say("sky check gcp, which may take a minute ...", stays=False)
    # Its status is 0 in either case. Lines of its server may come first.
    said = _sky("check", "gcp", "--output=json", seconds=_CHECK_SECONDS)
    workspaces = json.loads(said[said.index("{") :])
    may = {what for one in workspaces.values() for what in one.get("GCP", ())}
    if lacks := {"compute", "storage"} - may:
        what = " and ".join(sorted(lacks))
        again = command(str(skypilot.SKY), "check", "gcp", "--verbose")
        return fails(f"SkyPilot {version} may not use {what} of Google Cloud", again)
    return ok(f"SkyPilot {version}; it may use Google Cloud")


def _sky(*words: str, seconds: float = _SECONDS) -> str:
    environment = {**os.environ, **checked.QUIET}
    return output([str(skypilot.SKY), *words], seconds=seconds, env=environment)


def _jobset(job: Job) -> Finding:
    """Check the cluster that kubectl speaks to."""
    about = job.kubernetes
    try:
        cluster = about.get("context") or _kubectl("config", "current-context")
    except NotAnswered as why:
        words = ("gcloud", "container", "clusters", "get-credentials", "CLUSTER")
        return fails(str(why), command(*words, f"--location={job.region}"))
    namespace = f"--namespace={about['namespace']}"
    wanted = [("JobSet", "get", "crd", _CRD)]
    if queue := about.get("queue"):
        wanted += [(f"queue {queue}", "get", "localqueue", queue, namespace)]
    wanted += [
        ("the right to create JobSets", "auth", "can-i", "create", _CRD, namespace)
    ]
    for what, *words in wanted:
        try:
            _kubectl(*words, f"--context={cluster}")
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
