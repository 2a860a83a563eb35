import pytest

from models.input_form import input_form
from preflight import host_input
from preflight.outlook import HostInput
from tests.support.runs import experiment_of
from tpu_compiler import Topology
from train.stage_rows import Stage


@pytest.mark.parametrize(
    ("topology", "cores", "hosts"),
    [
        ("v3", 12, 1),
        ("v3:2x2", 96, 1),
        ("v5e", 28, 1),
        ("v3:4x4", 96, 4),
        ("v5e:2x4", 224, 1),  # eight chips on one host
        ("v5e:4x4", 112, 4),
    ],
)
def test_cores_of_a_host(topology, cores, hosts):
    found = HostInput(Topology.parse(topology), 1000.0, 2.0)
    assert (found.hosts, found.cores) == (hosts, cores)
    assert found.cores_needed == 2.0 / hosts
    assert found.keeps_up
    elsewhere = HostInput(Topology.parse(topology), 1e6, 2.0, by_data_service=True)
    assert elsewhere.keeps_up is None
    assert elsewhere.cores_needed == 2000 / hosts


def test_what_an_image_costs_here(digits, monkeypatch):
    monkeypatch.setattr(host_input, "_SECONDS", 0.3)
    experiment = experiment_of(digits)
    form = input_form(experiment.build_model())
    assert 0.01 < host_input.cpu_ms_per_image(experiment, form) < 50


def test_each_kind_of_images_is_measured_once(digits, monkeypatch):
    measured = []

    def measure(experiment, form, stage):
        measured.append((form.resolution, stage.magnitude))
        return len(measured)

    monkeypatch.setattr(host_input, "cpu_ms_per_image", measure)
    experiment = experiment_of(digits)
    stages = (
        Stage(resolution=16),
        Stage(magnitude=3.0, frozen=("stem",)),
        Stage(resolution=16, dropout_rate=0.1),
        Stage(),
    )
    model = experiment.build_model()
    found = host_input.costs_of_stages(experiment, stages, model)
    own = input_form(model).resolution
    assert measured == [(16, None), (own, 3.0), (own, None)]
    assert found == dict(zip(stages, (1, 2, 1, 3), strict=True))
