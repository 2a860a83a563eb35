"""A trainer by hand: what it does between two checkpoints, on commands.

    python -m tests.support.late_writer

reads lines "what folder seed" and answers each with a line, once it is done: an error
of ours is an answer, too. It does what `run_folder.claim` and `controller` do.
"""

import contextlib
import sys
from collections.abc import Iterator

import numpy as np

from common import claims, gcs, gfiles
from common.claims import holder
from common.errors import Restart, UserError
from train import evaluation, run_folder
from train.checkpoints import bundle, directory

RUN = "0" * 32


@contextlib.contextmanager
def taken(folder: str) -> Iterator[claims.Fence]:
    gfiles.make_folder(folder)
    with claims.hold(folder, "a run") as claim, run_folder.hold_best(folder) as best:
        run_folder.remove_staged(folder)
        bundle.outdate_seen(folder)

        def fence():
            claim.check()
            best.check()

        yield fence


def write(folder: str, step: int, seed: int, fence: claims.Fence) -> str:
    values = {"step": np.array(step), "seed": np.full(99 + seed, seed)}
    return bundle.write(values, folder, run=RUN, fence=fence)


def seed_of(path: str) -> int:
    return int(bundle.read(path)["seed"][0])


def keep_best(folder: str, path: str, fence: claims.Fence) -> None:
    scores = {"checkpoint": path, "ema_top1": seed_of(path) / 10}
    evaluation.keep_best(folder, scores, fence)


def begin(folder: str, seed: int, fence: claims.Fence) -> None:
    keep_best(folder, write(folder, 10, seed, fence), fence)
    write(folder, 20, seed, fence)


def train(folder: str, seed: int, fence: claims.Fence) -> None:
    """From step 10 to 20, whose checkpoint is there already, as after a roll-back."""
    path = write(folder, 20, seed, fence)
    bundle.delete(f"{folder}/ckpt-10", fence=fence)
    keep_best(folder, path, fence)
    gfiles.write_json(f"{folder}/summary.json", {"seed": seed}, fence=fence)


def faults(folder: str) -> Iterator[str]:
    """Checkpoints that are not whole, and best ones with the scores of another."""
    for where in (folder, f"{folder}/{directory.BEST}"):
        for path in directory.list_checkpoints(where):
            try:
                seed = seed_of(path)
            except bundle.CorruptCheckpoint as fault:
                yield str(fault)
                continue
            if where != folder:
                scores = gfiles.read_json(evaluation._scores_file(path))
                if scores.get("ema_top1") != seed / 10:
                    yield f"{path} of {seed} has {scores}"


def main() -> None:
    holder.RENEW_SECONDS = 1e6  # only what is asked for
    gcs._ANSWER_SECONDS = 600.0  # what waits is not asked again
    with contextlib.ExitStack() as stack:
        fence = claims.no_fence
        for line in sys.stdin:
            what, folder, seed = line.split()
            answer = "done"
            try:
                if what == "take":
                    fence = stack.enter_context(taken(folder))
                elif what == "leave":
                    stack.pop_all().close()
                elif what == "faults":
                    answer = "; ".join(faults(folder)) or "none"
                else:
                    {"begin": begin, "train": train}[what](folder, int(seed), fence)
            except (UserError, Restart) as error:
                answer = f"{type(error).__name__}: {error}"
            print(answer, flush=True)


if __name__ == "__main__":
    main()
