"""The paper's comparison, by the compiler of TPUs: a table and one line of JSON.

    python -m benchmarks.headline --peers=efficientnet-b0,resnest50d

EfficientNet-X beside EfficientNet, EfficientNetV2, RegNetY and ResNeSt of near or equal
published accuracy, all compiled for one device of a TPU in inference; no TPU is run.
RegNetY and ResNeSt are timm's own code (`make with-peers` installs it). RegNetY's
grouped convolutions, which the compiler does badly as written, are compiled in another
form of the same results, too, and the faster form counts.

The exit status is 0 when every network compiles and fits, 1 when one does not: the
reasons are below the table; 2 when there is no answer.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from benchmarks.support import machine, peers, results
from benchmarks.support.peers import PEERS, Peer, PeerRow
from common import cli, console, extras
from common.cli import names, positive
from common.console import say
from common.errors import Status, UserError
from models import catalogue, get_variant
from performance.latency_estimates import network_latency
from tpu_compiler import (
    Compiler,
    CompilerError,
    CompilerReport,
    Topology,
    environment,
)

_TIMEOUT_SECONDS = 3600.0
_DTYPE = "bfloat16"
_PAPER = (
    "abstract of arXiv 2102.05610, measured on TPUv3 and V100: up to more than 2X "
    "faster than EfficientNet, up to 7X than RegNet and ResNeSt"
)
_CONDITIONS = (
    "inference of one batch, pixels to logits; weights are arguments, their values do "
    "not matter",
    "ours: pixels are uint8 NHWC and are normalised in the program, weights float32; "
    "timm's: pixels are bfloat16 NCHW and normalised before, weights bfloat16, "
    "convolutions' kernels laid out as HWIO; batch norm is not folded in either",
    "accuracies are published ones, none was measured here, and recipes differ",
    "ratio: milliseconds of the faster of their forms / milliseconds of ours",
    "an EfficientNetV2, RegNetY or ResNeSt stands beside the smallest EfficientNet-X "
    "that is published to be at least as accurate, an EfficientNet beside the X of its "
    "number, as in the paper",
)
_DOES_NOT_SHOW = (
    "a TPU: milliseconds are sums of the compiler's cycle estimates and weak "
    "by themselves; no ratio was confirmed on a TPU, and a few pixels more or less can "
    "cost a lot; not GPUs; not training; other equal forms "
    "of their networks, which may be faster"
)
_NOTES = (
    "ms: of one batch by the compiler's estimates for one device; no TPU was run. "
    "Ratios are good to 8 %.",
    "ratio: theirs / ours, higher is better for ours; of their two forms the faster "
    "counts.",
    "top-1: % on ImageNet as published by others, measured by none of this.",
    "padded: groups of convolutions filled up to 128 channels. rewritten: the first "
    "layers in another form.",
)


class Estimates:
    """Compiles networks one after another for one device, from the cache if known.

    Attributes:
      failed_compilations: why there is no estimate, by network and form.
    """

    def __init__(self, compiler: Compiler, topology: Topology, batch: int):
        self._compiler, self._topology, self._batch = compiler, topology, batch
        self._known: dict[tuple[str, str], float | None] = {}
        self.failed_compilations: dict[str, str] = {}

    def ours(self, name: str, form: str) -> float | None:
        """Return the estimated milliseconds of a network of ours."""

        def report() -> CompilerReport:
            return network_latency(
                name,
                self._compiler,
                self._topology,
                batch=self._batch,
                dtype=_DTYPE,
                **peers.OUR_FORMS[form],
            )

        return self._milliseconds(name, form, report)

    def theirs(self, peer: Peer, form: str) -> float | None:
        """Return the estimated milliseconds of a network of others."""
        if not peer.of_timm:
            return self.ours(peer.name, "as published")

        def report() -> CompilerReport:
            return self._compiler.compile(
                stablehlo(peer, form, self._batch),
                self._topology,
                timeout_seconds=_TIMEOUT_SECONDS,
                name=peer.name,
            ).result()

        return self._milliseconds(peer.name, form, report)

    def _milliseconds(
        self, name: str, form: str, report: Callable[[], CompilerReport]
    ) -> float | None:
        key = name, form
        if key not in self._known:
            say(f"compiling {name}, {form}")
            self._known[key] = None
            try:
                compiled = report()
            except CompilerError as error:
                self.failed_compilations[f"{name}, {form}"] = str(error)
            else:
                self._known[key] = compiled.milliseconds
                if not compiled.compiled:
                    self.failed_compilations[f"{name}, {form}"] = compiled.message
        return self._known[key]


def stablehlo(peer: Peer, form: str, batch: int) -> bytes:
    """Have timm's code written as StableHLO by a process that may load torch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.mlir"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.timm_stablehlo"]
        command += [peer.name, str(path), f"--resolution={peer.resolution}"]
        command += [f"--batch={batch}", f"--dtype={_DTYPE}", *peers.THEIR_FORMS[form]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
            raise UserError(
                f"{peer.name}: timm's network does not become StableHLO: {last}"
            )
        return path.read_bytes()


_HEAD = (
    *("theirs", "px", "top-1", "ours", "top-1", "theirs", "padded"),
    *("ours", "rewritten", "ratio", "rewritten"),
)


def table(compared: Iterable[PeerRow]) -> str:
    """Return the rows for people."""
    return "\n".join(console.table([_HEAD, *map(_cells, compared)], right=True))


def _cells(row: PeerRow) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    own = max(p.top1 for p in catalogue.published(get_variant(row.ours)))
    return (
        row.peer.name,
        f"{row.peer.resolution}",
        number(row.published and row.published.top1, 2),
        row.ours,
        number(own, 2),
        *(number(row.theirs_ms.get(form), 2) for form in peers.THEIR_FORMS),
        *(number(row.ours_ms.get(form), 2) for form in peers.OUR_FORMS),
        *(number(row.ratio(form), 2) for form in peers.OUR_FORMS),
    )


def _peers(text: str) -> list[Peer]:
    """Return the peers of a comma-separated list, in the table's order."""
    asked, known = names(text), {peer.name for peer in PEERS}
    for name in asked:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"no peer {name!r}; known are {', '.join(sorted(known))}"
            )
    return [peer for peer in PEERS if peer.name in asked]


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.headline", __doc__)
    parser.add_argument(
        "--peers", type=_peers, default=list(PEERS), help="names; default: all"
    )
    parser.add_argument("--topology", default="v3", help="one device of it is used")
    parser.add_argument("--batch", type=positive, default=64, help="images at once")
    return parser


def _packages(asked: Iterable[Peer]) -> tuple[str, ...]:
    """Return the packages beside the compiler's that lower these peers and ours.

    Raises:
      UserError: one of them is not installed.
    """
    ours = ("tensorflow", "keras")
    theirs = ("timm", "torch", "jax") if any(peer.of_timm for peer in asked) else ()
    extras.require(
        *theirs, task="RegNetY or ResNeSt (--peers=efficientnet-b0 does without)"
    )
    return ours + theirs


def _compare(
    asked: Iterable[Peer], topology: Topology, batch: int
) -> tuple[list[PeerRow], dict[str, str]]:
    """Return the rows, and why networks have no estimate.

    Raises:
      UserError: a folder cannot be used, or timm's code gives no program.
    """
    try:
        with Compiler() as compiler:
            estimates = Estimates(compiler, topology, batch)
            rows = peers.rows(asked, estimates.theirs, estimates.ours)
    except OSError as error:
        raise UserError(
            f"cannot use {error.filename or 'the cache'}: {error.strerror}; free some "
            "space or mend the permissions"
        ) from error
    return rows, estimates.failed_compilations


@cli.command(_parser)
def main(options: argparse.Namespace) -> Status:
    """Run the command line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    topology = Topology.parse(options.topology)
    packages = _packages(options.peers)
    rows, failed = _compare(options.peers, topology, options.batch)
    reasons = [f"-: {what}: {why}" for what, why in failed.items()]
    print(table(rows), *reasons, "", *_NOTES, sep="\n")
    report = {
        "benchmark": "headline",
        "rows": [row.as_json() for row in rows],
        "summary": peers.summary(rows),
        "paper": _PAPER,
        "not_compiled": failed,
        "not_asked_for": [p.name for p in PEERS if p not in options.peers],
        "settings": {
            "topology": str(topology),
            "devices": 1,
            "batch": options.batch,
            "dtype": _DTYPE,
        },
        "conditions": _CONDITIONS,
        "machine": hardware,
        "compiler": environment().versions,
        "versions": {name: metadata.version(name) for name in packages},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, options.output)
    return Status.NO if failed else Status.OK


if __name__ == "__main__":
    sys.exit(main())
