"""Reads a job file, and refuses what does not hold together."""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.checks import nearest_names
from common.errors import UserError
from launch.job.host_job import HostJob
from launch.job.located_yaml import Located
from launch.job.machines import GpuHosts, Machines, TpuSlice

SCHEMA = Path(__file__).with_name("schema.json")


class NotSold(UserError):  # noqa: N818 (as UserError)
    """A job file is sound, but nobody sells the machines that it names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A job as its file says it; see schema.json for what each means.

    Attributes:
      machines: slice or gpus.
      capacity: spot, on_demand or reservation; then `reservation` is its name.
      image: with its digest, or None where `commit` says which code.
    """

    name: str
    owner: str
    project: str
    machines: Machines
    zones: tuple[str, ...]
    capacity: str
    reservation: str | None
    longest_wait_hours: float
    service_account: str
    network: str
    subnetwork: str
    budget_hours: float
    budget_dollars: float
    image: str | None
    commit: str | None
    gin_files: tuple[str, ...]
    gin_params: tuple[str, ...]
    data_dir: str
    model_dir: str
    restarts_without_progress: int
    grace_seconds: int
    labels: Mapping[str, str]
    kubernetes: Mapping[str, Any]

    @property
    def region(self) -> str:
        """Of all its zones."""
        return self.zones[0].rpartition("-")[0]

    @property
    def is_spot(self) -> bool:
        """Whether its machines may be taken away at any time."""
        return self.capacity == "spot"

    @property
    def has_several_gpu_hosts(self) -> bool:
        """Whether its hosts have to be told of each other; those of a slice are not."""
        return isinstance(self.machines, GpuHosts) and self.machines.hosts > 1

    @property
    def all_labels(self) -> dict[str, str]:
        """What its machines are labelled with."""
        return {**self.labels, "owner": self.owner, "job": self.name}

    def host_job(self, submission: str) -> HostJob:
        """Return what its hosts are told, of one submission of it."""
        on = self.machines
        is_tpu = isinstance(on, TpuSlice)
        return HostJob(
            name=self.name,
            submission=submission,
            machines="tpu" if is_tpu else "gpu",
            generation=on.topology.name if is_tpu else "",
            hosts=on.hosts,
            gin_files=self.gin_files,
            gin_params=self.gin_params,
            data_dir=self.data_dir,
            model_dir=self.model_dir,
            budget_hours=self.budget_hours,
            restarts_without_progress=self.restarts_without_progress,
            grace_seconds=self.grace_seconds,
        )


def new_submission(name: str) -> str:
    """Return what tells a submission of a job from those before it."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def load(path: str) -> Job:
    """Read a job file.

    Raises:
      UserError: one line: "job.yaml:12: budget.hours: ..."; NotSold where the
        machines alone are wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no text of UTF-8"
        raise UserError(f"cannot read the job file {path}: {why}") from error
    located = Located(path, text)
    _check(located)
    return _job(located)


def _check(located: Located) -> None:
    """Hold what a file says against the schema."""
    # Slow to import.
    import jsonschema

    schema = json.loads(SCHEMA.read_text())
    validator = jsonschema.Draft202012Validator(schema)
    errors = list(validator.iter_errors(located.value))
    if errors:
        error = min(errors, key=_rank)
        place = list(error.absolute_path)
        if error.validator == "additionalProperties":
            place += _unknown(error)[:1]
        raise _mistake(located, place, _say(error))


def _rank(error: Any) -> tuple[bool, int]:
    """Put a name that is misspelt before what is missing therefore."""
    return error.validator != "additionalProperties", len(error.absolute_path)


def _unknown(error: Any) -> list[str]:
    known = error.schema.get("properties", {})
    return [name for name in error.instance if name not in known]


def _say(error: Any) -> str:
    """Return in words what a value breaks."""
    value, rule = error.instance, error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in rule if name not in value]
            return f"{', '.join(missing)} is missing"
        case "additionalProperties" if isinstance(value, dict):
            known = error.schema.get("properties", {})
            unknown = _unknown(error)
            near = [name for one in unknown for name in nearest_names(str(one), known)]
            hint = f"is {near[0]} meant?" if near else f"there are {', '.join(known)}"
            return f"unknown {', '.join(map(repr, unknown))}; {hint}"
        case "oneOf":
            names = [one["required"][0] for one in rule]
            return f"one of {' and '.join(names)} has to be there, and not both"
        case "pattern":
            about = error.schema.get("description", "")
            return f"{value!r:.80} does not match {rule}; {about}".rstrip("; ")
        case "enum":
            return f"{value!r:.80} is none of {', '.join(map(str, rule))}"
        case "type" if rule == "string" and isinstance(value, int | float):
            return f"{value} is no text to YAML: put it in quotes"
    return error.message[:200]


def _mistake(located: Located, place: list[Any], what: str) -> UserError:
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)
    name = f" {field.lstrip('.')}:" if field else ""
    return UserError(f"{located.where(place)}:{name} {what}")


def _filled(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value with what its objects leave to the schema's defaults."""
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    left = {name: one["default"] for name, one in fields.items() if "default" in one}
    every = left | value
    return {name: _filled(one, fields.get(name, {})) for name, one in every.items()}


def _job(located: Located) -> Job:
    said = _filled(located.value, json.loads(SCHEMA.read_text()))
    machines, code, run = said["machines"], said["code"], said["run"]
    restarts = said["restarts"]
    _check_zones(located, machines["zones"])
    _check_reservation(located, machines)
    return Job(
        name=said["name"],
        owner=said["owner"],
        project=said["project"],
        machines=_machines(located, machines),
        zones=tuple(machines["zones"]),
        capacity=machines["capacity"],
        reservation=machines.get("reservation"),
        longest_wait_hours=machines["longest_wait_hours"],
        service_account=machines["service_account"],
        network=machines["network"],
        subnetwork=machines["subnetwork"],
        budget_hours=said["budget"]["hours"],
        budget_dollars=said["budget"]["dollars"],
        image=code.get("image"),
        commit=code.get("commit"),
        gin_files=tuple(run["gin_files"]),
        gin_params=tuple(run["gin_params"]),
        data_dir=run["data_dir"].rstrip("/"),
        model_dir=run["model_dir"].rstrip("/"),
        restarts_without_progress=restarts["without_progress"],
        grace_seconds=restarts["grace_seconds"],
        labels=said["labels"],
        kubernetes=said["kubernetes"],
    )


def _machines(located: Located, said: Mapping[str, Any]) -> Machines:
    field = "gpus" if "gpus" in said else "slice"
    try:
        if field == "slice":
            return TpuSlice.parse(said["slice"])
        gpus = said["gpus"]
        return GpuHosts(gpus["type"], gpus["per_host"], gpus["hosts"])
    except UserError as error:
        wrong = _mistake(located, ["machines", field], str(error))
        raise NotSold(str(wrong)) from error


def _check_zones(located: Located, zones: list[str]) -> None:
    regions = {zone.rpartition("-")[0] for zone in zones}
    if len(regions) > 1:
        raise _mistake(
            located,
            ["machines", "zones"],
            f"{' and '.join(sorted(regions))} are two regions; the data and the run "
            "lie in the buckets of one",
        )


def _check_reservation(located: Located, said: Mapping[str, Any]) -> None:
    is_meant = said["capacity"] == "reservation"
    if is_meant != ("reservation" in said):
        raise _mistake(
            located,
            ["machines", "capacity"],
            "capacity: reservation and the name, reservation: NAME, go together",
        )
