import numpy as np
import pytest

from models.blocks import LayerMaker
from models.initializers import (
    classifier_initializer,
    derive_seed,
    kernel_initializer,
)


@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((3, 3, 16, 512), 9 * 512), ((1, 1, 64, 256), 256), ((5, 5, 2048, 1), 25)],
    ids=["dense", "1x1", "depthwise"],
)
def test_kernels_have_the_reference_scale(shape, outputs):
    kernel = kernel_initializer(1)(shape, dtype="float32").numpy()
    assert kernel.std() == pytest.approx((2 / outputs) ** 0.5, rel=0.03)
    # Not truncated: that would end at two standard deviations.
    assert np.abs(kernel).max() > 3 * kernel.std()


def test_classifier_has_the_reference_scale():
    kernel = classifier_initializer(1)((64, 400), dtype="float32").numpy()
    assert np.abs(kernel).max() == pytest.approx(1 / 20, rel=1e-3)
    assert kernel.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)


def test_seeds_differ_by_name():
    assert derive_seed(0, "a") == derive_seed(0, "a")
    assert len({derive_seed(s, n) for s in (0, 1) for n in ("a", "b")}) == 4
    make = LayerMaker(seed=1, dtype="float32")
    one, other = (make.conv(name, 8)[0] for name in ("one", "other"))
    for layer in (one, other):
        layer.build((None, 4, 4, 8))
    assert (one.kernel.numpy() != other.kernel.numpy()).all()
