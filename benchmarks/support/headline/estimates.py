"""Milliseconds of networks by the compiler of TPUs, one compilation after another."""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.support.headline import peers
from benchmarks.support.headline.peers import AS_PUBLISHED, OUR_FORMS, THEIR_FORMS, Peer
from common.errors import UserError
from models import complexity, get_variant
from performance.latency_estimates import network_latency
from tpu_compiler import Compiler, CompilerError, CompilerReport, Topology

DTYPE = "bfloat16"
_TIMEOUT_SECONDS = 3600.0
# Generations from the one that compiles fastest; v6e takes several times v3's time.
_CHEAPEST_FIRST = ("v2", "v3", "v5e", "v5p", "v4", "v6e")


@dataclasses.dataclass(frozen=True)
class Job:
    """A network to compile.

    Attributes:
      topology: whose device, one of them.
      name: of the network, timm's or one of our table.
      form: a key of OUR_FORMS, or of THEIR_FORMS for a network of timm's.
      peer: the network of timm's; None of one of ours.
    """

    topology: Topology
    name: str
    form: str
    peer: Peer | None = None

    def __str__(self) -> str:
        return f"{self.topology}: {self.name}, {self.form}"


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs in the order in which an interrupted run has most to show.

    Ours before timm's, which take the longest; within that the cheapest generation
    first, networks as published before other forms, and the smallest first.
    """

    def key(job: Job) -> tuple[bool, int, bool, float]:
        cost = (
            complexity.total(get_variant(job.name)).macs
            if job.peer is None
            else job.peer.gmacs
        )
        generation = _CHEAPEST_FIRST.index(job.topology.name)
        other_form = job.peer is None and job.form != AS_PUBLISHED
        return job.peer is not None, generation, other_form, cost

    return sorted(dict.fromkeys(jobs), key=key)


class Estimates:
    """Compiles networks for one device, from the cache if known.

    Attributes:
      milliseconds: by job; None where there is no estimate.
      failures: why there is none, by job.
    """

    def __init__(self, compiler: Compiler, batch: int):
        self._compiler, self._batch = compiler, batch
        self._lowered: dict[tuple[str, str], bytes] = {}  # the same of all generations
        self.milliseconds: dict[Job, float | None] = {}
        self.failures: dict[Job, str] = {}

    def run(self, job: Job) -> None:
        """Compile a network, or note why it does not compile or fit.

        Raises:
          UserError: timm's code gives no program.
          OSError: a folder cannot be used.
        """
        self.milliseconds[job] = None
        try:
            report = self._report(job)
        except CompilerError as error:
            self.failures[job] = str(error)
            return
        self.milliseconds[job] = report.milliseconds
        if not report.compiled:
            self.failures[job] = report.message

    def _report(self, job: Job) -> CompilerReport:
        if job.peer is None:
            return network_latency(
                job.name,
                self._compiler,
                job.topology,
                batch=self._batch,
                dtype=DTYPE,
                **OUR_FORMS[job.form],
            )
        key = job.name, job.form
        if key not in self._lowered:
            self._lowered[key] = stablehlo(job.peer, job.form, self._batch)
        return self._compiler.compile(
            self._lowered[key],
            job.topology,
            timeout_seconds=_TIMEOUT_SECONDS,
            name=job.name,
        ).result()


def stablehlo(peer: Peer, form: str, batch: int) -> bytes:
    """Have timm's code written as StableHLO by a process that may load torch.

    Raises:
      UserError: it cannot be.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.mlir"
        module = "benchmarks.support.timm_stablehlo"
        command = [sys.executable, "-W", "ignore", "-m", module]
        command += [peer.name, str(path), f"--resolution={peer.resolution}"]
        command += [f"--batch={batch}", f"--dtype={DTYPE}", *THEIR_FORMS[form]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
            raise UserError(
                f"{peer.name}: timm's network does not become StableHLO: {last}"
            )
        return path.read_bytes()


class Times:
    """Looks up what is known of networks on one device.

    Both methods return None where there is no estimate, or none yet.
    """

    def __init__(self, known: Mapping[Job, float | None], topology: Topology):
        self._known, self._topology = known, topology

    def ours(self, name: str, form: str = AS_PUBLISHED) -> float | None:
        """Return the milliseconds of a network of ours."""
        return self._known.get(Job(self._topology, name, form))

    def theirs(self, peer: Peer, form: str) -> float | None:
        """Return the milliseconds of a network of others."""
        return self._known.get(peer_job(self._topology, peer, form))

    def fastest(self, peer: Peer) -> float | None:
        """Return those of a peer's fastest form.

        If there is no estimate of one form there is none: it might be the fastest.
        """
        return peers.fastest({form: self.theirs(peer, form) for form in peer.forms})


def peer_job(topology: Topology, peer: Peer, form: str) -> Job:
    """Return the job of a network of others, which may be in our table, too."""
    if peer.of_timm:
        return Job(topology, peer.name, form, peer)
    return Job(topology, peer.name, AS_PUBLISHED)


def as_json(known: Mapping[Job, float | None]) -> list[dict[str, Any]]:
    """Return all estimates."""
    return [
        {
            "topology": str(job.topology),
            "network": job.name,
            "form": job.form,
            "milliseconds": round(milliseconds, 3),
        }
        for job, milliseconds in known.items()
        if milliseconds is not None
    ]
