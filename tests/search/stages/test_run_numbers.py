"""What trainings have cost, and how a controller went, from the files of runs."""

import json

import pytest

from search.stages import run_numbers
from search.stages.run_numbers import Cost
from search.stages.sums import affordable
from tests.support import toy_nas


def test_the_time_of_steps_alone_counts(tmp_path):
    """The first of ten loops has compiled, and counts as long as the others."""
    toy_nas.write_metrics(tmp_path, 50.0)
    found = run_numbers.cost(tmp_path)
    assert found.images == toy_nas.IMAGES
    assert found.seconds == pytest.approx(50.0, rel=1e-12)


def test_devices_cost_together_what_each_costs(tmp_path):
    toy_nas.write_metrics(tmp_path, 50.0)
    alone = run_numbers.cost(tmp_path)
    for devices, times in ((8, 8), (0, 1), ("8", 1)):
        (tmp_path / "summary.json").write_text(json.dumps({"devices": devices}))
        found = run_numbers.cost(tmp_path)
        assert found == Cost(alone.images, times * alone.seconds)


def test_a_run_that_is_not_there_costs_nothing(tmp_path):
    assert run_numbers.cost(tmp_path / "no") == Cost(0, 0.0)
    assert run_numbers.line(tmp_path, None) == ""
    assert run_numbers.history(tmp_path) == []
    assert run_numbers.summary(tmp_path) == {}


def test_costs_add_up(tmp_path):
    for name, seconds in (("a", 10.0), ("b", 20.0)):
        toy_nas.write_metrics(tmp_path / name, seconds)
    found = run_numbers.total([tmp_path / "a", tmp_path / "b"])
    assert found.images == 2 * toy_nas.IMAGES
    assert found.seconds == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("budget", "spent", "done", "number"),
    [
        (100.0, 80.0, 8, 10),
        (109.0, 80.0, 8, 10),
        (10.0, 80.0, 8, 8),  # it has cost more already
        (0.0, 80.0, 8, 8),
        (100.0, 0.0, 8, 8),
    ],
)
def test_how_many_networks_a_budget_pays(budget, spent, done, number):
    assert affordable(Cost(1, budget), Cost(1, spent), done) == number


def test_the_controller_over_time(tmp_path):
    toy_nas.write_metrics(tmp_path, 10.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "event", "step": 100}) + "\n")
        file.write('{"kind": "train", "step": 110, "top')  # half written
    rows = run_numbers.history(tmp_path)
    assert [row["step"] for row in rows] == list(range(10, 101, 10))
    assert rows[2] == {
        "step": 30,
        "top1": 0.3,
        "loss": 1 / 3,
        "reward": pytest.approx(0.3),
        "entropy": 2.7,
        "probabilities": [0.5] * 11,
    }
    assert run_numbers.line(tmp_path, 200) == (
        "step 100 of 200, top-1 100.0 % of the last batches, reward 1, entropy 2"
    )
