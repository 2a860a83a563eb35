import pytest

from models.input_form import input_form
from preflight import host_input
from tests.support.runs import experiment_of
from tpu_compiler import Topology


@pytest.mark.parametrize(
    ("topology", "cores", "hosts"),
    [("v3", 12, 1), ("v3:2x2", 96, 1), ("v5e", 28, 1), ("v3:4x4", 96, 4)],
)
def test_cores_of_a_host(topology, cores, hosts):
    found = host_input.verdict(1000.0, Topology.parse(topology), 2.0)
    assert (found["hosts"], found["input"]["cores_per_host"]) == (hosts, cores)
    assert found["input"]["cores_needed_per_host"] == 2.0 / hosts
    assert found["input"]["keeps_up"]
    fleet = host_input.verdict(1e6, Topology.parse(topology), 2.0, by_fleet=True)
    assert fleet["input"]["keeps_up"] is None
    assert fleet["input"]["cores_needed_per_host"] == 2000 / hosts


def test_what_an_image_costs_here(digits, monkeypatch):
    monkeypatch.setattr(host_input, "_SECONDS", 0.3)
    experiment = experiment_of(digits)
    form = input_form(experiment.build_model())
    assert 0.01 < host_input.cpu_ms_per_image(experiment, form) < 50
