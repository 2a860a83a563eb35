"""A neural architecture search whose commands are arithmetic, in this process.

`Commands` stands in for `search.stages.children.run`: it writes the files that the
real ones write, and can be told to end badly. Nothing here imports a framework.
"""

import dataclasses
import json
import random
from pathlib import Path

from common.errors import UserError
from models import complexity, variants
from search import spaces
from search.networks.variant_json import describe
from search.results import Result
from search.stages.draws import WithinTime

CONFIG = """
from __gin__ import dynamic_registration
from search import latency_sources
from search import nas_search
from search import objectives
from tests.support import toy_nas

nas_search.Nas:
  space = @toy_nas.space()
  objective = @objectives.OneSided()
  latency = @latency_sources.function()
  exact = @exact/latency_sources.function()
  gin_files = ['tests/data/train/tiny.gin']
  short_epochs = (0.06,)
  seeds = 2
latency_sources.function.name = 'tests.support.toy_nas:milliseconds'
exact/latency_sources.function.name = 'tests.support.toy_nas:slower'
objectives.OneSided.target_ms = 0.23
"""
SUPERNET_SECONDS, SHORT_SECONDS = 100.0, 10.0
IMAGES, BATCH = 2000, 20
AFTER = 0.912  # top-1 of an export with new statistics of batch norm; before, 0.9


def variant() -> variants.Variant:
    """Return two stages of a block each, at 32 px: `tests.support.tiny`'s."""
    stage = variants.StageSpec(
        num_repeat=1,
        kernel_size=3,
        strides=2,
        expand_ratio=2,
        output_filters=8,
        activation="swish",
    )
    return variants.Variant(
        name="toy",
        width_coefficient=1.0,
        depth_coefficient=1.0,
        resolution=32,
        dropout_rate=0.2,
        se_coefficient=1,
        stages=(stage, dataclasses.replace(stage, strides=1, fused=True)),
        stem_filters=8,
        head_filters=16,
    )


def space() -> spaces.Space:
    """Return 48 networks around it."""
    return spaces.blocks(
        variant(),
        {
            1: {"kernel_size": [3, 5], "expand_ratio": [1, 2, 4]},
            2: {"fused": [True, False], "se_ratio": [0, 0.25], "expand_ratio": [1, 2]},
        },
        name="toy",
    )


def space_of_sizes() -> spaces.Space:
    """Return networks for images of two sizes, which no supernet contains."""
    return spaces.blocks(variant(), {}, network={"resolution": [32, 64]}, name="sizes")


def space_with_invalid() -> spaces.Space:
    """Return networks of which some have more parts than pixels."""
    return spaces.blocks(variant(), {1: {"space_to_batch": [1, 16]}}, name="invalid")


def worth(top1: float, ms: float) -> float:
    """Return an objective that is a function of one's own."""
    return top1 - ms


def milliseconds(variant) -> float:
    """Return what grows with the multiply-accumulates."""
    return complexity.total(variant).macs / 1e6


def slower(variant) -> float:
    """Return a tenth more."""
    return 1.1 * milliseconds(variant)


def top1(encoding: str, seed: int = 0, *, noise: float = 0.2) -> float:
    """Return what a network reaches: larger kernels and expansions are better."""
    rng = random.Random(f"{encoding} {seed}")
    worth = 3 * encoding.count("k5") + encoding.count("e4") + encoding.count("e2")
    return 90 + worth + rng.gauss(0, noise)


class Commands:
    """What happens when a search starts a command.

    Attributes:
      calls: modules that were run, in order.
      trouble: by module, what is raised once instead of running it.
      failing: why networks cannot be trained, by the number of the evaluation; that of
        None is why no other can.
    """

    def __init__(self):
        self.calls: list[str] = []
        self.trouble: dict[str, BaseException] = {}
        self.failing: dict[int | None, str] = {}

    def run(self, arguments, log, *, what, describe=lambda: "", may_say_no=False):
        """Stand in for `children.run`."""
        module, *flags = arguments
        self.calls.append(module)
        given: dict[str, list[str]] = {}
        for flag in flags:
            name, _, value = flag.removeprefix("--").partition("=")
            given.setdefault(name, []).append(value)
        if (trouble := self.trouble.pop(module, None)) is not None:
            raise trouble
        describe()
        if module == "search.blocks":
            found = _search(given, self.failing)
            if not (found or may_say_no):
                raise UserError(f"{what} has ended with status 1")
            return ""
        return _ACTS[module](given) or ""


def _train(given):
    folder = Path(given["model_dir"][0])
    folder.mkdir(parents=True, exist_ok=True)
    gin = Path(given["gin_file"][-1])
    is_supernet = gin.stem == "supernet"
    seed = next((p.split()[-1] for p in given.get("gin_param", ()) if "seed" in p), 0)
    name = gin.stem if gin.parent.name == "networks" else "baseline"
    write_metrics(folder, SUPERNET_SECONDS if is_supernet else SHORT_SECONDS)
    best = 0.01 * top1(f"k5 {name}", int(seed))
    summary = {"ema_top1": best, "steps": 100, "parameters": 1000, "eval_images": 500}
    (folder / "summary.json").write_text(json.dumps(summary))


def write_metrics(folder: Path, seconds: float, *, policy: bool = True) -> None:
    """Write the lines of ten loops, which took so long in all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(1, 11):
        line = {
            "kind": "train",
            "step": 10 * number,
            "steps": 10,
            "top1": number / 10,
            "loss": 1 / number,
            "images_seen": IMAGES * number // 10,
        }
        if number > 1:  # the first one compiles
            line["images_per_second"] = IMAGES / seconds
        if policy:
            line |= {"policy_reward": 0.1 * number, "policy_entropy": 3.0 - number / 10}
            line["policy_probabilities"] = [0.5] * 11
        lines.append(json.dumps(line) + "\n")
    (folder / "metrics.jsonl").write_text("".join(lines))


def _search(given, failing):
    """Evaluate random networks, as `search.blocks` would; whether one has a value."""
    folder, count = Path(given["search_dir"][0]), int(given["evaluations"][0])
    folder.mkdir(parents=True, exist_ok=True)
    toy = space()
    draws = WithinTime(latency=_estimate, objective=_objective)
    results = []
    for number, network in enumerate(draws.first(toy, min(count, 48))):
        encoding = toy.encode(network)
        ms = milliseconds(toy.build(network))
        reached = top1(encoding, 7)
        reason = failing.get(number, failing.get(None, ""))
        results.append(
            Result(
                number=number,
                network=encoding,
                digest=toy.digest(network),
                value=None if reason else reached / 100,
                top1=() if reason else (reached,),
                ms=ms,
                sources=("trained, 0.06 epochs", "toy ms"),
                reason=reason,
                seconds=20.0,
                worker="toy",
            )
        )
        if reason:
            continue
        write_metrics(
            folder / "trials" / toy.digest(network) / "run", SHORT_SECONDS, policy=False
        )
    lines = [json.dumps(one.as_json()) + "\n" for one in results]
    (folder / "results.jsonl").write_text("".join(lines))
    return any(one.value is not None for one in results)


def _estimate(variant):
    from search.results import Estimate

    return Estimate(milliseconds(variant), "toy ms")


def _objective(top1, ms):
    from search.objectives import OneSided

    return OneSided(0.23)(top1, ms)


def _score(given):
    toy = space()
    networks = json.loads(Path(given["networks"][0]).read_text())
    best = "1 k5 e4 / 2 fused e2 se0"
    toy.decode(best)
    found = {
        "step": 100,
        "found": {"network": best, "top1": top1(best)},
        "networks": {one: top1(one, 1, noise=0.5) for one in networks},
        "alone": {"top1": 87.5, "images": 500, "statistics_images": 10_000},
    }
    Path(given["weights"][0]).write_bytes(b"weights")
    Path(given["result"][0]).write_text(json.dumps(found))


def _recipe(given):
    found = {"name": "toy", "network": describe(variant())}
    path = Path(given["result"][0])
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found))


def _export(given):
    Path(given["export_dir"][0]).mkdir(exist_ok=True)
    report = {"images_compared": 500, "largest_logit_difference": 0.0}
    if "statistics_images" in given:
        report["statistics"] = {
            **{"images": int(given["statistics_images"][0]), "batches": 200},
            **{"layers": 8, "scored_images": int(given["score_images"][0])},
            **{"top1_before": 0.9, "top1_after": AFTER},
        }
    return json.dumps(report)


_ACTS = {
    "search.stages.check": lambda given: None,
    "train.main": _train,
    "search.stages.score": _score,
    "search.stages.recipe": _recipe,
    "train.export": _export,
}
MODULES = sorted((*_ACTS, "search.blocks"))  # that are run


def mistake(text: str) -> UserError:
    """Return an error as of a command that has ended with one."""
    return UserError(text)
