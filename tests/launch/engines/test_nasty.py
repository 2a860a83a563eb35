"""Texts that would hurt a shell reach the host script as they are, by every engine.

What an engine does with its file is done here as its source says it does.
"""

import re
import shlex
import subprocess

import pytest
import yaml

from launch.engines import gcloud, jobset, skypilot
from launch.job.host_job import HostJob
from tests.launch.engines.jobs import NASTY, nasty
from tests.launch.engines.stubs import Stubs
from tests.launch.engines.test_run_image import CURL, DOCKER, container

# Machines are folders in which a line for them is run by a shell, as sshd runs it.
GCLOUD = """
import shutil, subprocess
words = sys.argv[1:]
if "tpu-vm" in words:
    machines = ["worker-0", "worker-1"]
else:
    machines = [w.rstrip(":") for w in words if w.startswith("b0-") and "=" not in w]
for machine in machines:
    (home / machine).mkdir(exist_ok=True)
if "describe" in words:
    asked = home / "asked"
    print("ACTIVE" if asked.exists() else "WAITING_FOR_RESOURCES")
    asked.touch()
elif "scp" in words:
    for file in words[words.index("scp") + 1:]:
        if file.endswith(":"):
            break
        for machine in machines:
            shutil.copy(file, home / machine)
elif "ssh" in words:
    (line,) = [w.partition("=")[2] for w in words if w.startswith("--command=")]
    for machine in machines:
        subprocess.run(["bash", "-c", line], cwd=home / machine, check=True)
"""


@pytest.fixture
def stubs(tmp_path):
    found = Stubs(tmp_path)
    found.add("docker", DOCKER)
    found.add("curl", CURL)
    found.add("gcloud", GCLOUD)
    found.add("kubectl")
    found.add("sky")
    found.add("sleep")
    return found


def assert_unharmed(stubs, environment):
    told = HostJob.from_environment(environment)
    assert (told.model_dir, told.data_dir) == (NASTY, NASTY)
    assert not list(stubs.folder.rglob("pwned"))
    # The processes are all of this machine, other jobs' too.
    for call in stubs.calls:
        for line in (*call["words"], *call["processes"]):
            assert "touch pwned" not in line


def test_skypilot(stubs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stubs.environment["PATH"])
    monkeypatch.setattr(skypilot, "SKY", stubs.bin / "sky")
    job = nasty(tmp_path, "v5e_32")
    plan = skypilot.submit(job, "once")
    plan.run()
    assert stubs.calls[0]["folder"] == ["config.yaml", "task.yaml"]
    task = yaml.safe_load(plan.files["task.yaml"])
    # skylet/log_lib.py, make_task_bash_script
    lines = [f"export {k}={shlex.quote(v)}" for k, v in task["envs"].items()]
    script = tmp_path / "task.sh"
    script.write_text("\n".join((*lines, task["run"])))
    subprocess.run(["bash", script], env=stubs.environment, cwd=tmp_path, check=True)
    assert_unharmed(stubs, container(stubs.wait_for("docker", "run")))


def as_kubernetes(text, variables):
    """What Kubernetes makes of a value in env: $(NAME) of those before, $ of $$."""

    def expanded(found):
        name = found[1]
        return "$" if name is None else variables.get(name, found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", expanded, text)


def test_jobset(stubs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stubs.environment["PATH"])
    jobset.submit(nasty(tmp_path, "gpu_2x8"), "once").run()
    first, second = stubs.calls
    assert first["words"][-2:] == ["--dry-run=server", "--namespace=default"]
    assert first["stdin"] == second["stdin"]
    manifest = yaml.safe_load(second["stdin"])
    (replicated,) = manifest["spec"]["replicatedJobs"]
    (host,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    variables = {}
    for one in host["env"]:
        variables[one["name"]] = as_kubernetes(one["value"], variables)
    names = [f"b0-gpu-2x8-host-0-{i}.b0-gpu-2x8" for i in range(2)]
    assert variables["LAUNCH_HOSTS"].split(",") == names
    assert_unharmed(stubs, variables)


@pytest.mark.parametrize("name", ["v5e_32", "gpu_2x8"])
def test_gcloud(stubs, tmp_path, name):
    script = tmp_path / "job.sh"
    script.write_text(gcloud.render(nasty(tmp_path, name), "once"))
    subprocess.run(["bash", script], env=stubs.environment, cwd=tmp_path, check=True)
    runs = []
    while len(runs) < 2:  # in the background, a machine each
        stubs.wait_for("docker", "run")
        runs = [call for call in stubs.calls if call["words"][:2] == ["docker", "run"]]
    for call in runs:
        assert_unharmed(stubs, container(call))
    told = [container(call) for call in runs]
    if name == "v5e_32":
        assert stubs.words(of="sleep") == [["sleep", "30"]]
    else:
        assert {one["LAUNCH_HOSTS"] for one in told} == {"b0-gpu-2x8-0,b0-gpu-2x8-1"}
        assert {one["JOB_COMPLETION_INDEX"] for one in told} == {"0", "1"}


def test_how_it_is_ended_by_gcloud(stubs, tmp_path):
    (tmp_path / "b0-gpu-8-0").mkdir()
    process = subprocess.Popen(["sleep", "1000"])
    (tmp_path / "b0-gpu-8-0/host.pid").write_text(f"{process.pid}\n")
    job = nasty(tmp_path, "gpu_8")
    ended = stubs.bash(gcloud.down(job))
    assert (ended.returncode, process.wait(60)) == (0, -15)
    assert stubs.words(of="gcloud")[-1][:5] == [
        "gcloud", "compute", "instances", "delete", "b0-gpu-8-0",
    ]  # fmt: skip
