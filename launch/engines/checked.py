"""Asks the engines' own parsers, in the environment that `make launch` installs."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

import yaml

from common.errors import UserError
from common.project import ROOT

PYTHON = ROOT / ".venv-launch/bin/python"
_CHECKER = ROOT / "launch/engines/checks/checker.py"
_SECONDS = 300
QUIET = {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}  # to SkyPilot's makers


def by_skypilot(text: str, understood: Mapping[str, Any]) -> str | None:
    """Let SkyPilot parse a task.

    Args:
      text: of the task.
      understood: what the job means by it; envs and scripts are to be as they are said.

    Returns:
      Who has checked it, in words; None where it is not installed.

    Raises:
      UserError: SkyPilot refuses it, or has understood something else.
    """
    said = yaml.safe_load(text)
    meant = {name: said.get(name) for name in ("envs", "setup", "run")}
    meant |= understood
    answer = ask({"skypilot": [text]})
    if answer is None:
        return None
    (found,) = answer["skypilot"]
    _refuse(found["errors"], "SkyPilot's parser")
    for name, value in meant.items():
        if found["understood"][name] != value:
            raise UserError(
                f"SkyPilot's parser makes {found['understood'][name]!r:.300} of the "
                f"task's {name}, which is to be {value!r:.300}"
            )
    return f"SkyPilot {answer['versions']['skypilot']}'s own parser"


def by_kubernetes(manifest: Mapping[str, Any]) -> str | None:
    """Hold a manifest against JobSet's and Kubernetes' schemas; as `by_skypilot`."""
    answer = ask({"jobset": [manifest]})
    if answer is None:
        return None
    (found,) = answer["jobset"]
    _refuse(found["errors"], "the schema of JobSet v1alpha2 and Kubernetes")
    version = answer["versions"]["kubernetes-validate"]
    return f"the schemas of JobSet v1alpha2 and Kubernetes {version}"


def ask(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer to a request, see `checks.checker`; None without `make launch`.

    Raises:
      UserError: the checker has not answered.
    """
    if not os.access(PYTHON, os.X_OK):
        return None
    said = f"no answer within {_SECONDS} s"
    try:
        # SkyPilot reads and writes ~/.sky when it is imported.
        with tempfile.TemporaryDirectory(prefix="launch-") as home:
            ended = subprocess.run(
                # -P: the modules of its own folder are none of its business.
                [str(PYTHON), "-P", str(_CHECKER)],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                env={**os.environ, **QUIET, "HOME": home},
                timeout=_SECONDS,
            )
        said = (ended.stderr.strip().splitlines() or ["no JSON"])[-1]
        return json.loads(ended.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise UserError(
            f"what checks a job has failed ({said}): delete .venv-launch, then make "
            "launch"
        ) from error


def _refuse(errors: list[str], who: str) -> None:
    if errors:
        raise UserError(f"{who} would not take what was rendered: {'; '.join(errors)}")
