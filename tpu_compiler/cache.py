"""What the compiler has answered, on disk.

An entry is KEY.json, the worker's answer, and the optimised HLO that it names. What can
be read from the two is not kept: reading is fast, and may improve.
"""

import errno
import functools
import hashlib
import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from common import console, files
from tpu_compiler.errors import UnusableCompilerError

# What is written here: a module or an HLO under a key, an entry.
_OURS = re.compile(r"[0-9a-f]{64}(\.json)?")


def cache_folder() -> Path:
    """Return the folder for those who name none.

    Raises:
      UnusableCompilerError: the user has no home.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if home == "~/.cache":
        raise UnusableCompilerError(
            "this user has no home folder to keep compiled modules in; name a folder "
            "for caches by XDG_CACHE_HOME"
        )
    return Path(home) / "efficientnet-x" / "tpu_compiler"


class Cache:
    """Answers by what was asked. Several processes may use one folder at once.

    From a folder that cannot be written to, what it has can be loaded.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unusable(error) from error

    def key(self, module: bytes, request: dict[str, Any]) -> str:
        """Return what an answer is kept under.

        Args:
          module: the bytes that are compiled.
          request: how, and by which versions. The worker's code counts, too.
        """
        how = json.dumps([request, _worker_digest()], sort_keys=True)
        return hashlib.sha256(how.encode() + b"\0" + module).hexdigest()

    def load(self, key: str) -> tuple[dict[str, Any], Path | None] | None:
        """Return an answer and the path of its HLO, None when there is none."""
        path = self.folder / f"{key}.json"
        try:
            if (what := files.kind(path, follow_links=True)) not in (None, files.FILE):
                raise ValueError(f"it is a {what}: move it away")  # a pipe would hang
            entry = json.loads(path.read_text())
            answer, hlo = entry["answer"], entry["hlo"]
            if hlo is None:
                return answer, None
            if (self.folder / hlo["name"]).stat().st_size == hlo["bytes"]:
                return answer, self.folder / hlo["name"]
            problem = f"{hlo['name']} has another size"
        except FileNotFoundError as error:
            if error.filename == str(path):
                return None
            problem = f"{error.filename} is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = str(error) or type(error).__name__
        self.warn(key, problem)
        return None

    def warn(self, key: str, problem: object) -> None:
        """Say that an entry is of no use."""
        path = self.folder / f"{key}.json"
        console.warn(f"{path}: {problem}; compiled anew")

    def unusable(self, error: OSError) -> UnusableCompilerError:
        """Return what a person has to mend when a file here cannot be written."""
        mend = "free some space, mend the permissions"
        if error.errno == errno.EEXIST:  # something that is no file of ours
            mend = f"move {error.filename} away"
        return UnusableCompilerError(
            f"cannot use {self.folder} for compiled modules: {error.strerror}; {mend} "
            "or name another folder by cache_dir or XDG_CACHE_HOME"
        )

    def scratch(self, key: str) -> AbstractContextManager[Path]:
        """Lend a path to write to before `store`; what is there in the end goes."""
        return files.scratch(self.folder / key)

    def store(self, key: str, answer: dict[str, Any], hlo: Path) -> Path | None:
        """Keep an answer and the HLO written for it; return the HLO's path now.

        And remove what processes that were killed have left. Where somebody's folder or
        pipe stands in the answer's place, which `load` has told, it is not kept.
        """
        files.remove_stale(self.folder, _OURS.fullmatch)
        named, path = None, None
        if hlo.exists():
            data = hlo.read_bytes()
            # By its content: two processes that compile the same do not mix.
            digest = hashlib.sha256(data).hexdigest()[:16]
            path = self.folder / f"{key}-{digest}.hlo.gz"
            named = {"name": path.name, "bytes": len(data)}
            if why := files.why_not_replaced(path):
                raise OSError(errno.EEXIST, why, str(path))
            os.replace(hlo, path)
        entry = self.folder / f"{key}.json"
        if not files.why_not_replaced(entry):
            text = json.dumps({"answer": answer, "hlo": named})
            files.write_bytes(entry, text.encode())
        return path


@functools.cache
def _worker_digest() -> str:
    source = Path(__file__).with_name("worker.py").read_bytes()
    return hashlib.sha256(source).hexdigest()
