"""The configs that the stages' commands are given, as those commands read them."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from search import config
from search.block_search import BlockSearch
from search.nas_search import Nas
from search.stages.commands import Commands
from search.stages.draws import WithinTime
from search.stages.folder import EVOLUTION, RANDOM, NasFolder
from tests.support import toy_nas
from tests.support.runs import bound
from train import export


@pytest.fixture
def commands(tmp_path):
    gin_file = tmp_path / "toy.gin"
    gin_file.write_text(toy_nas.CONFIG)
    bindings = [
        "nas_search.Nas.supernet_params = ['experiment.Experiment.epochs = 7']",
        "nas_search.Nas.gin_params = ['experiment.Experiment.data_dir = \"d\"']",
        "nas_search.Nas.seed = 3",
    ]
    settings = config.read(Nas, [str(gin_file)], bindings)
    names = ("space", "objective", "latency", "sampler")
    references = config.references(Nas, names)
    assert references == {
        "space": "@toy_nas.space()",
        "objective": "@objectives.OneSided()",
        "latency": "@latency_sources.function()",
    }
    return Commands(settings, config.text(), references, NasFolder(tmp_path))


def test_random_search(commands):
    found = config.read_text(BlockSearch, commands.search_gin(RANDOM))
    assert isinstance(found.sampler, WithinTime)
    assert (found.sampler.seed, found.sampler.slack) == (3, 0.02)
    assert found.space.fingerprint == toy_nas.space().fingerprint
    assert found.objective.target_ms == 0.23
    accuracy: Any = found.accuracy
    assert accuracy.epochs == (0.06,)
    assert accuracy.gin_files == ("tests/data/train/tiny.gin",)
    assert accuracy.gin_params == (
        'experiment.Experiment.data_dir = "d"',
        "experiment.Experiment.early_stopping_patience = None",
    )
    # What is drawn ahead is what will be trained.
    own = WithinTime(
        seed=3, latency=commands.settings.latency, objective=found.objective
    )
    space = toy_nas.space()
    assert found.sampler.first(found.space, 5) == own.first(space, 5)


def test_evolution(commands):
    found = config.read_text(BlockSearch, commands.search_gin(EVOLUTION))
    assert type(found.sampler).__name__ == "AgeingEvolution"


@pytest.mark.parametrize("name", [RANDOM, EVOLUTION])
def test_a_short_training_may_take_more_than_an_hour(commands, tmp_path, name):
    text = commands.search_gin(name)
    assert config.read_text(BlockSearch, text).seconds_per_evaluation == 1e7
    limits = [
        "from search import block_search",
        "block_search.BlockSearch.seconds_per_evaluation = 7200",
    ]
    text = "\n".join([commands.text, *limits])
    config.parse(text)
    limited = dataclasses.replace(commands, text=config.text())
    found = config.read_text(BlockSearch, limited.search_gin(name))
    assert found.seconds_per_evaluation == 7200


def test_the_supernet(commands, digits, tmp_path):
    from train import config as train_config

    path = tmp_path / "gin" / "supernet.gin"
    path.parent.mkdir()
    path.write_text(commands.supernet_gin())
    arguments = commands.train_supernet()
    assert arguments[0] == "train.main"
    files = [a.partition("=")[2] for a in arguments if a.startswith("--gin_file")]
    assert files == ["tests/data/train/tiny.gin", str(path)]
    data = f"experiment.Experiment.data_dir = {str(digits)!r}"
    experiment = train_config.parse(files, [data])
    assert experiment.epochs == 7
    # On 32 replicas the default would mix the statistics of 8 networks.
    assert experiment.batch_norm == "per_replica"
    build, policy = bound(experiment.build_model), bound(experiment.policy)
    assert build["space"].fingerprint == toy_nas.space().fingerprint
    assert policy["objective"].target_ms == 0.23
    assert policy["costs"] == str(tmp_path / "costs.json")


def test_early_stopping_ends_final_trainings_alone(commands, digits, tmp_path):
    from search.accuracies import train_rung
    from train import config as train_config

    patience = "experiment.Experiment.early_stopping_patience = 1"
    recipe = tmp_path / "recipe.gin"
    recipe.write_text(
        "from __gin__ import dynamic_registration\n"
        "from train import experiment\n"
        f"include 'tests/data/train/tiny.gin'\n{patience}\n"
    )
    path = tmp_path / "supernet.gin"
    path.write_text(commands.supernet_gin())
    data = f"experiment.Experiment.data_dir = {str(digits)!r}"
    files = [str(recipe), str(path)]
    supernet = train_config.parse(files, [data])
    assert supernet.early_stopping_patience is None
    found = config.read_text(BlockSearch, commands.search_gin(RANDOM))
    accuracy: Any = found.accuracy
    bindings = [*accuracy.gin_params, data]
    short = train_config.parse([str(recipe)], bindings)
    train_rung.first_part(short, 0.06)  # refuses early stopping
    assert train_config.parse([str(recipe)], [data]).early_stopping_patience == 1


def test_bindings_for_all_trainings_reach_the_supernet(commands, digits, tmp_path):
    """But for what it has otherwise; one that has no effect there is no mistake."""
    from train import config as train_config

    given = (
        *("experiment.Experiment.epochs = 2", "experiment.Experiment.seed = 5"),
        # Of the recipe's own network, and of what the recipe does not even use.
        "efficientnet_x.build_model.survival_prob = 0.9",
        "randaugment.rand_augment.magnitude = 5",
        "experiment.Experiment.build_model = @efficientnet_x.build_model",
        f"experiment.Experiment.data_dir = {str(digits)!r}",
    )
    settings = dataclasses.replace(commands.settings, gin_params=given)
    commands = dataclasses.replace(commands, settings=settings)
    path = tmp_path / "gin" / "supernet.gin"
    commands.folder.write(path, commands.supernet_gin())
    for arguments in (
        commands.train_supernet(),
        commands.score(Path("networks"), Path("result"), Path("weights")),
    ):
        assert not any(a.startswith("--gin_param") for a in arguments)
        files = [a.partition("=")[2] for a in arguments if a.startswith("--gin_file")]
        experiment = train_config.parse(files, [])
        assert (experiment.seed, experiment.epochs) == (5, 7)
        assert bound(experiment.build_model)["space"].name == "toy"
    # All others are trained by all of them.
    final = [a for a in commands.train("found", 1, "runs/x") if "_param" in a]
    assert final[:-1] == [f"--gin_param={one}" for one in given]


def test_a_supernet_has_neither_stages_of_a_run_nor_factors_of_parts(
    commands, digits, tmp_path
):
    from train import config as train_config

    recipe = tmp_path / "recipe.gin"
    recipe.write_text(
        "from __gin__ import dynamic_registration\n"
        "from train import experiment\n"
        "include 'tests/data/train/tiny.gin'\n"
        "experiment.Experiment.progressive = [{'until_epoch': .02, 'resolution': 16}]\n"
        "experiment.Experiment.learning_rate_factors = {'stem': 0.1}\n"
    )
    path = tmp_path / "supernet.gin"
    path.write_text(commands.supernet_gin())
    data = f"experiment.Experiment.data_dir = {str(digits)!r}"
    experiment = train_config.parse([str(recipe), str(path)], [data])
    assert tuple(experiment.progressive) == ()
    assert experiment.learning_rate_factors == {}


def test_a_final_training(commands, tmp_path):
    commands.folder.write(commands.folder.network("found"), "")
    found = commands.train("found", 2, "runs/x")
    assert found == [
        "train.main",
        "--gin_file=tests/data/train/tiny.gin",
        f"--gin_file={tmp_path / 'networks' / 'found.gin'}",
        '--gin_param=experiment.Experiment.data_dir = "d"',
        "--gin_param=experiment.Experiment.seed = 2",
        "--model_dir=runs/x",
    ]
    baseline = commands.train("baseline", 2, Path("runs/y"))
    assert sum(flag.startswith("--gin_file") for flag in baseline) == 1


def test_an_export_counts_statistics_or_not(commands, tmp_path):
    target = f"--export_dir={tmp_path / 'export'}"
    plain = ["train.export", "--model_dir=run", target]
    assert commands.export(Path("run"), None) == plain
    counted = ["--statistics_images=10000", "--score_images=500"]
    assert commands.export(Path("run"), 500) == [*plain, *counted]
    parsed = export._parser().parse_args([*plain[1:], *counted])
    assert (parsed.statistics_images, parsed.score_images) == (10_000, 500)


def test_the_line_that_begins_with_the_supernet_s_weights(commands, digits, tmp_path):
    from train import config as train_config

    data = f"experiment.Experiment.data_dir = {str(digits)!r}"
    found = train_config.parse(
        ["tests/data/train/tiny.gin"], [data, commands.fine_tune("found")]
    )
    assert found.pretrained == f"{tmp_path}/networks/found.safetensors"
    score = commands.score(Path("n"), Path("r"), commands.folder.weights("found"))
    assert f"--weights={found.pretrained}" in score


def test_the_digits_search_is_around_its_recipe():
    """The recipe's network, but for what is of its training, is one of the space."""
    from search.spaces import digest
    from search.stages import recipe
    from train import config as train_config

    settings = config.read(Nas, ["gin_configs/search/nas_digits.gin"], [])
    own = recipe.network(train_config.parse(settings.gin_files, []))
    assert own.batch_norm_momentum == settings.space.base.batch_norm_momentum
    values = {
        **{"width_coefficient": own.width_coefficient, "resolution": own.resolution},
        "depth_coefficient": own.depth_coefficient,
    }
    network = []
    for choice in settings.space.choices:
        same = {"output_filters_factor": 1.0, "num_repeat_change": 0}
        if choice.stage:
            stage = own.stages[choice.stage - 1]
            wanted = same.get(choice.field, getattr(stage, choice.field, None))
        else:
            wanted = values[choice.field]
        network.append(choice.values.index(wanted))
    assert settings.space.digest(tuple(network)) == digest(own)
