"""Folders of searches, as they would be: a family, and results over blocks."""

import dataclasses
import json
import math
import random
from pathlib import Path

from models.variants import VARIANTS
from search import results
from search.axes import Point
from search.families.family import Difference, Family, Member, Outcome, Rival
from search.results import Result, Score
from search.strategies import STRATEGIES

X = VARIANTS["efficientnet-x-b0"]
# milliseconds, blocks' factor, width, pixels
TARGETS = {
    "efficientnet-x-b1": (18.1, 1.0, 1.6, 224),
    "efficientnet-x-b2": (24.1, 1.375, 1.6, 216),
    "efficientnet-x-b3": (41.1, 1.45, 1.8, 256),
    "60 ms": (60.0, 1.7, 1.85, 288),
    "efficientnet-x-b4": (85.6, 1.9, 2.0, 320),
}
SAMPLES = 30


def member(variant, ms, rng, *, decided=True, top1=None):
    """Return a network with times and predictions around a curve."""
    size = Point(
        variant.depth_coefficient, variant.width_coefficient, variant.resolution
    )
    middle = 71 + 2.7 * math.log(ms) if top1 is None else top1
    samples = tuple(middle + rng.gauss(0, 0.15) for _ in range(SAMPLES))
    return Member(
        variant=variant,
        point=size,
        score=Score(samples, "predicted"),
        cheap_ms=ms * 0.97,
        parts_ms=ms * 1.04 if decided else None,
        exact_ms=ms if decided else None,
    )


def _ours(number, target, rng):
    ms, depth, width, size = TARGETS[target]
    variant = dataclasses.replace(
        X,
        name=f"lacs-{number}",
        depth_coefficient=depth,
        width_coefficient=width,
        resolution=size,
    )
    return member(variant, ms * 1.01, rng, top1=71.5 + 2.7 * math.log(ms))


def _rivals(number, ms, chosen, rng):
    found = []
    for place, name in enumerate(("efficientnet", "x-tpu", "x-gpu", "fast", "random")):
        strategy = STRATEGIES.get(name)
        if name == "fast" and number == 5:
            found.append(Rival(name=name, source="arXiv 2103.06877", member=None))
            continue
        row = strategy.rows[number] if strategy and strategy.rows else X
        if row is X:
            row = dataclasses.replace(
                X, name=f"{name}-{number}", width_coefficient=1 + 0.25 * number
            )
        other = member(row, ms * (0.96 + 0.01 * place), rng, decided=place < 2)
        gain = chosen.score.top1 - other.score.top1
        half = 0.15 + 0.15 * place
        difference = Difference(
            top1=gain, spread=(gain - half, gain + half), above=min(1, 0.5 + gain)
        )
        found.append(
            Rival(
                name=name,
                source=strategy.source if strategy else "400 random sizes",
                member=other,
                gain=difference,
                time=None if number == 1 else 0.8 + 0.04 * place,
            )
        )
    return found


def make_family():
    """Return a family of five networks, beside four strategies and random search."""
    rng = random.Random(0)
    outcomes = []
    for number, (target, (ms, *_)) in enumerate(TARGETS.items(), start=1):
        chosen = _ours(number, target, rng)
        forms = {
            form: dataclasses.replace(
                chosen,
                variant=dataclasses.replace(
                    chosen.variant,
                    name=f"x-{form}-{number}",
                    depth_coefficient=chosen.variant.depth_coefficient * factor,
                    resolution=chosen.variant.resolution + 16 * place,
                ),
            )
            for place, (form, factor) in enumerate(
                [("additive", 1.2), ("product", 1.0), ("bottleneck", 0.9)]
            )
        }
        outcomes.append(
            Outcome(
                target=target,
                ms=ms,
                chosen=chosen,
                reached=number != 4,
                finalists=[chosen],
                rivals=_rivals(number, ms, chosen, rng),
                by_form=forms,
                asked=900 + number,
                failures={"x-9": "whole: does not fit: 17.2 GB of 16 GB"}
                if number == 5
                else {},
            )
        )
    return Family(
        name="lacs",
        base=X.name,
        outcomes=outcomes,
        references=[
            _reference("efficientnetv2-s", 65.4, 83.9, "", 8.41),
            _reference("efficientnetv2-b3", 28.0, 82.1, "", 3.0),
            _reference(
                "efficientnet-x-b4", 85.6, 83.0, "as remembered, not checked", 10
            ),
            _reference("efficientnet-b0", None, 77.1, "", 0.39),
        ],
        about={
            "grid": {
                "depths": [1.0, 1.375, 2.0],
                "widths": [1.0, 1.05, 2.0],
                "resolutions": [160, 168, 600],
                "points": 21 * 21 * 56,
            },
            "trust_region": {"depth": [1.0, 4.0], "width": [1.0, 2.0]},
            "strategy": "free",
            "tolerance": 0.03,
            "asked_in_all": 4_530,
            "invalid": {"x-d9": "images of 163 px are not divisible by 2"},
        },
    )


def _reference(name, ms, top1, remark, gmacs):
    return {
        "name": name,
        "resolution": VARIANTS[name].resolution,
        "ms": ms,
        "reason": "" if ms else "was not compiled",
        "predicted_top1": None if "v2" in name else 82.9,
        "predicted_spread": None if "v2" in name else (82.6, 83.2),
        "predicted_reason": "another kind of network" if "v2" in name else "",
        "published_top1": top1,
        "published_remark": remark,
        "gmacs": gmacs,
    }


CONDITIONS = {
    "command": "search.lacs",
    "seed": 0,
    "batch": 64,
    "dtype": "bfloat16",
    "topology": "v3",
    "versions": {"libtpu": "0.0.52", "jax": "0.10.2"},
}


def write_family(folder: Path) -> dict:
    """Write a scaling search's folder; return what family.json holds."""
    (folder / "family.json").write_text(json.dumps(make_family().as_json()))
    (folder / "search.json").write_text(json.dumps(CONDITIONS))
    return json.loads((folder / "family.json").read_text())


def network(rng, skill):
    """Return an encoding of seven stages; the more skill, the more alike they are."""
    stages = []
    for stage in range(1, 8):
        best = rng.random() < skill
        kind = "fused" if stage < 4 else "mbconv"
        if not best:
            kind = rng.choice(("fused", "mbconv"))
        kernel = 3 if best else rng.choice((3, 5))
        stages.append(
            f"{stage} {kind} k{kernel} e{rng.choice((3, 6))} n{rng.randint(1, 3)} "
            f"se{rng.choice((0, 0.25))} {rng.choice(('relu', 'swish'))}"
        )
    return " / ".join([f"r{rng.choice((192, 224, 256))}", *stages])


def make_results(count, *, seed=0, skill=0.9, rungs=1):
    """Return results of a search that gets better, some of which have failed."""
    found = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        learned = skill * number / count
        encoding = network(rng, learned)
        ms = math.exp(rng.uniform(1.2, 3.6))
        top1 = 62 + 5 * math.log(ms) + 4 * learned + rng.gauss(0, 0.6)
        rung = rng.choice((0,) * 3 + tuple(range(rungs)))
        again = number % 50 == 0  # one network, evaluated again and again
        failed = not again and rng.random() < 0.05
        if again:
            encoding, top1, rung = (
                network(random.Random(7), 0),
                75 + rng.gauss(0, 0.2),
                0,
            )
        reason = rng.choice(
            (
                f"does not fit: {rng.uniform(16, 30):.1f} GB of 16 GB",
                f"diverged in step {rng.randint(1, 9999)}",
                "killed by signal 9",
            )
        )
        found.append(
            Result(
                number=number,
                network=encoding,
                digest=f"{7 if again else rng.getrandbits(64):016x}",
                rung=rung,
                value=None if failed else top1 / 100 * (ms / 12) ** -0.07,
                top1=() if failed else (top1, top1 + 0.1, top1 + 0.3),
                ms=None if failed else ms,
                sources=("trained, 4 epochs", "sum of parts"),
                reason=reason if failed else "",
                seconds=30 + rng.random(),
                worker=f"host-{number % 3}",
                attempt=2 if number % 400 == 399 else 1,
            )
        )
    return found


def write_results(folder: Path, found: list[results.Result]) -> None:
    """Write results.jsonl, of a search or of its random baseline."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(one.as_json()) + "\n" for one in found]
    (folder / "results.jsonl").write_text("".join(lines))
