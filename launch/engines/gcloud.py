"""Google Cloud's own command line: scripts that a person reads and runs.

They make machines once and start the job on them: what is preempted stays away. Nothing
here runs them.
"""

import shlex
import subprocess

from common.errors import UserError
from launch.engines import on_hosts
from launch.engines.plan import here_document, wrapped
from launch.job.host_job import HOSTS, INDEX
from launch.job.job_file import Job
from launch.job.machines import GpuHosts, TpuSlice

# In the home folder of every machine; host.pid is that of start.sh.
_START = (
    'setsid nohup bash -c "set -a; . ./launch.env; exec bash start.sh" '
    "</dev/null >host.log 2>&1 & echo $! >host.pid"
)
_UNPACK = """\
set -euo pipefail
mkdir -p code
tar --extract --gzip --file=code.tar.gz --directory=code
cd code
bash launch/setup.sh
"""
# Nobody is there any more where the job has ended.
_STOP = "kill -TERM $(cat host.pid) || true"
_DOWN = "python -m launch.job down --to=gcloud prints what deletes them"
_FOLLOW = "tail --lines=1000 --follow=name host.log"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def render(job: Job, submission: str) -> str:
    """Return the script that makes machines and starts the job on them."""
    start = _UNPACK + on_hosts.RUN_COMMIT if job.commit else on_hosts.RUN_IMAGE
    variables = on_hosts.environment(job, submission)
    if job.has_several_gpu_hosts:
        variables[HOSTS] = ",".join(_names(job))
    lines = (f"{name}={shlex.quote(text)}" for name, text in variables.items())
    return _script(
        job,
        "# 1. What every machine is to get.",
        'cd "$(mktemp --directory)"',
        here_document("cat >launch.env", "\n".join(lines)),
        here_document("cat >start.sh", start),
        *_archive(job),
        *_ask(job),
        "# 3. Hand it out, and start it beyond the end of the connection.",
        *_hand_out(job),
        "# python -m launch.job status, logs and down print how it goes on.",
    )


def check(text: str, job: Job) -> str | None:
    """Let bash parse the script."""
    del job
    try:
        ended = subprocess.run(
            ["bash", "-n"], input=text, text=True, capture_output=True
        )
    except FileNotFoundError:
        return None
    if ended.returncode:
        raise UserError(f"bash -n would not take what was rendered: {ended.stderr}")
    return "bash -n"


def submit(job: Job, submission: str) -> str:
    """Return what `render` does."""
    return render(job, submission)


def status(job: Job) -> str:
    """Return the commands that show the machines, and the request for them."""
    of_job = f"--filter=labels.job={job.name}"
    if isinstance(job.machines, GpuHosts):
        words = ["instances", "list", f"--zones={_zone(job)}", of_job]
        return _script(job, _gcloud(job, *words))
    return _script(
        job,
        "set +e  # one may be there without the other",
        _gcloud(job, *_queue(job, "describe")),
        _gcloud(job, "tpus", "tpu-vm", "list", _in_zone(job), of_job),
    )


def logs(job: Job) -> str:
    """Return the command that follows what host 0 prints."""
    return _script(job, _on_host(job, "0", _FOLLOW))


def down(job: Job) -> str:
    """Return the commands that let the job save, and delete what costs something."""
    # What has been taken away, or hangs, bills until it is deleted all the same.
    silent = "  echo 'a host does not answer: deleting it as it is' >&2"
    lines = [f"{line} ||\n{silent}" for line in _on_every_host(job, _STOP)]
    lines.append(f"sleep {job.grace_seconds}")
    if isinstance(job.machines, TpuSlice):
        lines += [
            "# --force deletes the slice, too; alone it would leave its request, which "
            "counts.",
            _gcloud(job, *_queue(job, "delete"), "--force", "--quiet"),
        ]
    else:
        words = ["instances", "delete", *_names(job), _in_zone(job), "--quiet"]
        lines.append(_gcloud(job, *words))
    return _script(job, *lines)


def _script(job: Job, *lines: str) -> str:
    others = ", ".join(job.zones[1:])
    where = _zone(job) + (f"; if there are none: {others}" if others else "")
    head = [
        "#!/usr/bin/env bash",
        f"# Job {job.name}: {job.machines.name} in {where}.",
        "# For a person to read and run; nobody has run it.",
        "set -euo pipefail",
    ]
    return "\n".join((*head, *lines)) + "\n"


def _archive(job: Job) -> list[str]:
    if job.commit is None:
        return []
    return [wrapped(on_hosts.archive_words(job.commit, "code.tar.gz"))]


def _ask(job: Job) -> list[str]:
    if isinstance(job.machines, TpuSlice):
        return [
            "# 2. Ask for the slice, and wait in the queue.",
            _gcloud(job, *_queue(job, "create"), *_of_slice(job, job.machines)),
            _wait(job),
        ]
    words = ["instances", "create", *_names(job), _in_zone(job)]
    return [
        "# 2. Ask for machines. Today's images: gcloud compute images list "
        "--project=deeplearning-platform-release",
        _gcloud(job, *words, *_of_instances(job, job.machines)),
    ]


def _of_slice(job: Job, on: TpuSlice) -> list[str]:
    # The reservation of the project; the command knows it by no name.
    capacity = {"spot": ["--spot"], "reservation": ["--reserved"]}
    return [
        f"--node-id={job.name}",
        f"--accelerator-type={on.accelerator_type}",
        f"--runtime-version={on.runtime}",
        *capacity.get(job.capacity, []),
        f"--valid-until-duration={round(job.longest_wait_hours * 3600)}s",
        *_identity(job),
    ]


def _of_instances(job: Job, on: GpuHosts) -> list[str]:
    model = "SPOT" if job.is_spot else "STANDARD"
    attached = [f"--accelerator=type={on.accelerator},count={on.per_host}"]
    return [
        f"--machine-type={on.machine_type}",
        *(attached if on.is_attached else []),
        "--image-family=common-cu128-ubuntu-2204-nvidia-570",
        "--image-project=deeplearning-platform-release",
        "--metadata=install-nvidia-driver=True",
        "--boot-disk-size=200GB",
        "--maintenance-policy=TERMINATE",
        f"--provisioning-model={model}",
        *(["--instance-termination-action=DELETE"] if job.is_spot else []),
        *_reservation(job),
        *_identity(job),
    ]


def _reservation(job: Job) -> list[str]:
    if job.reservation is None:
        return []
    return ["--reservation-affinity=specific", f"--reservation={job.reservation}"]


def _identity(job: Job) -> list[str]:
    labels = ",".join(f"{name}={text}" for name, text in job.all_labels.items())
    return [
        f"--service-account={job.service_account}",
        f"--scopes={_SCOPE}",
        f"--network={job.network}",
        f"--subnet={job.subnetwork}"
        if isinstance(job.machines, GpuHosts)
        else f"--subnetwork={job.subnetwork}",
        f"--labels={labels}",
    ]


def _wait(job: Job) -> str:
    # FAILED and SUSPENDED are ends: no machines come after them.
    show = _gcloud(job, *_queue(job, "describe"), "--format=value(state.state)")
    return f"""\
until state=$({show}); [ "$state" = ACTIVE ]; do
  case $state in
    FAILED | SUSPENDED) echo "it is $state: delete it, and ask again" >&2; exit 1 ;;
  esac
  sleep 30
done"""


def _hand_out(job: Job) -> list[str]:
    files = ["launch.env", "start.sh", *(["code.tar.gz"] if job.commit else [])]
    if isinstance(job.machines, TpuSlice):
        words = ["tpus", "tpu-vm", "scp", *files, f"{job.name}:", "--worker=all"]
        return [
            _once_it_answers(_gcloud(job, *words, _in_zone(job))),
            *_on_every_host(job, _START),
        ]
    found = []
    for index, name in enumerate(_names(job)):
        words = ["scp", *files, f"{name}:", _in_zone(job)]
        found.append(_once_it_answers(_gcloud(job, *words)))
        which = f"echo {INDEX}={index} >>launch.env; "
        start = which + _START if job.has_several_gpu_hosts else _START
        found.append(_on_host(job, str(index), start))
    return found


def _once_it_answers(line: str) -> str:
    """Return a line for bash that tries again: sshd is there after its machine."""
    return f"""\
for wait in 10 20 40 80 0; do
  {line} && break
  [ "$wait" -gt 0 ] || {{
    echo "error: a machine does not answer; they bill: {_DOWN}" >&2
    exit 1
  }}
  sleep "$wait"
done"""


def _on_every_host(job: Job, line: str) -> list[str]:
    if isinstance(job.machines, TpuSlice):
        return [_on_host(job, "all", line)]
    return [_on_host(job, str(index), line) for index in range(job.machines.hosts)]


def _on_host(job: Job, which: str, line: str) -> str:
    """Return the command that runs a line in a shell of a machine, or of all.

    No value stands in the line: they have come in files.
    """
    if isinstance(job.machines, TpuSlice):
        words = ["tpus", "tpu-vm", "ssh", job.name, f"--worker={which}"]
    else:
        words = ["ssh", _names(job)[int(which)]]
    return _gcloud(job, *words, _in_zone(job), f"--command={line}")


def _gcloud(job: Job, *words: str) -> str:
    return wrapped(["gcloud", "compute", *words, f"--project={job.project}"])


def _queue(job: Job, verb: str) -> list[str]:
    return ["tpus", "queued-resources", verb, f"{job.name}-q", _in_zone(job)]


def _names(job: Job) -> list[str]:
    return [f"{job.name}-{index}" for index in range(job.machines.hosts)]


def _zone(job: Job) -> str:
    return job.zones[0]


def _in_zone(job: Job) -> str:
    return f"--zone={_zone(job)}"
