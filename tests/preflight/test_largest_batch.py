import numpy as np
import pytest

from preflight.largest_batch import MULTIPLE, largest

GIGA = 10**9


@pytest.mark.parametrize("fixed", [0, 3 * GIGA])
@pytest.mark.parametrize("each", [GIGA // 1000, GIGA // 64, GIGA])
@pytest.mark.parametrize("first", [8, 64, 4096])
def test_finds_the_end_of_a_line(fixed, each, first):
    calls = []

    def needs(images):
        calls.append(images)
        return fixed + each * images

    found = largest(needs, first, 16 * GIGA)
    end = (16 * GIGA - fixed) / each
    assert found <= end < max(1.06 * found, found + MULTIPLE + 1)
    assert found % MULTIPLE == 0
    assert len(calls) == len(set(calls)) <= 8


def test_a_compiler_that_does_not_say_how_much_is_missing():
    sizes = {}

    def needs(images):
        sizes[images] = GIGA + images * GIGA // 50
        return sizes[images] if sizes[images] <= 16 * GIGA else None

    found = largest(needs, 1024, 16 * GIGA, tries=12)
    assert 700 <= found <= 750


def test_steps_and_cliffs():
    """What the compiler rounds up, and a jump in the middle."""

    def needs(images):
        return -(-images // 128) * GIGA + (4 * GIGA if images > 640 else 0)

    found = largest(needs, 64, 12 * GIGA, tries=12)
    assert found <= 1024
    assert needs(found) <= 12 * GIGA
    assert found >= 640


def test_what_a_network_needed():
    """efficientnet-x-b0 on a v3 core, bytes by images, and straight lines between."""
    gib = {64: 1.13, 512: 6.02, 1376: 14.36, 1576: 14.43, 3600: 15.4, 3720: 16.25}
    gib |= {4032: 17.37, 4384: 26.23, 4792: 34.06}
    calls = []

    def needs(images):
        calls.append(images)
        return int(2**30 * np.interp(images, list(gib), list(gib.values())))

    found = largest(needs, 64, int(15.48 * 2**30))
    assert found <= 3611 < 1.1 * found
    assert len(calls) == len(set(calls)) <= 8


def test_nothing_fits():
    calls = []

    def needs(images):
        calls.append(images)
        return 20 * GIGA + images

    assert largest(needs, 64, 16 * GIGA) == 0
    assert calls[-1] == 1


@pytest.mark.parametrize("first", [4, 5, 6, 8, 9, 16, 64])
@pytest.mark.parametrize("end", [1, 2, 3, 5, 7])
def test_few_images_count_each(first, end):
    calls = []

    def needs(images):
        calls.append(images)
        return images * GIGA

    found = largest(needs, first, end * GIGA)
    assert found == (end if end < first else max(end, first))
    assert len(calls) == len(set(calls)) <= 8


def test_a_compiler_that_saves_near_the_limit():
    """As the TPU's does: what is planned may even shrink."""
    calls = []

    def needs(images):
        calls.append(images)
        return int(60_000 * images) if images < 250_000 else 15_000_000_000 + images

    def truth(images):
        return needs(images) if images < 330_000 else 17_000_000_000 + images

    found = largest(truth, 4096, 16_600_000_000)
    assert 330_000 / 1.06 < found < 330_000
