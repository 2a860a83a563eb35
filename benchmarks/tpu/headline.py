"""The paper's comparison, by the compiler of TPUs: tables and one line of JSON.

    python -m benchmarks.tpu.headline --topologies=v3 --peers=efficientnet,resnest50d

EfficientNet-X, X-TPU and X-GPU beside EfficientNet, EfficientNetV2, RegNetY and ResNeSt
of near or equal published accuracy, all compiled for one device of each generation of
TPUs in inference; no TPU is run. RegNetY and ResNeSt are timm's own code (`make
with-peers` installs it). RegNetY's grouped convolutions, which the compiler does badly
as written, are compiled in another form of the same results, too, and the faster form
counts.

All of it compiles for hours, an estimate after the other: ours before timm's, the
cheapest generation first. What was compiled comes from the compiler's cache the next
time, so the same command goes on. The file of --output is written after every network,
and says what is missing; one that has more estimates stays until the run has as many.

The exit status is 0 when every network compiles and fits, 1 when one does not: the
reasons are below the tables; 2 when there is no answer.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.support import machine, results
from benchmarks.support.headline import estimates, generations, peers
from benchmarks.support.headline.estimates import DTYPE, Estimates, Job, Times
from benchmarks.support.headline.generations import Pair
from benchmarks.support.headline.peers import CONTROL, PEERS, Peer, PeerRow
from common import cli, console, extras
from common.cli import names, positive
from common.console import say
from common.errors import Status, UserError
from models import catalogue, get_variant
from tpu_compiler import Compiler, Topology, environment

_TOPOLOGIES = ("v3", "v4", "v5e", "v6e")
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
    "rows: an EfficientNetV2, RegNetY or ResNeSt stands beside the smallest "
    "EfficientNet-X that is published to be at least as accurate, an EfficientNet "
    "beside the X of its number, as in the paper",
    "pairs: the same, of B0 to B4 and as published; but beside each X stands the "
    "smallest EfficientNetV2 that is at least as accurate as that, and beside an "
    "EfficientNet X-TPU and X-GPU of its number, too, of which no accuracies are "
    "published",
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


_HEAD = (
    *("theirs", "px", "top-1", "ours", "top-1", "theirs", "padded"),
    *("ours", "rewritten", "ratio", "rewritten"),
)


def table(compared: Iterable[PeerRow]) -> str:
    """Return the rows for people."""
    return "\n".join(console.table([_HEAD, *map(_cells, compared)], right=True))


def _cells(row: PeerRow) -> tuple[str, ...]:
    own = max(p.top1 for p in catalogue.published(get_variant(row.ours)))
    return (
        row.peer.name,
        f"{row.peer.resolution}",
        _number(row.published and row.published.top1, 2),
        row.ours,
        _number(own, 2),
        *(_number(row.theirs_ms.get(form), 2) for form in peers.THEIR_FORMS),
        *(_number(row.ours_ms.get(form), 2) for form in peers.OUR_FORMS),
        *(_number(row.ratio(form), 2) for form in peers.OUR_FORMS),
    )


def pairs_table(pairs: Sequence[Pair], times: Mapping[str, Times]) -> str:
    """Return the pairs for people, a column for each generation."""

    def cell(pair: Pair, one: Times) -> str:
        theirs, ours = pair.milliseconds(one)
        both = f"{_number(theirs, 2)} : {_number(ours, 2)}"
        return f"{both} = {_number(generations.ratio(theirs, ours), 2)}"

    rows = [("theirs", "top-1", "ours", "top-1", *times)]
    for pair in pairs:
        own = pair.ours_published
        cells = [cell(pair, one) for one in times.values()]
        top1s = _number(pair.published.top1, 2), _number(own and own.top1, 2)
        rows.append((pair.peer.name, top1s[0], pair.ours, top1s[1], *cells))
    return "\n".join(console.table(rows, right=True))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _peers(text: str) -> list[Peer]:
    """Return the peers of a comma-separated list, in the table's order."""
    asked = names(text)
    families = {peer.family for peer in PEERS}
    known = {peer.name for peer in PEERS} | families
    for name in asked:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"no peer {name!r}; known are {', '.join(sorted(known))}"
            )
    return [
        peer
        for peer in PEERS
        if peer.name in asked or (peer.family in asked and peer is not CONTROL)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.headline", __doc__)
    parser.add_argument(
        "--peers",
        type=_peers,
        default=list(PEERS),
        help="names, or families: efficientnet, efficientnetv2, regnety, resnest; "
        "default: all",
    )
    parser.add_argument(
        "--topologies",
        "--topology",
        type=names,
        default=list(_TOPOLOGIES),
        help="one device of each is used, and on that of the first more is compiled: "
        "peers beyond B4, and ours with rewritten first layers; default: "
        f"{','.join(_TOPOLOGIES)}",
    )
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
        *theirs,
        task="RegNetY or ResNeSt (--peers=efficientnet,efficientnetv2 does without)",
    )
    return ours + theirs


class Comparison:
    """What is compared on which devices, and what is known of it so far.

    Attributes:
      pairs: of networks, on all devices.
      jobs: all that has to be compiled, in order.
    """

    def __init__(self, asked: list[Peer], topologies: list[Topology]):
        self._asked, self._topologies = asked, topologies
        self.pairs = generations.pairs(asked)
        of_pairs = [
            job for at in topologies for pair in self.pairs for job in pair.jobs(at)
        ]
        self.jobs = estimates.in_order([*of_pairs, *self._jobs_of_rows()])

    def _jobs_of_rows(self) -> Iterable[Job]:
        """Return what the rows look up."""
        first, found = self._topologies[0], []

        def theirs(peer: Peer, form: str) -> None:
            found.append(estimates.peer_job(first, peer, form))

        def ours(name: str, form: str) -> None:
            found.append(Job(first, name, form))

        peers.rows(self._asked, theirs, ours)
        return found

    def rows(self, known: Mapping[Job, float | None]) -> list[PeerRow]:
        """Return the rows of the first device, in all forms."""
        times = Times(known, self._topologies[0])
        return peers.rows(self._asked, times.theirs, times.ours)

    def times(self, known: Mapping[Job, float | None]) -> dict[str, Times]:
        """Return what is known, by device."""
        return {str(one): Times(known, one) for one in self._topologies}

    def as_json(self, found: Estimates) -> dict[str, Any]:
        """Return all that is known."""
        known = found.milliseconds
        rows, times = self.rows(known), self.times(known)
        return {
            "estimates": estimates.as_json(known),
            "pairs": [pair.as_json(times) for pair in self.pairs],
            "rows": [row.as_json() for row in rows],
            "summary": peers.summary(rows),
            "not_compiled": {str(job): why for job, why in found.failures.items()},
            "missing": [str(job) for job in self.jobs if job not in known],
            "not_asked_for": [p.name for p in PEERS if p not in self._asked],
        }


def _estimates_in(path: str | None) -> int:
    """Return how many networks a file of --output has an estimate of."""
    if path is None or not Path(path).exists():
        return 0
    rows = json.loads(Path(path).read_bytes()).get("estimates", ())
    return sum(row["milliseconds"] is not None for row in rows)


def _count(found: Estimates) -> int:
    return sum(one is not None for one in found.milliseconds.values())


def _run(
    comparison: Comparison, batch: int, keep: Callable[[Estimates], None]
) -> Estimates:
    """Compile everything.

    Args:
      comparison: what to compile.
      batch: images at once.
      keep: is called after each network.

    Raises:
      UserError: a folder cannot be used, or timm's code gives no program.
    """
    try:
        with Compiler() as compiler:
            found = Estimates(compiler, batch)
            for number, job in enumerate(comparison.jobs, start=1):
                say(f"{job} ({number} of {len(comparison.jobs)})")
                found.run(job)
                keep(found)
    except OSError as error:
        raise UserError(
            f"cannot use {error.filename or 'the cache'}: {error.strerror}; free some "
            "space or mend the permissions"
        ) from error
    return found


def _print(comparison: Comparison, found: Estimates) -> None:
    """Print all that a person reads."""
    known = found.milliseconds
    print(table(comparison.rows(known)), "", sep="\n")
    print(pairs_table(comparison.pairs, comparison.times(known)))
    print(*(f"-: {job}: {why}" for job, why in found.failures.items()), sep="\n")
    print(*_NOTES, sep="\n")


@cli.command(_parser, interrupted="stopped; the same command goes on")
def main(options: argparse.Namespace) -> Status:
    """Run the command line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    devices = (Topology.parse(one).one_device for one in options.topologies)
    topologies = list(dict.fromkeys(devices))
    packages = _packages(options.peers)
    comparison = Comparison(options.peers, topologies)
    conditions = {
        "paper": _PAPER,
        "settings": {
            "topology": str(topologies[0]),
            "topologies": [str(one) for one in topologies],
            "devices": 1,
            "batch": options.batch,
            "dtype": DTYPE,
        },
        "conditions": _CONDITIONS,
        "machine": hardware,
        "compiler": environment().versions,
        "versions": {name: metadata.version(name) for name in packages},
        "does_not_show": _DOES_NOT_SHOW,
    }

    def report(found: Estimates) -> dict[str, Any]:
        return {"benchmark": "tpu.headline", **comparison.as_json(found), **conditions}

    def keep(found: Estimates) -> None:
        if options.output and _count(found) >= least:
            results.keep(report(found), options.output)

    least = _estimates_in(options.output)
    found = _run(comparison, options.batch, keep)
    _print(comparison, found)
    enough = _count(found) >= least
    if not enough:
        say(f"{options.output} stays: it has {least} estimates, this {_count(found)}")
    results.publish(report(found), options.output if enough else None)
    return Status.NO if found.failures else Status.OK


if __name__ == "__main__":
    sys.exit(main())
