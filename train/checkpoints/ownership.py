"""Which run a folder belongs to, and each checkpoint in it.

A run has a random name, which is in run.json and in the manifest of each checkpoint. So
a checkpoint of another run that was put there is not taken for one's own.
"""

import contextlib
import re
import uuid
from collections.abc import Mapping
from typing import Any

from common import files, gfiles
from common.claims import Fence, no_fence
from common.errors import UserError
from train.checkpoints import bundle
from train.checkpoints.directory import (
    BEST,
    EVALUATIONS,
    has_begun,
    list_checkpoints,
)
from train.fault_tolerance import heartbeat

RUN, SUMMARY = "run.json", "summary.json"
_NAME = re.compile(r"[0-9a-f]{32}")
# What a run writes over, or goes on with, or deletes one day.
WRITTEN_OVER = re.compile(
    r"(summary|data)\.json|operative_config\.gin|(metrics|eval)\.jsonl|non_finite"
    r"|ckpt-\d+\.(index|json|data-\d{5}-of-\d{5})"
)
_FOLDERS = (BEST, "hosts", "train", "eval", "non_finite", EVALUATIONS)


def begin(model_dir: str, *, fence: Fence = no_fence) -> str:
    """Make a folder a run's own, if it is not yet.

    Args:
      model_dir: it exists. Where checkpoints of a run of earlier versions lie, or such
        as were copied there, it gets the name that they have. Without checkpoints a
        run begins anew, and has a new name.
      fence: see `bundle.write`.

    Returns:
      The name of the run.

    Raises:
      UserError: the folder holds files of somebody else, or checkpoints of another
        run; or it cannot be written.
      Restart: the storage does not answer now.
    """
    refuse_links(model_dir)
    run, checkpoints = read(model_dir), list_checkpoints(model_dir)
    runs = {path: _run_of(path) for path in checkpoints}
    if not checkpoints and run and 0 in bundle.parts_of(model_dir, run):
        pass  # it was killed when it wrote its first one, or wrote that again
    elif not checkpoints:
        _refuse_files(model_dir)
        run = None
    elif run is None:
        _require_one_of_ours(checkpoints)
        run = next(filter(None, runs.values()), None)
        if run and not has_begun(model_dir) and not gfiles.exists(f"{model_dir}/{RUN}"):
            # Somebody has put it there, and it would be made again.
            raise _foreign(checkpoints[0], run, "none")
    _refuse_other_summary(model_dir)
    _refuse_in_folders(model_dir)
    run = run or uuid.uuid4().hex
    best = list_checkpoints(f"{model_dir}/{BEST}")
    _refuse_other_runs(runs | {path: _run_of(path) for path in best}, run)
    gfiles.write_json(f"{model_dir}/{RUN}", {"run": run}, fence=fence)
    return run


def read(model_dir: str) -> str | None:
    """Return the name of a folder's run, None where it has none.

    Raises:
      UserError: there is a run.json, but not such a one.
    """
    path = f"{model_dir}/{RUN}"
    with contextlib.suppress(UnicodeDecodeError):  # it names none then
        if not gfiles.read_text(path):  # an empty one is left by a power cut
            return None
    found = gfiles.read_json(path)
    run = found.get("run")
    if found.keys() == {"run"} and isinstance(run, str) and _NAME.fullmatch(run):
        return run
    raise UserError(
        f"{path} names no run: it is damaged, or no file of this project. Move it "
        "elsewhere (checkpoints know their run), or name another folder"
    )


def refuse_foreign(directory: str) -> None:
    """Refuse a folder with a checkpoint of another run.

    Args:
      directory: of a run, or its folder of the best checkpoint.

    Raises:
      UserError: names the checkpoint.
      Restart: the storage does not answer now.
    """
    above, _, name = directory.rpartition("/")
    run = read(directory)
    if run is None and name == BEST:
        run = read(above or ".")
    if run is not None:
        runs = {path: _run_of(path) for path in list_checkpoints(directory)}
        _refuse_other_runs(runs, run)


def _refuse_other_runs(runs: Mapping[str, str | None], run: str) -> None:
    for path, other in runs.items():
        if other not in (None, run):
            raise _foreign(path, other, run)


def _foreign(path: str, other: str, run: str) -> UserError:
    return UserError(
        f"{path} is a checkpoint of another run ({other}) than that of this folder "
        f"({run}, says {RUN}); move its files elsewhere: to begin from them is "
        "Experiment.pretrained"
    )


def _refuse_other_summary(model_dir: str) -> None:
    if gfiles.exists(f"{model_dir}/{SUMMARY}") and not _summary(model_dir):
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
    """Refuse a folder without checkpoints that holds what only a run with them has."""
    names = set(gfiles.names(model_dir))
    # Earlier versions put the scores of what a run is to start from there.
    if _summary(model_dir).get("steps") == 0:
        names -= {SUMMARY}
    found = sorted(filter(WRITTEN_OVER.fullmatch, names))
    if list_checkpoints(f"{model_dir}/{BEST}"):
        found.append(f"{BEST}/")
    if found:
        whose = "what is left of a run" if read(model_dir) else "somebody else's"
        raise UserError(
            f"{model_dir} holds no checkpoint of a run to go on with, but "
            f"{', '.join(found)}: {whose}. To begin anew there, move all of these out "
            "of the folder; or name another one"
        )


def _require_one_of_ours(checkpoints: list[str]) -> None:
    """Refuse a folder where not one checkpoint can be told from somebody else's."""
    faults = []
    for path in checkpoints:
        try:
            bundle.read_manifest(path)
            return
        except bundle.CorruptCheckpoint as fault:
            faults.append(fault)
    raise UserError(
        f"{faults[0].path} is damaged, or no checkpoint of this project "
        f"({faults[0].reason}); name another folder, or move its files elsewhere"
    )


def refuse_links(model_dir: str) -> None:
    """Refuse a run whose folders lead elsewhere, to what may be somebody else's."""
    for name in _FOLDERS:
        if gfiles.kind(f"{model_dir}/{name}") == files.LINK:
            raise UserError(
                f"{model_dir}/{name} is a link, and a run goes through none: put "
                "the whole folder of the run behind a link, or name another one"
            )


def _refuse_in_folders(model_dir: str) -> None:
    """Refuse what a run would write over in the folders below its own."""
    for path in list_checkpoints(f"{model_dir}/{BEST}"):
        if not gfiles.exists(f"{path}{bundle.MANIFEST}"):
            raise UserError(
                f"{path} is no checkpoint of this project (it has no "
                f"{bundle.MANIFEST}); move its files elsewhere, or name another folder"
            )
    for path in heartbeat.strangers(model_dir):
        raise UserError(
            f"{path} is no heartbeat of a run: move it elsewhere, or name another "
            "folder"
        )


def _summary(model_dir: str) -> dict[str, Any]:
    """Return a run's summary, nothing where it is none."""
    found = gfiles.read_json(f"{model_dir}/{SUMMARY}")
    return found if "variant" in found else {}
