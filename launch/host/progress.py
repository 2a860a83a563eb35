"""How far a run has come, as its folder shows: without TensorFlow, which is slow."""

import os
import re

from common import gcs

_INDEX = re.compile(
    r"ckpt-(0|[1-9]\d*)\.index"
)  # a checkpoint exists if its index does


def newest_step(model_dir: str) -> int:
    """Return the step of the newest checkpoint of a run; -1 where there is none.

    Raises:
      UserError, Restart: see `common.gcs.names`.
      OSError: the disk does not let itself be read.
    """
    if model_dir.startswith(gcs.SCHEME):
        names = gcs.names(model_dir, "ckpt-")
    else:
        folder = model_dir.removeprefix("file://")
        names = os.listdir(folder) if os.path.isdir(folder) else []
    return max((int(m[1]) for m in map(_INDEX.fullmatch, names) if m), default=-1)
