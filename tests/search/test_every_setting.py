"""Every setting of a search that a config may set, with values that make no sense."""

import importlib
import inspect

import pytest

from common import checks
from common.console import escaped
from common.errors import UserError
from search import config
from search.block_search import BlockSearch
from search.nas_search import Nas
from search.scaling_search import Scaling
from tests.support.values import NOTHING, TOO_LARGE, VALUES

# What another function of a config makes, or a table of choices that its maker checks.
MADE = {
    *(
        "space",
        "sampler",
        "cheap",
        "parts",
        "exact",
        "latency",
        "accuracy",
        "objective",
    ),
    *("base", "stages", "network", "when", "constraints", "space_to_depth"),
    *("resolution", "width_coefficient", "depth_coefficient"),
}
FILES = {
    Scaling: "gin_configs/search/lacs_v5e.gin",
    BlockSearch: "gin_configs/search/blocks_digits.gin",
    Nas: "gin_configs/search/nas_digits.gin",
}
OWNERS = {"scaling_search": Scaling, "axes": Scaling, "nas_search": Nas}
# What makes a search use a function that those files do not.
USE = {
    "latency_sources": "block_search.BlockSearch.latency = @{}()",
    "accuracy_sources": "block_search.BlockSearch.accuracy = @{}()",
    "objectives": "block_search.BlockSearch.objective = @{}()",
    "samplers": "block_search.BlockSearch.sampler = @{}()",
    "axes": "scaling_search.Scaling.trust = @{}()",
    "spaces.Limits": "spaces.blocks.constraints = [@{}()]",
    "spaces": "block_search.BlockSearch.space = @{}()",
}
# What these functions have to be told.
NEEDS = {
    "objectives.Product": ["target_ms = 1.0"],
    "objectives.HardProduct": ["target_ms = 1.0"],
    "objectives.Absolute": ["target_ms = 1.0"],
    "latency_sources.tile_model": ["topology = 'v5e'"],
}


def functions():
    """The functions and classes of the modules that a config names, by gin's names."""
    for name in config._MODULES:
        module = importlib.import_module(f"search.{name}")
        for found in vars(module).values():
            ours = getattr(found, "__module__", "") == module.__name__
            if ours and checks.rules_of(found) and not inspect.isabstract(found):
                yield f"{name}.{found.__name__}", found


RULES = {
    f"{function}.{name}": rule
    for function, found in functions()
    for name, rule in checks.rules_of(found).items()
}


def outcome(name, text):
    """What a config with a setting leads to: what is said of it, or "accepted"."""
    function = name.rpartition(".")[0]
    module = function.partition(".")[0]
    settings = OWNERS.get(module, BlockSearch)
    use = USE.get(function, USE.get(module, "")).format(function)
    if settings is Scaling:
        use += "\naccuracy_sources.surrogate.resamples = 1"  # is quick
    needs = [f"{function}.{line}" for line in NEEDS.get(function, ())]
    try:
        config.read(settings, [FILES[settings]], [use, *needs, f"{name} = {text}"])
    except UserError as error:
        return escaped(str(error))  # as it is printed: a path may hold anything
    return "accepted"


def test_settings_without_a_rule_are_those_that_others_make():
    without = {
        parameter
        for _, found in functions()
        for parameter in inspect.signature(found).parameters
        if parameter not in checks.rules_of(found)
    }
    assert without - MADE == set()
    assert len(RULES) > 60


@pytest.mark.parametrize("name", [n for n in RULES if n.rpartition(".")[2] not in MADE])
def test_rules_hold_back_what_no_search_could_use(name):
    rule = RULES[name]
    assert [value for value in (*NOTHING, *TOO_LARGE) if rule.holds(value)] == []
    assert not any(rule.holds((value, value)) for value in TOO_LARGE)
    line = outcome(name, "[[1, 'a']]")
    assert line.startswith(f"{name} = [[1, 'a']]: it has to be ")
    assert "\n" not in line


@pytest.mark.slow
def test_every_setting_with_every_value():
    """Accepted, or refused in a line; no traceback."""
    wrong, accepted = [], 0
    for name in RULES:
        for text in VALUES:
            said = outcome(name, text)
            accepted += said == "accepted"
            if not (said.isprintable() and 0 < len(said) < 1500):
                wrong.append((name, text[:60], said[:200]))
    assert wrong == []
    assert accepted > 100
