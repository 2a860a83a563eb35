"""Trainers that race for one folder: each a process, as small as a trainer can be.

    python -m tests.support.racing_trainer STALE_SECONDS

reads lines and answers each with one:

    train FOLDER SEED LOG   a process begins to train; its number
    status PROCESS          of one that has ended, "runs" of one that has not
    look FOLDER             what a run has left there, as JSON

A trainer takes the folder as `train.run` does, goes on from the newest checkpoint, with
the seed of that, writes one every ten steps, scores it, keeps the best, deletes what is
superseded and writes a summary. Its status is that of `train.main`. The processes are
forks of this one, which has imported TensorFlow and done nothing with it.
"""

import contextlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import cli, gfiles
from common.claims import bucket, holder
from train import evaluation, run_folder
from train.checkpoints import bundle, directory, retention
from train.distribution.cluster import Cluster
from train.settings.data_changes import Known
from train.telemetry.writers import JsonLines, read_lines

LAST, EVERY = 40, 10


def update(x: np.ndarray, seed: int) -> np.ndarray:
    """A step: what comes out depends on all before and on the seed."""
    return x * np.uint64(6364136223846793005) + np.uint64(2 * seed + 1)


def score(x: np.ndarray) -> float:
    return int(x[-1] >> np.uint64(40)) % 1000 / 1000


def undisturbed(seed: int) -> dict[str, Any]:
    """What a run of a seed leaves that nobody disturbs, as `look` says it."""
    x, scores = start(), {}
    for step in range(1, LAST + 1):
        x = update(x, seed)
        if step % EVERY == 0:
            scores[step] = score(x)
    best = max(scores, key=lambda step: (scores[step], -step))
    return {
        "steps": [LAST - EVERY, LAST],
        "seeds": [seed] * 2,
        "x": [int(one) for one in x],
        "best": {str(best): scores[best]},
        "scores": {str(step): one for step, one in scores.items()},
        "summary": {
            "variant": "none",
            "steps": LAST,
            "seed": seed,
            "ema_top1": scores[LAST],
        },
    }


def start() -> np.ndarray:
    return np.arange(50, dtype=np.uint64)


def train(folder: str, seed: int, log: str) -> None:
    with contextlib.ExitStack() as stack:
        claim = run_folder.claim(
            folder,
            Cluster(),
            stack,
            config=None,
            accept_changes=True,
            compare_data=lambda: Known(None),  # pyright: ignore[reportArgumentType]
            with_evaluation=True,
        )
        stack.enter_context(alone(log))
        x, step = start(), 0
        if directory.has_begun(folder):
            _, values = directory.load_newest(folder, bundle.read)
            x, step, seed = values["x"], int(values["step"]), int(values["seed"])
        scored = JsonLines(f"{folder}/eval.jsonl", claim.fence)
        while True:
            path = f"{folder}/ckpt-{step}"
            if not bundle.steps(folder) >= {step}:
                save(folder, x, step, seed, claim)
            if step and step not in {line["step"] for line in read_lines(scored.path)}:
                found = {"checkpoint": path, "ema_top1": score(x), "seed": seed}
                evaluation.keep_best(folder, found, claim.fence)
                scored.add({"kind": "eval", "step": step, **found})
                scored.flush()
            if step == LAST:
                break
            for _ in range(EVERY):
                x, step = update(x, seed), step + 1
            time.sleep(random.random() * 0.05)
        summary = {"variant": "none", "steps": step, "seed": seed, "ema_top1": score(x)}
        gfiles.write_json(f"{folder}/summary.json", summary, fence=claim.fence)


def save(folder, x, step, seed, claim) -> None:
    values = {"step": np.array(step), "seed": np.array(seed), "x": x}
    bundle.write(values, folder, run=claim.name, fence=claim.fence)
    times = {step: float(step) for step in bundle.steps(folder)}
    for old in times.keys() - retention.steps_to_keep(
        times, keep=2, keep_every_hours=None
    ):
        bundle.delete(f"{folder}/ckpt-{old}", fence=claim.fence)


@contextlib.contextmanager
def alone(log: str):
    """Note down from when to when this process takes the folder for its own."""
    note(log, "in")
    try:
        yield
    finally:
        note(log, "out")


def note(log: str, what: str) -> None:
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()} {what}\n")


def look(folder: str) -> dict[str, Any]:
    steps = sorted(bundle.steps(folder))
    values = [bundle.read(f"{folder}/ckpt-{step}") for step in steps]
    best = {}
    for path in directory.list_checkpoints(f"{folder}/{directory.BEST}"):
        scores = gfiles.read_json(evaluation._scores_file(path))
        assert scores["ema_top1"] == score(bundle.read(path)["x"]), path
        best[bundle.step(path)] = scores["ema_top1"]
    lines = read_lines(f"{folder}/eval.jsonl")
    return {
        "steps": steps,
        "seeds": [int(one["seed"]) for one in values],
        "x": [int(one) for one in values[-1]["x"]] if values else [],
        "best": best,
        "scores": {line["step"]: line["ema_top1"] for line in lines},
        "summary": gfiles.read_json(f"{folder}/summary.json"),
    }


def child(words: list[str]) -> int:
    if words[0] == "look":
        print(json.dumps(look(words[1])), flush=True)
        return 0
    # By it the bucket knows who asks.
    os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = f"process-{os.getpid()}"
    return cli.run_command(lambda: train(words[1], int(words[2]), words[3]))


def main(stale: float) -> None:
    holder.STALE_SECONDS, holder.RENEW_SECONDS = stale, stale / 5
    holder.PATIENCE_SECONDS, bucket._POLL_SECONDS = 0.2, 0.1
    for line in sys.stdin:
        words = line.split()
        if words[0] == "status":
            ended, status = os.waitpid(int(words[1]), os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if ended else "runs", flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os._exit(child(words))
        if words[0] == "train":
            print(pid, flush=True)
        else:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(float(sys.argv[1]))
