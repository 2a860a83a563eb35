"""What engines do with what they are given, as their sources and documents say."""

import json
import shutil
import signal
import time

import yaml

from common.project import ROOT
from launch.engines import gcloud, jobset, skypilot
from launch.job.machines import TpuSlice
from tests.launch.engines.test_nasty import as_kubernetes
from tests.launch.host.test_identity import ENDS, NUMBER, metadata
from tests.support.slices import is_running


class Engine:
    """One that makes the machines of a job, and makes them again."""

    def __init__(self, world, job, stack, monkeypatch):
        self.world, self.job, self.hosts = world, job, []
        self.is_tpu = isinstance(job.machines, TpuSlice)
        self.numbers = range(job.machines.hosts)
        self._stack, self._patch, self._made = stack, monkeypatch, 0
        monkeypatch.setenv("PATH", world.stubs.environment["PATH"])

    def machine(self, number, name=None):
        """A new one; a TPU VM's metadata server knows its place in the slice."""
        server = None
        if self.is_tpu:
            ends = ",".join(f"unknown:unknown:{a}" for a in self.addresses())
            served = metadata({NUMBER: str(number), ENDS: ends})
            server = self._stack.enter_context(served)["GCE_METADATA_HOST"]
        self._made += 1
        return self.world.machine(name or f"machine-{self._made}", server)

    def addresses(self, numbers=None):
        return [self.world.address(number) for number in numbers or self.numbers]

    def install(self, folder):
        """What launch/setup.sh would make there, which asks for packages."""
        lock = "tpu" if self.is_tpu else "gpu"
        self.world.install(folder / ".venv/bin")
        shutil.copy(ROOT / f"requirements/{lock}.txt", folder / ".venv/installed.txt")

    def statuses(self):
        return {process.wait(self.world.seconds) for _, process in self.hosts}


SKY = """
import shutil
if "launch" in sys.argv:
    shutil.rmtree(home / "submitted", ignore_errors=True)
    shutil.copytree(".", home / "submitted")
"""


class SkyPilot(Engine):
    """It makes other machines after a status of 75."""

    def submit(self, submission):
        self._patch.setattr(skypilot, "SKY", self.world.stubs.add("sky", SKY))
        skypilot.submit(self.job, submission).run()
        self.start()

    def start(self):
        submitted = self.world.stubs.folder / "submitted"
        task = yaml.safe_load((submitted / "task.yaml").read_text())
        assert task["num_nodes"] == (1 if self.is_tpu else self.job.machines.hosts)
        # Its ranks are in no order of the slice.
        ranks = [*reversed(self.numbers)] if self.is_tpu else [*self.numbers]
        told = {"SKYPILOT_NODE_IPS": "\n".join(self.addresses(ranks))}
        self.hosts = []
        for number in self.numbers:
            told["SKYPILOT_NODE_RANK"] = str(ranks.index(number))
            machine = self.machine(number)
            self._set_up(machine, task, submitted)
            process = machine.bash(task["run"], task["envs"] | told)
            self.hosts.append((machine, process))

    def _set_up(self, machine, task, submitted):
        folder = machine.home / "sky_workdir"
        if "workdir" not in task:
            folder.mkdir()
            return
        shutil.copytree(submitted / task["workdir"], folder)
        self.install(folder)
        setup = machine.bash(task["setup"], task["envs"])
        assert setup.wait(self.world.seconds) == 0

    def preempt(self):
        """The machines are shut down: systemd sends SIGTERM to all processes."""
        for machine, _ in self.hosts:
            assert machine.send(signal.SIGTERM)

    def down(self):
        skypilot.down(self.job).run()


class JobSet(Engine):
    """It makes other pods of the same names; the kubelet sends SIGTERM to the first."""

    def submit(self, submission):
        self.world.stubs.add("kubectl")
        jobset.submit(self.job, submission).run()
        self._manifest = yaml.safe_load(self.world.stubs.calls[-1]["stdin"])
        self.start()

    def start(self):
        (replicated,) = self._manifest["spec"]["replicatedJobs"]
        spec = replicated["template"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        self.hosts = []
        for number in self.numbers:
            machine = self.machine(number)
            inside = machine.inside | self._told(container, number)
            process = self.world.start(
                container["command"], inside, inside["PYTHONPATH"]
            )
            self.hosts.append((machine, process))

    def _told(self, container, number):
        """What a pod finds in its environment."""
        told = {"JOB_COMPLETION_INDEX": str(number)}
        if "google.com/tpu" in container["resources"]["limits"]:  # GKE's webhook
            told["TPU_WORKER_ID"] = str(number)
            told["TPU_WORKER_HOSTNAMES"] = ",".join(self.addresses())
        for one in container["env"]:
            told[one["name"]] = as_kubernetes(one["value"], told)
        return told

    def preempt(self):
        for _, process in self.hosts:
            process.send_signal(signal.SIGTERM)

    def down(self):
        jobset.down(self.job).run()


# A line is run as sshd runs it.
GCLOUD = """
import shutil, subprocess
words, machines = sys.argv[1:], json.loads((home / "machines.json").read_text())
meant = [m for m in machines if m in words or m + ":" in words or "tpu-vm" in words]
if "describe" in words:
    print("ACTIVE")
for machine in meant:
    if "scp" in words:
        for file in words[words.index("scp") + 1:]:
            if file.endswith(":"):
                break
            shutil.copy(file, home / machine)
    elif "ssh" in words:
        (line,) = [w.partition("=")[2] for w in words if w.startswith("--command=")]
        subprocess.run(
            ["bash", "-c", line], cwd=home / machine, env=machines[machine], check=True
        )
"""


class GCloud(Engine):
    """A person, who ends what runs by `down`, and starts it by the same script."""

    def submit(self, submission):
        names = [f"{self.job.name}-{number}" for number in self.numbers]
        self._machines = [self.machine(n, name) for n, name in enumerate(names)]
        told = {one.home.name: one.environment for one in self._machines}
        (self.world.stubs.folder / "machines.json").write_text(json.dumps(told))
        self.world.stubs.add("gcloud", GCLOUD)
        if self.job.commit:
            for one in self._machines:
                self.install(one.home / "code")
        self._script = gcloud.submit(self.job, submission)
        self.start()

    def start(self):
        self._bash(self._script)

    def preempt(self):
        self.down()

    def down(self):
        self._bash(gcloud.down(self.job))

    def _bash(self, script):
        ended = self.world.stubs.bash(script)
        assert ended.returncode == 0, ended.stderr

    def statuses(self):
        """Nobody is told; the board has it."""
        until = time.monotonic() + self.world.seconds
        for one in self._machines:
            while is_running(int((one.home / "host.pid").read_text())):
                assert time.monotonic() < until
                time.sleep(0.05)
        return {json.loads(self.world.run()["launch/job.json"])["status"]}
