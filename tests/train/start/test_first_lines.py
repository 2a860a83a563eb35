"""What a run says before its first step, and keeps in summary.json."""

import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline.dataset_info import load_info
from input_pipeline.fused import library
from tests.support.runs import experiment_of, run_tiny
from train import run
from train.checkpoints import directory
from train.distribution import devices
from train.start.first_lines import start_message

E = "experiment.Experiment"
CLASSES = "efficientnet_x.build_model.num_classes"
FUSED = " (fused input ops)" * (library.find().ops is not None)
CPU = tf.distribute.OneDeviceStrategy("/cpu:0")


def first_lines(data_dir, step, **changes):
    experiment = experiment_of(data_dir, **changes)
    model = experiment.build_model(dtype="float32", seed=0)
    info = load_info(str(data_dir))
    return start_message(experiment, info, model, CPU, step).splitlines()


def test_first_lines(digits):
    assert first_lines(digits, 0) == [
        "tiny: 2,534 parameters, 32 px, 10 classes; float32 on 1 CPU (1 replica)",
        f"4,000 images in train, 1,000 images in validation{FUSED}; 12 steps of 20; "
        "starting from scratch",
    ]


def test_first_lines_of_another_run(digits):
    """It goes on, with spare outputs, and has no split to score."""
    found = first_lines(digits, 4, **{CLASSES: 12, f"{E}.eval_split": "test"})
    assert found == [
        "tiny: 2,568 parameters, 32 px, 10 classes (12 outputs); float32 on 1 CPU (1 "
        "replica)",
        f"4,000 images in train{FUSED}; 12 steps of 20; going on at step 4",
    ]


def test_the_plain_ops_by_a_setting(digits):
    found = first_lines(digits, 0, **{"dataset.train_dataset.fused_ops": False})
    assert found[1].startswith("4,000 images in train, 1,000 images in validation; ")


def test_summary(finished):
    summary = finished[1]
    keys = ("classes", "precision", "device", "devices", "replicas", "hosts", "images")
    images = {"train": 4000, "validation": 1000}
    assert [summary[key] for key in keys] == [10, "float32", "CPU", 1, 1, 1, images]


def test_a_fresh_run_is_refused_before_it_leaves_a_checkpoint(digits, tmp_path):
    with pytest.raises(UserError, match=r"10 classes but the model has 12 outputs: bi"):
        run_tiny(digits, tmp_path, **{CLASSES: 12})
    assert directory.list_checkpoints(str(tmp_path)) == []
    assert not (tmp_path / "data.json").exists()


def test_devices_are_looked_at_before_anything_is_built(digits, tmp_path, monkeypatch):
    asked = []

    def refuse(name, strategy, *, trains):
        asked.append((name, trains))
        raise UserError("no GPU")

    monkeypatch.setattr(devices, "check", refuse)
    with pytest.raises(UserError, match=r"^no GPU$"):
        run_tiny(digits, tmp_path)
    with pytest.raises(UserError, match=r"^no GPU$"):
        run.prepare(experiment_of(digits))
    assert asked == [("one_device", True), ("one_device", False)]
