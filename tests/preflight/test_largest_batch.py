import numpy as np
import pytest

from preflight.largest_batch import MULTIPLE, TRIES, largest

GIB = 2**30
LIMIT = 16 * GIB
# efficientnet-x-b0 on a v3 core, GiB by images, and straight lines between.
X_B0 = {64: 1.13, 512: 6.02, 1376: 14.36, 1576: 14.43, 3600: 15.4, 3720: 16.25}
X_B0 |= {4032: 17.37, 4384: 26.23, 4792: 34.06}


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
        tried = [images for each in self.rounds for images in each]
        assert first not in tried, "what is known is not asked for again"
        assert len(tried) == len(set(tried))
        assert all(1 <= len(each) <= 2 for each in self.rounds)
        for images in filter(None, (self.fits, self.too_many)):
            assert images in (first, *tried), "what is told was compiled"

    @property
    def tries(self):
        return sum(map(len, self.rounds))


@pytest.mark.parametrize("fixed", [0, 3 * GIB])
@pytest.mark.parametrize("each", [GIB // 1000, GIB // 64])
@pytest.mark.parametrize("first", [8, 64, 512])
def test_the_end_of_a_line_is_found(fixed, each, first):
    """Which a second point shows; it is told when a compilation has said so, too."""
    found = Asked(lambda images: fixed + each * images, first, fixed=fixed)
    end = (LIMIT - fixed) // each
    assert found.fits == end // MULTIPLE * MULTIPLE
    assert found.too_many is not None
    assert end < found.too_many <= 1.3 * end
    assert (len(found.rounds), found.tries) == (2, TRIES)


@pytest.mark.parametrize("first", [64, 128, 512, 1376, 2048, 3600])
def test_what_a_network_needed(first):
    """Behind the end of the line more than twice as many fit, at the price of time."""

    def needs(images):
        return int(GIB * np.interp(images, list(X_B0), list(X_B0.values())))

    found = Asked(needs, first, int(15.48 * GIB), int(0.19 * GIB))
    assert found.too_many is not None
    assert found.fits <= 3611 < found.too_many
    assert found.fits >= 0.8 * 3611
    assert found.too_many <= 1.5 * found.fits
    assert (len(found.rounds), found.tries) == (2, TRIES)


@pytest.mark.parametrize("first", [3720, 4032, 4384, 4792])
def test_what_a_network_needed_that_does_not_fit(first):
    def needs(images):
        return int(GIB * np.interp(images, list(X_B0), list(X_B0.values())))

    found = Asked(needs, first, int(15.48 * GIB))
    assert found.too_many is not None
    assert 0.88 * 3611 <= found.fits <= 3611 < found.too_many < 1.05 * 3611
    assert found.tries <= TRIES


def test_a_first_batch_that_tells_little():
    """Most of what 8 images need is no matter of the images: a third round is due."""
    found = Asked(lambda images: 3 * GIB + images * GIB // 1000, 8)
    assert 13_000 - 2 * MULTIPLE < found.fits <= 13_000
    assert found.too_many is not None
    assert len(found.rounds) == 3


def test_a_compiler_that_does_not_say_how_much_is_missing():
    def needs(images):
        size = GIB + images * GIB // 50
        return size if size <= LIMIT else None

    found = Asked(needs, 64, fixed=GIB)
    assert found.fits == 744  # of 750
    assert found.tries == TRIES


def test_steps_and_cliffs():
    """What the compiler rounds up, and a jump in the middle."""

    def needs(images):
        return -(-images // 128) * GIB + (4 * GIB if images > 640 else 0)

    found = Asked(needs, 64, 12 * GIB)
    assert found.too_many is not None
    assert needs(found.fits) <= 12 * GIB < needs(found.too_many)
    assert found.fits >= 640
    assert found.too_many <= 1.5 * found.fits


def test_nothing_fits():
    found = Asked(lambda images: 20 * GIB + images, 64)
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
    assert found.fits == end
    assert found.too_many is not None
    assert found.too_many <= end + 2
    assert found.tries <= TRIES
