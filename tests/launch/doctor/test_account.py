"""Rows 5 to 8 and 16: who asks, and what the accounts may."""

import pytest
from google.auth import exceptions

from launch.doctor import identity
from launch.doctor.google import Google
from tests.support.google import case_of, client, line_of

ACCOUNT = "trainer@my-project.iam.gserviceaccount.com"


def of(google, job, number, **who):
    case = case_of(google, job())
    case.google = client(google, **who)
    return line_of(case, number)


def test_credentials(google, job):
    assert of(google, job, 5) == "ok       credentials: a person's"
    assert of(google, job, 5, why_not="expired") == (
        "fails    credentials: expired  ->  gcloud auth application-default login"
    )


def test_without_credentials_nobody_is_asked(google, job):
    for number in (6, 7, 8, 9, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23):
        said = of(google, job, number, why_not="expired")
        assert said.startswith("unknown")
        assert said.endswith(": no credentials")
    assert google.asked == []


def test_project(google, job):
    assert of(google, job, 6) == "ok       project: my-project"
    own = {"project": "my-project", "quota_project": "my-project"}
    assert of(google, job, 6, **own) == "ok       project: my-project"
    assert of(google, job, 6, quota_project="theirs") == (
        "fails    project: requests count against theirs, and the job is of my-project"
        "  ->  gcloud auth application-default set-quota-project my-project"
    )
    assert of(google, job, 6, project="theirs") == (
        "fails    project: the project here is theirs, and the job is of my-project"
        "  ->  gcloud config set project my-project"
    )


def test_services(found, google):
    assert found(7) == "ok       services: compute, storage, tpu"
    google.said["services"]["services"][2]["state"] = "DISABLED"
    assert found(7) == (
        "fails    services: tpu.googleapis.com is off  ->  "
        "gcloud services enable tpu.googleapis.com --project=my-project"
    )
    assert found(7, name="gpu_8") == "ok       services: compute, storage"
    assert "container.googleapis.com is off" in found(7, engine="jobset")
    google.said["services"] = 403
    assert found(7) == (
        "unknown  services: serviceusage.googleapis.com refuses: 403: as a test has it"
    )


def test_permissions(found, google):
    assert found(8) == (
        "ok       your permissions: tpu.nodes.create, tpu.nodes.delete, "
        "tpu.queuedresources.create, tpu.queuedresources.delete"
    )
    assert "compute.instances.create" in found(8, name="gpu_8")
    google.said["account_permissions"] = {}
    assert found(8) == (
        "fails    your permissions: you lack iam.serviceAccounts.actAs of "
        f"{ACCOUNT}  ->  gcloud iam service-accounts add-iam-policy-binding "
        f"{ACCOUNT} --project=my-project --member=user:YOU "
        "--role=roles/iam.serviceAccountUser"
    )
    assert found(8, engine="jobset").startswith(
        "ok"
    )  # pods take an account by another way
    google.said["project_permissions"]["permissions"].remove("tpu.nodes.delete")
    assert found(8) == (
        "fails    your permissions: you lack tpu.nodes.delete  ->  gcloud projects "
        "add-iam-policy-binding my-project --member=user:YOU --role=roles/tpu.admin"
    )


def test_skypilot_has_an_account_of_its_own(found, google):
    own = "skypilot-v1@my-project.iam.gserviceaccount.com"
    made = (
        f"ok       machines' account: {own}, which SkyPilot makes at its first launch"
    )
    assert found(16, engine="skypilot") == made
    assert found(8, engine="skypilot").startswith("ok")
    assert found(17, engine="skypilot") == (
        f"unknown  access to the buckets: SkyPilot makes {own} at its first launch, "
        "with "
        "roles/storage.admin in its project"
    )
    google.said["skypilots_account"] = {"email": own}
    assert found(16, engine="skypilot") == f"ok       machines' account: {own}"
    assert found(17, engine="skypilot").startswith(
        f"fails    access to the buckets: {own} lacks storage.objects.get"
    )
    google.said["project_policy"]["bindings"] += [
        {"role": "roles/storage.admin", "members": [f"serviceAccount:{own}"]}
    ]
    assert found(17, engine="skypilot").startswith("ok")
    assert found(8, engine="skypilot").startswith(
        f"fails    your permissions: you lack iam.serviceAccounts.actAs of {own}"
    )


def test_service_account(found, google):
    assert found(16) == f"ok       machines' account: {ACCOUNT}"
    google.said["service_account"]["disabled"] = True
    assert found(16) == (
        f"fails    machines' account: {ACCOUNT} is disabled  ->  "
        f"gcloud iam service-accounts enable {ACCOUNT} --project=my-project"
    )
    google.said["service_account"] = None
    assert found(16) == (
        f"fails    machines' account: there is no {ACCOUNT}  ->  "
        "gcloud iam service-accounts create trainer --project=my-project"
    )


def test_who_this_process_is(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    who = identity.find("my-project")
    assert who.why_not.startswith(f"File {tmp_path}/none.json was not found")
    assert Google(who, identity.session(who)).identity is who


class Person:
    """Credentials as of a person who has logged in."""

    quota_project_id = None
    valid = False

    def __init__(self, error=None, project=None):
        self.error, self.project = error, project

    def with_quota_project(self, project):
        return Person(self.error, project)

    def refresh(self, request):
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, exceptions.RefreshError("it was revoked")])
def test_a_persons_requests_count_against_the_job(monkeypatch, error):
    monkeypatch.setattr("google.auth.default", lambda scopes: (Person(error), "mine"))
    who = identity.find("my-project")
    assert who.credentials.project == "my-project"
    assert (who.project, who.quota_project) == ("mine", None)
    assert who.why_not == ("it was revoked" if error else "")
