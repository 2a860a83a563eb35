"""What each engine makes of a job, value by value, and what it refuses."""

import shlex
import subprocess

import pytest
import yaml

from common.errors import UserError
from launch.engines import checked, gcloud, jobset, on_hosts, skypilot
from launch.engines.engine import NAMES, of
from launch.job import job_file
from launch.job.host_job import HostJob
from tests.launch.engines.jobs import example
from tests.launch.engines.stubs import Stubs
from tests.support.job_files import EXAMPLES

IMAGE = "image: us-docker.pkg.dev/my-project/images/efficientnet-x@sha256:" + 64 * "0"


def changed(tmp_path, name, *changes):
    """An example with some of its text replaced."""
    path = next(path for path in EXAMPLES if path.stem == name)
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "job.yaml").write_text(text)
    return job_file.load(str(tmp_path / "job.yaml"))


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_engine_tells_the_hosts_the_same(engine, path):
    job = example(path.stem)
    text = of(engine).render(job, "once")
    assert "secret" not in text.lower()
    if engine == "gcloud":
        line = next(t for t in text.splitlines() if t.startswith("LAUNCH_JOB="))
        value = shlex.split(line)[0].partition("=")[2]
    elif engine == "jobset":
        (replicated,) = yaml.safe_load(text)["spec"]["replicatedJobs"]
        pod = replicated["template"]["spec"]["template"]["spec"]
        value = pod["containers"][0]["env"][0]["value"]
    else:
        value = yaml.safe_load(text)["envs"]["LAUNCH_JOB"]
    assert HostJob.from_environment({"LAUNCH_JOB": value}) == job.host_job("once")


@pytest.mark.parametrize(
    ("name", "nodes", "accelerators", "runtime"),
    [
        ("v5e_32", 1, "tpu-v5litepod-32", "v2-alpha-tpuv5-lite"),
        ("v4_32", 1, "tpu-v4-32", "tpu-ubuntu2204-base"),
        ("v3_32", 1, "tpu-v3-32", "tpu-ubuntu2204-base"),
        ("gpu_8", 1, "A100:8", None),
        ("gpu_2x8", 2, "A100:8", None),
    ],
)
def test_skypilots_task(name, nodes, accelerators, runtime):
    task = yaml.safe_load(skypilot.render(example(name), "once"))
    resources = task["resources"]
    assert task["num_nodes"] == nodes
    assert resources["accelerators"] == accelerators
    assert resources["job_recovery"]["recover_on_exit_codes"] == [75]
    assert not {"cpus", "memory", "image_id"} & set(resources)
    if runtime:
        assert resources["accelerator_args"] == {
            "runtime_version": runtime,
            "gcp_queued_resource": True,
        }
        assert "disk_size" not in resources
    zones = [one["infra"] for one in resources.get("ordered", [resources])]
    assert zones == [f"gcp/{z.rpartition('-')[0]}/{z}" for z in example(name).zones]


def test_skypilot_knows_no_reservation(tmp_path):
    now = "capacity: reservation\n  reservation: ours"
    job = changed(tmp_path, "v5e_32", ("capacity: spot", now))
    with pytest.raises(UserError, match=r"machines\.capacity: SkyPilot"):
        skypilot.render(job, "once")
    pod = pod_of(job)
    assert pod["nodeSelector"]["cloud.google.com/reservation-name"] == "ours"
    script = gcloud.render(job, "once")
    assert "--reserved" in script
    assert "--spot" not in script


def test_skypilot_says_what_it_leaves():
    left = skypilot.down(example("v5e_32")).afterwards
    assert "queued-resources delete NODE-q --force" in "\n".join(left)
    several, *_ = skypilot.down(example("gpu_8")).afterwards
    assert several.startswith("Of several jobs named b0-gpu-8 it has ended none")
    told = skypilot.submit(example("v5e_32"), "once")
    account = "skypilot-v1@my-project.iam.gserviceaccount.com"
    assert account in told.afterwards[0]
    config = yaml.safe_load(told.files["config.yaml"])
    assert config["gcp"]["remote_identity"] == "SERVICE_ACCOUNT"
    for plan in (told, skypilot.status(example("v5e_32"))):
        sky = plan.commands[0]
        assert sky.environment == {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}


def pod_of(job):
    manifest = yaml.safe_load(jobset.render(job, "once"))
    (replicated,) = manifest["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]["template"]["spec"]


def test_pods_of_a_slice():
    pod = pod_of(example("v5e_32"))
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
        "cloud.google.com/gke-spot": "true",
    }
    (host,) = pod["containers"]
    assert host["resources"]["limits"] == {"google.com/tpu": "4"}
    assert host["securityContext"]["privileged"] is True
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["automountServiceAccountToken"] is False


def test_pods_with_gpus(tmp_path):
    pod = pod_of(example("gpu_2x8"))
    assert (
        pod["nodeSelector"]["cloud.google.com/gke-accelerator"] == "nvidia-tesla-a100"
    )
    (host,) = pod["containers"]
    assert host["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert host["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "podAffinity" in pod["affinity"]
    one = pod_of(changed(tmp_path, "gpu_8", ("capacity: spot", "capacity: on_demand")))
    assert "podAffinity" not in one["affinity"]
    assert len(one["tolerations"]) == 1
    assert [v["name"] for v in one["containers"][0]["env"]] == ["LAUNCH_JOB"]


def test_kueue(tmp_path):
    now = "budget:\n  hours"
    kueue = f"kubernetes: {{queue: tpu, namespace: ours, context: gke_a_b_c}}\n{now}"
    job = changed(tmp_path, "v5e_32", (now, kueue))
    manifest = yaml.safe_load(jobset.render(job, "once"))
    assert manifest["spec"]["suspend"] is True
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "tpu"
    assert manifest["metadata"]["namespace"] == "ours"
    for plan in (jobset.status(job), jobset.logs(job), jobset.down(job)):
        for command in plan.commands:
            assert command.words[-2:] == ["--namespace=ours", "--context=gke_a_b_c"]


def test_gke_has_no_v2(tmp_path):
    job = changed(tmp_path, "v3_32", ("slice: v3:4x4 ", "slice: v2:4x4 "))
    with pytest.raises(UserError, match="GKE has no TPU v2"):
        jobset.render(job, "once")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_bash_takes_every_script(path):
    job = example(path.stem)
    scripts = [gcloud.render(job, "once"), gcloud.status(job), gcloud.logs(job)]
    for script in (*scripts, gcloud.down(job)):
        assert gcloud.check(script, job) == "bash -n"
    with pytest.raises(UserError, match="bash -n would not take"):
        gcloud.check("if", job)


def test_gcloud_attaches_gpus_to_machines_without(tmp_path):
    job = changed(tmp_path, "gpu_8", ("type: A100", "type: V100"))
    script = gcloud.render(job, "once")
    assert "--machine-type=n1-standard-64" in script
    assert "--accelerator=type=nvidia-tesla-v100,count=8" in script


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout whose first commit lacks the host script, and whose second has it."""
    root = tmp_path / "repository"
    (root / "launch/host").mkdir(parents=True)

    def git(*words):
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        done = subprocess.run(
            ["git", "-C", root, *identity, *words], check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=before")
    (root / "launch/host/__main__.py").write_text("print('host')\n")
    (root / "launch/setup.sh").write_text(
        "echo $ACCELERATOR\n"
        "mkdir -p .venv/bin; ln -sf $(command -v python3) .venv/bin/python\n"
    )
    git("add", ".")
    git("commit", "--quiet", "--message=with it")
    monkeypatch.setattr(on_hosts, "ROOT", root)
    return [git("rev-parse", "HEAD~"), git("rev-parse", "HEAD")]


def at(tmp_path, name, commit):
    return changed(tmp_path, name, (IMAGE, f"commit: {commit}"))


def test_a_commit_is_unpacked_for_skypilot(tmp_path, repository, monkeypatch):
    stubs = Stubs(tmp_path)
    monkeypatch.setattr(skypilot, "SKY", stubs.add("sky"))
    plan = skypilot.submit(at(tmp_path, "v5e_32", repository[1]), "once")
    plan.run()
    (call,) = stubs.calls
    assert call["folder"] == ["code", "code.tar", "config.yaml", "task.yaml"]
    task = yaml.safe_load(plan.files["task.yaml"])
    assert task["workdir"] == "code"
    assert task["setup"] == "bash launch/setup.sh\n"
    assert task["envs"]["ACCELERATOR"] == "tpu"


def test_a_commit_is_started_by_gcloud(tmp_path, repository):
    stubs = Stubs(tmp_path)
    stubs.add("gcloud")
    job = at(tmp_path, "v5e_32", repository[1])
    script = gcloud.render(job, "once").replace(
        'cd "$(mktemp --directory)"', f"mkdir {tmp_path}/machine; cd {tmp_path}/machine"
    )
    script = script[: script.index("# 2. Ask")]
    assert stubs.bash(script).returncode == 0
    assert "code.tar.gz b0-v5e-32: --worker=all" in gcloud.render(job, "once")
    ended = stubs.bash("cd machine; set -a; . ./launch.env; exec bash start.sh")
    assert (ended.stdout, ended.stderr) == ("tpu\nhost\n", "")


def test_commits_that_will_not_do(tmp_path, repository):
    with pytest.raises(UserError, match="is from before there was a launch/host"):
        skypilot.submit(at(tmp_path, "v5e_32", repository[0]), "once")
    with pytest.raises(UserError, match=r"code\.commit: no commit 123f"):
        gcloud.submit(at(tmp_path, "v5e_32", 10 * "123f"), "once")
    with pytest.raises(UserError, match=r"code\.commit: JobSet starts containers"):
        jobset.submit(at(tmp_path, "v5e_32", repository[1]), "once")


def test_what_checks_is_asked_in_a_home_of_its_own(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf \'{"home": "%s"}\' "$HOME"\n')
    python.chmod(0o755)
    monkeypatch.setattr(checked, "PYTHON", python)
    answer = checked.ask({})
    assert answer is not None
    assert answer["home"].startswith("/tmp/launch-")
