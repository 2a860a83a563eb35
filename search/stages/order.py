"""The stages of a neural architecture search, each done once, in this order.

    table      compiles the blocks of the space, if its times are sums of such
    supernet   trains all networks at once, and a controller that chooses among them
    found      the network that the controller prefers, and its weights out of the
               supernet; scores of random ones beside it
    random     random networks, each trained a little, for as long as the supernet was
    trust      does the supernet rank these as their own trainings do?
    final      the found network, random search's best and the recipe's own, trained by
               the recipe with several seeds
    latency    the found network by other sources
    export     the best run of the found network, with batch norm's statistics counted
               anew, unless its averages are better

With --method=evolution the first two are one search over short trainings, and there is
nothing to be trusted. What a stage has left on the disk, a later command takes.
"""

import dataclasses
import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import console
from common.errors import UserError
from models.variants import Variant
from search import latency_sources
from search.engine import progress, result_files
from search.families import family
from search.nas_search import Nas
from search.networks import variant_text
from search.networks.layout import Network
from search.networks.variant_json import restore
from search.stages import (
    children,
    latency_answers,
    run_numbers,
    space_table,
    stage_text,
    sums,
    trust,
)
from search.stages.commands import Commands, networks_text
from search.stages.draws import WithinTime
from search.stages.folder import (
    EVOLUTION,
    EXPORT,
    FINAL,
    FOUND,
    RANDOM,
    SUPERNET,
    TRUST,
    NasFolder,
)
from search.stages.plan import LATENCY, TABLE, Plan
from search.stages.run_numbers import Cost

BASELINE = "baseline"
SCORES = "scores"
AFFORDABLE = "affordable"
_SCORE = "ema_top1"


class Stages:
    """Does what is to be done."""

    def __init__(
        self, settings: Nas, commands: Commands, folder: NasFolder, plan: Plan
    ):
        self._settings, self._commands = settings, commands
        self._folder, self._plan = folder, plan
        self._space: Any = settings.space
        self._latency_source: Any = settings.latency
        self._stages: dict[str, Callable[[], dict[str, Any]]] = {
            TABLE: self._table,
            SUPERNET: self._supernet,
            EVOLUTION: self._evolution,
            FOUND: self._found,
            RANDOM: self._random,
            TRUST: self._trust,
            FINAL: self._final,
            LATENCY: self._latency,
            EXPORT: self._export,
        }

    def run(self, stop_before: str | None = None) -> None:
        """Do all stages, and say of each what has come of it.

        Args:
          stop_before: the stage that is not done any more.

        Raises:
          UserError: something that a person has to mend.
          Restart: the same command goes on.
        """
        names = self._plan.stages
        if stop_before is not None and stop_before not in names:
            raise UserError(
                f"--stop_before={stop_before}: the stages of this search are "
                f"{', '.join(names)}"
            )
        for number, name in enumerate(names, start=1):
            head = f"{number}/{len(names)} {name}"
            if name == stop_before:
                for line in self._next(name):
                    print(f"{head}: {console.escaped(line)}")
                return
            found = self._known(name)
            if found is None:
                console.say(f"{head}: {stage_text.purpose(name, self._plan.method)}")
                began = time.monotonic()
                found = self._stages[name]()
                found |= {"wall_seconds": time.monotonic() - began}  # of this life
                self._folder.finish(name, found)
            if name == TABLE:
                table = latency_sources.table(str(self._folder / space_table.FILE))
                self._settings = dataclasses.replace(self._settings, latency=table)
            for line in stage_text.lines(name, found):
                print(f"{head}: {console.escaped(line)}")

    def _next(self, name: str) -> list[str]:
        """Return what to say of a stage that is left to another command."""
        if name != SUPERNET:
            return ["not begun: --stop_before"]
        self._write_gin(SUPERNET, self._commands.supernet_gin())
        return [
            f"{what}: {shlex.join(children.command_line(arguments))}"
            for what, arguments in (
                (
                    "does its step fit, name your slice",
                    self._commands.preflight_supernet(),
                ),
                ("train it", self._commands.train_supernet()),
            )
        ]

    def _known(self, name: str) -> dict[str, Any] | None:
        """Return what came of a stage; None where there is more to do than then."""
        found = self._folder.stage(name)
        if found is None or found.get("not_done"):
            return None
        if name == FINAL:
            done = found["seeds"] >= self._plan.seeds
            return (
                found
                if done and set(self._finalists()) <= set(found["means"])
                else None
            )
        if name == LATENCY:
            known = {row["network"] for row in found["rows"]}
            # Without a compiler, say, there was no answer: there may be one now.
            has_all = all(row["ms"] is not None for row in found["rows"])
            is_there = self._best_at_random() is None or RANDOM in known
            return found if has_all and is_there else None
        if name == EXPORT:
            best = self._best_run()
            return found if best and best["seed"] == found["seed"] else None
        return found

    def _result(self, name: str) -> dict[str, Any]:
        """Return what came of a stage that has to be done by now."""
        found = self._folder.stage(name)
        if found is None:
            raise UserError(f"{self._folder.path}: the stage {name} is not done yet")
        return found

    # The first network.

    def _table(self) -> dict[str, Any]:
        """Compile what the space consists of; from here on, times are sums."""
        source = self._latency_source
        console.say(f"  {source.name}, {source.conditions}: two seconds or so a block")
        path = self._folder / space_table.FILE
        try:
            table = space_table.make(self._space, source, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        finally:
            source.close()
        failed = [row.reason for row in table.blocks.values() if row.ms is None]
        return {
            "blocks": len(table.blocks),
            "failed": len(failed),
            "reason": failed[0] if failed else "",
        }

    def _supernet(self) -> dict[str, Any]:
        model_dir = self._folder / SUPERNET
        self._write_gin(SUPERNET, self._commands.supernet_gin())
        children.wait_until_free(model_dir)
        children.run(
            self._commands.train_supernet(),
            self._folder.log(SUPERNET),
            what="the supernet's training",
            describe=lambda: run_numbers.line(model_dir, None),
        )
        summary = run_numbers.summary(model_dir)
        return {
            **dataclasses.asdict(run_numbers.cost(model_dir)),
            **{k: summary.get(k) for k in ("steps", "parameters")},
        }

    def _evolution(self) -> dict[str, Any]:
        self._search(EVOLUTION, self._settings.evaluations)
        return self._searched(EVOLUTION)

    def _found(self) -> dict[str, Any]:
        """Name the network that was found, and write it where it can be trained."""
        if self._plan.method == EVOLUTION:
            searched = self._result(EVOLUTION)
            if (best := searched["best"]) is None:
                raise UserError(
                    f"no network of {self._folder / EVOLUTION} has a value: "
                    f"{searched['reason']}; its results.jsonl has all reasons. Mend "
                    "the cause, and name another folder"
                )
            network, known = self._space.decode(best["network"]), {}
        else:
            scores = self._scores()
            network = self._space.decode(scores["found"]["network"])
            known = {
                "supernet_top1": scores["found"]["top1"],
                "step": scores["step"],
            }
            if alone := scores.get("alone"):  # none of an earlier version's
                known |= {
                    "alone": alone,
                    "weights": str(self._folder.weights(FOUND)),
                    "fine_tune": self._commands.fine_tune(FOUND),
                }
        return {**self._named(FOUND, network), **known}

    def _scores(self) -> dict[str, Any]:
        """Return the supernet's scores of its choice and of random networks."""
        path = self._folder / "stages" / f"{SCORES}.json"
        if (known := self._folder.read(path)) is not None:
            return known
        drawn = [self._space.encode(one) for one in self._drawn()]
        networks = self._folder / "networks" / "scored.json"
        self._folder.write(networks, networks_text(drawn))
        children.run(
            self._commands.score(networks, path, self._folder.weights(FOUND)),
            self._folder.log(SCORES),
            what="the scoring of networks in the supernet",
        )
        found = self._folder.read(path)
        if found is None:
            raise UserError(f"the scoring has not written {path}; see its log")
        return found

    def _drawn(self) -> list[Network]:
        """Return the first networks of the random search."""
        settings = self._settings
        draws = WithinTime(
            seed=settings.seed,
            latency=settings.latency,
            objective=settings.objective,
            slack=settings.slack,
        )
        return draws.first(self._space, settings.trust_networks)

    def _named(self, name: str, network: Network) -> dict[str, Any]:
        """Write a network's files; return what is known of it."""
        variant = self._space.build(network)
        variant = dataclasses.replace(variant, name=f"{name}-{variant.name}")
        gin, row = self._folder.network(name), f"{variant_text.variant_row(variant)}\n"
        self._folder.write(gin, variant_text.variant_gin(variant))
        self._folder.write(gin.with_suffix(".txt"), row)
        estimate = self._settings.latency(variant)
        train = self._commands.train(name, 0, f"runs/{variant.name}")
        return {
            "name": variant.name,
            "network": self._space.encode(network),
            "digest": self._space.digest(network),
            "ms": estimate.ms,
            "source": estimate.source,
            "target_ms": getattr(self._settings.objective, "target_ms", None),
            "row": row.strip(),
            "stages": family.stages(variant),
            "gin_file": str(gin),
            "row_file": str(gin.with_suffix(".txt")),
            "train": children.command_line(train),
        }

    # What it is up against.

    def _random(self) -> dict[str, Any]:
        """Search at random, by as much training as the search has had."""
        if self._plan.method == EVOLUTION:
            evaluations, spent = self._settings.evaluations, self._cost(EVOLUTION)
        else:
            spent = run_numbers.cost(self._folder / SUPERNET)
            evaluations = self._affordable(spent)
        self._search(RANDOM, evaluations)
        found = self._searched(RANDOM)
        if found["best"] is not None:
            network = self._space.decode(found["best"]["network"])
            found |= {"named": self._named(RANDOM, network)}
        return {**found, "budget": dataclasses.asdict(spent)}

    def _affordable(self, budget: Cost) -> int:
        """Return how many random networks a budget pays, by what the first ones cost.

        It is written down: later, there are more trainings than these.
        """
        known = self._folder.stage(AFFORDABLE)
        if known is None:
            first = max(self._settings.trust_networks, sum(self._settings.rungs))
            self._search(RANDOM, first)
            found = sums.affordable(budget, self._cost(RANDOM), first)
            known = self._folder.finish(AFFORDABLE, {"evaluations": found})
        return known["evaluations"]

    def _search(self, name: str, evaluations: int) -> None:
        """Let `search.blocks` evaluate so many networks in a folder below."""
        folder = self._folder / name
        if len(result_files.read(folder)) >= evaluations:
            return
        self._write_gin(name, self._commands.search_gin(name))
        children.wait_until_free(folder)
        children.run(
            self._commands.search(name, evaluations),
            self._folder.log(name),
            what=f"the search {name}",
            describe=lambda: progress.line(result_files.read(folder), evaluations),
            may_say_no=True,  # where no network has a value, which `_searched` says
        )

    def _searched(self, name: str) -> dict[str, Any]:
        """Return what a search over short trainings has found."""
        results = result_files.read(self._folder / name)
        best = next(iter(progress.best(results, 1)), None)
        return {
            "evaluations": len(results),
            "failed": sum(result.value is None for result in results),
            "best": best and best.as_json(),
            "reason": next(iter(progress.failures(results)), ""),
            **dataclasses.asdict(self._cost(name)),
        }

    def _cost(self, name: str) -> Cost:
        """Return what the trainings of a search have cost."""
        trials = self._folder / name / "trials"
        return run_numbers.total(sorted(trials.glob("*/run")))

    def _trust(self) -> dict[str, Any]:
        """Compare two rankings of the same random networks."""
        if self._plan.method == EVOLUTION:
            reason = "evolution trains each network by itself: no supernet ranks any"
            return {"not_done": reason}
        self._search(RANDOM, self._settings.trust_networks)  # which may be left out
        scores = self._scores()["networks"]
        results = sums.first_scores(result_files.read(self._folder / RANDOM))
        rows = [
            {
                "network": network,
                "supernet": top1,
                "alone": results[network].top1[0],
                "ms": results[network].ms,
            }
            for network, top1 in scores.items()
            if network in results
        ]
        found = trust.compare(
            [row["supernet"] for row in rows], [row["alone"] for row in rows]
        )
        return {**found.as_json(), "rows": rows, "missing": len(scores) - len(rows)}

    # What it is worth.

    def _final(self) -> dict[str, Any]:
        """Train the finalists with every seed, one seed of all after the other."""
        rows = []
        for seed in range(self._plan.seeds):
            rows += [self._trained(name, seed) for name in self._finalists()]
        return sums.finals(rows, self._plan.seeds)

    def _finalists(self) -> list[str]:
        """Return the networks that are trained by the whole recipe."""
        best = self._best_at_random()
        # Both searches may have found the same one.
        own = best is not None and best["digest"] != self._result(FOUND)["digest"]
        return [FOUND, *[RANDOM] * own, BASELINE]

    def _best_at_random(self) -> dict[str, Any] | None:
        """Return the result of random search's best; None where there is none."""
        found = self._folder.stage(RANDOM) if RANDOM in self._plan.stages else None
        return found and found["best"]

    def _trained(self, name: str, seed: int) -> dict[str, Any]:
        """Return what came of a final training."""
        stage = f"{FINAL}-{name}-seed-{seed}"
        if (known := self._folder.stage(stage)) is not None:
            return known
        model_dir = self._folder.run(name, seed)
        console.say(f"  training {name}, seed {seed}, in {model_dir}")
        children.wait_until_free(model_dir)
        arguments = self._commands.train(name, seed, model_dir)
        children.run(
            arguments,
            self._folder.log(stage),
            what=f"the training of {name} with seed {seed}",
            describe=lambda: run_numbers.line(model_dir, None),
        )
        summary = run_numbers.summary(model_dir)
        if not isinstance(score := summary.get(_SCORE), int | float):
            raise UserError(
                f"{model_dir / run_numbers.SUMMARY} has no {_SCORE}, though the "
                "training has ended: remove the folder, and the same command trains "
                "this network again"
            )
        found = {
            "name": name,
            "seed": seed,
            "top1": 100 * score,
            **{k: summary.get(k) for k in ("variant", "steps", "parameters")},
            "images": summary.get("eval_images"),
            "model_dir": str(model_dir),
            "command": children.command_line(arguments),
        }
        return self._folder.finish(stage, found)

    def _latency(self) -> dict[str, Any]:
        """Ask every source for the found network, and for what it is up against."""
        settings = self._settings
        sources = {
            "searched by": settings.latency,
            "parts": settings.parts,
            "exact": settings.exact,
        }
        return latency_answers.ask(sources, self._timed(), self._folder)

    def _timed(self) -> dict[str, Variant]:
        """Return the networks whose time is asked for, by name."""
        encodings = {FOUND: self._result(FOUND)["network"]}
        if (best := self._best_at_random()) is not None:
            encodings[RANDOM] = best["network"]
        found = {
            n: self._space.build(self._space.decode(e)) for n, e in encodings.items()
        }
        own = self._baseline()
        return found if own is None else {**found, BASELINE: own}

    def _baseline(self) -> Variant | None:
        """Return the recipe's own network; None where nobody can tell which it is."""
        path = self._folder / "networks" / f"{BASELINE}.json"
        if (found := self._folder.read(path)) is None:
            try:
                children.run(
                    self._commands.recipe(path),
                    self._folder.log(BASELINE),
                    what="what the recipe trains",
                )
            except UserError as error:
                console.warn(str(error))
                return None
            found = self._folder.read(path)
        return None if found is None else restore(found["name"], found["network"])

    def _export(self) -> dict[str, Any]:
        """Make a SavedModel of the found network's best run.

        Its statistics of batch norm are counted anew. Where that costs top-1 it is made
        once more, of the run's averages: what is handed out is never the worse one.
        """
        best = self._best_run()
        if best is None:
            return {"not_done": "the found network was not trained: --no_final"}
        found = self._exported(best, best["images"])
        statistics = found["report"].get("statistics")
        if statistics is None:
            return found
        if is_worse := sums.falls(statistics):
            found = self._exported(best, None)
        return {**found, "statistics": {**statistics, "exported": not is_worse}}

    def _exported(self, best: dict[str, Any], images: int | None) -> dict[str, Any]:
        """Make a SavedModel of a run; see `Commands.export` for the images."""
        arguments = self._commands.export(Path(best["model_dir"]), images)
        printed = children.run(
            arguments, self._folder.log(EXPORT), what="the export of the found network"
        )
        return {
            "seed": best["seed"],
            "top1": best["top1"],
            "export_dir": str(self._folder / EXPORT),
            "report": json.loads(printed) if printed.startswith("{") else {},
            "command": children.command_line(arguments),
        }

    def _best_run(self) -> dict[str, Any] | None:
        """Return the best final training of the found network; None without any."""
        final = self._folder.stage(FINAL)
        own = [row for row in (final or {"rows": []})["rows"] if row["name"] == FOUND]
        return max(own, key=lambda row: (row["top1"], -row["seed"]), default=None)

    def _write_gin(self, name: str, text: str) -> None:
        self._folder.write(self._folder.gin(name), text)
