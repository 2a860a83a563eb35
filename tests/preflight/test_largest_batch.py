import numpy as np
import pytest

from preflight.largest_batch import MULTIPLE, largest

GIB = 2**30
LIMIT = 16 * GIB
V3 = int(15.48 * GIB)
# GiB by images on a v3 core, and straight lines between: of efficientnet-x-b0, and of
# the network of these tests.
X_B0 = {64: 1.13, 512: 6.02, 1376: 14.36, 1576: 14.43, 3600: 15.4, 3760: 16.25}
X_B0 |= {4032: 17.37, 4416: 26.15, 5400: 38.51, 9040: 63.76, 90400: 637.6}
X_B0_END = 3615
TINY = {512: 0.0424, 65536: 3.7343, 188000: 10.66, 264272: 14.416, 308672: 15.03}
TINY |= {327000: 15.4, 340000: 16.58, 381664: 20.8, 471920: 22.96, 4719200: 229.6}
TINY_END = 327_800


def needs_of(table):
    def needs(images):
        return int(GIB * np.interp(images, list(table), list(table.values())))

    return needs


class Asked:
    """The search, and what it has asked for, round by round."""

    def __init__(self, needs, first, limit=LIMIT, fixed=0, most=2**20):
        self.rounds = []

        def several(images):
            self.rounds.append(images)
            return [needs(each) for each in images]

        self.fits, self.too_many = largest(
            several, first, needs(first), limit, most=most, fixed=fixed
        )
        self.tried = [images for each in self.rounds for images in each]
        assert first not in self.tried, "what is known is not asked for again"
        assert len(self.tried) == len(set(self.tried))
        assert all(1 <= len(each) <= 2 for each in self.rounds)
        for images in filter(None, (self.fits, self.too_many)):
            assert images in (first, *self.tried), "what is told was compiled"
        sizes = {images: needs(images) for images in self.tried}
        self.fitting = [n for n, size in sizes.items() if size and size <= limit]


@pytest.mark.parametrize("first", [64, 128, 512, 1376, 2048])
def test_one_that_fits_is_compiled_and_few_that_do_not(first):
    """Behind the end of the line more than twice as many fit, at the price of time."""
    found = Asked(needs_of(X_B0), first, V3, int(0.19 * GIB))
    assert found.too_many is not None
    assert 0.86 * X_B0_END <= found.fits <= X_B0_END < found.too_many
    assert found.too_many <= 1.25 * found.fits
    assert found.fitting == [found.fits]
    assert len(found.tried) <= 5


@pytest.mark.parametrize("first", [3760, 4032, 4416, 5400, 9040])
def test_a_batch_that_does_not_fit_leads_to_one_that_does(first):
    found = Asked(needs_of(X_B0), first, V3)
    assert found.too_many is not None
    assert 0.86 * X_B0_END <= found.fits <= X_B0_END < found.too_many
    assert found.fitting == [found.fits]
    assert len(found.tried) <= 4


def test_a_batch_that_is_the_largest_already():
    found = Asked(needs_of(X_B0), 3600, V3, int(0.19 * GIB))
    assert found.too_many is not None
    assert found.fits == 3600 < found.too_many < 1.1 * 3600
    assert found.fitting == []


@pytest.mark.parametrize("first", [512, 4096, 65536, 240_000, 400_000])
def test_another_network(first):
    found = Asked(needs_of(TINY), first, V3)
    assert found.too_many is not None
    assert 0.97 * TINY_END < found.fits <= TINY_END < found.too_many <= 1.1 * found.fits
    assert len(found.fitting) <= 2
    assert len(found.tried) <= 8


@pytest.mark.parametrize("fixed", [0, 3 * GIB])
@pytest.mark.parametrize("each", [GIB // 1000, GIB // 64])
@pytest.mark.parametrize("first", [8, 64, 512])
def test_the_end_of_a_line(fixed, each, first):
    """As of a compiler that does not save: the farthest way from above."""
    found = Asked(lambda images: fixed + each * images, first, fixed=fixed)
    end = (LIMIT - fixed) // each
    assert found.too_many is not None
    assert 0.98 * end - MULTIPLE <= found.fits <= end < found.too_many
    assert found.too_many <= 1.06 * end
    assert len(found.fitting) == 1
    assert len(found.tried) <= 11


def test_a_first_batch_that_tells_little():
    """Most of what 8 images need is no matter of the images."""
    found = Asked(lambda images: 3 * GIB + images * GIB // 1000, 8)
    assert found.too_many is not None
    assert found.fits <= 13_000 < found.too_many <= 1.4 * found.fits
    assert len(found.fitting) == 4


def test_a_compiler_that_does_not_say_how_much_is_missing():
    def needs(images):
        size = GIB + images * GIB // 50
        return size if size <= LIMIT else None

    found = Asked(needs, 64, fixed=GIB)
    assert found.too_many is not None
    assert found.fits <= 750 < found.too_many <= 1.25 * found.fits


def test_steps_and_cliffs():
    """What the compiler rounds up, and a jump in the middle."""

    def needs(images):
        return -(-images // 128) * GIB + (4 * GIB if images > 640 else 0)

    found = Asked(needs, 64, 12 * GIB)
    assert found.too_many is not None
    assert needs(found.fits) <= 12 * GIB < needs(found.too_many)
    assert found.fits >= 640
    assert found.too_many <= 1.25 * found.fits


@pytest.mark.parametrize("each", [1, GIB // 100])
def test_nothing_fits(each):
    found = Asked(lambda images: 20 * GIB + images * each, 64)
    assert (found.fits, found.too_many) == (0, 1)


@pytest.mark.parametrize(
    ("most", "rounds"),
    [(2**20, [[2**20]]), (100, [[96], [100]]), (64, [])],
)
def test_no_more_are_tried_than_a_config_may_say(most, rounds):
    found = Asked(lambda images: images, 64, most=most)
    assert found.rounds == rounds
    assert found.fits == most
    assert found.too_many is None


@pytest.mark.parametrize("first", [4, 5, 6, 8, 9, 16, 64])
@pytest.mark.parametrize("end", [1, 2, 3, 5, 7])
def test_few_images_count_each(first, end):
    found = Asked(lambda images: images * GIB, first, end * GIB)
    assert (found.fits, found.too_many) == (end, end + 1)
    assert len(found.tried) <= 6
