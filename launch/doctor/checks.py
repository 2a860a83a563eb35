"""The table of checks: what is looked at, how, what mends it, who says so."""

import dataclasses
from collections.abc import Callable, Iterator

from launch.doctor import (
    account,
    capacity,
    data,
    engine,
    job,
    money,
    network,
    node,
    quota,
    storage,
)
from launch.doctor.case import Case
from launch.doctor.findings import Finding, NotAnswered, unknown

_OTHER_FORM = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
_TPU = "https://cloud.google.com/tpu/docs"
_STORAGE = "https://cloud.google.com/storage/docs"
_AUTH = "https://google-auth.readthedocs.io"


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that has to be right.

    Attributes:
      name: in a word or two.
      how: it is known, in Markdown.
      remedy: where it fails, likewise; what is printed is made for the job.
      source: a page that says so, of this project or of Google.
      look: finds it out.
    """

    name: str
    how: str
    remedy: str
    source: str
    look: Callable[[Case], Finding]


CHECKS = (
    Check(
        "job file",
        "the schema, `launch/job/schema.json`",
        "the field and its line",
        "docs/doctor.md",
        job.file,
    ),
    Check(
        "machines",
        "tables of the slices and of the machines with GPUs that there are",
        "the nearest ones",
        f"{_TPU}/v5e",
        job.machines,
    ),
    Check(
        "config",
        "what train.main refuses; the strategy, the replicas; paths on gs://",
        "the setting",
        "docs/training.md",
        job.config,
    ),
    Check(
        "compiles and fits",
        "`python -m preflight` for the slice; --no_preflight leaves it out",
        "the op and its line, or the largest batch",
        "docs/preflight.md",
        job.compiles,
    ),
    Check(
        "credentials",
        "`google.auth.default()`, and a token",
        "`gcloud auth application-default login`",
        f"{_AUTH}/en/latest/reference/google.auth.html",
        account.credentials,
    ),
    Check(
        "project",
        "the credentials' project, and whose quotas requests count against",
        "`gcloud config set project`",
        f"{_AUTH}/en/latest/reference/google.auth.html",
        account.project,
    ),
    Check(
        "services",
        "serviceusage services.batchGet: compute, storage, tpu or container",
        "`gcloud services enable`",
        f"{_TPU}/setup-gcp-account",
        account.services,
    ),
    Check(
        "your permissions",
        "`testIamPermissions` of the project and of the machines' account",
        "`roles/tpu.admin`, `roles/iam.serviceAccountUser`",
        "https://cloud.google.com/iam/docs/permissions-reference",
        account.permissions,
    ),
    Check(
        "type in the zones",
        "tpu acceleratorTypes.list; of GPUs and GKE compute's",
        "the zones that have it",
        f"{_TPU}/regions-zones",
        capacity.offered,
    ),
    Check(
        "runtime of TPU VMs",
        "tpu runtimeVersions.list",
        "a runtime that the zone has",
        f"{_TPU}/runtimes",
        capacity.runtime,
    ),
    Check(
        "code",
        "the lock of the commit, or of the commit that the image is labelled with: "
        "tensorflow-tpu and the libtpu that goes with it",
        "the pin",
        "https://github.com/tensorflow/tensorflow/issues/82208",
        job.code,
    ),
    Check(
        "quota",
        "serviceusage `consumerQuotaMetrics` less nodes.list; of GPUs regions.get",
        "ask for more of the metric",
        f"{_TPU}/quota",
        quota.quota,
    ),
    Check(
        "capacity now",
        "cannot be known: only a request tells",
        "spot, another zone, a longer wait",
        f"{_TPU}/queued-resources",
        capacity.capacity,
    ),
    Check(
        "reservation",
        "compute reservations.get, if one is named",
        "on demand or spot",
        "https://cloud.google.com/compute/docs/reference/rest/v1/reservations",
        capacity.reservation,
    ),
    Check(
        "left behind",
        "tpu queuedResources.list (FAILED, SUSPENDED) and nodes.list, by the label "
        "`job`",
        "delete them",
        f"{_TPU}/queued-resources",
        capacity.orphans,
    ),
    Check(
        "machines' account",
        "iam serviceAccounts.get; with --node its scopes, too",
        "`gcloud iam service-accounts create`",
        "https://cloud.google.com/iam/docs/service-account-overview",
        account.service_account,
    ),
    Check(
        "access to the buckets",
        "the policies of the buckets and of the project",
        "`roles/storage.objectUser`",
        f"{_STORAGE}/access-control/iam-roles",
        storage.access,
    ),
    Check(
        "place of the buckets",
        "storage buckets.get: location",
        "a bucket in the machines' region",
        f"{_STORAGE}/locations",
        storage.place,
    ),
    Check(
        "what the bucket keeps",
        "storage buckets.get: soft delete, versioning, retention, lifecycle",
        "`gcloud storage buckets update`",
        f"{_STORAGE}/soft-delete",
        storage.keeping,
    ),
    Check(
        "flat bucket",
        "storage buckets.getStorageLayout",
        "a bucket without a hierarchical namespace",
        f"{_STORAGE}/hns-overview",
        storage.layout,
    ),
    Check(
        "data",
        "`dataset_info.json` and the sizes of all files, by one listing",
        "copy or prepare them again",
        "docs/data.md",
        data.whole,
    ),
    Check(
        "folder of the run",
        "whose claim lies there, and the config of the run in it",
        "wait, take over, or name another folder",
        "docs/fault_tolerance.md",
        data.run_folder,
    ),
    Check(
        "network",
        "compute subnetworks.get, firewalls.list: Private Google Access; the ports of "
        "the hosts open to the subnetwork and not to the internet",
        "the rule",
        "https://cloud.google.com/firewall/docs/firewalls",
        network.network,
    ),
    Check(
        "engine",
        "it renders the job; its own commands: `sky check`; `kubectl get crd`, "
        "`localqueue`; `gcloud version`",
        "`make launch`, or what is lacking",
        "https://docs.skypilot.co/en/latest/getting-started/installation.html",
        engine.engine,
    ),
    Check(
        "budget",
        "preflight's hours, prices of SkyPilot's catalog, grace_seconds against "
        "preemption_deadline_seconds",
        "hours, money, a smaller slice",
        "https://cloud.google.com/tpu/pricing",
        money.budget,
    ),
)
NODE_CHECKS = (
    Check(
        "TPU VM",
        "cloud-tpu-client: state, health, symptoms; tpu nodes.get: scopes",
        "`gcloud compute tpus tpu-vm describe`",
        f"{_TPU}/managing-tpus-tpu-vm",
        node.state,
    ),
    Check(
        "workers",
        "a connection to port 8470 of each host",
        "the log of the host",
        "docs/doctor.md",
        node.ports,
    ),
    Check(
        "heartbeat",
        "`hosts/host-0.json` in the folder of the run",
        "the engine's log",
        "docs/fault_tolerance.md",
        node.heartbeat,
    ),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the report."""

    number: int
    check: Check
    finding: Finding


def diagnose(case: Case) -> Iterator[Row]:
    """Yield what each check finds, as soon as it does."""
    checks = CHECKS + (NODE_CHECKS if case.node else ())
    for number, check in enumerate(checks, 1):
        yield examine(number, check, case)


def examine(number: int, check: Check, case: Case) -> Row:
    """Return what one check finds; of what is not answered that it is unknown.

    So is what is answered in another form than Google describes: the other checks are
    worth as much as before.
    """
    try:
        found = check.look(case)
    except NotAnswered as why:
        found = unknown(str(why))
    except _OTHER_FORM as error:
        found = unknown(f"an answer of another form: {type(error).__name__}: {error}")
    return Row(number, check, found)
