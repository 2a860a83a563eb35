"""Which run a folder belongs to, and each checkpoint in it.

A run has a random name, which is in run.json and in the manifest of each checkpoint. So
a checkpoint of another run that was put there is not taken for one's own.
"""

import contextlib
import uuid

from common import gfiles
from common.errors import UserError
from train.checkpoints import bundle
from train.checkpoints.directory import list_checkpoints

RUN = "run.json"
# What a run writes over; where there is no run they are somebody else's.
_WRITTEN_OVER = ("summary.json", "operative_config.gin", "metrics.jsonl", "eval.jsonl")


def begin(model_dir: str) -> str:
    """Make a folder a run's own, if it is not yet.

    Args:
      model_dir: it exists. That of a run of earlier versions, or of checkpoints that
        were copied there, gets the name that they have.

    Returns:
      The name of the run.

    Raises:
      UserError: the folder holds files of somebody else, or checkpoints of another
        run; or it cannot be written.
      Restart: the storage does not answer now.
    """
    run = read(model_dir)
    if run is None:
        checkpoints = list_checkpoints(model_dir)
        if not checkpoints:
            _refuse_files(model_dir)
        run = next(filter(None, map(_run_of, checkpoints)), uuid.uuid4().hex)
        gfiles.write_json(f"{model_dir}/{RUN}", {"run": run})
    refuse_foreign(model_dir)
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
      directory: of a run, or a folder in it, as that of the best checkpoint.

    Raises:
      UserError: names the checkpoint.
      Restart: the storage does not answer now.
    """
    run = read(directory) or read(directory.rpartition("/")[0])
    for path in list_checkpoints(directory):
        if run and _run_of(path) not in (None, run):
            raise UserError(
                f"{path} is a checkpoint of another run ({_run_of(path)}) than that "
                f"of this folder ({run}, says {RUN}); move its files elsewhere: to "
                "begin from them is Experiment.pretrained"
            )


def _run_of(path: str) -> str | None:
    """Return the run of a checkpoint; None where it does not say, or is corrupt."""
    with contextlib.suppress(bundle.CorruptCheckpoint):
        return bundle.read_manifest(path)["run"]
    return None


def _refuse_files(model_dir: str) -> None:
    for name in _WRITTEN_OVER:
        if gfiles.exists(f"{model_dir}/{name}"):
            raise UserError(
                f"{model_dir} holds a {name}, but neither {RUN} nor a checkpoint: it "
                "is no run's folder. Name another one, or move that file elsewhere"
            )
