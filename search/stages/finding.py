"""The stages that find a network: the table, the supernet or evolution, its choice."""

import dataclasses
from typing import Any

from common import console
from common.errors import UserError
from search.families import family
from search.networks import variant_text
from search.networks.layout import Network
from search.stages import children, run_numbers, short_trainings, space_table
from search.stages.commands import networks_text
from search.stages.draws import WithinTime
from search.stages.folder import EVOLUTION, FOUND, SUPERNET
from search.stages.work import Work

SCORES = "scores"


def make_table(work: Work) -> dict[str, Any]:
    """Compile what the space consists of; from here on, times are sums."""
    source: Any = work.settings.latency
    console.say(f"  {source.name}, {source.conditions}: two seconds or so a block")
    path = work.folder / space_table.FILE
    try:
        table = space_table.make(work.space, source, path)
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


def train_supernet(work: Work) -> dict[str, Any]:
    """Train all networks at once, and the controller that chooses among them."""
    model_dir = work.folder / SUPERNET
    work.write_gin(SUPERNET, work.commands.supernet_gin())
    children.wait_until_free(model_dir)
    children.run(
        work.commands.train_supernet(),
        work.folder.log(SUPERNET),
        what="the supernet's training",
        describe=lambda: run_numbers.line(model_dir, None),
    )
    summary = run_numbers.summary(model_dir)
    return {
        **dataclasses.asdict(run_numbers.cost(model_dir)),
        **{k: summary.get(k) for k in ("steps", "parameters")},
    }


def evolve(work: Work) -> dict[str, Any]:
    """Search by evolution over short trainings, which needs no supernet."""
    short_trainings.search(work, EVOLUTION, work.settings.evaluations)
    return short_trainings.searched(work, EVOLUTION)


def find(work: Work) -> dict[str, Any]:
    """Name the network that was found, and write it where it can be trained."""
    if work.plan.method == EVOLUTION:
        searched = work.result(EVOLUTION)
        if (best := searched["best"]) is None:
            raise UserError(
                f"no network of {work.folder / EVOLUTION} has a value: "
                f"{searched['reason']}; its results.jsonl has all reasons. Mend "
                "the cause, and name another folder"
            )
        network, known = work.space.decode(best["network"]), {}
    else:
        scores = supernet_scores(work)
        network = work.space.decode(scores["found"]["network"])
        known = {
            "supernet_top1": scores["found"]["top1"],
            "step": scores["step"],
        }
        if alone := scores.get("alone"):  # none of an earlier version's
            known |= {
                "alone": alone,
                "weights": str(work.folder.weights(FOUND)),
                "fine_tune": work.commands.fine_tune(FOUND),
            }
    return {**write_network(work, FOUND, network), **known}


def supernet_scores(work: Work) -> dict[str, Any]:
    """Return the supernet's scores of its choice and of random networks."""
    path = work.folder / "stages" / f"{SCORES}.json"
    if (known := work.folder.read(path)) is not None:
        return known
    drawn = [work.space.encode(one) for one in _drawn(work)]
    networks = work.folder / "networks" / "scored.json"
    work.folder.write(networks, networks_text(drawn))
    children.run(
        work.commands.score(networks, path, work.folder.weights(FOUND)),
        work.folder.log(SCORES),
        what="the scoring of networks in the supernet",
    )
    found = work.folder.read(path)
    if found is None:
        raise UserError(f"the scoring has not written {path}; see its log")
    return found


def _drawn(work: Work) -> list[Network]:
    """Return the first networks of the random search."""
    settings = work.settings
    draws = WithinTime(
        seed=settings.seed,
        latency=settings.latency,
        objective=settings.objective,
        slack=settings.slack,
    )
    return draws.first(work.space, settings.trust_networks)


def write_network(work: Work, name: str, network: Network) -> dict[str, Any]:
    """Write a network's files; return what is known of it."""
    variant = work.space.build(network)
    variant = dataclasses.replace(variant, name=f"{name}-{variant.name}")
    gin, row = work.folder.network(name), f"{variant_text.variant_row(variant)}\n"
    work.folder.write(gin, variant_text.variant_gin(variant))
    work.folder.write(gin.with_suffix(".txt"), row)
    estimate = work.settings.latency(variant)
    train = work.commands.train(name, 0, f"runs/{variant.name}")
    return {
        "name": variant.name,
        "network": work.space.encode(network),
        "digest": work.space.digest(network),
        "ms": estimate.ms,
        "source": estimate.source,
        "target_ms": getattr(work.settings.objective, "target_ms", None),
        "row": row.strip(),
        "stages": family.stages(variant),
        "gin_file": str(gin),
        "row_file": str(gin.with_suffix(".txt")),
        "train": children.command_line(train),
    }
