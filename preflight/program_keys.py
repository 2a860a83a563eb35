"""Under which key a step is kept that was lowered, so that it is not lowered again."""

import functools
import hashlib
import json
import sys
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

_INSTALLED = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}


def of_another_batch(program: bytes, images: int) -> str:
    """Return the key of a step of another batch.

    The program of one batch says all that decides on that of another, unless code looks
    at the batch: so all code counts that is not installed, the project's and the user's
    own.

    Args:
      program: the step of the recipe's batch, as it was lowered just now.
      images: of a replica, of the other batch.
    """
    return _of(program, images)


def of_another_form(program: bytes, settings: Mapping[str, Any]) -> str:
    """Return the key of a step of the same recipe's network in another form.

    Args:
      program: the step as the recipe has it, as it was lowered just now.
      settings: what the other one has in place of the recipe's.
    """
    return _of(program, sorted(settings.items()))


def _of(program: bytes, change: Any) -> str:
    how = json.dumps([change, tf.__version__, metadata.version("keras"), _own_code()])
    return hashlib.sha256(how.encode() + b"\0" + program).hexdigest()


@functools.cache
def _own_code() -> str:
    """Return a digest of the modules that were imported and are not installed."""
    files = {getattr(module, "__file__", None) for module in sys.modules.values()}
    paths = sorted(Path(file) for file in files if file)
    digest = hashlib.sha256()
    for path in paths:
        if path.suffix == ".py" and not any(map(path.is_relative_to, _INSTALLED)):
            digest.update(path.read_bytes())
    return digest.hexdigest()
