"""The configs and the command lines of a search's stages. Imports no framework.

Each is a command that a person could give, with files that stay in the search's folder.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from search.nas_search import Nas
from search.stages.folder import CHECK, EXPORT, RANDOM, SUPERNET, NasFolder
from train.settings.functions import MODULES

_FIRST = "from __gin__ import dynamic_registration"
_COSTS = "costs.json"  # where the controller keeps what the source has said
# Training images that batch norm's statistics are counted of: a mean of so many is a
# hundredth of their deviation off, what a moving average of 0.99 in batches of 50 is.
_STATISTICS_IMAGES = 10_000
# A recipe's early stopping would end a supernet in its warm-up, while the controller
# has learnt nothing; and short trainings end where they are compared.
_TO_THE_END = "experiment.Experiment.early_stopping_patience = None"
# Each replica computes a network of its own, and statistics over several would be of a
# mixture of them; on more than 8 replicas the authors' rule shares them. A supernet has
# one resolution, and no parts by the names that a recipe has for its network's.
_OF_SUPERNET = """\
experiment.Experiment.build_model = @supernet.build_model
experiment.Experiment.policy = @controller.reinforce
experiment.Experiment.batch_norm = 'per_replica'
experiment.Experiment.early_stopping_patience = None
experiment.Experiment.progressive = ()
experiment.Experiment.learning_rate_factors = {{}}
supernet.build_model.space = {space}
supernet.build_model.num_classes = None
controller.reinforce.space = {space}
controller.reinforce.objective = {objective}
controller.reinforce.latency = {latency}
controller.reinforce.costs = {costs!r}
"""
# The recipe says how long a short training is: none is out of time, as it would be by
# the default of an hour, unless the search's config says so.
_LIMIT = "block_search.BlockSearch.seconds_per_evaluation"
_NO_LIMIT = 10**7  # the most that there may be
_OF_SEARCH = """\
block_search.BlockSearch.space = {space}
block_search.BlockSearch.objective = {objective}
block_search.BlockSearch.latency = {latency}
block_search.BlockSearch.accuracy = @short/accuracy_sources.trained()
"""
_AT_RANDOM = """\
block_search.BlockSearch.sampler = @draws.WithinTime()
draws.WithinTime.latency = {latency}
draws.WithinTime.objective = {objective}
"""


@dataclasses.dataclass(frozen=True)
class Commands:
    """The commands of one search.

    Attributes:
      settings: of the search.
      text: of its config, as `search.config.text` returns it.
      references: what the config says of "space", "objective", "latency" and "sampler",
        as gin writes it: "@spaces.blocks()".
      folder: of the search.
    """

    settings: Nas
    text: str
    references: Mapping[str, str]
    folder: NasFolder

    def with_latency(self, source: str, line: str) -> "Commands":
        """Return the commands of a search by another source of latencies.

        Args:
          source: as gin writes it.
          line: that it needs in a config.
        """
        references = {**self.references, "latency": source}
        text = f"{self.text}\n{line}\n"
        return dataclasses.replace(self, text=text, references=references)

    def supernet_gin(self) -> str:
        """Return the config of the supernet's training, which stands behind a recipe's.

        The last lines win: those that the search's config gives by `supernet_params`.
        `gin_params` are here, too, in front of what the supernet has otherwise: on the
        command line they would win over it, and one that has no effect on a supernet,
        as of the recipe's own network, would be refused.
        """
        imports = [
            "from search import controller",
            "from search import supernet",
            *(
                "from {} import {}".format(*module.rsplit(".", 1))
                for module in MODULES  # which a binding of a command line may name
            ),
        ]
        costs = str(self.folder / _COSTS)
        own = _OF_SUPERNET.format_map({**self.references, "costs": costs})
        settings = self.settings
        lines = [*settings.gin_params, own, *settings.supernet_params]
        return self._config(imports, lines)

    def check(self, network: Path, digest: str, *, is_short: bool) -> list[str]:
        """Return the command that refuses what the trainings would.

        Args:
          network: gin file of a network of the space.
          digest: of this network.
          is_short: whether there will be short trainings.
        """
        settings = self.settings
        flags = _gin_flags(settings.gin_files, settings.gin_params)
        more = [f"--network={network}", f"--digest={digest}"]
        if settings.method == SUPERNET:
            more.append(f"--supernet={self.folder.gin(CHECK)}")
        if is_short:
            more.append(f"--until_epoch={max(settings.short_epochs)}")
        return ["search.stages.check", *flags, *more]

    def train_supernet(self) -> list[str]:
        """Return the command that trains the supernet with its controller."""
        model_dir = f"--model_dir={self.folder / SUPERNET}"
        return ["train.main", *self._supernet_flags(), model_dir]

    def preflight_supernet(self) -> list[str]:
        """Return the command that compiles the step of that training for a slice."""
        return ["preflight", *self._supernet_flags(), "--topology=v3:4x4"]

    def _supernet_flags(self) -> list[str]:
        files = [*self.settings.gin_files, str(self.folder.gin(SUPERNET))]
        return _gin_flags(files, [])

    def score(self, networks: Path, result: Path, weights: Path) -> list[str]:
        """Return the command that scores networks in the supernet.

        Args:
          networks: file of their encodings.
          result: file for the scores.
          weights: file for the found network's.
        """
        return [
            "search.stages.score",
            *self._supernet_flags(),
            f"--model_dir={self.folder / SUPERNET}",
            f"--networks={networks}",
            f"--result={result}",
            f"--weights={weights}",
            f"--statistics_images={_STATISTICS_IMAGES}",
        ]

    def search_gin(self, name: str) -> str:
        """Return the config of a search over short trainings.

        Args:
          name: RANDOM, or EVOLUTION.
        """
        settings = self.settings
        bindings = [*settings.gin_params, _TO_THE_END]
        imports = [
            "from search import accuracy_sources",
            "from search import block_search",
            "from search import samplers",
            "from search.stages import draws",
        ]
        values = {
            "block_search.BlockSearch.rungs": tuple(settings.rungs),
            "short/accuracy_sources.trained.gin_files": list(settings.gin_files),
            "short/accuracy_sources.trained.gin_params": bindings,
            "short/accuracy_sources.trained.epochs": tuple(settings.short_epochs),
        }
        if _LIMIT not in self.text:
            values[_LIMIT] = _NO_LIMIT
        lines = [_OF_SEARCH.format_map(self.references)]
        if name == RANDOM:
            lines.append(_AT_RANDOM.format_map(self.references))
            values |= {
                "draws.WithinTime.seed": settings.seed,
                "draws.WithinTime.slack": settings.slack,
            }
        else:
            sampler = self.references.get("sampler", "@samplers.AgeingEvolution()")
            lines.append(f"block_search.BlockSearch.sampler = {sampler}")
        lines += [f"{setting} = {value!r}" for setting, value in values.items()]
        return self._config(imports, lines)

    def search(self, name: str, evaluations: int) -> list[str]:
        """Return the command of a search over short trainings."""
        return [
            "search.blocks",
            f"--gin_file={self.folder.gin(name)}",
            f"--search_dir={self.folder / name}",
            f"--evaluations={evaluations}",
            "--workers=1",  # a training takes all cores that there are
            "--noreport",
        ]

    def train(self, name: str, seed: int, model_dir: Path | str) -> list[str]:
        """Return the command of a final training.

        Args:
          name: of the network; of the recipe's own one, which has no file, "baseline".
          seed: of the training.
          model_dir: its folder.
        """
        network = self.folder.network(name)
        files = [*self.settings.gin_files, *[str(network)] * network.exists()]
        seeded = f"experiment.Experiment.seed = {seed}"
        return self._train(files, Path(model_dir), seeded)

    def recipe(self, result: Path) -> list[str]:
        """Return the command that writes down which network the recipe trains."""
        flags = _gin_flags(self.settings.gin_files, self.settings.gin_params)
        return ["search.stages.recipe", *flags, f"--result={result}"]

    def export(self, model_dir: Path, images: int | None) -> list[str]:
        """Return the command that makes a SavedModel of a run.

        Args:
          model_dir: of the run.
          images: of the evaluation split, on which new statistics of batch norm are
            compared with the run's averages; None takes these averages.
        """
        target = self.folder / EXPORT
        flags = [f"--model_dir={model_dir}", f"--export_dir={target}"]
        if images is not None:
            flags += [
                f"--statistics_images={_STATISTICS_IMAGES}",
                f"--score_images={images}",
            ]
        return ["train.export", *flags]

    def fine_tune(self, name: str) -> str:
        """Return the line of gin by which a training begins with a network's weights.

        Args:
          name: of the network.
        """
        return f"experiment.Experiment.pretrained = {str(self.folder.weights(name))!r}"

    def _train(self, files: Sequence[str], model_dir: Path, *more: str) -> list[str]:
        bindings = (*self.settings.gin_params, *more)
        return ["train.main", *_gin_flags(files, bindings), f"--model_dir={model_dir}"]

    def _config(self, imports: Iterable[str], lines: Iterable[str]) -> str:
        """Return the search's config with more imports in front, more lines behind."""
        rest = self.text.partition(_FIRST)[2]
        known = set(rest.splitlines())
        new = [line for line in imports if line not in known]
        parts = [_FIRST, *new, rest.strip("\n"), "", *lines]
        return "\n".join(parts).rstrip("\n") + "\n"


def _gin_flags(files: Iterable[str], bindings: Iterable[str]) -> list[str]:
    return [
        *(f"--gin_file={path}" for path in files),
        *(f"--gin_param={binding}" for binding in bindings),
    ]


def networks_text(networks: Iterable[str]) -> str:
    """Return the file of the networks that are to be scored: a list of encodings."""
    return json.dumps(list(networks), indent=1) + "\n"
