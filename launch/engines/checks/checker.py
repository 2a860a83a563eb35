"""The engines' own parsers, asked by `launch.engines.checked`; no network is.

Run by the Python of .venv-launch. Standard input is one JSON object: `skypilot`, texts
of tasks; `jobset`, manifests. Standard output is another: for each of them `errors`, a
list of lines; of a task that SkyPilot takes also `understood`, what it has made of it;
and `versions`.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("jobset.json")


def main() -> None:
    """Answer the request."""
    asked = json.load(sys.stdin)
    answers = sys.stdout
    sys.stdout = sys.stderr  # SkyPilot prints hints
    found = {
        "skypilot": [_task(text) for text in asked.get("skypilot", [])],
        "jobset": [_manifest(one) for one in asked.get("jobset", [])],
        "versions": {
            name: version(name) for name in ("skypilot", "kubernetes-validate")
        },
    }
    json.dump(found, answers)


def _task(text: str) -> dict[str, Any]:
    import yaml
    from sky.task import Task  # pyright: ignore[reportMissingImports]
    from sky.utils import (  # pyright: ignore[reportMissingImports]
        common_utils,
        schemas,
    )

    config = yaml.safe_load(text)
    # A workdir need not exist yet: the archive of the commit is unpacked into it.
    config.pop("workdir", None)
    try:
        common_utils.validate_schema(config, schemas.get_task_schema(), "the task: ")
        task = Task.from_yaml_config(config)
    except Exception as error:  # whatever it raises is its answer
        return {"errors": [f"{type(error).__name__}: {error}"]}
    understood = {
        "name": task.name,
        "num_nodes": task.num_nodes,
        "envs": task.envs,
        "setup": task.setup,
        "run": task.run,
        "resources": [_resources(one) for one in task.resources],
    }
    return {"errors": [], "understood": understood}


def _resources(one: Any) -> dict[str, Any]:
    # What SkyPilot does not know, in a mapping that it does not check, is not here.
    return {
        "cloud": str(one.cloud),
        "region": one.region,
        "zone": one.zone,
        "accelerators": one.accelerators,
        "accelerator_args": one.accelerator_args,
        "use_spot": one.use_spot,
        "labels": one.labels,
        "job_recovery": one.job_recovery,
        "network": one.cluster_config_overrides,
    }


def _manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    import jsonschema

    schema = json.loads(SCHEMA.read_text())
    errors = [
        f"{'.'.join(map(str, error.absolute_path)) or 'the manifest'}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    ]
    return {"errors": errors or _jobs(manifest)}


def _jobs(manifest: dict[str, Any]) -> list[str]:
    """Return what Kubernetes' own schema says of the Jobs."""
    import kubernetes_validate  # pyright: ignore[reportMissingImports]

    errors = []
    for job in manifest["spec"]["replicatedJobs"]:
        whole = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": job["name"]},
            "spec": job["template"]["spec"],
        }
        try:
            kubernetes_validate.validate(
                whole, kubernetes_validate.latest_version(), strict=True
            )
        except kubernetes_validate.ValidationError as error:
            errors.append(f"{'.'.join(map(str, error.path))}: {error.message}")
    return errors


if __name__ == "__main__":
    main()
