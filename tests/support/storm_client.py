"""Stands for the client: as small as a trainer can be that holds its folder for real.

It counts to LAST through all of its workers, with a checkpoint every EVERY steps that
`train.checkpoints.commit` commits, and ends with 75 where a worker is gone or SIGTERM
has come. TensorFlow is not there: a bucket is asked without it.
"""

import os
import signal
import socket
import sys
import time
import uuid

import tests.support.no_tensorflow  # noqa: F401 (before what imports it)
from common import claims, cli, gcs
from common.errors import Restart, UserError
from tests.support import quick_host
from tests.support.storm_steps import EVERY, LAST, START, update
from tests.support.storm_worker import SETTINGS, TOKEN_BYTES
from train.checkpoints import commit
from train.distribution.workers import _HELLO

stopped = []


def call_worker(address: str, token: bytes) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 3) as call:
            call.sendall(_HELLO)
            if call.recv(len(SETTINGS), socket.MSG_WAITALL) != SETTINGS:
                raise Restart(f"the worker at {address} is gone")
            call.sendall(token)
            answer = call.recv(1)
    except OSError as error:
        raise Restart(f"the worker at {address} is gone: {error}") from error
    if answer == b"2":
        raise UserError(f"the worker at {address} has had another client")
    if answer != b"1":
        raise Restart(f"the worker at {address} is gone")


def save(folder: str, step: int, x: list[int], fence: claims.Fence) -> None:
    stage = f"{folder}/staged-{uuid.uuid4().hex}"
    put(stage, b"{}")
    for suffix in commit.ORDER:
        put(f"{stage}/ckpt-{step}{suffix}", repr(x).encode())
    commit.commit(f"{stage}/ckpt-{step}", folder, fence)
    remove_staged(folder)


def put(path: str, data: bytes) -> None:
    if gcs.write(path, data, 0) is None and gcs.read(path) != data:
        raise Restart(f"{path} is somebody else's")


def remove_staged(folder: str) -> None:
    for name in gcs.names(folder, "staged-"):
        stage = f"{folder}/{name}"
        for path in [*(f"{stage}/{one}" for one in gcs.names(stage, "")), stage]:
            if found := gcs.look(path):
                gcs.remove(path, found.generation)


def newest(folder: str) -> tuple[int, list[int]]:
    steps = [
        int(name[5 : -len(commit.INDEX)])
        for name in gcs.names(folder, "ckpt-")
        if name.endswith(commit.INDEX)
    ]
    for step in steps:
        commit.outdate([f"{folder}/ckpt-{step}{commit.INDEX}"])
    if not steps:
        return 0, START
    text = gcs.read(f"{folder}/ckpt-{max(steps)}{commit.DATA}") or b""
    return max(steps), [int(one) for one in text.strip(b"[]").split(b",")]


def train(folder: str) -> None:
    token = uuid.uuid4().hex.encode()
    assert len(token) == TOKEN_BYTES
    slice_ = os.environ.get("TPU_NAME", "").replace("grpc://", "")  # not with GPUs
    workers = slice_.split(",") if slice_ else []
    with claims.hold(folder, "a run") as claim:
        remove_staged(folder)
        step, x = newest(folder)
        while step < LAST:
            for address in workers:
                call_worker(address, token)
            if stopped:
                save(folder, step, x, claim.check)
                raise Restart("stopped by SIGTERM")
            time.sleep(float(os.environ.get("STEP", "0.1")))
            x, step = update(x), step + 1
            if step % EVERY == 0:
                save(folder, step, x, claim.check)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    quick_host.hasten()
    os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = f"client-{os.getpid()}"
    [folder] = [one[12:] for one in sys.argv if one.startswith("--model_dir=")]
    return cli.run_command(lambda: train(folder))


if __name__ == "__main__":
    cli.leave(main())
