"""What a supernet's step costs, beside its largest networks'."""

import json

import pytest

from benchmarks.support import supernet_forms
from benchmarks.tpu import supernet
from models.scaling import block_specs
from search import config, spaces
from search.nas_search import Nas
from tests.benchmarks.tpu.test_step import TOO_LARGE, compiled
from tests.search.supernets.space import base

SPACE = spaces.blocks(
    base(),
    {
        2: {"fused": [True, False], "kernel_size": [5, 3]},
        3: {"output_filters": [16, 24], "activation": ["swish", "relu"]},
    },
    constraints=[spaces.Limits(blocks=1)],
)


@pytest.mark.parametrize("fused", [True, False])
def test_largest_networks(fused):
    _, second, third, _ = block_specs(supernet_forms.largest(SPACE, fused=fused))
    assert (second.fused, second.kernel_size) == (fused, 5)
    assert (third.output_filters, third.activation) == (24, "swish")


def test_ratios_are_of_what_is_known():
    assert supernet.ratios({"supernet": 6.0, "largest": 4.0, "other": None}) == {
        "largest": 1.5
    }
    assert supernet.ratios({"supernet": None, "largest": 4.0}) == {}


def test_rows():
    assert supernet.compiled_row(compiled(940_000)) == {
        "cycles": 940_000,
        "milliseconds": 1.0,
        "arguments_mb": 0,
        "temporaries_mb": 3,
    }
    assert supernet.compiled_row(TOO_LARGE) == {
        "failed": "it does not fit: needs 20.00 GiB of HBM"
    }


def test_recipe_of_a_search():
    settings = config.read(Nas, ["gin_configs/search/nas_imagenet.gin"], [])
    found = supernet.recipe(settings, 16, "float32")
    assert (found.global_batch_size, found.eval_batch_size) == (16, 16)
    assert (found.precision, found.batch_norm) == ("float32", "per_replica")
    forms = supernet_forms.forms_of(found, settings)
    assert {name: one.policy is None for name, one in forms.items()} == {
        "supernet": False,
        "largest": True,
        "largest_fused": True,
    }


GIN = """
from __gin__ import dynamic_registration
from search import latency_sources
from search import nas_search
from search import objectives
from search import spaces

nas_search.Nas:
  space = @spaces.blocks()
  objective = @objectives.Absolute()
  latency = @latency_sources.sum_of_parts()
  gin_files = ['gin_configs/runs/imagenet_tpu.gin']
objectives.Absolute.target_ms = 1.0
latency_sources.sum_of_parts.topology = 'v3'
spaces.blocks:
  base = 'efficientnet-x-b0'
  width_coefficient = [0.25]
  depth_coefficient = [0.3]
  resolution = [32]
  stages = {2: {'kernel_size': [3, 5], 'fused': [True, False]}}
"""


@pytest.mark.slow
def test_a_small_supernet_compiles_for_v3(tmp_path, capsys):
    path = tmp_path / "small.gin"
    path.write_text(GIN)
    flags = ["--batch=8", "--cpu_batch=4", "--cpu_steps=2", "--classes=10"]
    assert supernet.main([f"--gin_file={path}", *flags]) == 0
    (said,) = json.loads(capsys.readouterr().out)["searches"]
    assert said["networks"] == 4
    assert said["parameters"]["supernet"] > said["parameters"]["largest_fused"]
    cycles = {name: row["cycles"] for name, row in said["forms"].items()}
    assert set(cycles) == {"supernet", "largest", "largest_fused"}
    # Nothing that is computed for nobody is left out, and little is added.
    assert 1 < said["times_the_cycles_of"]["largest"] < 3
    assert all(seconds > 0 for seconds in said["cpu"]["seconds_a_step"].values())
