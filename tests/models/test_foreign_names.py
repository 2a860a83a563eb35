import inspect
import itertools

import pytest

import models
from models import foreign_names
from models.variants import VARIANTS

ELSEWHERE = {
    "EfficientNetB0": ["efficientnet-b0"],
    "efficientnet_b7": ["efficientnet-b7"],
    "tf_efficientnet_b0.ns_jft_in1k": ["efficientnet-b0"],
    "timm/efficientnet_lite0": ["efficientnet-lite0"],
    "EfficientNetV2B0": ["efficientnetv2-b0"],
    "EfficientNetV2S": ["efficientnetv2-s"],
    "tf_efficientnetv2_xl": ["efficientnetv2-xl"],
    "X-B0": ["efficientnet-x-b0"],
    "b0": ["efficientnet-b0", "efficientnet-x-b0", "efficientnetv2-b0"],
    "efficientnet-x-b9": [f"efficientnet-x-b{n}" for n in range(3)],
    "resnet50": [],
    "": [],
    "-": [],
}


@pytest.mark.parametrize(("name", "variants"), ELSEWHERE.items())
def test_names_of_variants_elsewhere(name, variants):
    assert foreign_names.nearest_variants(name, VARIANTS) == variants


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_known_by_keras_spelling(name):
    spelt = "".join(part.capitalize() for part in name.split("-"))
    assert foreign_names.nearest_variants(spelt, VARIANTS) == [name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"weights": "imagenet"}, "'weights': weights are loaded into a model"),
        ({"include_top": False}, "'include_top': the classifier is always there: ker"),
        ({"classes": 3}, "'classes': write num_classes"),
        ({"input_shape": (9, 9, 3)}, "'input_shape': write resolution"),
        ({"input_tensor": None}, "'input_tensor': call the model that is built"),
        ({"pooling": "avg"}, "'pooling': features are averaged over the image"),
        (
            {"classifier_activation": None},
            "'classifier_activation': the model returns ",
        ),
        ({"drop_connect_rate": 0.2}, "'drop_connect_rate': write survival_prob, which"),
        ({"name": "mine"}, "'name': the model has the variant's name"),
        ({"resolutoin": 9}, "'resolutoin': nearest: resolution"),
        ({"zzz": 9}, "'zzz': it has: variant, num_classes, "),
        ({"classes": 3, "drop_rate": 0}, "write num_classes; 'drop_rate': write drop"),
    ],
)
def test_arguments_of_other_libraries(arguments, said):
    with pytest.raises(TypeError) as raised:
        models.build_model("efficientnet-b0", **arguments)
    assert str(raised.value).startswith("build_model() has no argument '")
    assert said in str(raised.value)


def test_what_is_an_argument_is_not_refused():
    known = inspect.signature(models.build_model).parameters
    assert not set(foreign_names._ARGUMENTS) & set(known)
    words = " ".join(foreign_names._ARGUMENTS.values()).replace(",", "").split()
    meant = {after for word, after in itertools.pairwise(words) if word == "write"}
    assert meant <= set(known)
