"""Row 23: subnetwork and firewall."""

import pytest


def test_network(found, google):
    assert found(23) == (
        "ok       network: 10.182.0.0/20 of default, 8470, 8471, 8476 inside"
    )
    google.said["subnetwork"]["privateIpGoogleAccess"] = False
    assert found(23) == (
        "fails    network: default has no Private Google Access: hosts without "
        "external addresses reach no bucket  ->  gcloud compute networks subnets "
        "update default --project=my-project --region=us-west4 "
        "--enable-private-ip-google-access"
    )
    google.said["subnetwork"] = None
    assert found(23) == (
        "fails    network: us-west4 has no subnetwork default  ->  gcloud compute "
        "networks subnets list --network=default --project=my-project"
    )


def test_open_to_the_world(found, google):
    world = google.said["firewalls"]["items"][1]
    world["allowed"][0]["ports"] = ["22", "8000-9000"]
    assert found(23) == (
        "fails    network: ssh lets the internet reach 8470, 8471, 8476  ->  take "
        "these ports from it, not those that others need: gcloud compute "
        "firewall-rules describe ssh --project=my-project"
    )


@pytest.mark.parametrize(
    ("allowed", "sources", "outcome"),
    [
        ([{"IPProtocol": "all"}], ["0.0.0.0/0"], "fails"),
        ([{"IPProtocol": "tcp"}], ["::/0"], "fails"),
        ([{"IPProtocol": "6", "ports": ["8476"]}], ["34.0.0.0/8"], "fails"),
        ([{"IPProtocol": "udp"}], ["0.0.0.0/0"], "ok"),
        ([{"IPProtocol": "tcp", "ports": ["8472-8475"]}], ["0.0.0.0/0"], "ok"),
        ([{"IPProtocol": "tcp"}], ["fd00::/8"], "ok"),
        ([{"IPProtocol": "all"}], [], "ok"),  # tags say from where
    ],
)
def test_what_is_the_world(found, google, allowed, sources, outcome):
    google.said["firewalls"]["items"][1] |= {
        "allowed": allowed,
        "sourceRanges": sources,
    }
    assert found(23).startswith(outcome)


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ({"targetTags": ["web"]}, "ok"),
        ({"targetServiceAccounts": ["web@my-project.iam.gserviceaccount.com"]}, "ok"),
        (
            {"targetServiceAccounts": ["trainer@my-project.iam.gserviceaccount.com"]},
            "fails",
        ),
    ],
)
def test_rules_for_other_machines(found, google, target, outcome):
    world = google.said["firewalls"]["items"][1]
    world |= {"allowed": [{"IPProtocol": "all"}], **target}
    assert found(23).startswith(outcome)


def test_the_network_of_a_cluster_is_not_asked_of(found, google):
    google.said["subnetwork"] = None
    assert found(23, engine="jobset") == (
        "unknown  network: the job runs in the network of its GKE cluster"
    )
    assert not google.asked


def test_gpus(found, google):
    here = ("[us-central1-a, us-central1-c]", "[us-west4-a]")
    assert found(23, here, name="gpu_2x8") == (
        "fails    network: no rule lets 10.182.0.0/20 reach 2222, 32768, 60999  ->  "
        "gcloud compute firewall-rules create b0-gpu-2x8-hosts --network=default "
        "--project=my-project --allow=tcp:2222,tcp:32768-60999 "
        "--source-ranges=10.182.0.0/20"
    )
    google.said["firewalls"]["items"][0]["allowed"][0]["ports"] = ["2222"]
    assert "reach 32768, 60999" in found(23, here, name="gpu_2x8")
    assert found(23, here, name="gpu_8") == (
        "ok       network: 10.182.0.0/20 of default; a single host needs no port"
    )


def test_closed_to_the_hosts(found, google):
    google.said["firewalls"]["items"][0]["sourceRanges"] = ["10.9.0.0/16"]
    assert found(23) == (
        "fails    network: no rule lets 10.182.0.0/20 reach 8470, 8471, 8476  ->  "
        "gcloud compute firewall-rules create b0-v5e-32-hosts --network=default "
        "--project=my-project --allow=tcp:8470,tcp:8471,tcp:8476 "
        "--source-ranges=10.182.0.0/20"
    )


def test_a_port_that_is_left_out(found, google):
    google.said["firewalls"]["items"][0]["allowed"][0]["ports"] = ["8470-8471"]
    assert found(23).startswith(
        "fails    network: no rule lets 10.182.0.0/20 reach 8476"
    )


def test_a_wider_rule_is_named(found, google):
    google.said["firewalls"]["items"][0]["sourceRanges"] = ["10.128.0.0/9"]
    assert found(23) == (
        "ok       network: 10.182.0.0/20 of default, 8470, 8471, 8476 inside; hosts "
        "lets 10.128.0.0/9 in, too"
    )
