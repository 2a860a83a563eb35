"""The Dockerfile's lines, done in a clean root, and what runs in it then."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path

import pytest

from common.project import ROOT
from common.version import NAME, VERSION
from tests.support import clean_root, dockerfile
from tests.support.processes import started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(clean_root.missing()), reason=clean_root.missing() or ""),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Function: accelerator -> the image, from what an engine is sent."""
    folder = tmp_path_factory.mktemp("image")
    clean_root.make_base(folder / "base")
    for name in (*dockerfile.context(ROOT, dockerfile.IGNORE), "Dockerfile"):
        (folder / "context" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "context" / name)

    def make(accelerator):
        stages = folder / accelerator
        stages.mkdir()
        arguments = {"ACCELERATOR": accelerator, "REVISION": "1f2e"}
        return clean_root.build(folder / "base", folder / "context", stages, arguments)

    yield make
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(build):
    return build("cpu")


@pytest.fixture
def data(digits, tmp_path):
    """A folder of its user's, with the digits."""
    shutil.copytree(digits, tmp_path / "data" / "mnist")
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        os.chown(path, 1000, 1000)
    return tmp_path / "data"


def run(image, *arguments, data=None):
    command = image.command(*arguments, data=data)
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "module",
    [
        "train.main",
        "train.export",
        "input_pipeline.serve",
        "preflight",
        "launch.rehearsal",
    ],
)
def test_every_role_answers(image, module):
    ran = run(image, module, "--version")
    assert (ran.returncode, ran.stdout) == (0, f"{NAME} {VERSION}\n"), ran.stderr


def test_it_has_the_fused_input_ops(image):
    ran = run(image, "input_pipeline.fused.build")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"fused input ops: /app/.venv/lib/.*\.so is there\n$", ran.stdout)


def test_without_a_module_it_is_the_trainer_that_explains_itself(image):
    ran = run(image)
    assert ran.returncode == 0
    assert ran.stdout.startswith("usage: python -m train.main")


def test_the_lock_is_inside_and_nothing_but_it(image):
    lock = (image.root / "app/.venv/installed.txt").read_text()
    assert lock == (ROOT / "requirements/core.txt").read_text()
    (packages,) = (image.root / "app/.venv/lib").glob("python3.*/site-packages")
    found = {
        f"{re.sub('[-_.]+', '-', one.name).lower()}=={one.version}"
        for one in metadata.distributions(path=[str(packages)])
    }
    assert found <= set(re.findall(r"^[\w.-]+==[^\s;]+", lock, re.M))
    assert len(found) > 50
    assert {"pip", "uv"} & {one.partition("==")[0] for one in found} == set()
    assert image.labels["org.opencontainers.image.revision"] == "1f2e"


def test_its_user_changes_nothing_of_it(image, data):
    ran = run(image, "train.main", *TRAINING, "--model_dir=run", data=data)
    assert ran.returncode == 2
    assert "Permission denied" in ran.stderr.splitlines()[-1]


TRAINING = [
    "--gin_file=gin_configs/runs/mnist_cpu.gin",
    "--gin_param=experiment.Experiment.data_dir = '/data/mnist'",
    "--gin_param=experiment.Experiment.epochs = 2",
    "--gin_param=experiment.Experiment.checkpoint_every_steps = 20",
]


def test_a_training_that_is_stopped_goes_on_and_is_exported(image, data):
    line = ["train.main", *TRAINING, "--model_dir=/data/run"]
    command = image.command(*line, data=data)
    with started(command) as (process,):
        for said in process.stderr or ():
            if said.startswith("step 20/80"):
                os.kill(_process_one(process.pid), signal.SIGTERM)
        assert process.wait() == 75
    ran = run(image, *line, data=data)
    assert ran.returncode == 0, ran.stderr
    assert "going on at step" in ran.stderr
    summary = json.loads((data / "run/summary.json").read_text())
    assert (summary["steps"], summary["eval_images"]) == (80, 1000)
    flags = ["--model_dir=/data/run", "--export_dir=/data/export"]
    assert run(image, "train.export", *flags, data=data).returncode == 0
    assert (data / "export/saved_model.pb").is_file()


def test_a_dispatcher_of_a_data_service_runs_until_sigterm(image, data):
    line = ["input_pipeline.serve", "dispatcher", "--port=0", "--work_dir=/data/work"]
    line.append("--host=0.0.0.0")
    command = image.command(*line, data=data)
    with started(command) as (process,):
        said = process.stdout.readline() if process.stdout else ""
        os.kill(_process_one(process.pid), signal.SIGTERM)
        assert process.wait() == 0
    assert said.startswith("dispatcher: grpc://")


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_image_of_an_accelerator_trains_as_that_of_cpus(
    build, image, data, accelerator
):
    other = build(accelerator)
    # As the client on a slice, whose chips are the workers'.
    other.environment["TPU_LOAD_LIBRARY"] = "0"
    ends = []
    for one, name in ((image, "cpu"), (other, accelerator)):
        ran = run(one, "train.main", *TRAINING, f"--model_dir=/data/{name}", data=data)
        assert ran.returncode == 0, ran.stderr
        ends.append((data / name / "ckpt-80.data-00000-of-00001").read_bytes())
    assert ends[0] == ends[1]
    shutil.rmtree(other.root.parent)


def _process_one(pid: int) -> int:
    """Return what an engine signals: the child of unshare."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return int(found[0])
