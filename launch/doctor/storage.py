"""The buckets: where they are, what they keep, and who may do what there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from common import gcs
from launch.doctor import account
from launch.doctor.case import Case, command
from launch.doctor.findings import Finding, NotAnswered, fails, ok

_READ = ("storage.objects.get", "storage.objects.list")
_WRITE = (*_READ, "storage.objects.create", "storage.objects.delete")
# What Google's own roles let do with objects, of these four (cloud.google.com/storage
# /docs/access-control/iam-roles; from memory).
_ROLES = {
    "roles/storage.admin": _WRITE,
    "roles/storage.objectAdmin": _WRITE,
    "roles/storage.objectUser": _WRITE,
    "roles/storage.objectViewer": _READ,
    "roles/storage.objectCreator": ("storage.objects.create",),
    "roles/storage.legacyBucketOwner": ("storage.objects.list",),
    "roles/storage.legacyBucketReader": ("storage.objects.list",),
    "roles/storage.legacyBucketWriter": _WRITE[1:],
    "roles/storage.legacyObjectOwner": _READ[:1],
    "roles/storage.legacyObjectReader": _READ[:1],
}
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")
_BASIC = ("roles/owner", "roles/editor", "roles/viewer")
# Regions of the predefined dual-regions (storage/docs/locations; from memory).
_DUAL_REGIONS = {
    "asia1": ("asia-northeast1", "asia-northeast2"),
    "eur4": ("europe-north1", "europe-west4"),
    "nam4": ("us-central1", "us-east1"),
}
_DAY = 86_400


def _buckets(case: Case) -> Mapping[str, tuple[str, ...]]:
    """Return what the machines have to be able to do, by bucket."""
    needs = {_bucket(case.job.data_dir): _READ}
    return needs | {_bucket(case.job.model_dir): _WRITE}


def _bucket(path: str) -> str:
    return path.removeprefix(gcs.SCHEME).partition("/")[0]


def access(case: Case) -> Finding:
    """Check that the machines' account may read the data and write the run.

    By the policies of bucket and project: to ask as that account would take a token of
    it, which is more than looking. What a group, a folder or an organisation gives is
    not seen.
    """
    who = f"serviceAccount:{case.account}"
    if account.is_to_be_made(case):
        raise NotAnswered(
            f"SkyPilot makes {case.account} at its first launch, with "
            "roles/storage.admin in its project"
        )
    for bucket, needs in _buckets(case).items():
        lacks, not_known = _lacking(case, bucket, who, needs)
        if lacks and not_known:
            raise NotAnswered(f"gs://{bucket}: {not_known}")
        if lacks:
            return fails(
                f"{case.account} lacks {', '.join(lacks)} in gs://{bucket}",
                command(
                    *("gcloud", "storage", "buckets", "add-iam-policy-binding"),
                    *(f"gs://{bucket}", f"--member={who}"),
                    "--role=roles/storage.objectUser",
                ),
            )
    return ok(f"{case.account} in {', '.join(_uris(case))}")


def _uris(case: Case) -> Iterator[str]:
    return (f"gs://{bucket}" for bucket in _buckets(case))


def _lacking(
    case: Case, bucket: str, who: str, needs: Iterable[str]
) -> tuple[list[str], str]:
    """Return the permissions that no policy is known to give, and what is not known."""
    path = f"b/{gcs.quoted(bucket)}/iam"
    query = {"optionsRequestedPolicyVersion": 3}
    policy = case.google.get("storage", path, **query)
    if policy is None:
        raise NotAnswered(f"there is no bucket gs://{bucket}")
    roles, not_known = _roles(policy, who), ""
    if _lacks(roles, needs):
        try:
            roles |= _roles(case.google.project_policy(case.job.project), who)
        except NotAnswered as why:
            not_known = str(why)
    if strange := sorted(filter(_is_strange, roles)):
        not_known = f"what {', '.join(strange)} allows is not known here"
    return _lacks(roles, needs), not_known


def _roles(policy: Mapping[str, Any], who: str) -> set[str]:
    return {
        binding["role"]
        for binding in policy.get("bindings", ())
        if not {who, *_EVERYBODY}.isdisjoint(binding.get("members", ()))
        and "condition" not in binding
    }


def _is_strange(role: str) -> bool:
    """Whether a role may allow what is not known here; other services' do not."""
    mine = ("roles/storage.", "projects/", "organizations/")
    return role not in _ROLES and (role in _BASIC or role.startswith(mine))


def _lacks(roles: Iterable[str], needs: Iterable[str]) -> list[str]:
    has = {permission for role in roles for permission in _ROLES.get(role, ())}
    return [permission for permission in needs if permission not in has]


def place(case: Case) -> Finding:
    """Check that the buckets are there, and in the machines' region."""
    region = case.job.region
    for bucket in _buckets(case):
        about = case.google.get("storage", f"b/{gcs.quoted(bucket)}")
        create = command(
            *("gcloud", "storage", "buckets", "create", f"gs://{bucket}"),
            *(f"--location={region}", f"--project={case.job.project}"),
            *("--uniform-bucket-level-access", "--soft-delete-duration=0"),
        )
        if about is None:
            return fails(f"there is no bucket gs://{bucket}", create)
        if region not in _regions(about):
            return fails(
                f"gs://{bucket} is in {about['location']}, and the machines are in "
                f"{region}: each byte costs egress and time",
                create.replace(f"gs://{bucket}", "gs://ANOTHER"),
            )
    return ok(f"{', '.join(_uris(case))} in {region}")


def _regions(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the regions that all of a bucket's data are in; none of a continent."""
    chosen = about.get("customPlacementConfig", {}).get("dataLocations")
    where = about["location"].lower()
    if chosen:
        return tuple(one.lower() for one in chosen)
    return _DUAL_REGIONS.get(where, (where,))


def keeping(case: Case) -> Finding:
    """Check that the run's bucket lets checkpoints go, and keeps the others."""
    bucket = _bucket(case.job.model_dir)
    about = case.google.get("storage", f"b/{gcs.quoted(bucket)}")
    if about is None:
        raise NotAnswered(f"there is no bucket gs://{bucket}")
    name = case.job.model_dir.removeprefix(f"{gcs.SCHEME}{bucket}/")
    wrong = dict(_habits(about, f"{name}/"))
    if not wrong:
        return ok(f"gs://{bucket} keeps what is there, and nothing that is deleted")
    update = ("gcloud", "storage", "buckets", "update", f"gs://{bucket}")
    return fails(
        f"gs://{bucket}: {'; '.join(wrong)}", command(*update, *wrong.values())
    )


def _habits(about: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield what a bucket does that does not suit a run, and the flag against it."""
    seconds = int(about.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if seconds:
        days = f"{seconds / _DAY:g} days"
        yield f"soft delete bills each old checkpoint {days} on", "--clear-soft-delete"
    if about.get("versioning", {}).get("enabled"):
        yield "versioning keeps each old checkpoint", "--no-versioning"
    if about.get("retentionPolicy"):
        yield "a retention policy refuses to delete", "--clear-retention-period"
    if about.get("defaultEventBasedHold"):
        yield "a hold refuses to delete", "--no-default-event-based-hold"
    rules = about.get("lifecycle", {}).get("rule", ())
    if any(_eats(rule, prefix) for rule in rules):
        yield "a lifecycle rule deletes files of runs, best/ too", "--clear-lifecycle"


def _eats(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule deletes what lies below a prefix and is no old version."""
    if rule.get("action", {}).get("type") != "Delete":
        return False
    condition = rule.get("condition", {})
    of_old = condition.get("isLive") is False or any(
        key in condition
        for key in (
            "numNewerVersions",
            "daysSinceNoncurrentTime",
            "noncurrentTimeBefore",
        )
    )
    prefixes = condition.get("matchesPrefix", [""])
    return not of_old and any(
        prefix.startswith(one) or one.startswith(prefix) for one in prefixes
    )


def layout(case: Case) -> Finding:
    """Check that the run's bucket is flat, as TensorFlow 2.20 takes it to be."""
    bucket = _bucket(case.job.model_dir)
    found = case.google.get("storage", f"b/{gcs.quoted(bucket)}/storageLayout")
    if found is None:
        raise NotAnswered(f"there is no bucket gs://{bucket}")
    if found.get("hierarchicalNamespace", {}).get("enabled"):
        return fails(
            f"gs://{bucket} has a hierarchical namespace, which TensorFlow 2.20 does "
            "not know",
            command(
                *("gcloud", "storage", "buckets", "create", "gs://ANOTHER"),
                f"--location={case.job.region}",
            ),
        )
    return ok(f"gs://{bucket} is flat")
