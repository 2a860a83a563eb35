import keras
import numpy as np
import pytest

import models
from models import input_form, resize, stem_forms
from models.errors import ModelError
from models.layers import Dropout
from tests.models import nets

forms = pytest.mark.parametrize("form", nets.FORMS.values(), ids=nets.FORMS)


def pixels_for(model):
    form = input_form.input_form(model)
    shape = (2, form.resolution, form.resolution, 3)
    pixels = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    if form.patch_size > 1:
        pixels = stem_forms.to_patches(pixels, form.patch_size)
    return pixels.transpose(1, 2, 3, 0) if form.layout == "HWCN" else pixels


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@forms
def test_same_variables_and_the_numbers_of_a_model_of_that_size(form, tiny):
    model = models.build_model(tiny, **nets.QUIET | form)
    own = array(model(pixels_for(model)))
    size = 2 * input_form.input_form(model).resolution
    resized = resize.at_resolution(model, size)
    assert all(a is b for a, b in zip(resized.weights, model.weights, strict=True))
    assert resized.name == model.name
    assert input_form.input_form(resized).resolution == size
    expected = models.build_model(tiny, **nets.QUIET | form | {"resolution": size})
    assert resized.input_shape == expected.input_shape
    stem_forms.copy_weights(model, expected)
    pixels = pixels_for(resized)
    np.testing.assert_array_equal(array(resized(pixels)), array(expected(pixels)))
    np.testing.assert_array_equal(array(model(pixels_for(model))), own)


def dropout_of(model):
    (layer,) = (layer for layer in model.layers if isinstance(layer, Dropout))
    return layer


def test_another_dropout_draws_from_the_same_generator(tiny):
    model = models.build_model(tiny, dropout_rate=0.2)
    resized = resize.at_resolution(model, 64, dropout_rate=0.5)
    assert [dropout_of(m).rate for m in (model, resized)] == [0.2, 0.5]
    assert dropout_of(resized).keep_prob == 0.5
    assert dropout_of(resized).seed_generator is dropout_of(model).seed_generator
    assert dropout_of(resize.at_resolution(model, 64)) is dropout_of(model)


@pytest.mark.parametrize(
    ("form", "size", "message"),
    [
        (
            {},
            4,
            "resolution 4 is too small for tiny: its strides .* so 8 is the least",
        ),
        ({}, 64.0, r"resolution must be an integer of 1 or more, not 64\.0"),
        (
            {"stem_block_size": 4},
            50,
            "stem_block_size 4 does not divide the resolution 50; .* are 48 and 52",
        ),
        (
            nets.FORMS["batch domain"],
            52,
            r"block \d: space_to_batch 2.* does not divide its 13x13",
        ),
    ],
)
def test_sizes_that_cannot_be(form, size, message, tiny):
    model = models.build_model(tiny, **form)
    with pytest.raises(ModelError, match=message):
        resize.at_resolution(model, size)


def test_dropout_out_of_range(tiny):
    with pytest.raises(ModelError, match=r"dropout rate must be in \[0, 1\), not 1"):
        resize.at_resolution(models.build_model(tiny), 64, dropout_rate=1)
