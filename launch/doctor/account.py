"""Who asks, in which project, and what that account and the machines' may do."""

from common import gcs
from launch.doctor.case import Case, command
from launch.doctor.findings import Finding, NotAnswered, fails, ok

_CREATE_TPUS = (
    "tpu.nodes.create",
    "tpu.nodes.delete",
    "tpu.queuedresources.create",
    "tpu.queuedresources.delete",
)
_CREATE_MACHINES = ("compute.instances.create", "compute.instances.delete")
# To give a cluster work is the cluster's own matter: the engine's check asks it.
_FIND_CLUSTERS = ("container.clusters.get", "container.clusters.list")
_ACT_AS = "iam.serviceAccounts.actAs"


def credentials(case: Case) -> Finding:
    """Check that there are credentials, and a token for them."""
    who = case.google.identity
    if who.why_not:
        login = command("gcloud", "auth", "application-default", "login")
        return fails(who.why_not, login)
    return ok(who.name)


def project(case: Case) -> Finding:
    """Check that requests count against the job's project."""
    who, wanted = case.google.identity, case.job.project
    if who.why_not:
        raise NotAnswered("no credentials")
    if who.quota_project not in (None, wanted):
        return fails(
            f"requests count against {who.quota_project}, and the job is of {wanted}",
            command(
                *("gcloud", "auth", "application-default", "set-quota-project"), wanted
            ),
        )
    if who.project not in (None, wanted):
        return fails(
            f"the project here is {who.project}, and the job is of {wanted}",
            command("gcloud", "config", "set", "project", wanted),
        )
    return ok(wanted)


def services(case: Case) -> Finding:
    """Check that the services are on that machines, buckets and clusters come of."""
    names = ["compute", "storage"]
    names += ["container"] if case.engine == "jobset" else []
    names += ["tpu"] if case.slice and case.engine != "jobset" else []
    wanted = [f"{name}.googleapis.com" for name in names]
    parent = f"projects/{case.job.project}"
    answer = case.google.get(
        "serviceusage",
        f"{parent}/services:batchGet",
        names=[f"{parent}/services/{name}" for name in wanted],
    )
    if answer is None:
        return fails(f"there is no project {case.job.project}", "project: its id")
    on = {
        one["name"].rpartition("/")[2]
        for one in answer.get("services", ())
        if one.get("state") == "ENABLED"
    }
    if off := [name for name in wanted if name not in on]:
        return fails(
            f"{', '.join(off)} is off",
            command(
                *("gcloud", "services", "enable", *off),
                f"--project={case.job.project}",
            ),
        )
    return ok(", ".join(names))


def permissions(case: Case) -> Finding:
    """Check that whoever asks may create and delete the machines."""
    job, google = case.job, case.google
    if case.engine == "jobset":
        wanted, role = _FIND_CLUSTERS, "roles/container.developer"
    elif case.slice:
        wanted, role = _CREATE_TPUS, "roles/tpu.admin"
    else:
        wanted, role = _CREATE_MACHINES, "roles/compute.instanceAdmin.v1"
    has = google.granted("cloudresourcemanager", f"projects/{job.project}", wanted)
    if lacks := [one for one in wanted if one not in (has or ())]:
        return fails(
            f"you lack {', '.join(lacks)}",
            command(
                *("gcloud", "projects", "add-iam-policy-binding", job.project),
                *("--member=user:YOU", f"--role={role}"),
            ),
        )
    if case.engine != "jobset" and _may_not_act(case):
        return fails(
            f"you lack {_ACT_AS} of {case.account}",
            command(
                *("gcloud", "iam", "service-accounts", "add-iam-policy-binding"),
                *(case.account, f"--project={_project_of(case.account)}"),
                *("--member=user:YOU", "--role=roles/iam.serviceAccountUser"),
            ),
        )
    return ok(", ".join(wanted))


def _may_not_act(case: Case) -> bool:
    """Whether machines cannot be given their account by whoever asks."""
    acts = case.google.granted("iam", _address(case.account), [_ACT_AS])
    return _ACT_AS not in (acts or ()) and not is_to_be_made(case)


def service_account(case: Case) -> Finding:
    """Check that the machines' own account is there."""
    email = case.account
    if is_to_be_made(case):
        return ok(f"{email}, which SkyPilot makes at its first launch")
    name, _, domain = email.partition("@")
    of = f"--project={domain.partition('.')[0]}"
    found = case.google.get("iam", _address(email))
    if found is None:
        create = command("gcloud", "iam", "service-accounts", "create", name, of)
        return fails(f"there is no {email}", create)
    if found.get("disabled"):
        enable = command("gcloud", "iam", "service-accounts", "enable", email, of)
        return fails(f"{email} is disabled", enable)
    return ok(email)


def is_to_be_made(case: Case) -> bool:
    """Whether it is SkyPilot's account, and SkyPilot has not been here yet."""
    is_skypilots = case.engine == "skypilot"
    return is_skypilots and case.google.get("iam", _address(case.account)) is None


def _project_of(email: str) -> str:
    return email.partition("@")[2].partition(".")[0]


def _address(email: str) -> str:
    return f"projects/{_project_of(email)}/serviceAccounts/{gcs.quoted(email)}"
