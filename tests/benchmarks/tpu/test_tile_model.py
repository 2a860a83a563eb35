import json

import pytest

from benchmarks.support import results
from benchmarks.tpu import tile_model
from search import latency_sources
from search.latencies.tile_model import TileModel
from tests.search import test_tile_model as planted
from tests.search.networks import row, table
from tests.support.commands import status


@pytest.fixture
def model():
    """TileModel: of ten networks whose milliseconds are exactly of its form."""
    some = planted.grid()[:10]
    return TileModel(table([row(one, planted.planted_ms(one)) for one in some]))


def test_a_planted_model_is_found_whatever_is_left_out(model, monkeypatch, capsys):
    monkeypatch.setattr(latency_sources, "tile_model", lambda name: model)
    assert status(tile_model.main, "--topologies=v3") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    (found,) = json.loads(last)["generations"]
    assert found["rms"] == pytest.approx(0, abs=1e-9)
    assert found["choice_left_out"] == pytest.approx(0, abs=1e-9)
    assert found["another_base"] is None
    # Seven features, four of them.
    assert len(found["sets_of_four"]) == 35
    best = found["sets_of_four"][0]
    assert best["features"] == list(planted.FOUR)
    assert found["sets_of_four"][-1]["rms"] > 0.01
    assert len(found["networks"]) == 10
    assert "v3: 10 networks, rms 0.0 %, worst" in lines[-1]


def test_more_than_three_percent_is_a_no(model, monkeypatch, capsys):
    rows = [
        row(one, planted.planted_ms(one) * (1.5 if number in (2, 7) else 1))
        for number, one in enumerate(planted.grid()[:10])
    ]
    off = TileModel(table(rows))
    assert off.error > tile_model.LIMIT
    monkeypatch.setattr(latency_sources, "tile_model", lambda name: off)
    assert status(tile_model.main, "--topologies=v3") == 1
    capsys.readouterr()


def test_a_generation_without_networks(capsys):
    assert status(tile_model.main, "--topologies=v2") == 2
    assert "no compiled networks for v2" in capsys.readouterr().err


def test_the_stored_errors_are_of_the_project_s_networks():
    """Else: python -m benchmarks.tpu.tile_model --output=benchmarks/results/..."""
    stored = results.load(results.FOLDER / "tpu.tile_model.json")
    for one in stored["generations"]:
        model = latency_sources.tile_model(one["topology"])
        assert one["rms"] == pytest.approx(model.error, rel=1e-6)
        assert len(one["networks"]) == len(model.rows) >= 20
        assert one["rms"] <= 0.03
        assert one["choice_left_out"] <= 0.04  # chosen among 35 sets by 20 networks
