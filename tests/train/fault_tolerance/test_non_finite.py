"""A batch whose loss is not a number: stopped or skipped, and kept."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline import batch_lookup
from input_pipeline.dataset_info import DatasetInfo, load_info
from tests.support.runs import TINY, experiment_of, run_tiny
from tests.train.test_run import variables
from train.checkpoints import bundle, directory, manager
from train.datasets import data_setting
from train.fault_tolerance import non_finite

BAD = 5  # the batch
POISON = "tests/data/train/poisoned.gin"


def whiten(record: bytes) -> bytes:
    """The record with a white image in a JPEG of the same length."""
    example = tf.train.Example.FromString(record)
    encoded = example.features.feature["image/encoded"].bytes_list
    white = tf.io.encode_jpeg(tf.fill([28, 28, 3], tf.constant(255, tf.uint8)))
    # The offsets in dataset_info.json stay right; decoders stop at the image's end.
    encoded.value[0] = white.numpy().ljust(len(encoded.value[0]), b"\0")
    return example.SerializeToString()


@pytest.fixture(scope="module")
def poisoned(digits, tmp_path_factory):
    """Digits, one of batch 5 white; and which one."""
    folder = tmp_path_factory.mktemp("poisoned") / "data"
    shutil.copytree(digits, folder)
    records = batch_lookup.records_of_batch(
        load_info(str(digits)),
        str(digits),
        "train",
        seed=0,
        shuffle_buffer=1024,
        batch=BAD,
        batch_size=20,
        num_hosts=1,
        host=0,
    )
    chosen = records[7]
    path = folder / Path(chosen.file).name
    shard: list[Any] = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert shard[chosen.number] == chosen.serialized
    shard[chosen.number] = whiten(chosen.serialized)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in shard:
            writer.write(record)
    return folder, dataclasses.replace(chosen, file=str(path))


def poisoned_run(data, model_dir, *, gin_file=POISON, **changes):
    settings = {f"experiment.Experiment.{name}": v for name, v in changes.items()}
    return run_tiny(data, model_dir, gin_file=gin_file, **settings)


def with_policy(gin_file, folder):
    """Write a config with a policy that counts the batches that it has heard of."""
    path = folder / f"policy-{Path(gin_file).name}"
    path.write_text(
        "from __gin__ import dynamic_registration\n"
        "from tests.train import test_policy\nfrom train import experiment\n"
        f"include '{gin_file}'\n"
        "experiment.Experiment.policy = @test_policy.Stub\n"
    )
    return str(path)


@pytest.mark.long
def test_stops_and_keeps_the_records(poisoned, tmp_path):
    data, chosen = poisoned
    with pytest.raises(UserError) as caught:
        poisoned_run(data, tmp_path)
    folder = tmp_path / "non_finite" / "step-5-batch-5" / "host-0"
    text = str(caught.value)
    assert "the loss or its gradient is not finite at step 5 (batch 5)" in text
    assert str(folder.parent) in text
    assert directory.newest_intact(str(tmp_path)) == f"{tmp_path}/ckpt-4"
    report = json.loads((folder / "batch.json").read_text())
    assert (report["step"], report["batch"]) == (5, 5)
    assert len(report["records"]) == 20
    row = report["records"][7]
    assert (row["file"], row["number"]) == (chosen.file, chosen.number)
    kept = list(tf.data.TFRecordDataset(str(folder / "records.tfrecord")))
    assert kept[7].numpy() == whiten(chosen.serialized)


@pytest.mark.long
@pytest.mark.parametrize("has_policy", [False, True])
def test_rolls_back_and_passes_over_the_batch(digits, poisoned, tmp_path, has_policy):
    """It ends where a run ends that knew of the batch at step 4."""
    files = [POISON, TINY]
    if has_policy:
        files = [with_policy(path, tmp_path) for path in files]
    summary = poisoned_run(
        poisoned[0], tmp_path / "run", gin_file=files[0], non_finite="roll_back"
    )
    assert (summary["steps"], summary["roll_backs"]) == (12, 1)
    assert summary["skipped_batches"] == 2  # 4 and 5, from step 4 on
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    events = [line for line in map(json.loads, lines) if line.get("event")]
    (event,) = [event for event in events if event["event"] == "rolled_back"]
    assert (event["step"], event["to"], event["batch"]) == (5, 4, 5)

    values = bundle.read(f"{tmp_path}/run/ckpt-4")  # the white image comes later
    held = {name: tf.Variable(tf.constant(value)) for name, value in values.items()}
    held["skipped_batches"].assign(2)
    knowing = tmp_path / "knowing"
    with manager.Checkpoints(held, str(knowing), keep=5) as checkpoints:
        checkpoints.save()
    run_tiny(digits, knowing, gin_file=files[1])
    one, other = variables(tmp_path / "run"), variables(knowing)
    assert ("policy/batches" in one) == has_policy
    if has_policy:  # the last one, and how many: not those that were rolled back
        assert one["policy/batches"].tolist() == [13, 12]
    for name in one.keys() - {"roll_backs"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.slow
def test_gives_up_after_so_many(poisoned, tmp_path):
    with pytest.raises(UserError, match=r"not finite at step 5 .*non_finite"):
        poisoned_run(poisoned[0], tmp_path, non_finite="roll_back", max_roll_backs=0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("clip_norm", 0, "None or a number "),
        ("hang_timeout_minutes", -1, "None or a number "),
        ("keep_checkpoint_every_hours", "often", "None or a number "),
        ("peak_teraflops", 0.0, "None or a number "),
        ("preemption_deadline_seconds", None, "a number above 0"),
        ("accumulation_steps", 0, "a whole number from 1 to"),
        ("max_roll_backs", -1, "a whole number from 0 to"),
        ("example_images", 1.5, "a whole number from 0 to"),
        ("non_finite", "ignore", "'stop' or 'roll_back'"),
        ("profile_steps", (5, 5), r"as in \(100, 110\)"),
        ("profile_steps", (5,), r"as in \(100, 110\)"),
        ("batch_norm", "all", "'global' or a whole number from 1"),
        ("batch_norm", True, "'global' or a whole number from 1"),
    ],
)
def test_settings_out_of_range(name, value, message):
    with pytest.raises(UserError, match=rf"{name} = .*: it has to be .*{message}"):
        experiment_of("unused", **{f"experiment.Experiment.{name}": value})


@pytest.mark.parametrize(
    ("changes", "replicas", "message"),
    [
        ({}, 3, "global_batch_size = 20 does not divide by the 3 replicas; .* is 21"),
        ({}, 8, "global_batch_size = 20 does not divide by the 8 .* is 16"),
        (
            {"accumulation_steps": 3},
            4,
            "20 does not divide by the 4 replicas x accumulation_steps = 3; .* is 24",
        ),
        ({"eval_batch_size": 7}, 2, "eval_batch_size = 7 does not .* is 8"),
    ],
)
def test_batches_that_do_not_divide(changes, replicas, message):
    settings = {f"experiment.Experiment.{k}": v for k, v in changes.items()}
    with pytest.raises(UserError, match=message):
        experiment_of("unused", **settings).check_replicas(replicas)


def test_a_batch_of_data_of_ones_own_has_no_records(tmp_path):
    experiment = experiment_of("unused", gin_file="tests/data/train/made_up.gin")
    assert data_setting(experiment, "shuffle_buffer") is None
    non_finite.save_bad_batch(
        experiment,
        DatasetInfo("unused", 0, (), {}),
        str(tmp_path),
        3,
        shuffle_buffer=None,
        input_hosts=range(1),
        num_input_hosts=1,
        details={"step": 2},
    )
    written = json.loads((tmp_path / "host-0" / "batch.json").read_text())
    assert written == {"step": 2, "batch": 3, "records": None}
