"""The folder of a run: made its own before anything is written, and tidied up."""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from common import claims, gfiles
from common.errors import UserError
from train.checkpoints import bundle, directory, ownership
from train.checkpoints.bundle import Fence
from train.config import SAVED, ResolvedConfig
from train.distribution.cluster import Cluster
from train.distribution.processes import Processes
from train.fault_tolerance import heartbeat
from train.settings.data_changes import Known
from train.telemetry.growing import STAGED_RECORDS
from train.telemetry.telemetry import EVAL, TRAIN

# What a run writes before its first checkpoint.
_FIRST = (ownership.RUN, "hosts/host-0.json", "hosts", directory.BEST)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the chief has got of a folder; the other processes ask for nothing.

    Attributes:
      name: of the run; None in the others.
      fence: what to call before anything is written there.
      refusal: why the folder is not the run's, if so.
      known: of the data of a run that goes on.
    """

    name: str | None = None
    fence: Fence = bundle.no_fence
    refusal: UserError | None = None
    known: Known | None = None


def claim(
    model_dir: str,
    cluster: Cluster,
    stack: contextlib.ExitStack,
    *,
    config: ResolvedConfig | None,
    accept_changes: bool,
    compare_data: Callable[[], Known],
    with_evaluation: bool,
) -> Claim:
    """Make a folder this run's alone, if it is free and the run goes on there.

    Args:
      model_dir: of the run.
      cluster: the processes of the run; the chief claims it for all of them.
      stack: at whose end it is free again.
      config: of the run, as that of a run that has begun has to be.
      accept_changes: see `ResolvedConfig.refuse_changes`.
      compare_data: with those of a run that has begun, see `data_changes.compare`.
      with_evaluation: whether to claim the best checkpoint, too: else a continuous
        evaluation may do that.

    Returns:
      The claim. Of several processes the chief's may be refused: `agree` tells all.

    Raises:
      UserError: the folder is held by another process, or it is another run's.
    """
    stack.enter_context(_made(model_dir))
    if not cluster.is_chief:
        return Claim()
    try:
        name, known, held = _claim_as_chief(
            model_dir, stack, config, accept_changes, compare_data, with_evaluation
        )
    except UserError as refusal:
        if cluster.count == 1:
            raise
        return Claim(refusal=refusal)

    def fence() -> None:
        for one in held:
            one.check()

    return Claim(name, fence, known=known)


def agree(ours: Claim, model_dir: str, processes: Processes) -> None:
    """Tell all processes what has become of the chief's claim.

    Raises:
      UserError: it was refused.
    """
    if not processes.broadcast(int(ours.refusal is None)):
        raise ours.refusal or UserError(
            f"the chief is refused {model_dir}; it says why"
        )


def _claim_as_chief(
    model_dir: str,
    stack: contextlib.ExitStack,
    config: ResolvedConfig | None,
    accept_changes: bool,
    compare_data: Callable[[], Known],
    with_evaluation: bool,
) -> tuple[str, Known | None, list[claims.Claim]]:
    claim = stack.enter_context(claims.hold(model_dir, "a run"))
    held = [claim]
    remove_staged(model_dir)
    stack.enter_context(_begun(model_dir))
    name = ownership.begin(model_dir, fence=claim.check)
    bundle.outdate_seen(model_dir)
    # Only now: another process may have written until it let go of the folder.
    has_begun = directory.has_begun(model_dir)
    if config is not None and has_begun:
        config.refuse_changes(model_dir, accept_changes=accept_changes)
    known = compare_data() if has_begun else None
    if with_evaluation:
        try:
            held.append(stack.enter_context(hold_best(model_dir)))
        except claims.Held as by:
            raise claims.Held(f"{by}; or train beside it by --mode=train") from by
    return name, known, held


@contextlib.contextmanager
def _made(model_dir: str) -> Iterator[None]:
    """Make a folder; after a mistake, what is empty of it then goes again."""
    folder = Path(model_dir)
    new = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        gfiles.make_folder(model_dir)
        yield
    except UserError:
        if gfiles.local_path(model_dir):
            with contextlib.suppress(OSError):  # it holds something
                for path in new:
                    path.rmdir()
        raise


@contextlib.contextmanager
def _begun(model_dir: str) -> Iterator[None]:
    """Remove what a run has written that a mistake ends before its first checkpoint."""
    new = [path for path in map(Path(model_dir).joinpath, _FIRST) if not path.exists()]
    try:
        yield
    except UserError:
        if gfiles.local_path(model_dir) and not any(Path(model_dir).glob("*ckpt-*")):
            for path in new:
                with contextlib.suppress(OSError):  # not there, or not empty
                    path.rmdir() if path.is_dir() else path.unlink()
        raise


@contextlib.contextmanager
def hold_best(model_dir: str) -> Iterator[claims.Claim]:
    """Claim what a continuous evaluation writes: the best checkpoint, eval.jsonl."""
    ownership.refuse_links(model_dir)
    folder = f"{model_dir}/{directory.BEST}"
    gfiles.make_folder(folder)
    with claims.hold(folder, "an evaluation") as best:
        remove_staged_best(model_dir)
        bundle.outdate_seen(folder)
        yield best


def run_of_best(folder: str) -> str | None:
    """Return the run whose best checkpoint a folder holds, None where it is no such."""
    run, _, name = folder.rpartition("/")
    run = run or "."
    if name == directory.BEST and not gfiles.exists(f"{folder}/{SAVED}"):
        return run if gfiles.exists(f"{run}/{SAVED}") else None
    return None


def remove_staged(model_dir: str) -> None:
    """Remove what others have staged of what the holder of a run's folder writes.

    It is a dead process's, or that of one that was taken for dead and must not give it
    its name any more, see `train.checkpoints.commit`.
    """
    bundle.remove_stale(model_dir)
    names = r"((run|data|summary)\.json|operative_config\.gin|metrics\.jsonl)"
    _remove_stale_files(model_dir, names, -math.inf)
    _remove_stale_files(f"{model_dir}/{TRAIN}", STAGED_RECORDS, -math.inf)


def remove_staged_best(model_dir: str) -> None:
    """Remove likewise what whoever holds the best checkpoint writes."""
    best = f"{model_dir}/{directory.BEST}"
    bundle.remove_stale(best)
    _remove_stale_files(best, r"scores-ckpt-\d+\.json", -math.inf)
    _remove_stale_files(model_dir, r"eval\.jsonl|mistakes\.html", -math.inf)
    _remove_stale_files(f"{model_dir}/{EVAL}", STAGED_RECORDS, -math.inf)


def remove_stale_files(model_dir: str) -> None:
    """Remove what processes that were killed have staged, of what nobody holds."""
    hosts = heartbeat.folder(model_dir)  # the watchdog's thread may be at one
    _remove_stale_files(hosts, r"host-\d+\.json", 3600.0)
    asked = f"{model_dir}/{directory.EVALUATIONS}"
    names = r"(ckpt-\d+|pretrained)-.+-[0-9a-f]{12}\.(json|html)"
    _remove_stale_files(asked, names, 3600.0)


def _remove_stale_files(folder: str, names: str, age: float) -> None:
    ours = re.compile(names).fullmatch
    gfiles.remove_stale_files(folder, of=ours, older_than_seconds=age)
