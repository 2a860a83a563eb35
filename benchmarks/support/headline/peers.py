"""Other people's networks beside ours of near published accuracy, and the ratios."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from models import VARIANTS, catalogue, get_variant
from models.catalogue import Published

# Ours in the form as published, and with the same results from rewritten first layers.
AS_PUBLISHED = "as published"
OUR_FORMS: dict[str, dict[str, Any]] = {
    AS_PUBLISHED: {},
    "rewritten stem": {"stem_block_size": 4, "input_layout": "HWCN"},
}
THEIR_FORMS = {"as written": (), "groups padded": ("--pad_groups",)}
_X = tuple(f"efficientnet-x-b{number}" for number in range(8))
# By the beginning of a network's name; the first that fits.
FAMILIES = {
    "efficientnetv2": "EfficientNetV2",
    "efficientnet-x-tpu": "X-TPU",
    "efficientnet-x-gpu": "X-GPU",
    "efficientnet-x": "X",
    "efficientnet": "EfficientNet",
    "regnety": "RegNetY",
    "resnest": "ResNeSt",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A network to compare with.

    Attributes:
      name: timm's, or one of our table of variants.
      resolution: in pixels, at which the accuracies were published.
      published: its accuracies on ImageNet, by recipe.
      ours: what it is compared with by name; else the fastest, that is the smallest, of
        EfficientNet-X that is published to be at least as accurate.
      forms: in which it is compiled; keys of THEIR_FORMS.
      gmacs: of timm's, multiply-accumulates of an image in 10^9, as remembered; for the
        order of compilations alone.
    """

    name: str
    resolution: int
    published: tuple[Published, ...]
    ours: str | None = None
    forms: tuple[str, ...] = ("as written",)
    gmacs: float = 0.0

    @property
    def of_timm(self) -> bool:
        """Whether it is timm's code, and not ours."""
        return self.name not in VARIANTS

    @property
    def family(self) -> str:
        """The beginning of its name that tells its family, a key of FAMILIES."""
        return family_key(self.name)


def family_key(name: str) -> str:
    """Return the key in FAMILIES of a network's family."""
    return next(key for key in FAMILIES if name.startswith(key))


def family(name: str) -> str:
    """Return the name of a network's family, for people."""
    return FAMILIES[family_key(name)]


def _regnet(number: str, pycls: float, deit: float) -> Peer:
    """Return a RegNetY, which was published with a plain recipe and a newer one."""
    return Peer(
        name=f"regnety_{number}",
        resolution=224,
        published=(
            Published(pycls, "100 epochs, plain", "pycls, MODEL_ZOO.md"),
            Published(deit, "300 epochs, DeiT's recipe", _DEIT, _REMEMBERED),
        ),
        forms=tuple(THEIR_FORMS),
        gmacs=int(number) / 10,
    )


def _resnest(name: str, resolution: int, top1: float, gmacs: float) -> Peer:
    published = Published(
        top1, "its authors' recipe", "README of zhanghang1989/ResNeSt"
    )
    return Peer(name=name, resolution=resolution, published=(published,), gmacs=gmacs)


def _efficientnet(number: int) -> Peer:
    """Return an EfficientNet, which the paper compares with the X of its number."""
    variant = get_variant(f"efficientnet-b{number}")
    best = max(catalogue.published(variant), key=lambda entry: entry.top1)
    return Peer(
        name=variant.name,
        resolution=variant.resolution,
        published=(best,),
        ours=_X[number],
    )


def _v2(name: str) -> Peer:
    """Return an EfficientNetV2, compared by its accuracy: its numbers are its own."""
    variant = get_variant(f"efficientnetv2-{name}")
    return Peer(
        name=variant.name,
        resolution=variant.resolution,
        published=catalogue.published(variant),
    )


_DEIT = "DeiT paper, arXiv 2012.12877"
_REMEMBERED = "as remembered, not checked against a copy of the paper"
# The same network by both routes: what the routes themselves add.
CONTROL = Peer(
    name="efficientnet_b0", resolution=224, published=(), ours="efficientnet-b0"
)
PEERS = (
    *map(_efficientnet, range(5)),
    *map(_v2, ("b0", "b1", "b2", "b3", "s")),
    _regnet("040", 79.4, 80.0),
    _regnet("080", 79.9, 81.7),
    _regnet("160", 80.4, 82.9),
    _resnest("resnest50d", 224, 81.04, 5.4),
    _resnest("resnest101e", 256, 82.83, 13.4),
    _resnest("resnest200e", 320, 83.88, 35.7),
    CONTROL,
)


@dataclasses.dataclass(frozen=True)
class PeerRow:
    """A network of others beside one of ours of near or equal accuracy.

    Attributes:
      peer: the other network.
      published: its accuracy; None of the control.
      ours: our network's name.
      theirs_ms: estimated milliseconds by form; None of a form that did not compile.
      ours_ms: the same of ours.
    """

    peer: Peer
    published: Published | None
    ours: str
    theirs_ms: dict[str, float | None]
    ours_ms: dict[str, float | None]

    def ratio(self, form: str) -> float | None:
        """Their fastest form's time over that of a form of ours; None if not measured.

        If one of their forms did not compile there is no ratio: it might be the faster.
        """
        ours, theirs = self.ours_ms.get(form), fastest(self.theirs_ms)
        return None if ours is None or theirs is None else theirs / ours

    def _alone(self, form: str) -> "PeerRow":
        """Return the row of one of their forms."""
        return dataclasses.replace(self, theirs_ms={form: self.theirs_ms[form]})

    def as_json(self) -> dict[str, Any]:
        """Return everything about the row."""
        return {
            "theirs": self.peer.name,
            "resolution": self.peer.resolution,
            "theirs_published": self.published and dataclasses.asdict(self.published),
            "ours": self.ours,
            "ours_published": [
                dataclasses.asdict(entry)
                for entry in catalogue.published(get_variant(self.ours))
            ],
            "theirs_ms": {f: thousandths(ms) for f, ms in self.theirs_ms.items()},
            "ours_ms": {f: thousandths(ms) for f, ms in self.ours_ms.items()},
            "ratio": {form: thousandths(self.ratio(form)) for form in self.ours_ms},
            "ratio_of_each_form": {
                theirs: {
                    ours: thousandths(self._alone(theirs).ratio(ours))
                    for ours in self.ours_ms
                }
                for theirs in self.theirs_ms
            },
        }


def fastest(forms: Mapping[str, float | None]) -> float | None:
    """Return the time of the fastest form.

    If one form has no time there is no answer: it might be the fastest.
    """
    times = list(forms.values())
    known = [ms for ms in times if ms is not None]
    return min(known) if known and len(known) == len(times) else None


def counterpart(peer: Peer, published: Published) -> str | None:
    """Return which of ours a network is compared with; None: none is as accurate."""
    if peer.ours:
        return peer.ours
    for name in _X:
        (own,) = catalogue.published(get_variant(name))
        if own.top1 >= published.top1:
            return name
    return None


def rows(
    peers: Iterable[Peer],
    theirs: Callable[[Peer, str], float | None],
    ours: Callable[[str, str], float | None],
) -> list[PeerRow]:
    """Compare.

    Args:
      peers: the networks of others.
      theirs: from one of them and a form to estimated milliseconds, None if it does
        not compile.
      ours: the same from a name of ours.

    Returns:
      A row for each of a network's accuracies; one without a counterpart has none.
    """
    found = []
    for peer in peers:
        their_ms = {form: theirs(peer, form) for form in peer.forms}
        for published in peer.published or (None,):
            name = peer.ours if published is None else counterpart(peer, published)
            if name is not None:
                forms = [AS_PUBLISHED] if peer is CONTROL else list(OUR_FORMS)
                our_ms = {form: ours(name, form) for form in forms}
                found.append(PeerRow(peer, published, name, their_ms, our_ms))
    return found


def summary(compared: Iterable[PeerRow]) -> dict[str, dict[str, Any]]:
    """Return by family the least, median and largest ratio to ours as published."""
    ratios: dict[str, list[float]] = {}
    for row in compared:
        ratio = row.ratio(AS_PUBLISHED)
        if row.peer is not CONTROL and ratio is not None:
            ratios.setdefault(family(row.peer.name), []).append(ratio)
    return {
        name: {
            "rows": len(values),
            "min": thousandths(min(values)),
            "median": thousandths(statistics.median(values)),
            "max": thousandths(max(values)),
        }
        for name, values in ratios.items()
    }


def thousandths(value: float | None) -> float | None:
    """Round to three decimals."""
    return None if value is None else round(value, 3)
