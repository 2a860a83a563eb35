"""Which run a folder belongs to, and each checkpoint in it.

A run has a random name, which is in run.json and in the manifest of each checkpoint. So
a checkpoint of another run that was put there is not taken for one's own.
"""

import contextlib
import uuid
from typing import Any

from common import gfiles
from common.errors import UserError
from train.checkpoints import bundle
from train.checkpoints.directory import BEST, has_begun, list_checkpoints

RUN, SUMMARY = "run.json", "summary.json"
# What a run writes over, or goes on with.
_WRITTEN_OVER = (SUMMARY, "operative_config.gin", "metrics.jsonl", "eval.jsonl")


def begin(model_dir: str) -> str:
    """Make a folder a run's own, if it is not yet.

    Args:
      model_dir: it exists. Where checkpoints of a run of earlier versions lie, or such
        as were copied there, it gets the name that they have. Without checkpoints a
        run begins anew, and has a new name.

    Returns:
      The name of the run.

    Raises:
      UserError: the folder holds files of somebody else, or checkpoints of another
        run; or it cannot be written.
      Restart: the storage does not answer now.
    """
    checkpoints = list_checkpoints(model_dir)
    run = read(model_dir)
    if not checkpoints:
        _refuse_files(model_dir)
    elif not has_begun(model_dir):
        _require_ours(checkpoints[0])  # it is made again
    if run is None or not checkpoints:
        run = next(filter(None, map(_run_of, checkpoints)), uuid.uuid4().hex)
        gfiles.write_json(f"{model_dir}/{RUN}", {"run": run})
    for folder in (model_dir, f"{model_dir}/{BEST}"):
        refuse_foreign(folder)
    return run


def read(model_dir: str) -> str | None:
    """Return the name of a folder's run, None where it has none.

    Raises:
      UserError: there is a run.json, but not such a one.
    """
    path = f"{model_dir}/{RUN}"
    run = gfiles.read_json(path).get("run")
    if isinstance(run, str):
        return run
    if gfiles.exists(path):
        raise UserError(
            f"{path} names no run: it is damaged, or no file of this project. Remove "
            "it (its checkpoints know their run), or name another folder"
        )
    return None


def refuse_foreign(directory: str) -> None:
    """Refuse a folder with a checkpoint of another run.

    Args:
      directory: of a run, or its folder of the best checkpoint.

    Raises:
      UserError: names the checkpoint.
      Restart: the storage does not answer now.
    """
    above, _, name = directory.rpartition("/")
    run = read((above or ".") if name == BEST else directory)
    for path in list_checkpoints(directory):
        if run and _run_of(path) not in (None, run):
            raise UserError(
                f"{path} is a checkpoint of another run ({_run_of(path)}) than that "
                f"of this folder ({run}, says {RUN}); move its files elsewhere: to "
                "begin from them is Experiment.pretrained"
            )


def refuse_other_summary(model_dir: str) -> None:
    """Refuse a folder whose summary.json is no run's; UserError."""
    if gfiles.exists(f"{model_dir}/{SUMMARY}") and "variant" not in _summary(model_dir):
        raise UserError(
            f"{model_dir}/{SUMMARY} is not what a run writes there: move it elsewhere, "
            "or name another folder"
        )


def _run_of(path: str) -> str | None:
    """Return the run of a checkpoint; None where it does not say, or is corrupt."""
    with contextlib.suppress(bundle.CorruptCheckpoint):
        return bundle.read_manifest(path)["run"]
    return None


def _refuse_files(model_dir: str) -> None:
    for name in _WRITTEN_OVER:
        # The scores of weights that the training is to start from.
        scored = name == SUMMARY and _summary(model_dir).get("steps") == 0
        if not scored and gfiles.exists(f"{model_dir}/{name}"):
            raise UserError(
                f"{model_dir} holds a {name}, but no checkpoint: it is somebody "
                "else's, or what is left of a run. Name another folder, or move it "
                "elsewhere"
            )


def _require_ours(path: str) -> None:
    try:
        bundle.read_manifest(path)
    except bundle.CorruptCheckpoint as fault:
        raise UserError(
            f"{path} is damaged, or no checkpoint of this project ({fault.reason}); "
            "name another folder, or move its files elsewhere"
        ) from fault


def _summary(model_dir: str) -> dict[str, Any]:
    return gfiles.read_json(f"{model_dir}/{SUMMARY}")
