"""The job file itself, what it trains, and the code that does so."""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common import gcs, project
from common.console import count, say
from common.errors import Status, UserError
from launch.doctor import data
from launch.doctor.case import Case, command, output
from launch.doctor.findings import (
    Finding,
    NotAnswered,
    fails,
    mistake,
    ok,
    unknown,
)
from launch.job.job_file import NotSold
from launch.job.machines import GpuHosts, Machines, TpuSlice
from train.weights.registry import WEIGHTS

if TYPE_CHECKING:
    from train.experiment import Experiment

_IMAGENET = 1_281_167
_GIB = 2**30
# The libtpu that a tensorflow-tpu finds TPUs with, see requirements/tpu.in.
_LIBTPU = {"2.20.0": "0.0.14"}
# Their own images of TPU VMs crash at the import (github.com/tensorflow/tensorflow
# issue 82208).
_CRASH = ("2.17.1", "2.18.0")
_COMMIT = re.compile(r"[0-9a-f]{40}")  # and no option of git's
_REVISION = "org.opencontainers.image.revision"


def file(case: Case) -> Finding:
    """Check that the job file is sound."""
    wrong = case.read
    if isinstance(wrong, UserError) and not isinstance(wrong, NotSold):
        return mistake(wrong, "mend this line; launch/job/schema.json has all fields")
    return ok(case.path)


def machines(case: Case) -> Finding:
    """Check that somebody sells what the job is to run on."""
    if isinstance(case.read, NotSold):
        return mistake(case.read, "take one of those")
    on = case.job.machines
    if isinstance(on, TpuSlice):
        chips, hosts = count(on.chips, "chip"), count(on.hosts, "host")
        return ok(f"{on.name} is {on.accelerator_type}: {chips} on {hosts}")
    gpus, hosts = count(on.replicas, "GPU"), count(on.hosts, "host")
    return ok(f"{on.name}: {gpus} on {hosts}, {on.machine_type}")


def config(case: Case) -> Finding:
    """Check what train.main would refuse of the settings before it looks at devices."""
    job = case.job
    try:
        experiment = case.config.experiment
        experiment.check_replicas(job.machines.replicas)
    except UserError as error:
        return mistake(error, "mend the setting, in its gin file or in run.gin_params")
    fit = _strategies(job.machines)
    if experiment.strategy not in fit:
        return fails(
            f"Experiment.strategy is {experiment.strategy!r}, and {job.machines.name} "
            f"needs {fit[0]!r}",
            f"run.gin_params: experiment.Experiment.strategy = {fit[0]!r}",
        )
    if row := WEIGHTS.get(experiment.pretrained or ""):
        return fails(
            f"Experiment.pretrained = {row.name!r} is a file of {row.package}, which "
            "no host installs",
            f"put the package's {row.file} on gs://, and name that",
        )
    if local := [*_local_paths(experiment)]:
        return fails(f"{local[0]} is of this machine alone", "put it on gs://")
    return ok(
        f"{experiment.global_batch_size:,} images a step on "
        f"{count(job.machines.replicas, 'replica')}, {experiment.epochs:g} epochs"
    )


def _strategies(on: Machines) -> tuple[str, ...]:
    """Return the strategies that drive these machines, the usual one first."""
    if isinstance(on, TpuSlice):
        return ("tpu",)
    if on.hosts > 1:
        return ("multi_worker",)
    return ("mirrored", "one_device") if on.per_host == 1 else ("mirrored",)


def _local_paths(experiment: "Experiment") -> Iterator[str]:
    for name in ("data_dir", "pretrained"):
        path = getattr(experiment, name)
        if path is not None and not path.startswith(gcs.SCHEME):
            yield f"Experiment.{name} = {path!r}"


def compiles(case: Case) -> Finding:
    """Ask the compiler of TPUs whether the steps fit, and for how long they train."""
    if case.slice is None:
        return unknown("preflight compiles for TPUs alone")
    case.sound_config()
    if not case.compiles:
        return unknown("--no_preflight")
    images, whose = _train_images(case)
    flags = [f"--topology={case.slice.name}", *case.train_flags]
    flags += [f"--train_images={images}"]
    say(f"compiling for {case.slice.name}, which takes minutes ...", stays=False)
    status, said = _preflight([*flags, "--json", "--no_largest_batch"])
    if status == Status.MISTAKE:
        line = said.removeprefix("error: ")
        if "make tpu-compiler" in line:
            return unknown(line)
        return fails(line, "mend the setting, in its gin file or in run.gin_params")
    found = case.preflight = json.loads(said)
    again = command("python", "-m", "preflight", *flags)
    return _judged(found, whose, again)


def _train_images(case: Case) -> tuple[int, str]:
    """Return how many images there are, and whose number that is."""
    with contextlib.suppress(NotAnswered, KeyError, ValueError):  # 21 says why
        if info := data.info(case):
            split = case.sound_config().experiment.train_split.partition("[")[0]
            shards = info["splits"][split]["shards"]
            return sum(shard["records"] for shard in shards), ""
    why = "the data cannot be read from here"
    return _IMAGENET, f"; as many images as ImageNet's: {why}"


def _preflight(flags: list[str]) -> tuple[int, str]:
    """Return the status of preflight, and its answer or its last line.

    NotAnswered where it was killed, or a storage did not answer it: the config may be
    sound.
    """
    done = subprocess.run(
        [sys.executable, "-m", "preflight", *flags],
        cwd=project.ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode in (Status.OK, Status.NO):
        return done.returncode, done.stdout
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        why = ", perhaps for want of memory" * (name == "SIGKILL")
        raise NotAnswered(f"preflight was killed by {name}{why}")
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    if done.returncode != Status.MISTAKE:
        raise NotAnswered(f"preflight: {lines[-1]}")
    return Status.MISTAKE, lines[-1]


def _judged(found: dict[str, Any], whose: str, again: str) -> Finding:
    if not found["compiles"]:
        steps = [step for step in found["steps"] if step["problem"]]
        why = steps[0]["problem"]["message"] if steps else "a step does not compile"
        return fails(why, f"the op and its line: {again}")
    hbm, limit = found["hbm_bytes"] / _GIB, found["hbm_limit_bytes"] / _GIB
    fits = f"{hbm:.2f} of {limit:.2f} GiB of HBM"
    if not found["fits"]:
        return fails(f"it does not fit: {fits}", f"the largest batch: {again}")
    hours = found["hours"]
    time = "no estimate of its time" if hours is None else f"about {hours:.1f} hours"
    return ok(f"{fits}, {time}{whose}")


def code(case: Case) -> Finding:
    """Check the lock that the hosts run by: it has to know this generation."""
    job = case.job
    revision = job.commit or _revision(case)
    if revision is None:
        return fails(
            f"there is no image {job.image}",
            command("docker", "push", (job.image or "").partition("@")[0]),
        )
    name = "tpu" if case.slice else "gpu"
    words = ["git", "show", f"{revision}:requirements/{name}.txt"]
    lock = output(words, seconds=30, cwd=project.ROOT)
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.M))
    if isinstance(job.machines, GpuHosts):
        return ok(f"commit {revision[:12]}: tensorflow {pins.get('tensorflow')}")
    return _judged_pins(pins, revision[:12], case.slice)


def _judged_pins(pins: dict[str, str], revision: str, on: TpuSlice | None) -> Finding:
    tensorflow, libtpu = pins.get("tensorflow-tpu"), pins.get("libtpu")
    found = f"commit {revision}: tensorflow-tpu {tensorflow}, libtpu {libtpu}"
    if "tensorflow" in pins:
        return fails(
            f"{found}, and tensorflow {pins['tensorflow']} over it",
            "requirements/tpu.excluded: tensorflow; then make lock",
        )
    if tensorflow in _CRASH:
        return fails(f"{found}: its import crashes", "requirements/tpu.in: a newer one")
    if tensorflow not in _LIBTPU:
        return unknown(f"{found}: which libtpu goes with it is not known here")
    if libtpu != _LIBTPU[tensorflow]:
        pin = f"libtpu=={_LIBTPU[tensorflow]}"
        return fails(found, f"requirements/tpu.in: {pin}; then make lock")
    is_v6e = on is not None and on.topology.name == "v6e"
    note = "; its own worker does not know v6e, ours starts the server" * is_v6e
    return ok(found + note)


def _revision(case: Case) -> str | None:
    """Return the commit that an image says it was made of, None of no image."""
    host, _, rest = (case.job.image or "").partition("/")
    name, _, digest = rest.partition("@")
    found = case.google.registry(host, f"{name}/manifests/{digest}")
    if found and "manifests" in found:  # an index; machines of Google's are amd64
        first = next(
            (
                one["digest"]
                for one in found["manifests"]
                if one.get("platform", {}).get("architecture") == "amd64"
            ),
            None,
        )
        found = case.google.registry(host, f"{name}/manifests/{first}")
    if found is None:
        return None
    about = case.google.registry(host, f"{name}/blobs/{found['config']['digest']}")
    labels = ((about or {}).get("config") or {}).get("Labels") or {}
    if not _COMMIT.fullmatch(revision := str(labels.get(_REVISION, ""))):
        raise NotAnswered(
            f"the image is there; no label {_REVISION} names the commit in it"
        )
    return revision
