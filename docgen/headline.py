"""What benchmarks.tpu.headline has estimated on generations: tables, pictures."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.support import results
from docgen.drawn import Picture
from docgen.markdown import code, table, three_digits
from docgen.results import note
from tpu_compiler import Topology

Report = Mapping[str, Any]

PICTURE = Picture("tpu.headline", "pairs")
# README's, of the pairs.
_SHOWN = (
    ("efficientnet-b0", "efficientnet-x-b0"),
    ("efficientnet-b3", "efficientnet-x-tpu-b3"),
    ("efficientnetv2-b0", "efficientnet-x-b0"),
    ("efficientnetv2-b3", "efficientnet-x-b3"),
    ("efficientnetv2-s", "efficientnet-x-b4"),
)
_MANY = 10  # networks; more are counted
# Okabe and Ito's colours, ours blue and green; X a little lighter, for pages at night.
_COLORS = {
    "EfficientNet": "#d55e00",
    "X": "#2a7fd4",
    "X-TPU": "#56b4e9",
    "X-GPU": "#009e73",
    "EfficientNetV2": "#cc79a7",
    "RegNetY": "#e69f00",
    "ResNeSt": "#999999",
}
_ABOVE = "EfficientNetV2", "RegNetY"  # lines that lie left of the others, or cross them
_NOTE = (
    "hollow: X-TPU and X-GPU have no published top-1 and stand at that of X of their "
    "number"
)


def generations(report: Report) -> str:
    """Return every pair on every generation."""
    named = report["settings"]["topologies"]
    rows = [
        (
            _theirs(pair),
            pair["ours"].removeprefix("efficientnet-"),
            _top1(pair["ours_published"]),
            *(_cell(pair, one) for one in named),
        )
        for pair in report["pairs"]
    ]
    head = "theirs (top-1 %)", "ours", "top-1 %", *named
    return "\n\n".join(
        [
            f"{_conditions(report)}: theirs over ours, and in brackets both in ms. "
            "Above 1, ours is faster. Top-1 as published by others:",
            table(head, rows, right=" " * 3 + "r" * len(named)),
            "An EfficientNet stands beside X, X-TPU and X-GPU of its number, of which "
            "the last two have no published top-1, and are X itself at B0. An "
            "EfficientNetV2 is the smallest that is at least as accurate as the X "
            "beside it; the X beside a RegNetY or ResNeSt is the smallest that is at "
            "least as accurate as that. RegNetY counts in the faster of its two forms.",
            *_missing(report),
            note(report),
        ]
    )


def _conditions(report: Report) -> str:
    """Return what the estimates are of, as the beginning of a sentence."""
    settings = report["settings"]
    devices = [Topology.parse(one).device for one in settings["topologies"]]
    return (
        f"Inference of a batch of {settings['batch']} in {settings['dtype']} on "
        f"{_listed(devices)}, as XLA's TPU compiler estimates it; no TPU was run"
    )


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _theirs(pair: Report) -> str:
    published = pair["theirs_published"]
    several = pair["theirs_family"] == "RegNetY"  # which has two recipes
    recipe = f", {published['recipe']}" if several else ""
    return f"{pair['theirs']} ({published['top1']}{recipe})"


def _top1(published: Report | None) -> str:
    return "-" if published is None else f"{published['top1']}"


def _cell(pair: Report, generation: str) -> str:
    theirs, ours = pair["theirs_ms"][generation], pair["ours_ms"][generation]
    if theirs is None and ours is None:
        return "-"
    ratio, both = (
        pair["ratio"][generation],
        f"{three_digits(theirs)} : {three_digits(ours)}",
    )
    return f"- ({both})" if ratio is None else f"**{three_digits(ratio)}** ({both})"


def _missing(report: Report) -> Iterator[str]:
    """Say what has no estimate, by generation; of many how many they are."""
    lacking: dict[str, dict[str, None]] = {}
    for one in (*report["not_compiled"], *report["missing"]):
        generation, _, network = one.partition(": ")
        lacking.setdefault(generation, {})[network.partition(", ")[0]] = None
    for generation, networks in lacking.items():
        many = len(networks) > _MANY
        what = f"{len(networks)} networks" if many else ", ".join(networks)
        yield f"Not compiled for {generation}: {what}."


def speedups(report: Report) -> str:
    """Return README's few pairs."""
    named = report["settings"]["topologies"]
    by_names = {(pair["theirs"], pair["ours"]): pair for pair in report["pairs"]}
    rows = [
        (
            f"{_short(pair, 'theirs')} : {_short(pair, 'ours')}",
            *(three_digits(pair["ratio"][one]) for one in named),
        )
        for names in _SHOWN
        if (pair := by_names.get(names))
    ]
    return "\n\n".join(
        [
            table(
                ("theirs : ours (top-1 %)", *named), rows, right=" " + "r" * len(named)
            ),
            f"{_conditions(report)}. Above 1, ours is faster by that factor; top-1 as "
            f"published by others. {code('python -m benchmarks.tpu.headline')}.",
            *_largest(report),
            *_against_v2(report),
        ]
    )


def _ratios(report: Report, family: str) -> Iterator[tuple[float, str, Report]]:
    """Yield ratio, generation and pair of what is known against a family."""
    for pair in report["pairs"]:
        for generation, ratio in pair["ratio"].items():
            if pair["theirs_family"] == family and ratio is not None:
                yield ratio, generation, pair


def _largest(report: Report) -> Iterator[str]:
    """Set the paper's words beside the best ratios against EfficientNet."""
    best: dict[str, tuple[float, str]] = {}
    for ratio, generation, pair in _ratios(report, "EfficientNet"):
        if generation not in best or ratio > best[generation][0]:
            best[generation] = ratio, _title(pair, "ours")
    if best:
        words = [
            f"{three_digits(r)} on {at} ({ours})" for at, (r, ours) in best.items()
        ]
        yield (
            'The paper says "up to more than 2x faster" than EfficientNet, on TPUv3 '
            f"and V100. Here the most is {_listed(words)}."
        )


def _against_v2(report: Report) -> Iterator[str]:
    """Say how often the more accurate V2 is faster than X, by generation."""
    counts: dict[str, list[bool]] = {}
    for ratio, generation, _ in _ratios(report, "EfficientNetV2"):
        counts.setdefault(generation, []).append(ratio < 1)
    if counts:
        words = [f"{sum(won)} of {len(won)} on {at}" for at, won in counts.items()]
        yield (
            "Beside each of X-B0 to B4 the smallest EfficientNetV2 of at least its "
            f"accuracy was set: it is the faster one in {_listed(words)}."
        )


def _short(pair: Report, whose: str) -> str:
    """Return a network's title and top-1."""
    published = pair[f"{whose}_published"]
    accuracy = "none published" if published is None else f"{published['top1']}"
    return f"{_title(pair, whose)} ({accuracy})"


def _title(pair: Report, whose: str) -> str:
    """Return a network as EfficientNet-B0, X-TPU-B3 or EfficientNetV2-S."""
    return f"{pair[f'{whose}_family']}-{pair[whose].rpartition('-')[2].upper()}"


def draw(report: Report, folder: Path) -> None:
    """Draw the pictures.

    Args:
      report: of benchmarks.tpu.headline.
      folder: to write them to.
    """
    from performance import family_plots  # loads matplotlib

    settings = report["settings"]
    panels = {
        Topology.parse(one).device.replace(one, f"TPU {one}"): families(report, one)
        for one in settings["topologies"]
    }
    title = (
        f"Inference of {settings['batch']} images, {settings['dtype']}, as XLA's TPU "
        "compiler estimates it"
    )
    paint = functools.partial(
        family_plots.accuracy, panels=panels, title=title, note=_NOTE
    )
    PICTURE.write(report, folder, paint)


def families(report: Report, generation: str) -> list[Any]:
    """Return the lines of a panel, as `performance.family_plots` draws them."""
    from performance.family_plots import Family

    points: dict[tuple[str, str], dict[str, Any]] = {}
    for family, recipe, point in _points(report, generation):
        points.setdefault((family, recipe), {})[point.label] = point
    return [
        Family(
            f"{family}, {recipe}" if recipe else family,
            color,
            sorted(found.values(), key=lambda point: point.milliseconds),
            style=":" if "plain" in recipe else "-",
            labels="above" if family in _ABOVE else "below",
        )
        for family, color in _COLORS.items()
        for (one, recipe), found in points.items()
        if one == family
    ]


def _points(report: Report, generation: str) -> Iterator[tuple[str, str, Any]]:
    """Yield family, recipe where a family has several, and point of each network."""
    from performance.family_plots import Point

    of_x = {
        pair["ours"]: pair["ours_published"]["top1"]
        for pair in report["pairs"]
        if pair["ours_published"]
    }
    for pair in report["pairs"]:
        for whose in ("theirs", "ours"):
            milliseconds = pair[f"{whose}_ms"][generation]
            if milliseconds is None:
                continue
            name, published = pair[whose], pair[f"{whose}_published"]
            number = name.rpartition("-")[2]
            top1 = (published or {"top1": of_x.get(f"efficientnet-x-{number}")})["top1"]
            if top1 is None:
                continue
            family = pair[f"{whose}_family"]
            recipe = published["recipe"] if family == "RegNetY" else ""
            label = number.removeprefix("regnety_").removeprefix("resnest").upper()
            yield family, recipe, Point(label, milliseconds, top1, not published)


def _stored(render: Callable[[Report], str]) -> str:
    return render(results.load(results.FOLDER / "tpu.headline.json"))


BLOCKS: dict[str, Callable[[], str]] = {
    "headline.generations": functools.partial(_stored, generations),
    "headline.speedups": functools.partial(_stored, speedups),
}
