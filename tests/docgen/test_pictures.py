import pytest

from benchmarks.support import results
from common import files
from docgen import pictures


@pytest.fixture
def report():
    return results.load(results.FOLDER / "roofline.json")


def test_the_pictures_are_of_the_stored_figures(report):
    """Else: python -m docgen.pictures."""
    assert sorted(path.name for path in pictures.FOLDER.glob("roofline*")) == sorted(
        pictures.PICTURES
    )
    for name in pictures.PICTURES:
        data = (pictures.FOLDER / name).read_bytes()
        assert files.is_our_png(data, pictures.mark(report))


def test_draws_by_day_and_at_night(report, tmp_path):
    from PIL import Image

    pictures.draw(report, tmp_path)
    corners = []
    for name in pictures.PICTURES:
        with Image.open(tmp_path / name) as picture:
            assert 2 * picture.height > picture.width >= 1200
            corners.append(picture.convert("RGB").getpixel((0, 0)))
    assert corners == [(255, 255, 255), (13, 17, 23)]


def test_other_figures_have_another_mark(report):
    other = {**report, "rows": report["rows"][1:]}
    assert pictures.mark(other) != pictures.mark(report)
