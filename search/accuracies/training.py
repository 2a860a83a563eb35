"""Top-1 of a network by training it, in rungs, each going on where the one below ended.

A rung is the first epochs of one and the same run: that of the gin files, with its own
number of epochs and its own schedules. Rung 0 of (3, 9, 27) trains to epoch 3 and is
scored there, rung 1 goes on from that checkpoint to epoch 9. A cosine over 27 epochs is
in its first ninth then, whatever is decided later: nothing is warmed up twice, and the
last rung is the training that `python -m train.main` would have made. The price is that
a rung's score is that of an unfinished training, with a learning rate that is still
high: it ranks networks, and is no accuracy to be compared with others'. Averaged
weights, which are scored by default, take most of that away.

Imports no framework: a training is a process of its own.
"""

import dataclasses
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import files
from common.errors import Restart, Status, UserError, first_line
from common.project import ROOT, why_no_gin_file
from models.errors import ModelError
from models.variants import Variant
from search.engine import processes
from search.networks.variant_text import variant_gin
from search.results import Score

NETWORK, RUN, LOG = "network.gin", "run", "log.txt"
_TRIES = 3  # for a training that was stopped or killed, from its last checkpoint
_TAIL = 4096  # bytes of the log that may hold the reason
_SCORES = ("ema_top1", "top1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """Trains networks; a callable of a variant and a rung.

    A trial's folder, `trials/<digest>` of the search's, holds network.gin, the run's
    own folder `run`, `log.txt`, and for each rung a `rung-<k>.json` of what came of it,
    which a later call takes instead of training again. Whoever kills this process ends
    the training with a checkpoint, and the same call goes on from there.

    Attributes:
      gin_files: of the recipe; the network's own file comes behind them.
      epochs: of the run, at which the rungs end, rising; the last may be the run's end.
      search_dir: folder of the search; None until it is known, see `in_folder`.
      gin_params: bindings that win over all files.
      score: "ema_top1" of the averaged weights, or "top1" of the raw ones.
      seconds: that a call may take; None waits for ever.
    """

    gin_files: tuple[str, ...]
    epochs: tuple[float, ...]
    search_dir: str | None = None
    gin_params: tuple[str, ...] = ()
    score: str = "ema_top1"
    seconds: float | None = None

    def __post_init__(self):
        epochs = self.epochs
        numbers = all(isinstance(e, int | float) and 0 < e < 1e6 for e in epochs)
        rises = all(a < b for a, b in itertools.pairwise(epochs))
        _require(
            "epochs", epochs, "one or more rising numbers", epochs and numbers and rises
        )
        _require("score", self.score, " or ".join(_SCORES), self.score in _SCORES)
        _require("seconds", self.seconds, "None or above 0", (self.seconds or 1) > 0)
        for path in self.gin_files:
            if why := why_no_gin_file(path):
                raise UserError(f"training.gin_files: {why}")

    def in_folder(self, search_dir: str) -> "Trained":
        """Return the same with its trials in a search's folder."""
        return dataclasses.replace(self, search_dir=search_dir)

    def __call__(self, variant: Variant, rung: int = 0) -> Score:
        """Train a network up to the end of a rung, and return its accuracy.

        Args:
          variant: the network.
          rung: from 0; those below it that are not trained yet are passed through.

        Returns:
          A score of one sample; or none and the reason: it diverged, cannot be built,
          does not fit, was killed, or took too long.

        Raises:
          UserError: something that a person has to mend: the recipe, its data, the
            folder, or a rung that there is not.
          Restart: the training was stopped again and again; the same call goes on.
        """
        if not 0 <= rung < len(self.epochs):
            raise UserError(
                f"training.epochs = {self.epochs!r} has no rung {rung}: it has to have "
                "as many as the search"
            )
        source = f"trained, {self.epochs[rung]:g} epochs"
        try:
            trial = _Trial(self, variant, rung)
        except ModelError as error:
            return Score((), source, f"cannot be built: {first_line(error)}")
        found = trial.read() or trial.train()
        if reason := found.get("reason"):
            return Score((), source, reason)
        return Score((100 * found[self.score],), source)


class _Trial:
    """A network's folder, and one rung of its training."""

    def __init__(self, settings: Trained, variant: Variant, rung: int):
        from search.spaces import digest

        if settings.search_dir is None:
            raise UserError(
                "training needs a folder: set accuracy_sources.trained.search_dir"
            )
        self._settings = settings
        self._epoch = settings.epochs[rung]
        self._network = variant_gin(variant)
        self._digest = digest(variant)
        self._folder = Path(settings.search_dir, "trials", self._digest)
        self._result = self._folder / f"rung-{rung}.json"
        self._name = f"{variant.name}, rung {rung}"

    def read(self) -> dict[str, Any] | None:
        """Return what came of the rung; None if it is to be trained.

        Raises:
          UserError: it was trained under other settings, or the file is not ours.
        """
        try:
            found = json.loads(self._result.read_bytes())
            settings, scores = found["settings"], _SCORES
            if not found.get("reason"):
                found |= {name: float(found[name]) for name in scores}
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(error, self._result) from error
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._result} is not what a training has written: remove it"
            ) from error
        if settings != self._fingerprint():
            raise UserError(
                f"{self._result} was trained under other settings: take another search "
                f"folder, or remove {self._folder}"
            )
        # Another machine may have more memory; a loss diverges everywhere.
        return None if found.get("reason") and not found.get("is_final") else found

    def train(self) -> dict[str, Any]:
        """Train in a process of its own, and return what came of it."""
        self._write_network()
        seconds = self._settings.seconds
        end = None if seconds is None else time.monotonic() + seconds
        status, start = None, 0
        for _ in range(_TRIES):
            start = self._log_size()
            self._result.unlink(missing_ok=True)
            status = self._run(end)
            if status is None:
                return {"reason": f"out of time: {seconds:g} s"}
            if status == Status.OK:
                return self._answer()
            if status > 0 and status != Status.RESTART:
                raise UserError(f"the training of {self._name}: {self._why(start)}")
        if status is None or status == Status.RESTART:
            raise Restart(f"the training of {self._name}: {self._why(start)}")
        name = signal.Signals(-status).name
        why = ", perhaps for want of memory" * (name == "SIGKILL")
        return {"reason": f"its process was killed {_TRIES} times by {name}{why}"}

    def _answer(self) -> dict[str, Any]:
        try:
            return json.loads(self._result.read_bytes())
        except (OSError, ValueError) as error:
            raise Restart(f"{self._result} cannot be read: {error}") from error

    def _write_network(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / NETWORK
            # Equal networks have one folder, by whatever coefficients they are made;
            # the run goes on under those that it has begun with.
            if not path.exists():
                files.write_bytes(path, self._network.encode())
        except OSError as error:
            raise _unusable(error, self._folder) from error

    def _run(self, end: float | None) -> int | None:
        """Run a process to its end; return its status, None where time is up."""
        with (self._folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                self._command(),
                env=processes.environment(),
                # Its other end closes with this process, whatever ends that.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            process.wait(None if end is None else max(0.0, end - time.monotonic()))
            return process.returncode
        except subprocess.TimeoutExpired:
            return None
        finally:
            processes.stop(process)

    def _command(self) -> list[str]:
        gin_files = [*self._settings.gin_files, str(self._folder / NETWORK)]
        return [
            sys.executable,
            "-m",
            "search.accuracies.train_rung",
            *(f"--gin_file={path}" for path in gin_files),
            *(f"--gin_param={binding}" for binding in self._settings.gin_params),
            f"--model_dir={self._folder / RUN}",
            f"--until_epoch={self._epoch!r}",
            f"--result={self._result}",
            f"--settings={self._fingerprint()}",
            "--with_parent",
        ]

    def _fingerprint(self) -> str:
        """Return a digest of all that decides on the training but for included files.

        Those, and the code, `train` itself compares when it goes on with a run.
        """
        texts = [self._digest.encode(), repr(float(self._epoch)).encode()]
        texts += [_gin_text(path) for path in self._settings.gin_files]
        texts += [binding.encode() for binding in self._settings.gin_params]
        digests = [hashlib.sha256(text).digest() for text in texts]
        return hashlib.sha256(b"".join(digests)).hexdigest()[:16]

    def _log_size(self) -> int:
        log = self._folder / LOG
        return log.stat().st_size if log.exists() else 0

    def _why(self, start: int) -> str:
        """Return the last line that the process has said behind a place of the log."""
        with (self._folder / LOG).open("rb") as log:
            log.seek(max(start, self._log_size() - _TAIL))
            text = log.read().decode("utf-8", "replace")
        said = [line.strip() for line in text.splitlines() if line.strip()]
        last = said[-1].removeprefix("error: ") if said else "it said nothing"
        return f"{last} (see {self._folder / LOG})"


def _unusable(error: OSError, path: Path) -> UserError:
    return UserError(
        f"{error.filename or path}: {error.strerror}; mend the permissions, free some "
        "space, or name another folder"
    )


def _require(name: str, value: Any, what: str, holds: Any) -> None:
    if not holds:
        raise UserError(f"training.{name} = {value!r}: it has to be {what}")


def _gin_text(path: str) -> bytes:
    """Return a gin file's text, of the path as given or in the project's folder."""
    if "://" in path:
        return path.encode()
    found: Sequence[Path] = [p for p in (Path(path), ROOT / path) if p.is_file()]
    if not found:
        raise UserError(str(why_no_gin_file(path)))
    return found[0].read_bytes()
