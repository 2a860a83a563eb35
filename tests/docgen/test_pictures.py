import pytest

from benchmarks.support import results
from common import files
from docgen import pictures
from docgen.drawn import Picture

DRAWN = [picture for picture, _ in pictures.DRAWN]


@pytest.fixture(params=DRAWN, ids=lambda picture: picture.benchmark)
def picture(request) -> Picture:
    return request.param


@pytest.fixture
def report(picture):
    return results.load(results.FOLDER / f"{picture.benchmark}.json")


def test_the_pictures_are_of_the_stored_figures(picture, report):
    """Else: python -m docgen.pictures."""
    name = picture.benchmark.rpartition(".")[2]
    assert list(picture.files) == [f"{name}.png", f"{name}-dark.png"]
    for name in picture.files:
        data = (pictures.FOLDER / name).read_bytes()
        assert files.is_our_png(data, picture.mark(report))


def test_every_picture_of_the_docs_is_drawn_so():
    found = {path.name for path in pictures.FOLDER.glob("*.png")}
    assert found == {name for picture in DRAWN for name in picture.files}


def test_other_figures_have_another_mark(picture, report):
    other = {**report, picture.figures: report[picture.figures][1:]}
    assert picture.mark(other) != picture.mark(report)


def test_draws_by_day_and_at_night(tmp_path):
    from PIL import Image

    report = results.load(results.FOLDER / "tpu.roofline.json")
    pictures.draw(report, tmp_path)
    corners = []
    for name in pictures.PICTURE.files:
        with Image.open(tmp_path / name) as picture:
            assert 2 * picture.height > picture.width >= 1200
            corners.append(picture.convert("RGB").getpixel((0, 0)))
    assert corners == [(255, 255, 255), (13, 17, 23)]
