"""A job file says everything once, and what is wrong with it by line."""

import json

import jsonschema
import pytest

from common.errors import UserError
from launch.job import job_file
from launch.job.host_job import HostJob
from launch.job.machines import GpuHosts, TpuSlice
from tests.support import job_files
from tests.support.job_files import EXAMPLES


def of(tmp_path, *changes, name="v5e_32"):
    """The job file of an example with some of its text replaced."""
    return str(job_files.write(tmp_path, job_files.text_of(name), *changes))


def refusal(path):
    with pytest.raises(UserError) as caught:
        job_file.load(path)
    return str(caught.value).replace(path, "job.yaml")


def test_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(
        json.loads(job_file.SCHEMA.read_text())
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path):
    job = job_file.load(str(path))
    expected = {
        "v5e_32": ("v5litepod-32", 8, 4, 32),
        "v4_32": ("v4-32", 4, 4, 16),
        "v3_32": ("v3-32", 4, 4, 32),
        "gpu_8": ("A100:8", 1, 8, 8),
        "gpu_2x8": ("2 x A100:8", 2, 8, 16),
    }[path.stem]
    on = job.machines
    if isinstance(on, TpuSlice):
        found = on.accelerator_type, on.hosts, on.chips_per_host, on.replicas
    else:
        found = on.name, on.hosts, on.per_host, on.replicas
    assert found == expected
    assert job.name == f"b0-{path.stem.replace('_', '-')}"
    assert job.is_spot
    told = job.host_job("once")
    assert HostJob.from_environment(told.to_environment()) == told
    assert told.hosts == on.hosts


@pytest.mark.parametrize(
    ("text", "kind", "hosts", "per_host", "runtime", "gke"),
    [
        ("v2:2x2", "v2-8", 1, 4, "tpu-ubuntu2204-base", None),
        ("v3:16x32", "v3-1024", 128, 4, "tpu-ubuntu2204-base", "ct3p-hightpu-4t"),
        ("v4:2x2x1", "v4-8", 1, 4, "tpu-ubuntu2204-base", "ct4p-hightpu-4t"),
        ("v5e:1x1", "v5litepod-1", 1, 1, "v2-alpha-tpuv5-lite", "ct5lp-hightpu-1t"),
        ("v5e:2x4", "v5litepod-8", 1, 8, "v2-alpha-tpuv5-lite", "ct5lp-hightpu-8t"),
        ("v5p:2x2x2", "v5p-16", 2, 4, "v2-alpha-tpuv5", "ct5p-hightpu-4t"),
        ("v6e:4x8", "v6e-32", 8, 4, "v2-alpha-tpuv6e", "ct6e-standard-4t"),
    ],
)
def test_names_of_a_slice(text, kind, hosts, per_host, runtime, gke):
    on = TpuSlice.parse(text)
    assert (on.accelerator_type, on.hosts, on.chips_per_host) == (kind, hosts, per_host)
    assert on.runtime == runtime
    if gke is None:
        with pytest.raises(UserError, match="GKE has no TPU v2"):
            _ = on.gke_machine
    else:
        assert on.gke_machine == gke


SLICE = "slice: v5e:4x8 "


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([(SLICE, "slice: v5e:4x9 ")], "job.yaml:6: machines.slice: no TPU topology"),
        ([(SLICE, "slice: v4:1x1x1 ")], "job.yaml:6: machines.slice: no slice"),
        (
            [(SLICE, "slise: v5e:4x8 ")],
            "job.yaml:6: machines.slise: unknown 'slise'; is slice meant?",
        ),
        (
            [("budget:", "budjet:")],
            "job.yaml:11: budjet: unknown 'budjet'; is budget meant?",
        ),
        (
            [("hours: 48", "hours: 48\n  hours: 50")],
            "job.yaml:13: 'hours' stands there twice",
        ),
        ([("hours: 48", "hours: -1")], "job.yaml:12: budget.hours: "),
        ([("hours: 48", "hours: .nan")], "job.yaml:12: nan is no number of JSON"),
        (
            [("[us-west4-a]", "[us-west4-a, us-east1-b]")],
            "job.yaml:7: machines.zones: us-east1 and us-west4 are two regions",
        ),
        (
            [("capacity: spot", "capacity: reservation")],
            "job.yaml:8: machines.capacity: capacity: reservation and the name",
        ),
        ([("name: b0-v5e-32", "name: --force")], "job.yaml:2: name: "),
        (
            [("name: b0-v5e-32", 'name: "b0-v5e-32\\n"')],
            "job.yaml:2: 'b0-v5e-32\\n' is not one line of text",
        ),
        (
            [("owner: nobody", 'owner: nobody\nlabels: {"a\\n": b}')],
            "job.yaml:4: 'a\\n' is not one line of text",
        ),
        (
            [("owner: nobody", "owner: nobody\nlabels: {owner: me}")],
            "job.yaml:4: labels: 'owner' does not match",
        ),
        ([("@sha256:" + 64 * "0", ":latest")], "job.yaml:15: code.image: "),
        ([("model_dir: gs://", "model_dir: /tmp/")], "job.yaml:21: run.model_dir: "),
        ([("- gin_configs/runs", "- ../runs")], "job.yaml:19: run.gin_files[1]: "),
        ([("owner: nobody", "owner: [nobody")], "no YAML"),
        ([("dollars: 600", "dollars: 1" + 400 * "0")], "13: budget.dollars: 1000"),
        ([("dollars: 600", "dollars: 1" + 5000 * "0")], "job.yaml:13: '1000"),
        ([("dollars: 600", "dollars: !!bool much")], "13: 'much' is no bool"),
        ([("hours: 48", "hours: 1:30")], "job.yaml:12: YAML takes 1:30 for 90: write"),
        ([("hours: 48", "hours: 0100")], "job.yaml:12: YAML takes 0100 for 64: write"),
        ([("hours: 48", "hours: 0x30")], "job.yaml:12: YAML takes 0x30 for 48: write"),
        (
            [
                (
                    "image: us-docker.pkg.dev/my-project/images/efficientnet-x@sha256:",
                    "#",
                ),
                ("code:", f"code:\n  commit: {4 * '1234567890'}"),
            ],
            f"job.yaml:15: code.commit: {4 * '1234567890'} is no text to YAML: put it",
        ),
        (
            [("owner: nobody", "owner: no")],
            "job.yaml:3: owner: False is no text to YAML: put it in quotes",
        ),
        (
            [("owner: nobody", "owner: nobody\nlabels: {on: x}")],
            "job.yaml:4: True is a key, and no text: put it in quotes",
        ),
        (
            [("owner: nobody", "owner: nobody\nlabels: {2026: x}")],
            "job.yaml:4: 2026 is a key, and no text: put it in quotes",
        ),
        (
            [("gs://my-bucket/imagenet", '"gs://my-bucket/\\ud800"')],
            "job.yaml:20: 'gs://my-bucket/\\ud800' is not one line of text",
        ),
        (
            [("gs://my-bucket/runs/b0-v5e-32", "gs://my-bucket//")],
            "job.yaml:21: run.model_dir: ",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong(tmp_path, changes, said):
    assert said in refusal(of(tmp_path, *changes))


def test_a_date_is_a_text_and_a_tag_is_refused(tmp_path):
    assert "name" in refusal(of(tmp_path, ("name: b0-v5e-32", "name: 2026-11-30")))
    said = refusal(of(tmp_path, ("nobody", "!!python/object/apply:os.system [ls]")))
    assert "job.yaml:3: " in said
    assert "python/object/apply" in said


def test_a_whole_number_is_one_however_it_is_written(tmp_path):
    written = "restarts: {grace_seconds: 90.0, without_progress: 4.}\nbudget:"
    job = job_file.load(of(tmp_path, ("budget:", written), ("600", "1_600.5")))
    assert repr(job.grace_seconds) == "90"  # as docker and Kubernetes want it
    assert repr(job.restarts_without_progress) == "4"
    assert job.budget_dollars == 1600.5


def test_aliases_of_aliases_come_to_an_end(tmp_path):
    lines = [f"  a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 12)]
    bomb = "\n".join(("labels:", "  a0: &a0 x", *lines, "budget:"))
    assert "more than 10,000 values" in refusal(of(tmp_path, ("budget:", bomb)))


def test_no_file_and_no_text(tmp_path):
    assert "cannot read the job file" in refusal(str(tmp_path / "none.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "no text of UTF-8" in refusal(str(tmp_path / "bytes.yaml"))
    (tmp_path / "empty.yaml").write_text("")
    assert "object" in refusal(str(tmp_path / "empty.yaml"))


def test_a_third_side_of_one_is_no_label_of_gke():
    assert TpuSlice.parse("v5e:4x8x1").gke_topology == "4x8"
    assert TpuSlice.parse("v4:2x2x1").gke_topology == "2x2x1"


def test_what_is_left_out_is_the_schemas(tmp_path):
    job = job_file.load(
        of(tmp_path, ("  capacity: spot\n", ""), ("  longest_wait_hours: 6\n", ""))
    )
    assert (job.capacity, job.longest_wait_hours) == ("spot", 6)
    assert (job.network, job.subnetwork) == ("default", "default")
    assert (job.restarts_without_progress, job.grace_seconds) == (3, 60)
    assert job.kubernetes == {"namespace": "default", "service_account": "trainer"}
    assert (job.labels, job.gin_params) == ({}, ())


def test_gpus():
    on = GpuHosts("A100", 8)
    assert (on.name, on.machine_type) == ("A100:8", "a2-highgpu-8g")
    assert (on.accelerator, on.is_attached) == ("nvidia-tesla-a100", False)
    assert GpuHosts("V100", 4).machine_type == "n1-standard-32"
    assert GpuHosts("V100", 4).is_attached


def test_gpus_that_are_not_sold(tmp_path):
    path = of(tmp_path, ("type: A100", "type: H200"), name="gpu_8")
    assert job_file.load(path).machines == GpuHosts("H200", 8)
    path = of(tmp_path, ("A100, per_host: 8", "H200, per_host: 4"), name="gpu_8")
    said = "job.yaml:6: machines.gpus: no machine with 4 x H200 is to be had: there are"
    assert said in refusal(path)


def test_what_hosts_are_told_is_refused_when_it_is_something_else():
    for text in ("", "{}", "[]", '{"name": 1}'):
        with pytest.raises(UserError, match="LAUNCH_JOB"):
            HostJob.from_environment({"LAUNCH_JOB": text})
    with pytest.raises(UserError, match="not in the environment"):
        HostJob.from_environment({})


def test_flags_of_the_trainer_are_a_list(tmp_path):
    nasty = "gs://my-bucket/a b'\"$(id)"
    text = json.dumps(nasty)  # YAML takes JSON's texts
    path = of(tmp_path, ("data_dir: gs://my-bucket/imagenet", f"data_dir: {text}"))
    flags = job_file.load(path).host_job("once").train_arguments()
    assert flags == [
        "--gin_file=gin_configs/models/efficientnet_x_b0.gin",
        "--gin_file=gin_configs/runs/imagenet_tpu.gin",
        f"--gin_param=experiment.Experiment.data_dir = {nasty!r}",
        "--model_dir=gs://my-bucket/runs/b0-v5e-32",
    ]
