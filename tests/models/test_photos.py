import pytest

from models import photos
from models.variants import VARIANTS


@pytest.mark.parametrize(
    ("variant", "resolution", "form"),
    [
        ("efficientnet-x-b5", 456, ("bicubic", 0.875)),
        ("efficientnet-b0", 224, ("bicubic", 0.875)),
        ("efficientnet-lite0", 224, ("bilinear", 0.875)),
        ("efficientnet-lite4", 300, ("bilinear", 0.875)),
        ("efficientnetv2-b0", 224, ("bicubic", 0.875)),
        ("efficientnetv2-b3", 300, ("bicubic", 300 / 332)),
        ("efficientnetv2-b3", 32, ("bicubic", 0.875)),
        ("efficientnetv2-s", 384, ("bilinear_half_pixels", "squash")),
        ("efficientnetv2-xl", 320, ("bilinear_half_pixels", "squash")),
        ("efficientnetv2-s", 319, ("bilinear_half_pixels", 319 / 351)),
        ("mine", 224, ("bicubic", 0.875)),
        ("", 224, ("bicubic", 0.875)),
    ],
)
def test_how_the_authors_make_an_image(variant, resolution, form):
    assert photos.of_authors(variant, resolution) == form


def test_the_families_that_are_not_as_the_reference():
    """Every row of the table is looked at: a new family has to say what it does."""
    reference = ("bicubic", 0.875)
    others = {
        name
        for name, row in VARIANTS.items()
        if photos.of_authors(name, row.resolution) != reference
    }
    lite = {f"efficientnet-lite{n}" for n in range(5)}
    v2 = {f"efficientnetv2-{n}" for n in ("b1", "b2", "b3", "s", "m", "l", "xl")}
    assert others == lite | v2
