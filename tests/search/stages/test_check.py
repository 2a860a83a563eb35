"""What the trainings of a search would refuse, refused before all else."""

import ast
import dataclasses

import pytest

from common.errors import Status, UserError
from common.project import ROOT
from search import config, spaces
from search.nas_search import Nas
from search.networks import variant_text
from search.stages import check
from search.stages.commands import Commands
from search.stages.folder import CHECK, NasFolder
from tests.support import toy_nas
from tests.support.commands import status
from tests.support.runs import TINY, bound, config_of, experiment_of
from train import config as train_config

E = "experiment.Experiment"
NETWORK = spaces.Space.first(toy_nas.space())


@pytest.fixture
def command(tmp_path, digits):
    """Make the command of a search with some settings; return its flags."""
    gin_file = tmp_path / "toy.gin"
    gin_file.write_text(toy_nas.CONFIG)
    space = toy_nas.space()

    def make(*bindings, gin_params=(), supernet_params=(), is_short=True):
        settings = config.read(Nas, [str(gin_file)], bindings)
        data = f"{E}.data_dir = {str(digits)!r}"
        settings = dataclasses.replace(
            settings,
            gin_params=(data, *gin_params),
            supernet_params=tuple(supernet_params),
        )
        names = ("space", "objective", "latency")
        made = Commands(
            settings, config.text(), config.references(Nas, names), NasFolder(tmp_path)
        )
        folder = made.folder
        folder.write(folder.gin(CHECK), made.supernet_gin())
        path = folder.gin("network")
        folder.write(path, variant_text.variant_gin(space.build(NETWORK)))
        module, *flags = made.check(path, space.digest(NETWORK), is_short=is_short)
        assert module == "search.stages.check"
        return flags

    return make


def test_nothing_is_wrong(command, capsys):
    flags = command(gin_params=["efficientnet_x.build_model.survival_prob = 0.9"])
    assert status(check.main, *flags) == Status.OK
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"gin_params": ["efficientnet_x.build_model.width_coefficient = .5"]},
            "build_model.width_coefficient = .5' would change every network",
        ),
        ({"gin_params": ["schedule.cosine.typo = 1"]}, "typo"),
        # Of the recipe's own trainings: they would refuse it after hours.
        (
            {"gin_params": ["randaugment.rand_augment.magnitude = 5"]},
            "rand_augment.magnitude' has no effect",
        ),
        (
            {"gin_params": [f"{E}.pretrained = 'efficientnet-lite0'"]},
            f"add '{E}.pretrained = None' to nas_search.Nas.gin_params",
        ),
        ({"supernet_params": [f"{E}.epochs = 'many'"]}, "Experiment.epochs"),
        (
            {"supernet_params": ["controller.reinforce.alternates = True"]},
            "train_data = @controller.alternating",
        ),
        (
            {
                "supernet_params": [
                    "controller.reinforce.alternates = True",
                    f"{E}.train_data = @controller.alternating",
                    "controller.alternating.train_data = @dataset.train_dataset",
                    "controller.alternating.held_out = 'train[2shard:]'",
                ]
            },
            "also what the weights learn from",
        ),
    ],
)
def test_what_is_wrong_is_said(command, capsys, given, words):
    flags = command(**given)
    assert status(check.main, *flags) == Status.MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_the_alternating_form_as_the_page_has_it(command, digits):
    """Its lines, but for the epochs; the recipe's digits are not mirrored."""
    page = (ROOT / "docs/nas.md").read_text()
    block = page.partition("nas_search.Nas.supernet_params = ")[2].partition("```")[0]
    _, *lines = ast.literal_eval(block)
    assert len(lines) == 5
    flags = command(supernet_params=lines)
    assert status(check.main, *flags) == Status.OK
    supernet = next(flag for flag in flags if flag.startswith("--supernet="))
    files = [TINY, supernet.partition("=")[2]]
    experiment = train_config.parse(files, [])
    assert experiment.train_split == "train[:6shard]"
    held_out = bound(experiment.train_data)
    assert held_out["held_out"] == "train[6shard:]"
    assert bound(held_out["train_data"])["flip"] is False


def test_short_trainings_are_part_of_a_run(command, capsys):
    longer = "nas_search.Nas.short_epochs = (0.02, 0.5)"
    assert status(check.main, *command(longer, is_short=False)) == Status.OK
    assert status(check.main, *command(longer)) == Status.MISTAKE
    assert "epoch 0.5 is behind the end of the run" in capsys.readouterr().err


def test_evolution_has_no_supernet(command):
    flags = command("nas_search.Nas.method = 'evolution'")
    assert not any(flag.startswith("--supernet") for flag in flags)


def own_network(**_):
    raise AssertionError("nothing is built")


def test_a_network_of_ones_own_is_none_of_a_space(digits):
    experiment = dataclasses.replace(experiment_of(digits), build_model=own_network)
    with pytest.raises(UserError, match=r"not one of models\.efficientnet_x"):
        check.refuse_recipe(experiment, None)


def test_a_recipe_that_changes_all_networks(digits):
    """Without a binding that could be named."""
    experiment = config_of(digits, gin_file=TINY).experiment
    with pytest.raises(UserError, match="the recipe would change every network"):
        check.refuse_another_network(experiment, "0123", [])
