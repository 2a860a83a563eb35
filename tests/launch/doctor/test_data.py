"""Rows 21 and 22: the data, and the folder of the run."""

import json

import pytest

from common.claims.holder import Holder
from launch.doctor import job as checked
from launch.doctor.case import Case
from tests.support.google import case_of

PREPARE = "prepare the data again, or copy them again: gcloud storage rsync"
DATA = "gs://my-bucket/imagenet"
RUN = "runs/b0-v5e-32"
FOLDER = f"gs://my-bucket/{RUN}"


def info(**more):
    shard = {"records": 20, "offsets": [0, 1600]}
    names = "train-0", "train-1", "validation-0"
    shards = [shard | {"filename": name} for name in names]
    return {
        "name": "photos",
        "label_offset": 1,
        "label_names": ["one", "two"],
        "chunk_records": 16,
        "splits": {
            "train": {"shards": shards[:2]},
            "validation": {"shards": shards[2:]},
        },
        **more,
    }


@pytest.fixture
def photos(google):
    google.objects["imagenet/dataset_info.json"] = json.dumps(info()).encode(), 100
    for name in ("train-0", "train-1", "validation-0"):
        google.objects[f"imagenet/{name}"] = bytes(2000), 100


def test_data(found, google, photos):
    assert found(21) == "ok       data: 60 records in 3 files"
    google.objects["imagenet/train-1"] = bytes(1600), 100
    assert found(21) == (
        f"fails    data: cut off are 1 of 3 files (train-1) of {DATA}  ->  {PREPARE}"
    )
    del google.objects["imagenet/train-1"]
    assert found(21) == (
        f"fails    data: {DATA} lacks 1 of 3 files (train-1)  ->  {PREPARE}"
    )
    google.objects["imagenet/dataset_info.json"] = b"{", 100
    assert found(21).startswith(
        f"fails    data: {DATA}/dataset_info.json is not sound: line 1, column 2: "
    )
    del google.objects["imagenet/dataset_info.json"]
    assert found(21) == f"fails    data: {DATA} has no dataset_info.json  ->  {PREPARE}"


def test_a_split_that_is_not_there(found, google, photos):
    about = info()
    about["splits"]["test"] = about["splits"].pop("validation")
    google.objects["imagenet/dataset_info.json"] = json.dumps(about).encode(), 100
    assert found(21) == (
        f"fails    data: {DATA} has no split 'validation': it has train, test  ->  "
        "run.gin_params: Experiment.train_split, Experiment.eval_split"
    )


def test_records_elsewhere(found, google, photos):
    about = json.dumps(info(records_dir="gs://my-bucket/records")).encode()
    google.objects["imagenet/dataset_info.json"] = about, 100
    assert found(21).startswith("fails    data: gs://my-bucket/records lacks 3 of 3")
    for name in ("train-0", "train-1", "validation-0"):
        google.objects[f"records/{name}"] = google.objects.pop(f"imagenet/{name}")
    assert found(21) == "ok       data: 60 records in 3 files"


def test_images_for_preflight(google, job, photos):
    assert job_images(google, job()) == (40, "")
    del google.objects["imagenet/dataset_info.json"]
    assert job_images(google, job())[0] == 1_281_167
    google.objects["imagenet/dataset_info.json"] = b"{", 100
    assert job_images(google, job())[0] == 1_281_167


def job_images(google, path):
    return checked._train_images(case_of(google, path))


def test_folder_that_is_free(found, google):
    free = f"ok       folder of the run: {FOLDER} is free: the run begins"
    assert found(22) == free
    google.objects[f"{RUN}/notes.txt"] = b"mine", 1000
    assert found(22) == free
    google.objects[f"{RUN}/ckpt-10.index"] = b"", 1000
    assert found(22) == (
        f"fails    folder of the run: {FOLDER} holds ckpt-10.index, and no run that "
        "could go on  ->  name another run.model_dir, or move them away"
    )


@pytest.fixture
def begun(google, job):
    """Put the config of a run of this job into its folder, as train.main saves it."""

    def put(*changes):
        case = Case(str(job(*changes)), asks=False)
        text = case.config.text
        google.objects[f"{RUN}/operative_config.gin"] = text.encode(), 1000

    return put


def test_folder_of_this_run(found, begun):
    begun()
    assert (
        found(22) == f"ok       folder of the run: {FOLDER} holds this run: it goes on"
    )


def test_folder_of_another_run(found, begun, google):
    old = "  data_dir: gs://my-bucket/imagenet\n"
    begun((old, f"{old}  gin_params: [experiment.Experiment.seed = 7]\n"))
    assert found(22) == (
        f"fails    folder of the run: {FOLDER} belongs to a run with another config: "
        "experiment.Experiment.seed: 7 -> 0  ->  name another run.model_dir, or take "
        "the "
        "old settings"
    )
    google.objects[f"{RUN}/operative_config.gin"] = b"(((", 1000
    assert found(22) == (
        f"unknown  folder of the run: {FOLDER}/operative_config.gin cannot be read"
    )


@pytest.mark.parametrize("age", [5, 80, 200])
def test_whose_claim(found, google, age):
    holder = Holder.this_process("a run", "boot")
    google.objects[f"{RUN}/.claim.json"] = holder.to_bytes(), age
    said = found(22)
    if age > 90:  # it counts as dead
        assert said == f"ok       folder of the run: {FOLDER} is free: the run begins"
        return
    start = f"fails    folder of the run: {FOLDER} is held by {holder}, its last sign "
    assert said.startswith(f"{start}of life {age}")
    assert found(22, node="one-that-runs").startswith("ok       folder of the run: ")
    assert said.endswith("wait for its end or stop it, or name another run.model_dir")


def test_a_claim_that_says_nothing(found, google):
    google.objects[f"{RUN}/.claim.json"] = b"{", 5
    assert f"{FOLDER} is held by another process, " in found(22)
