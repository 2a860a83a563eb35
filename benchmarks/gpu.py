"""Everything that is worth knowing of one GPU, in less than ten minutes: JSON.

    make with-peers
    .venv/bin/pip install 'jax[cuda13]==0.10.2'
    python -m benchmarks.gpu --output=gpu.json

Inference of EfficientNet-X-B0, B3 and EfficientNet-B0, B3 as benchmarks.device_latency
times it, beside timm's compiled by torch; and their training step, by TensorFlow and
XLA, beside timm's with AMP. What counts most comes first, each in a process of its own
that is ended when its time is over; FILE is written anew behind each, so that whatever
ends this early leaves what was measured. Nothing is installed: a row whose library is
missing says which. --rehearse does the first of each on the CPU, as small as can be.

Exit status: 0 all rows were measured, 1 some say why they were not, 2 there is no
answer.
"""

import argparse
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from benchmarks.support import machine, results
from benchmarks.support.device.case import OURS, peer
from common import cli, extras
from common.console import say
from common.errors import Status, UserError
from common.project import ROOT

X_B0, B0, X_B3, B3 = (f"efficientnet-{name}" for name in ("x-b0", "b0", "x-b3", "b3"))
_COMPILED = "compiled"
_TIMMS_STEP = "timm compiled"
# Seconds that a row may take, most of which go into compiling.
_LATENCY_SECONDS, _STEP_SECONDS = 60.0, 100.0
_REHEARSAL_SECONDS = 300.0  # of a CPU that does other things beside it
_EXTRAS = {
    "jax": "pip install 'jax[cuda13]==0.10.2'",
    "torch": "make with-peers",
    "tensorflow": "make setup on a machine with a GPU, which takes requirements/gpu.in",
}
_DOES_NOT_SHOW = (
    "accuracy; the input pipeline; several GPUs; other compilers, such as TensorRT"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A row of the table.

    Attributes:
      what: "latency" or "train step".
      name: of our variant; timm's is that of the same network.
      form: OURS or one of timm's.
      batch: images of a call or a step.
      size: in pixels.
      repeats: timed calls or steps.
      platform: "gpu" or "cpu".
      dtype: of the arithmetic.
      seconds: after which it is ended.
    """

    what: str
    name: str
    form: str
    batch: int
    size: int
    repeats: int
    platform: str
    dtype: str
    seconds: float

    @property
    def library(self) -> str:
        """What has to be installed."""
        if self.form not in (OURS, "ours"):
            return "torch"
        return "jax" if self.what == "latency" else "tensorflow"


def parts(*, rehearse: bool = False) -> list[Part]:
    """Return the rows, what counts most first."""
    found = [*_of_gpu()]
    if not rehearse:
        return found
    first = {(part.what, part.form): part for part in reversed(found)}
    return [
        dataclasses.replace(
            part,
            batch=2,
            size=32,
            repeats=2,
            platform="cpu",
            dtype="float32",
            seconds=_REHEARSAL_SECONDS,
        )
        for part in found
        if first[part.what, part.form] is part
    ]


def _of_gpu() -> Iterator[Part]:
    from models.variants import get_variant

    def rows(what: str, names: Sequence[str], batch: int) -> Iterator[Part]:
        is_step = what == "train step"
        ours, theirs = ("ours", _TIMMS_STEP) if is_step else (OURS, _COMPILED)
        for name in names:
            for form in (ours, theirs) if peer(name) else (ours,):
                yield Part(
                    what=what,
                    name=name,
                    form=form,
                    batch=batch,
                    size=get_variant(name).resolution,
                    repeats=10 if is_step else 30,
                    platform="gpu",
                    dtype="bfloat16",
                    seconds=_STEP_SECONDS if is_step else _LATENCY_SECONDS,
                )

    yield from rows("latency", (X_B0, B0), 128)
    yield from rows("train step", (X_B0, B0), 128)
    yield from rows("latency", (X_B3, B3), 128)
    yield from rows("latency", (X_B0, B0), 1)
    yield from rows("train step", (X_B3, B3), 64)
    yield from rows("latency", (X_B3, B3), 1)
    yield from rows("latency", (X_B0, B0, X_B3, B3), 16)


def measure(part: Part, seconds: float) -> dict[str, Any]:
    """Return a row: milliseconds of the median call or step, or why there are none.

    Args:
      part: which.
      seconds: that are left for it.
    """
    about = {
        name: getattr(part, name) for name in ("what", "name", "form", "batch", "size")
    }
    if not extras.installed(part.library):
        mend = _EXTRAS[part.library]
        return {**about, "failed": f"{part.library} is not installed: {mend}"}
    began = time.monotonic()
    answer = _asked(part, seconds)
    took = round(time.monotonic() - began, 1)
    if isinstance(answer, str):
        return {**about, "failed": answer, "seconds": took}
    ms = statistics.median(answer) * 1e3
    return {
        **about,
        "milliseconds": float(f"{ms:.4g}"),
        "images_per_second": float(f"{part.batch / ms * 1e3:.4g}"),
        "seconds": took,
    }


def _asked(part: Part, seconds: float) -> list[float] | str:
    """Return the seconds of each call, or why there are none."""
    environment = os.environ | {
        "KERAS_BACKEND": "jax" if part.library == "jax" else "tensorflow",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.device.part"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # torch compiles in processes of its own
    )
    try:
        out, said = process.communicate(
            json.dumps(dataclasses.asdict(part)), min(seconds, part.seconds)
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {min(seconds, part.seconds):.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        return said.strip().rpartition("\n")[2][:300] or f"ended: {process.returncode}"
    return json.loads(out.splitlines()[-1])


def _report(rows: list[dict[str, Any]], hardware: dict[str, Any]) -> dict[str, Any]:
    names = ("jax", "keras", "tensorflow", "torch", "timm")
    return {
        "benchmark": "gpu",
        "rows": rows,
        "ratios_are": "median times, of ours over timm's of the same network",
        "ratios": ratios(rows),
        "machine": hardware,
        "versions": {n: metadata.version(n) for n in names if extras.installed(n)},
        "does_not_show": _DOES_NOT_SHOW,
    }


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return what our networks take over timm's, where both were measured."""
    found = {}
    known = {
        (row["what"], row["name"], row["batch"], row["form"]): row["milliseconds"]
        for row in rows
        if "milliseconds" in row
    }
    for (what, name, batch, form), ms in known.items():
        theirs = known.get(
            (what, name, batch, _COMPILED if what == "latency" else _TIMMS_STEP)
        )
        if form in (OURS, "ours") and theirs:
            found[f"{what}, {name}, batch {batch}"] = float(f"{ms / theirs:.4g}")
    return found


def _device() -> str | None:
    """Return the name of the GPU, by NVIDIA's own command; None where there is none."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip().partition("\n")[0] or None


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.gpu", __doc__)
    parser.add_argument(
        "--minutes",
        type=cli.number(above=0),
        default=9.5,
        help="after which it ends, whatever is left (%(default)s)",
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="on the CPU, the first of each, small"
    )
    return parser


@cli.command(_parser)
def main(options: argparse.Namespace) -> Status:
    """Measure what there is time for, and write each row as it comes."""
    end = time.monotonic() + 60 * options.minutes
    hardware: dict[str, Any] = machine.describe() | {"gpu": _device()}
    if hardware["gpu"] is None and not options.rehearse:
        raise UserError("there is no GPU here, by nvidia-smi; --rehearse needs none")
    rows, wanted = [], parts(rehearse=options.rehearse)
    for part in wanted:
        left = end - time.monotonic()
        if left < 1:
            break
        rows.append(measure(part, left))
        row = rows[-1]
        what = row.get("failed") or f"{row['milliseconds']:,} ms"
        say(f"{part.what}, {part.name}, {part.form}, batch {part.batch}: {what}")
        if options.output is not None:
            results.keep(_report(rows, hardware), options.output)
    rows += [
        {"what": part.what, "name": part.name, "form": part.form, "batch": part.batch}
        | {"size": part.size, "failed": "no time was left"}
        for part in wanted[len(rows) :]
    ]
    results.publish(_report(rows, hardware), options.output)
    return Status.NO if any("failed" in row for row in rows) else Status.OK


if __name__ == "__main__":
    sys.exit(main())
