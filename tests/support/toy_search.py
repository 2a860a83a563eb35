"""A search whose evaluations are arithmetic, and fail in every way if they are told to.

A network is a tuple of digits. Nothing here imports a framework.
"""

import os
import random
import signal
import time
from pathlib import Path

from common.errors import UserError
from models.variants import Variant, get_variant
from search.networks.space import Exhausted
from search.results import Estimate, Result, Score

PLACES, DIGITS = 6, 5
CONFIG = """
from __gin__ import dynamic_registration
from search import block_search
from tests.support import toy_search

block_search.BlockSearch:
  space = @toy_search.Space()
  sampler = @toy_search.Sampler()
  objective = @toy_search.objective
  latency = @toy_search.latency
  accuracy = @toy_search.accuracy
"""


class Space:
    """Tuples of digits; their encoding is "0-1-2-3-4-0"."""

    fingerprint = "0123456789abcdef"

    def encode(self, network):
        return "-".join(map(str, network))

    def decode(self, text):
        return tuple(map(int, text.split("-")))

    def digest(self, network):
        return self.encode(network).replace("-", "").rjust(16, "0")

    def build(self, network) -> Variant:
        row = get_variant("efficientnet-x-b0")
        return row.__class__(**{**vars(row), "name": self.encode(network)})


class Sampler:
    """One digit of the best of the last ten results is another one."""

    def __init__(self, seed=0, size=10**9):
        self.seed = seed
        self.size = size  # of the space: no more networks than that

    def ask(self, space, history: list[Result], number: int):
        assert [result.number for result in history] == list(range(len(history)))
        assert len(history) <= number
        if number >= self.size:
            raise Exhausted("no more")
        rng = random.Random(f"{self.seed} {number}")
        good = [result for result in history[-10:] if result.value is not None]
        if not good:
            return tuple(rng.randrange(DIGITS) for _ in range(PLACES))
        best = max(good, key=lambda result: (result.value or 0.0, -result.number))
        network = list(space.decode(best.network))
        place = rng.randrange(PLACES)
        network[place] = (network[place] + rng.randrange(1, DIGITS)) % DIGITS
        return tuple(network)


def digits(variant):
    return tuple(map(int, variant.name.split("-")))


def objective(top1, ms):
    return top1 - ms / 100


def latency(variant, fails=False) -> Estimate:
    """With `fails`, a network whose first digit is 4 does not fit."""
    total = sum(digits(variant))
    if fails and digits(variant)[0] == 4:
        return Estimate(None, "toy", reason=f"does not fit: {total} GB of 16 GB")
    return Estimate(1.0 + total, "toy ms")


def accuracy(variant, rung, seconds=0.0, marks="") -> Score:
    """Return a top-1 that grows with the rung; says in a folder that it was here."""
    if marks:
        path = Path(marks) / f"{variant.name}.{rung}.{os.getpid()}.{time.time_ns()}"
        path.touch()
    time.sleep(seconds)
    value = sum(digit * (place + 1) for place, digit in enumerate(digits(variant)))
    return Score((value / 2 + 10.0 * rung,), "toy %")


def trouble(variant, rung) -> Score:
    """Fail as the first digit says."""
    kinds = (_fine, _raise, _die, _mistake, _end)
    kinds[digits(variant)[0]](variant)
    return accuracy(variant, rung)


def hang(variant, rung) -> Score:
    time.sleep(3600)
    return Score((1.0,), "toy")


def hog(variant, rung) -> Score:
    """Take 400 MB and stay."""
    taken = bytearray(400_000_000)
    taken[::4096] = b"x" * len(taken[::4096])
    time.sleep(3600)
    return Score((float(len(taken)),), "toy")


def hog_below(variant, rung) -> Score:
    """Start a process that takes 400 MB and stays."""
    import subprocess
    import sys

    code = "import time; x = b'x' * 400_000_000; time.sleep(3600)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return Score((1.0,), "toy")


def hog_apart(variant, rung) -> Score:
    """Likewise, in a session of its own, as a compiler's workers are."""
    import subprocess
    import sys

    code = "import sys; x = b'x' * 400_000_000; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
    ) as below:
        time.sleep(3600)
        below.kill()
    return Score((1.0,), "toy")


def _fine(variant):
    pass


def _raise(variant):
    raise ZeroDivisionError("a person's own function")


def _die(variant):
    os.kill(os.getpid(), signal.SIGKILL)


def _mistake(variant):
    raise UserError("diverged in step 7: nan")


def _end(variant):
    import sys

    print("the last words", file=sys.stderr, flush=True)
    os._exit(3)


def raises(variant, rung):
    raise KeyError("not in the table")


def silent(variant, rung):
    raise ValueError


def breaks_elsewhere(pid):
    """Make the objective, but in the processes of this one and its child alone."""
    if os.getpid() != pid and os.getppid() != pid:
        raise UserError("no source here")
    return objective
