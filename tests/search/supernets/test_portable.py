"""A supernet on Keras' other backend: the same weights give the same numbers."""

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.models.rounding import assert_near, terms
from tests.search.supernets.alone import Pair
from tests.search.supernets.portable import space


@pytest.mark.slow
def test_jax_gives_the_same_logits_and_gradients(tmp_path):
    pair, rng = Pair(space()), random.Random(1)
    vectors = [pair.selection.of(pair.space.sample(rng)) for _ in range(4)]
    vectors.append(pair.selection.warm_up())
    given: dict[str, Any] = {
        f"selection/{i}": vector for i, vector in enumerate(vectors)
    }
    given |= {"pixels": pair.pixels, "upstream": pair.upstream}
    given |= {v.path: v.numpy() for v in pair.model.trainable_variables}
    source, target = tmp_path / "given.npz", tmp_path / "results.npz"
    np.savez(source, **given)
    command = [sys.executable, "-m", "tests.search.supernets.jax_process"]
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    process = subprocess.run(
        [*command, source, target], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    found = dict(np.load(target))
    # There and back, and in the middle the sums over four times 16x16 pixels.
    passed = 2 * terms(pair.model) + 4 * 16 * 16
    for i, vector in enumerate(vectors):
        logits, gradients = pair.compute(vector)
        assert_near(found[f"selection/{i}/logits"], logits, passed)
        for path, gradient in gradients.items():
            assert_near(found[f"selection/{i}/{path}"], gradient, passed, least=1)
