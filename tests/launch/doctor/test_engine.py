"""Row 24: the engine's own commands, as stand-ins of them answer."""

import pytest

from common.project import ROOT
from launch.doctor import engine
from launch.engines import skypilot


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Make commands that print what they are told, or fail."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(engine.skypilot, "SKY", folder / "sky")
    return make


SKY = """
[ "$SKYPILOT_DISABLE_USAGE_COLLECTION" = 1 ] || exit 3
case "$*" in
  --version) echo skypilot, version {0};;
  "check gcp --output=json")
    echo Starting a local server.
    {1};;
  *) exit 9;;
esac"""
MAY = """echo '{"default": {"GCP": ["compute", "storage"]}}'"""


def test_skypilot(found, commands):
    assert found(24, engine="skypilot") == (
        "fails    engine: SkyPilot is not installed  ->  make launch"
    )
    commands("sky", SKY.format(skypilot.VERSION, MAY))
    fine = "ok       engine: SkyPilot 0.14.1; it may use Google Cloud"
    assert found(24, engine="skypilot") == fine
    commands("sky", SKY.format("0.9.0", MAY))
    assert found(24, engine="skypilot") == (
        "fails    engine: SkyPilot is 0.9.0, not 0.14.1  ->  make launch"
    )
    # It ends with 0 then, too.
    commands("sky", SKY.format(skypilot.VERSION, """echo '{"default": {}}'"""))
    assert found(24, engine="skypilot") == (
        "fails    engine: SkyPilot 0.14.1 may not use compute and storage of Google "
        "Cloud  ->  TMP/bin/sky check gcp --verbose"
    )
    commands("sky", SKY.format(skypilot.VERSION, "echo no server >&2; exit 1"))
    said = found(24, engine="skypilot")
    assert said.startswith("unknown  engine: ")
    assert said.endswith("/bin/sky fails: no server")


def test_the_release_is_the_one_that_is_locked():
    lock = (ROOT / "requirements/launch.txt").read_text()
    assert f"skypilot=={skypilot.VERSION} " in lock


def test_what_the_engine_does_not_take(found, commands):
    reserved = ("capacity: spot", "capacity: reservation\n  reservation: ours")
    for asks in (True, False):
        said = found(24, reserved, engine="skypilot", asks=asks)
        assert said.startswith(
            "fails    engine: machines.capacity: SkyPilot 0.14.1 asks"
        )
        assert said.endswith("  ->  another --to, or what it names")


def test_offline_nobody_is_asked(found, commands):
    for name in ("skypilot", "jobset", "gcloud"):
        assert found(24, asks=False, engine=name) == "unknown  engine: offline"


def test_gcloud(found, commands):
    commands("gcloud", "echo Google Cloud SDK 500.0.0; echo core 2026")
    assert found(24, engine="gcloud") == "ok       engine: Google Cloud SDK 500.0.0"
    commands("gcloud", "exit 1")
    assert found(24, engine="gcloud") == (
        "fails    engine: gcloud fails: 1  ->  https://cloud.google.com/sdk/docs/install"
    )


KUBECTL = """
case "$1 $2" in
  "config current-context") echo my-cluster;;
  "get crd") {};;
  "get localqueue") {};;
  "auth can-i") {};;
  *) exit 9;;
esac"""
FINE = "echo fine"


def test_jobset(found, commands):
    commands("kubectl", KUBECTL.format(FINE, FINE, "echo yes"))
    assert found(24, engine="jobset") == (
        "ok       engine: my-cluster has JobSet, the right to create JobSets"
    )
    queue = ("budget:", "kubernetes: {queue: tpus}\nbudget:")
    assert found(24, queue, engine="jobset") == (
        "ok       engine: my-cluster has JobSet, queue tpus, the right to create "
        "JobSets"
    )
    bad = "echo not found >&2; exit 1"
    commands("kubectl", KUBECTL.format(FINE, bad, FINE))
    assert found(24, queue, engine="jobset") == (
        "fails    engine: my-cluster lacks queue tpus: kubectl fails: not found  ->  "
        "ask "
        "the cluster's owner for the queue, or change kubernetes.queue"
    )
    commands("kubectl", KUBECTL.format(bad, FINE, FINE))
    assert found(24, engine="jobset").startswith(
        "fails    engine: my-cluster lacks JobSet: kubectl fails: not found  ->  "
        "kubectl "
        "apply --server-side -f https://github.com/kubernetes-sigs/jobset/releases/"
    )
    commands("kubectl", KUBECTL.format(FINE, FINE, "echo no; exit 1"))
    assert "lacks the right to create JobSets: kubectl fails: no" in found(
        24, engine="jobset"
    )


def test_the_cluster_that_the_job_names(found, commands):
    """And no other: kubectl may be set to one."""
    script = 'case "$*" in *--context=theirs) echo yes;; *) exit 1;; esac'
    commands("kubectl", script)
    context = ("budget:", "kubernetes: {context: theirs}\nbudget:")
    assert found(24, context, engine="jobset") == (
        "ok       engine: theirs has JobSet, the right to create JobSets"
    )


def test_no_cluster(found, commands):
    commands("kubectl", "echo error: current-context is not set >&2; exit 1")
    assert found(24, engine="jobset") == (
        "fails    engine: kubectl fails: error: current-context is not set  ->  gcloud "
        "container clusters get-credentials CLUSTER --location=us-west4"
    )
