"""Rows 9, 10 and 12 to 15: whether the machines are to be had."""

import pytest

QUOTAS = (
    "ask for more: https://console.cloud.google.com/iam-admin/quotas?project=my-project"
)
TWO_ZONES = ("[us-west4-a]", "[us-west4-a, us-west4-b]")


def test_type(found, google):
    assert found(9) == "ok       type in the zones: v5litepod-32 in us-west4-a"
    both = "ok       type in the zones: v5litepod-32 in us-west4-a, us-west4-b"
    assert found(9, TWO_ZONES) == both
    google.said["accelerator_types"]["acceleratorTypes"].pop()
    assert found(9) == (
        "fails    type in the zones: us-west4-a has no v5litepod-32  ->  "
        "machines.zones: [us-west4-b]"
    )
    google.said["accelerator_types_b"] = {}
    assert found(9) == (
        "fails    type in the zones: us-west4-a has no v5litepod-32  ->  "
        "another region or type"
    )
    google.said["accelerator_types"] = None
    assert found(9).startswith("unknown  type in the zones: there is no projects/")


def test_type_of_gpus_and_in_gke(found, google):
    assert found(9, name="gpu_8").startswith(
        "fails    type in the zones: us-central1-a, us-central1-c has no"
    )
    kinds = "compute/v1/projects/my-project/zones/us-central1-a/acceleratorTypes"
    assert google.asked[0].endswith(f"{kinds}/nvidia-tesla-a100")
    found(9, engine="jobset")
    machine = "zones/us-west4-a/machineTypes/ct5lp-hightpu-4t"
    assert any(url.endswith(machine) for url in google.asked)


def test_what_gke_has_not(found):
    assert found(9, ("slice: v5e:4x8", "slice: v2:4x4"), engine="jobset") == (
        "fails    type in the zones: GKE has no TPU v2; render for skypilot  ->  "
        "--to=skypilot"
    )


def test_pages(found, google):
    whole = google.said["accelerator_types"]["acceleratorTypes"]
    google.said["accelerator_types"] = [
        {"acceleratorTypes": whole[:1], "nextPageToken": "more"},
        {"acceleratorTypes": whole[1:]},
    ]
    assert found(9).startswith("ok")
    assert "pageToken=more" in google.sent[-1].url
    google.said["accelerator_types"] = {"unreachable": ["us-west4-a"]}
    assert found(9) == "unknown  type in the zones: us-west4-a does not answer now"


def test_runtime(found, google):
    assert found(10) == "ok       runtime of TPU VMs: v2-alpha-tpuv5-lite"
    assert found(10, name="gpu_8").startswith("ok       runtime of TPU VMs: none is")
    del google.said["runtime_versions"]["runtimeVersions"][2]
    assert found(10) == (
        "fails    runtime of TPU VMs: us-west4-a has no runtime v2-alpha-tpuv5-lite  ->"
        "  gcloud compute tpus tpu-vm versions list --zone=us-west4-a "
        "--project=my-project"
    )


def test_quota(found, google):
    # 128, of which the 64 chips of others are used, on demand and v4 apart.
    assert found(12) == "ok       quota: 32 chips in each of us-west4-a"
    assert found(12, ("slice: v5e:4x8", "slice: v5e:8x8")).startswith("ok")
    assert found(12, ("slice: v5e:4x8", "slice: v5e:8x16")) == (
        "fails    quota: 128 are needed; us-west4-a: "
        "tpu.googleapis.com/tpu-v5s-litepod-preemptible is 128 chips, 64 used  ->  "
        + QUOTAS
    )
    assert found(12, ("capacity: spot", "capacity: on_demand")) == (
        "fails    quota: 32 are needed; us-west4-a: tpu.googleapis.com/tpu-v5s-litepod "
        f"is 0 chips, 128 used  ->  {QUOTAS}"
    )
    google.said["quotas"]["metrics"] = google.said["quotas"]["metrics"][2:]
    assert found(12) == (
        "unknown  quota: no quota of us-west4-a is named as those of v5e"
    )


@pytest.mark.parametrize(
    ("slice_", "said"),
    [
        ("v5e:2x4", "ok       quota: 8 chips in each of us-west4-a"),
        ("v5p:2x2x1", "ok       quota: 8 cores in each of us-west4-a"),
        ("v5p:2x2x2", "fails    quota: 16 are needed; us-west4-a: tpu.googleapis.com"),
    ],
)
def test_quota_counts_as_its_generation(found, slice_, said):
    assert found(12, ("slice: v5e:4x8", f"slice: {slice_}")).startswith(said)


def test_quota_without_a_limit(found, google):
    limits = google.said["quotas"]["metrics"][1]["consumerQuotaLimits"]
    limits[0]["quotaBuckets"][1]["effectiveLimit"] = "-1"
    assert found(12, ("slice: v5e:4x8", "slice: v5e:16x16")).startswith("ok")


def test_quota_of_gpus(found, google):
    assert found(12, name="gpu_2x8") == (
        "ok       quota: 16 of 32 in us-central1, 16 used"
    )
    google.said["region"]["quotas"][2]["usage"] = 17
    assert found(12, name="gpu_2x8") == (
        "fails    quota: 16 are needed; us-central1: PREEMPTIBLE_NVIDIA_A100_GPUS is "
        f"32, 17 used  ->  {QUOTAS}"
    )
    google.said["region"] = None
    assert found(12, name="gpu_8") == (
        "unknown  quota: us-central1 says no quota of A100"
    )


def test_capacity_is_never_known(found, google):
    assert found(13, TWO_ZONES) == (
        "unknown  capacity now: whether machines are free now cannot be known: only a "
        "request tells; it waits up to 6 h in 2 zones"
    )
    assert google.asked == []


OURS = ("capacity: spot", "capacity: reservation\n  reservation: ours")


def test_reservation(found, google):
    assert found(14) == "ok       reservation: none is named"
    assert found(14, OURS) == "ok       reservation: ours in us-west4-a"
    end = "  ->  machines.capacity: on_demand or spot"
    in_use = google.said["reservation"]["aggregateReservation"]["inUseResources"]
    in_use[0]["accelerator"]["acceleratorCount"] = 40
    assert found(14, OURS) == (
        "fails    reservation: us-west4-a: 24 accelerators are free, 32 are needed"
        + end
    )
    google.said["reservation"]["status"] = "CREATING"
    assert found(14, OURS) == (
        f"fails    reservation: us-west4-a: ours is CREATING{end}"
    )
    google.said["reservation"] = None
    assert found(14, OURS) == (
        f"fails    reservation: us-west4-a has no reservation ours{end}"
    )


@pytest.mark.parametrize(("used", "outcome"), [("2", "ok"), ("3", "fails")])
def test_reservation_of_machines(found, google, used, outcome):
    del google.said["reservation"]["aggregateReservation"]
    machines = {"count": "10", "inUseCount": used}
    google.said["reservation"]["specificReservation"] = machines
    assert found(14, OURS).startswith(outcome)


def test_left_behind(found, google):
    assert found(15) == (
        "ok       left behind: none of this job; 1 request of others ended, and count"
    )
    request = google.said["queued_resources"]["queuedResources"][0]
    request["tpu"]["nodeSpec"][0]["node"]["labels"]["job"] = "b0-v5e-32"
    node = google.said["nodes"]["nodes"][0]
    node["labels"]["job"] = "b0-v5e-32"
    assert found(15) == (
        "fails    left behind: request others-q (SUSPENDED), TPU VM others (READY; "
        "--node=others if it is to run) of this job  ->  gcloud compute tpus "
        "queued-resources delete others-q "
        "--zone=us-west4-a --project=my-project --force && gcloud compute tpus tpu-vm "
        "delete others --zone=us-west4-a --project=my-project"
    )
    # One that runs, and is looked at.
    assert "TPU VM others" not in found(15, node="others")
