"""Runs on TPUStrategy with CPUs for cores, and on MirroredStrategy beside it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from launch.rehearsal import workers
from tests.support.runs import TINY, bindings
from train.checkpoints import bundle, directory


def start(
    kind: str,
    number: int,
    data_dir,
    model_dir,
    *arguments: str,
    gin_file: str = TINY,
    tpu_name: str = "local",
    environment: dict[str, str] | None = None,
    **changes: Any,
) -> subprocess.Popen:
    """Start train.main on the cores of each host, or on as many mirrored CPUs."""
    command = [
        sys.executable,
        *("-m", "launch.rehearsal.client", kind, str(number)),
        *(f"--gin_file={gin_file}", f"--model_dir={model_dir}"),
        *(f"--gin_param={one}" for one in bindings(data_dir, _settings(changes))),
        *(arguments or ["--mode=train"]),
    ]
    environment = {"TPU_NAME": tpu_name, **(environment or {})}
    return subprocess.Popen(
        command,
        env=workers.without_proxy({**os.environ, **environment}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen, status: int = 0, timeout: float = 600) -> str:
    """Wait for the end of a run; return what it has said on standard error."""
    try:
        said = process.communicate(timeout=timeout)[1]
    finally:
        process.kill()
    assert process.returncode == status, said
    return said


def run(*arguments: Any, **options: Any) -> str:
    """Do as `start` and `end`."""
    return end(start(*arguments, **options))


def _settings(changes: dict[str, Any]) -> dict[str, Any]:
    """Write a setting as a config has it: of Experiment, if it does not say."""
    modules = {"build_model": "efficientnet_x"}
    whole = {}
    for name, value in changes.items():
        if "." not in name:
            name = f"Experiment.{name}"
        module = modules.get(name.partition(".")[0], "experiment")
        whole[f"{module}.{name}"] = value
    return whole


def differing(*model_dirs: Any) -> Sequence[str]:
    """Return the tensors that differ in the newest checkpoints of two runs."""
    paths = [directory.list_checkpoints(str(folder))[0] for folder in model_dirs]
    assert len({bundle.step(path) for path in paths}) == 1, paths
    one, other = map(bundle.read, paths)
    assert one.keys() == other.keys()
    return [n for n in one if one[n].tobytes() != other[n].tobytes()]
