import math

import pytest

from benchmarks.support import results
from benchmarks.tpu import scaling
from models.variants import VARIANTS


def test_shares_of_a_growth():
    base = {"blocks": 16, "width": 1.0, "resolution": 224}
    found = scaling.shares({"blocks": 32, "width": 1.4, "resolution": 380}, base)
    total = math.log(2 * 1.4**2 * (380 / 224) ** 2)
    assert found["depth"] == pytest.approx(math.log(2) / total)
    assert found["resolution"] == pytest.approx(0.44, abs=0.005)  # of EfficientNet-B4
    assert sum(found.values()) == pytest.approx(1)
    assert scaling.shares(base, base) == {}


def test_the_family_of_the_table_is_what_was_found():
    report = results.load(results.FOLDER / "tpu.scaling.json")
    outcomes = report["families"]["v5e"]["outcomes"]
    assert all(outcome["reached"] for outcome in outcomes)
    for number, outcome in enumerate(outcomes, start=1):
        chosen, row = outcome["chosen"], VARIANTS[f"efficientnet-x-v5e-b{number}"]
        found = chosen["depth"], chosen["width"], chosen["resolution"]
        own = row.depth_coefficient, row.width_coefficient, row.resolution
        assert (chosen["name"], found) == (row.name, own)
        assert row.stages == VARIANTS["efficientnet-x-b0"].stages
