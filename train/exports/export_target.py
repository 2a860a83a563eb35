"""Where an export may go: which folder it would replace is looked at, and only that.

An export lists its own files, with their digests, in assets.extra/files.json. A folder
is replaced only if all that lies in it is in its list and is still what was written:
somebody's notes, or names that somebody has mended, are not ours. In a run's folder it
takes no name that the run takes.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from common import files, storage_errors
from common.errors import UserError, first_line

LIST = "assets.extra/files.json"
_BUNDLE = r"(index|data-\d{5}-of-\d{5})(\.tempstate\d+)?"
# What tf.saved_model.save and train.export write, also where they were killed; "part-"
# and "temp" are names before a rename.
WRITTEN = re.compile(
    r"(saved_model|fingerprint)\.pb(\.tmp[0-9a-f]{32})?"
    rf"|variables/(variables\.{_BUNDLE})?"
    rf"|variables/variables_temp/(part-\d{{5}}-of-\d{{5}}\.{_BUNDLE})?"
    r"|assets/"
    r"|(model_(float32|float16|int8)\.tflite|model\.onnx)(\.part-[0-9a-f]{32})?"
    r"|assets\.extra/"
    r"((labels\.txt|predictions\.csv|(check|card|files)\.json"
    r"|tf_serving_warmup_requests)(\.part-[0-9a-f]{32})?)?"
)
RUN = "the run"  # of the inputs
# What a run makes in its folder, by now or later.
_RUNS_OWN = re.compile(
    r"ckpt-\d+(\.(index|json|data-\d{5}-of-\d{5}))?|operative_config\.gin"
    r"|(run|summary|data)\.json|(metrics|eval)\.jsonl|mistakes\.html"
    r"|best|train|eval|hosts"
    r"|non_finite|evaluations"
    r"|\.claim\.json|\.(staging|aside)-[0-9a-f]{32}"
)
_ELSEWHERE = "move it away or name another --export_dir"


def refuse(export_dir: str, inputs: Mapping[str, str | None]) -> None:
    """Refuse a folder that must not be written, or replaced.

    Args:
      export_dir: on a disk or in a bucket; free, empty, or an export of ours.
      inputs: what the export is made of, by what a person calls it.

    Raises:
      UserError: it is a link, a file or a mount point, it is or contains an input, it
        has a name that the run takes, or something that lies there is not ours.
    """
    if os.path.basename(export_dir) in ("", ".", ".."):
        raise UserError(f"--export_dir {export_dir}: name the folder itself")
    system = _system(export_dir)
    try:
        what = system.kind(export_dir)
        if what == files.LINK:
            raise UserError(
                f"{export_dir} is a link, and an export never goes through a link: "
                f"name a new folder such as {_new(export_dir)}, then point the link "
                f"there: ln -sfn {os.path.basename(_new(export_dir))} {export_dir}"
            )
        if what not in (None, files.FOLDER):
            raise UserError(f"{export_dir} is a {what}, no folder; {_ELSEWHERE}")
        if system is files and os.path.ismount(export_dir):
            raise UserError(
                f"{export_dir} is a mount point, which no export can replace: name a "
                f"folder in it, such as {export_dir}/export"
            )
        for name, path in inputs.items():
            if path and _contains(export_dir, path):
                raise UserError(
                    f"--export_dir {export_dir} is or contains {name} ({path}), which "
                    "an export never replaces; name another --export_dir"
                )
        _refuse_name_of_run(export_dir, inputs.get(RUN))
        if what and (why := why_foreign(export_dir)):
            raise UserError(
                f"{why}, and the whole folder would be replaced; {_ELSEWHERE}"
            )
    except system.Errors as error:
        what = f"cannot look into {export_dir}"
        raise storage_errors.cannot_write(
            export_dir, error, what=what, folder="--export_dir"
        ) from error


def words(error: Exception) -> str:
    """Return what a file system says, in one line and without its path."""
    return getattr(error, "strerror", None) or first_line(error)


def _system(path: str) -> Any:
    """Return the module that knows the files there."""
    if "://" not in path:
        return files
    from common import gfiles  # loads TensorFlow

    return gfiles


def _new(export_dir: str) -> str:
    return f"{export_dir}-{time.strftime('%Y%m%d')}"


def _contains(folder: str, path: str) -> bool:
    """Whether a path is a folder or lies in it, by whatever names."""
    if "://" in folder or "://" in path:
        return f"{path.rstrip('/')}/".startswith(f"{folder}/")
    folder, path = map(os.path.realpath, (folder, path))
    return os.path.commonpath([folder, path]) == folder


def _refuse_name_of_run(export_dir: str, model_dir: str | None) -> None:
    if not model_dir or not _contains(model_dir, export_dir):
        return
    whole = export_dir, model_dir
    if "://" not in export_dir:
        whole = tuple(map(os.path.realpath, whole))
    name = whole[0].removeprefix(whole[1]).lstrip("/").partition("/")[0]
    if _RUNS_OWN.fullmatch(name):
        raise UserError(
            f"--export_dir {export_dir}: {name} is a name that the run itself takes in "
            f"{model_dir}; name another --export_dir, such as {model_dir}/export"
        )


def why_foreign(folder: str) -> str | None:
    """Return why a folder is neither empty nor an export of ours, None if it is.

    Raises:
      OSError, tf.errors.OpError: it cannot be looked into.
    """
    system = _system(folder)
    if (what := system.kind(folder)) != files.FOLDER:
        return f"{folder} is a {what}"
    found = system.tree(folder)
    if not found:
        return None
    if LIST not in found:
        return (
            f"{folder} is not empty and has no {LIST}, by which an export of this "
            "program is known (older ones have none)"
        )
    if why := files.why_foreign(folder, found, WRITTEN.fullmatch):
        return why
    listed = _read_list(f"{folder}/{LIST}", system)
    for path, what in found.items():
        if what != files.FILE or path == LIST:
            continue
        if listed.get(path) != system.sha256(f"{folder}/{path}"):
            return (
                f"{folder}/{path} is not what the export has written there (see {LIST})"
            )
    return None


def _read_list(path: str, system: Any) -> dict[str, Any]:
    """Return the digests by path; none where the list cannot be read."""
    with contextlib.suppress(ValueError, RecursionError):
        listed = json.loads(system.read_bytes(path))
        if isinstance(listed, dict):
            return listed
    return {}
