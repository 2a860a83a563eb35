"""Every recipe's step on the cores of one host, against as many mirrored devices."""

import json

import pytest

from tests.support import rehearsals
from tests.support.runs import TINY

DIGITS = "gin_configs/runs/mnist_cpu.gin"
PROGRESSIVE = "tests/data/train/progressive.gin"
# Name: cores, gin file, settings.
CASES = {
    # Twenty steps of a hundred digits.
    "digits-2": (2, DIGITS, {"epochs": 0.5, "steps_per_loop": 10}),
    "digits-4": (4, DIGITS, {"epochs": 0.5, "steps_per_loop": 10}),
    "tiny-4": (4, TINY, {}),
    "global-2": (2, TINY, {"batch_norm": "global"}),
    "global-4": (4, TINY, {"batch_norm": "global"}),
    "groups-2-of-4": (4, TINY, {"batch_norm": 2}),
    "accumulation": (2, TINY, {"accumulation_steps": 2}),
    "accumulation-global": (
        2,
        TINY,
        {"accumulation_steps": 2, "batch_norm": "global"},
    ),
    "accumulation-groups-4": (
        4,
        TINY,
        {"global_batch_size": 40, "accumulation_steps": 2, "batch_norm": 2},
    ),
    "clip": (2, TINY, {"clip_norm": 0.1}),
    "loops-of-5": (2, TINY, {"steps_per_loop": 5}),
    "bfloat16": (2, TINY, {"precision": "mixed_bfloat16"}),
    # Three stages, mixing and an augmentation.
    "progressive": (2, PROGRESSIVE, {}),
    "lars": (2, "tests/data/train/lars.gin", {}),
    "patches-by-device": (2, TINY, {"build_model.stem_block_size": 2}),
    "patches-by-host": (
        2,
        TINY,
        {"build_model.stem_block_size": 2, "build_model.stem_reshuffle": "host"},
    ),
    "batch-last": (2, TINY, {"build_model.input_layout": "HWCN"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ends_as_mirrored_devices_do(digits, tmp_path, name):
    cores, gin_file, changes = CASES[name]
    for kind in ("tpu", "mirrored"):
        folder = tmp_path / kind
        rehearsals.run(kind, cores, digits, folder, gin_file=gin_file, **changes)
    assert rehearsals.differing(tmp_path / "tpu", tmp_path / "mirrored") == []


@pytest.mark.slow
def test_scores_as_mirrored_devices_do(digits, tmp_path):
    for kind in ("tpu", "mirrored"):
        mode = "--mode=train_and_eval"
        rehearsals.run(kind, 2, digits, tmp_path / kind, mode, eval_batch_size=96)
    one, other = (
        json.loads((tmp_path / kind / "summary.json").read_text())
        for kind in ("tpu", "mirrored")
    )
    scores = [f"{who}{what}" for who in ("", "ema_") for what in ("loss", "top1")]
    assert one["eval_images"] == 1000  # the last batch of 96 is padded
    assert [one[name] for name in scores] == [other[name] for name in scores]
    assert rehearsals.differing(tmp_path / "tpu", tmp_path / "mirrored") == []
