"""The paper's comparison on several generations of TPUs: pairs of networks."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.support.headline import peers
from benchmarks.support.headline.estimates import Job, Times, peer_job
from benchmarks.support.headline.peers import AS_PUBLISHED, PEERS, Peer, thousandths
from models import catalogue, get_variant
from models.catalogue import Published
from tpu_compiler import Topology

# The paper's sizes that are compared: a table of B5 to B7 takes days to compile.
_NUMBERS = range(5)
_OURS = ("efficientnet-x", "efficientnet-x-tpu", "efficientnet-x-gpu")
_X_B0 = "efficientnet-x-b0"  # which B0 of X-TPU and of X-GPU are, too


@dataclasses.dataclass(frozen=True)
class Pair:
    """A network of others beside one of X, X-TPU or X-GPU.

    Attributes:
      peer: the other network.
      published: its accuracy.
      ours: the name of ours.
    """

    peer: Peer
    published: Published
    ours: str

    @property
    def ours_published(self) -> Published | None:
        """The best accuracy of ours; X-TPU and X-GPU have none but at B0."""
        found = catalogue.published(get_variant(self.ours))
        return max(found, key=lambda one: one.top1, default=None)

    def jobs(self, topology: Topology) -> list[Job]:
        """Return what has to be compiled for a device."""
        theirs = (peer_job(topology, self.peer, form) for form in self.peer.forms)
        return [*theirs, Job(topology, self.ours, AS_PUBLISHED)]

    def milliseconds(self, times: Times) -> tuple[float | None, float | None]:
        """Return theirs, in their fastest form, and ours."""
        return times.fastest(self.peer), times.ours(self.ours)

    def as_json(self, times: Mapping[str, Times]) -> dict[str, Any]:
        """Return everything about the pair; milliseconds and ratios by generation."""
        both = {name: self.milliseconds(one) for name, one in times.items()}
        return {
            "theirs": self.peer.name,
            "theirs_family": peers.family(self.peer.name),
            "theirs_published": dataclasses.asdict(self.published),
            "ours": self.ours,
            "ours_family": peers.family(self.ours),
            "ours_published": self.ours_published
            and dataclasses.asdict(self.ours_published),
            "theirs_ms": {name: thousandths(ms) for name, (ms, _) in both.items()},
            "ours_ms": {name: thousandths(ms) for name, (_, ms) in both.items()},
            "ratio": {name: thousandths(ratio(*ms)) for name, ms in both.items()},
        }


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """Return how many times as fast ours is; None where a time is not known."""
    return theirs / ours if theirs is not None and ours is not None else None


def pairs(asked: Iterable[Peer]) -> list[Pair]:
    """Return the pairs of B0 to B4 whose other network is asked for.

    An EfficientNet stands beside X, X-TPU and X-GPU of its number, as in the paper; a
    RegNetY or ResNeSt beside the smallest X that is published to be at least as
    accurate, once for each of its recipes. EfficientNetV2 is compared the other way
    round: beside each X the smallest V2 that is at least as accurate as that.
    """
    known = set(asked)
    found = [*_of_numbers(), *_of_v2(), *_of_accuracies()]
    return [pair for pair in found if pair.peer in known]


def _family(key: str) -> list[Peer]:
    return [peer for peer in PEERS if peer.family == key and peer.published]


def _of_numbers() -> Iterable[Pair]:
    for peer in _family("efficientnet"):
        (published,) = peer.published
        for family in _OURS:
            ours = f"{family}{peer.name.removeprefix('efficientnet')}"
            if catalogue.same_network(get_variant(ours)) != _X_B0:
                yield Pair(peer, published, ours)


def _of_v2() -> Iterable[Pair]:
    for number in _NUMBERS:
        ours = f"efficientnet-x-b{number}"
        (own,) = catalogue.published(get_variant(ours))
        for peer in _family("efficientnetv2"):
            (published,) = peer.published
            if published.top1 >= own.top1:
                yield Pair(peer, published, ours)
                break


def _of_accuracies() -> Iterable[Pair]:
    for peer in (*_family("regnety"), *_family("resnest")):
        for published in peer.published:
            ours = peers.counterpart(peer, published)
            if ours is not None and int(ours[-1]) in _NUMBERS:
                yield Pair(peer, published, ours)
