"""The sides of benchmarks.prepare do what they stand for."""

import pytest

from benchmarks import prepare


@pytest.mark.slow
def test_each_side_answers(tmp_path):
    """TFDS' builder, too, which takes made-up tars for ImageNet's."""
    found = prepare.compare(tmp_path, images=60, rounds=1)
    assert found["ms_an_image"].keys() == set(prepare.SIDES)
    assert min(min(ms) for ms in found["ms_an_image"].values()) > 0
    assert found["ratios"].keys() == {"tpu_script", "tfds", "validate"}
    assert 50_000 < found["image_bytes"] < 200_000
