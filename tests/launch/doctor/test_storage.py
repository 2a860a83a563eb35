"""Rows 17 to 20: the buckets."""

import pytest

ACCOUNT = "trainer@my-project.iam.gserviceaccount.com"
UPDATE = "gcloud storage buckets update gs://my-bucket"


def test_access(found, google):
    assert found(17) == f"ok       access to the buckets: {ACCOUNT} in gs://my-bucket"
    google.said["bucket_policy"]["bindings"][1]["role"] = "roles/storage.objectViewer"
    assert found(17) == (
        f"fails    access to the buckets: {ACCOUNT} lacks storage.objects.create, "
        "storage.objects.delete in gs://my-bucket  ->  gcloud storage buckets "
        "add-iam-policy-binding gs://my-bucket "
        f"--member=serviceAccount:{ACCOUNT} --role=roles/storage.objectUser"
    )
    binding = google.said["project_policy"]["bindings"][1]
    binding["role"] = "roles/storage.objectAdmin"  # of the project
    assert found(17).startswith("ok")


def test_access_of_everybody(found, google):
    binding = google.said["bucket_policy"]["bindings"][1]
    binding["members"] = ["allUsers"]
    assert found(17).startswith("ok")
    binding["members"] = ["user:else@example.com"]
    assert found(17).startswith("fails")


def test_access_that_nobody_knows(found, google):
    google.said["bucket_policy"]["bindings"][1]["role"] = "projects/my-project/roles/x"
    assert found(17) == (
        "unknown  access to the buckets: gs://my-bucket: what "
        "projects/my-project/roles/x allows is not known here"
    )
    del google.said["bucket_policy"]["bindings"][1]
    google.said["project_policy"] = 403
    assert found(17) == (
        "unknown  access to the buckets: gs://my-bucket: "
        "cloudresourcemanager.googleapis.com refuses: 403: as a test has it"
    )
    google.said["bucket_policy"] = 403
    assert found(17) == (
        "unknown  access to the buckets: storage.googleapis.com refuses: 403: as a "
        "test has it"
    )


def test_access_on_a_condition_is_none(found, google):
    condition = {"title": "for a day", "expression": "request.time < ..."}
    google.said["bucket_policy"]["bindings"][1]["condition"] = condition
    assert found(17).startswith("fails")


def test_a_number_that_is_none(found, google):
    policy = {"retentionDurationSeconds": float("inf")}
    google.said["bucket"]["softDeletePolicy"] = policy
    assert found(19).startswith("unknown  what the bucket keeps: an answer of another")


def test_place(found, google):
    assert found(18) == "ok       place of the buckets: gs://my-bucket in us-west4"
    google.said["bucket"]["location"] = "US"
    assert found(18) == (
        "fails    place of the buckets: gs://my-bucket is in US, and the machines are "
        "in us-west4: each byte costs egress and time  ->  gcloud storage "
        "buckets create gs://ANOTHER --location=us-west4 --project=my-project "
        "--uniform-bucket-level-access --soft-delete-duration=0"
    )
    google.said["bucket"] = None
    assert found(18).startswith(
        "fails    place of the buckets: there is no bucket gs://my-bucket  ->  gcloud "
        "storage buckets create gs://my-bucket --location=us-west4"
    )


@pytest.mark.parametrize(
    ("where", "outcome"),
    [
        ({"location": "NAM4"}, "ok"),
        ({"location": "EUR4"}, "fails"),
        (
            {
                "location": "US",
                "customPlacementConfig": {"dataLocations": ["US-EAST1", "US-CENTRAL1"]},
            },
            "ok",
        ),
    ],
)
def test_two_regions(found, google, where, outcome):
    google.said["bucket"] |= where
    assert found(18, name="gpu_8").startswith(outcome)


def test_keeping(found, google):
    assert found(19) == (
        "ok       what the bucket keeps: gs://my-bucket keeps what is there, and "
        "nothing that is deleted"
    )
    google.said["bucket"] |= {
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        "versioning": {"enabled": True},
        "retentionPolicy": {"retentionPeriod": "86400"},
        "defaultEventBasedHold": True,
        "lifecycle": {
            "rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]
        },
    }
    assert found(19) == (
        "fails    what the bucket keeps: gs://my-bucket: soft delete bills each old "
        "checkpoint 7 days on; versioning keeps each old checkpoint; a retention "
        "policy refuses to delete; a hold refuses to delete; a lifecycle rule deletes "
        f"files of runs, best/ too  ->  {UPDATE} --clear-soft-delete --no-versioning "
        "--clear-retention-period --no-default-event-based-hold --clear-lifecycle"
    )
    google.said["bucket"] = None
    assert found(19) == (
        "unknown  what the bucket keeps: there is no bucket gs://my-bucket"
    )


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"condition": {"age": 30, "matchesPrefix": ["runs/"]}}, "fails"),
        (
            {"condition": {"age": 30, "matchesPrefix": ["runs/b0-v5e-32/best/"]}},
            "fails",
        ),
        ({"condition": {"age": 30, "matchesPrefix": ["tmp/"]}}, "ok"),
        ({"condition": {"numNewerVersions": 3}}, "ok"),
        ({"condition": {"age": 1, "isLive": False}}, "ok"),
        ({"action": {"type": "SetStorageClass"}, "condition": {"age": 1}}, "ok"),
        ({"action": {"type": "AbortIncompleteMultipartUpload"}}, "ok"),
    ],
)
def test_lifecycle(found, google, rule, outcome):
    rule = {"action": {"type": "Delete"}} | rule
    google.said["bucket"]["lifecycle"] = {"rule": [rule]}
    assert found(19).startswith(outcome)


def test_layout(found, google):
    assert found(20) == "ok       flat bucket: gs://my-bucket is flat"
    google.said["storage_layout"]["hierarchicalNamespace"]["enabled"] = True
    assert found(20) == (
        "fails    flat bucket: gs://my-bucket has a hierarchical namespace, which "
        "TensorFlow 2.20 does not know  ->  gcloud storage buckets create gs://ANOTHER "
        "--location=us-west4"
    )
    google.said["storage_layout"] = None
    assert found(20) == "unknown  flat bucket: there is no bucket gs://my-bucket"
