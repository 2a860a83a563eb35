"""Row 25: hours, money and the time to save."""

import pytest

from tests.support.google import case_of, line_of

HEAD = "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region"
CATALOG = f"""{HEAD},AvailabilityZone,Price,SpotPrice
,,,tpu-v5litepod-32,1.0,,us-west4,us-west4-b,99.0,98.0
,,,tpu-v5litepod-32,1.0,,us-west4,us-west4-a,38.4,12.5
,,,tpu-v5litepod-64,1.0,,us-west4,us-west4-a,76.8,
,,,A100,8.0,,us-central1,us-central1-a,23.0,11.0
a2-highgpu-8g,96.0,680.0,,,,us-central1,us-central1-a,6.0,2.0
,,,A100,8.0,,us-central1,us-central1-c,23.0,11.5
a2-highgpu-8g,96.0,680.0,,,,us-central1,us-central1-c,6.0,2.0
"""


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / ".sky/catalogs/v8/gcp/vms.csv"
    path.parent.mkdir(parents=True)
    path.write_text(CATALOG)
    return path


def test_money(found, catalog):
    assert found(25) == (
        "ok       budget: $12.50 an hour for the budget's 48.0 h are $600.00 of "
        "$600.00, "
        "by SkyPilot's catalog"
    )
    assert found(25, ("dollars: 600", "dollars: 599")) == (
        "fails    budget: $12.50 an hour for the budget's 48.0 h are $600.00, the "
        "budget "
        "is $599.00  ->  budget.dollars, budget.hours, a smaller slice or "
        "machines.capacity: spot"
    )
    on_demand = ("capacity: spot", "capacity: on_demand")
    assert "$38.40 an hour for the budget's 48.0 h are $1,843.20, the" in found(
        25, on_demand
    )


def test_money_of_gpus(found, catalog):
    # The dearer zone; GPUs and their machine have a price each; two hosts.
    assert found(25, name="gpu_2x8") == (
        "ok       budget: $27.00 an hour for the budget's 48.0 h are $1,296.00 of "
        "$1,500.00, by SkyPilot's catalog"
    )


@pytest.mark.parametrize(
    "change",
    [
        ("slice: v5e:4x8", "slice: v5e:4x4"),  # it is not there
        ("slice: v5e:4x8", "slice: v5e:8x8"),  # without a price of spot
        ("[us-west4-a]", "[us-west4-a, us-west4-c]"),
    ],
)
def test_no_price(found, catalog, change):
    assert found(25, change) == (
        "unknown  budget: no price: SkyPilot's catalog is not here, or lacks these "
        "machines (its first launch fetches it); the budget is for $12.50 an hour"
    )


def test_no_catalog(found, catalog):
    catalog.unlink()
    assert found(25).startswith("unknown  budget: no price: ")


def test_hours(google, job, catalog):
    case = case_of(google, job())
    case.preflight = {"hours": 10.0}
    assert line_of(case, 25) == (
        "ok       budget: $12.50 an hour for preflight's 10.0 h are $125.00 of "
        "$600.00, "
        "by SkyPilot's catalog"
    )
    case.preflight = {"hours": 48.25}
    assert line_of(case, 25) == (
        "fails    budget: preflight says 48.2 h of training alone, the budget is 48 h  "
        "->"
        "  budget.hours, or a larger slice"
    )


def test_grace(found, catalog):
    old = "  data_dir: gs://my-bucket/imagenet\n"
    setting = "experiment.Experiment.preemption_deadline_seconds"
    slow = (old, f"{old}  gin_params: [{setting} = 60]\n")
    assert found(25, slow) == (
        "fails    budget: the engine kills after 60 s, and to save may take "
        "preemption_deadline_seconds = 60  ->  restarts.grace_seconds: 90"
    )
    assert found(25, engine="jobset") == (
        "fails    budget: GKE gives a spot node 25 s, and to save may take "
        "preemption_deadline_seconds = 25  ->  run.gin_params: "
        f"{setting} = 15"
    )
    quick = (old, f"{old}  gin_params: [{setting} = 15]\n")
    assert found(25, quick, engine="jobset").startswith("ok")
