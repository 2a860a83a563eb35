"""The data and the folder of the run, as they lie in their buckets."""

import json
from collections.abc import Iterable
from typing import Any

from common.claims.holder import NAME, STALE_SECONDS, Holder
from common.console import count, named
from common.errors import UserError
from launch.doctor.case import Case
from launch.doctor.findings import Finding, fails, ok, unknown

_SPLITS = "run.gin_params: Experiment.train_split, Experiment.eval_split"


def info(case: Case) -> dict[str, Any] | None:
    """Return dataset_info.json, None where there is none; InfoError if not sound."""
    # They import TensorFlow.
    from input_pipeline import info_schema
    from input_pipeline.records import CHUNK_RECORDS

    found = case.google.read(f"{case.job.data_dir}/dataset_info.json")
    if found is None:
        return None
    content = info_schema.read_json(found.content)
    info_schema.check(content, chunk_records=CHUNK_RECORDS)
    return content


def whole(case: Case) -> Finding:
    """Check that all shards of the data are there, and long enough."""
    from input_pipeline.info_schema import InfoError

    folder = case.job.data_dir
    prepare = "prepare the data again, or copy them again: gcloud storage rsync"
    try:
        about = info(case)
    except InfoError as error:
        return fails(f"{folder}/dataset_info.json is not sound: {error}", prepare)
    if about is None:
        return fails(f"{folder} has no dataset_info.json", prepare)
    records = about.get("records_dir", "")
    where = records if "://" in records else f"{folder}/{records}".rstrip("/")
    sizes = case.google.list(where)
    shards = [one for split in about["splits"].values() for one in split["shards"]]
    missing = [s["filename"] for s in shards if s["filename"] not in sizes]
    if missing:
        return fails(f"{where} lacks {_some(missing, len(shards))}", prepare)
    # The last chunk's end is nowhere said: it has one record at least.
    cut = [
        shard["filename"]
        for shard in shards
        if shard["offsets"] and sizes[shard["filename"]] <= shard["offsets"][-1]
    ]
    if cut:
        return fails(f"cut off are {_some(cut, len(shards))} of {where}", prepare)
    experiment = case.sound_config().experiment
    for split in (experiment.train_split, experiment.eval_split):
        if split.partition("[")[0] not in about["splits"]:
            has = ", ".join(about["splits"])
            return fails(f"{folder} has no split {split!r}: it has {has}", _SPLITS)
    images = sum(shard["records"] for shard in shards)
    return ok(f"{images:,} records in {count(len(shards), 'file')}")


def _some(names: list[str], of: int) -> str:
    return f"{len(names):,} of {of:,} files ({named(names)})"


def run_folder(case: Case) -> Finding:
    """Check that the run may begin, or go on, in its folder."""
    folder, google = case.job.model_dir, case.google
    if claim := google.read(f"{folder}/{NAME}"):
        holder = Holder.parse(claim.content) or "another process"
        if claim.age < STALE_SECONDS:
            age = f"its last sign of life {claim.age:,.0f} s ago"
            held = f"{folder} is held by {holder}, {age}"
            mend = "wait for its end or stop it, or name another run.model_dir"
            return ok(held) if case.node else fails(held, mend)
    saved = google.read(f"{folder}/operative_config.gin")
    if saved is None:
        return _without_a_run(folder, google.list(folder))
    differs = _differences(case, saved.content)
    if differs is None:
        return unknown(f"{folder}/operative_config.gin cannot be read")
    if differs:
        return fails(
            f"{folder} belongs to a run with another config: {'; '.join(differs)}",
            "name another run.model_dir, or take the old settings",
        )
    return ok(f"{folder} holds this run: it goes on")


def _without_a_run(folder: str, there: Iterable[str]) -> Finding:
    from train.checkpoints.ownership import WRITTEN_OVER

    if strange := sorted(filter(WRITTEN_OVER.fullmatch, there)):
        return fails(
            f"{folder} holds {named(strange)}, and no run that could go on",
            "name another run.model_dir, or move them away",
        )
    return ok(f"{folder} is free: the run begins")


def _differences(case: Case, saved: bytes) -> list[str] | None:
    """Return the settings for which train.main would refuse to go on."""
    from train.settings import saved_config

    config = case.sound_config()
    try:
        with saved_config.readable("operative_config.gin"):
            found = saved_config.differences(
                saved.decode(), config.text, config.settings
            )
    except UserError:
        return None
    may_not = ("never", "accepted")
    return [
        f"{name}: {change}"
        for name, change in found.items()
        if config.settings[name].may_change in may_not
    ]


def heartbeat(case: Case) -> dict[str, Any] | None:
    """Return the first process's last heartbeat and its age; None where none is."""
    found = case.google.read(f"{case.job.model_dir}/hosts/host-0.json")
    if found is None:
        return None
    return {**json.loads(found.content), "age": found.age}
